"""New parameters for an OpenMM System or Context that exists already."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from openff_diffsystem.exceptions import ParameterMismatchError, UnsupportedForceError, UnsupportedInputError
from openff_diffsystem.interop.openmm.forces.own_forms import stored_changes
from openff_diffsystem.interop.openmm.forces.tables import tables
from openff_diffsystem.interop.openmm.forces.terms import Table
from openff_diffsystem.interop.openmm.forces.typed_lennard_jones import change_typed, is_typed
from openff_diffsystem.interop.openmm.forces.virtual_sites import read_site
from openff_diffsystem.interop.openmm.write import (
    configure_nonbonded,
    configure_typed,
    site_objects,
    to_openmm,
    types_and_own,
)
from openff_diffsystem.potentials.nbfix import SECTION as NBFIX
from openff_diffsystem.system.host import host_parameters

if TYPE_CHECKING:
    from openff_diffsystem.system.data import SystemData

_SETTINGS = (
    "NonbondedMethod",
    "CutoffDistance",
    "UseSwitchingFunction",
    "SwitchingDistance",
    "EwaldErrorTolerance",
    "UseDispersionCorrection",
    "UseLongRangeCorrection",
    "ReactionFieldDielectric",
)


def update_openmm(
    self: SystemData,
    target: Any,
    theta: Any = None,
    *,
    add_constrained_forces: bool = False,
    ewald_tolerance: float | None = None,
) -> None:
    """Give an ``openmm.System`` or ``openmm.Context`` of this system the parameters of theta, in place.

    The System may be one that :meth:`to_openmm` or openff-interchange made: terms are found by their particles. A
    Context takes over new parameters of terms as it runs. Constraints, virtual sites, cutoffs and dielectrics can only
    be changed by beginning anew, and if theta changes them it is reinitialised; positions, velocities and time stay.
    Forces of classes that this system has no terms of, restraints for example, are left as they are, but for global
    parameters that they share with custom forces of this system.

    Parameters
    ----------
    target
        ``openmm.System`` or ``openmm.Context``.
    theta
        As for :meth:`parameterize`.
    add_constrained_forces, ewald_tolerance
        As they were for :meth:`to_openmm`.

    Raises
    ------
    ParameterMismatchError
        If there are other forces of a class than in this system, or their terms are not those of this system.
    NonFiniteParameterError
        If a parameter is NaN or infinite.
    UnsupportedForceError
        If a custom force holds nonbonded interactions of this system, as ``Interchange.to_openmm`` writes with
        ``combine_nonbonded_forces=False``.
    UnsupportedInputError
        If the target is neither a System nor a Context.

    Notes
    -----
    Where an error is raised, nothing has been changed.
    """
    import openmm

    if isinstance(target, openmm.Context):
        context, system = target, target.getSystem()
    elif isinstance(target, openmm.System):
        context, system = None, target
    else:
        raise UnsupportedInputError(f"expected an openmm.System or openmm.Context, got {type(target).__name__}")
    if system.getNumParticles() != self.n_particles:
        raise ParameterMismatchError(
            f"the OpenMM System has {system.getNumParticles()} particles, this system has {self.n_particles}"
        )
    _require_terms_that_can_be_updated(self, system)
    parameters = host_parameters(self, theta)
    found = tables(self, parameters, add_constrained_forces)
    # everything that can be refused is looked at before anything is changed
    constraints = _constraints(system, found.constraints)
    sites = _sites(system, found.sites)
    terms = []
    for name, get, put, table in (
        ("PeriodicTorsionForce", "getTorsionParameters", "setTorsionParameters", found.torsions),
        ("RBTorsionForce", "getTorsionParameters", "setTorsionParameters", found.rb_torsions),
        ("HarmonicAngleForce", "getAngleParameters", "setAngleParameters", found.angles),
        ("HarmonicBondForce", "getBondParameters", "setBondParameters", found.bonds),
        ("NonbondedForce", "getExceptionParameters", "setExceptionParameters", found.exceptions),
    ):
        if table is not None:
            force = _only(system, name)
            count = getattr(force, "getNum" + put.removeprefix("set").removesuffix("Parameters") + "s")()
            present = [getattr(force, get)(i) for i in range(count)]
            terms.append((force, getattr(force, put), _in_their_order(name, present, table)))
    stored = stored_changes(self, parameters, found.stored, system, _in_their_order)
    born = None
    if found.born is not None:
        name = "GBSAOBCForce" if self.methods["GBSA"]["gb_model"] == "OBC2" else "CustomGBForce"
        fresh = to_openmm(self, theta)  # has to outlive its forces
        born = (_only(fresh, name), _only(system, name))
        _require_same_expressions(*born)
    if found.particles is not None:
        configure_nonbonded(openmm.NonbondedForce(), self, parameters, ewald_tolerance)
    typed = None if found.typed is None else _only(system, "CustomNonbondedForce")

    for i, row in constraints:
        system.setConstraintParameters(i, *row)
    for particle, site in sites:
        system.setVirtualSite(particle, site)
    anew = bool(constraints or sites)
    for _, put_term, table in terms:
        for i, row in enumerate(table.rows()):
            put_term(i, *row)
    changed = [force for force, _, _ in terms]
    for force, change in stored:
        anew |= change(context)
        changed.append(force)
    if found.particles is not None:
        force = _only(system, "NonbondedForce")
        for i, row in enumerate(found.particles.rows()):
            force.setParticleParameters(i, *row)
        before = _settings(force)
        configure_nonbonded(force, self, parameters, ewald_tolerance)
        anew |= _settings(force) != before
    if typed is not None and found.typed is not None:
        change_typed(typed, found.typed, *types_and_own(self, parameters))
        before = _settings(typed)
        configure_typed(typed, self, parameters)
        anew |= _settings(typed) != before
        changed.append(typed)
    if born is not None:
        anew |= _copy_born(*born)
        changed.append(born[1])
    if context is not None:
        _hand_over(context, changed, anew)


def _require_terms_that_can_be_updated(self: SystemData, system: Any) -> None:
    """Raise where nonbonded interactions are in custom forces: a NonbondedForce given them as well counts twice."""
    scaled = {tuple(sorted(pair)) for pair in self.pairs_14.tolist()}
    for force in system.getForces():
        name = type(force).__name__
        holds = name == "CustomNonbondedForce" and not (NBFIX in self.sections and is_typed(force))
        if name == "CustomBondForce" and scaled:
            pairs = (force.getBondParameters(i)[:2] for i in range(force.getNumBonds()))
            holds = scaled <= {tuple(sorted(pair)) for pair in pairs}
        if holds:
            raise UnsupportedForceError(
                f"the {name} {force.getName()!r} of the OpenMM System holds nonbonded interactions, and cannot be "
                "updated: make the System with system.to_openmm or Interchange.to_openmm(combine_nonbonded_forces=True)"
            )


_DIRECTED = ("CMAPTorsionForce", "CustomCompoundBondForce")
"""Forces whose terms are others with their particles the other way round."""


def _hand_over(context: Any, forces: list[Any], anew: bool) -> None:
    import openmm

    if not anew:
        try:
            for force in forces:
                force.updateParametersInContext(context)
        except openmm.OpenMMException:
            # for one, a context fixes which exceptions are plain exclusions when it is made
            anew = True
    if anew:
        context.reinitialize(preserveState=True)
        context.computeVirtualSites()


def _only(system: Any, name: str) -> Any:
    """The force of a class, which must be the only one."""
    forces = [force for force in system.getForces() if _is_a(force, name)]
    if len(forces) != 1:
        raise ParameterMismatchError(f"the OpenMM System has {len(forces)} forces of class {name}; one is needed")
    return forces[0]


def _is_a(force: Any, name: str) -> bool:
    return any(cls.__name__ == name for cls in type(force).__mro__)


def _in_their_order(name: str, present: list[Any], table: Table) -> Table:
    """Our terms in the order of a force, and with its order of the particles of each.

    Parameters
    ----------
    present
        What the getter of the force returns for each of its terms.
    """
    width = table.particles.shape[1]
    particles = np.array([row[:width] for row in present], dtype=np.int64).reshape(-1, width)
    extra = name == "PeriodicTorsionForce"  # one set of four atoms can have several torsions, told apart by periodicity
    periodicities = np.array([row[4] for row in present], dtype=np.int64) if extra else None
    order = _order(name, particles, periodicities, table.particles, table.values[0] if extra else None)
    return Table(particles, table.reordered(order).values)


def _order(name: str, theirs: np.ndarray, theirs_n: Any, ours: np.ndarray, ours_n: Any) -> np.ndarray:
    """Which of our terms each of theirs is, ``(n_terms,)``; most terms read the same from both ends."""
    keys = []
    for particles, n in ((theirs, theirs_n), (ours, ours_n)):
        backwards = (particles[:, :1] > particles[:, -1:]) & (name not in _DIRECTED)
        canonical = np.where(backwards, particles[:, ::-1], particles)
        keys.append(canonical if n is None else np.column_stack([canonical, n]))
    if keys[0].shape == keys[1].shape:
        if np.array_equal(keys[0], keys[1]):
            return np.arange(len(ours))
        sorted_theirs, sorted_ours = (np.lexsort(key.T[::-1]) for key in keys)
        if np.array_equal(keys[0][sorted_theirs], keys[1][sorted_ours]):
            order = np.empty(len(ours), dtype=np.int64)
            order[sorted_theirs] = sorted_ours
            return order
    raise ParameterMismatchError(
        f"the terms of the {name} are not those of this system: it has {len(theirs)}, this system {len(ours)}; "
        "make the OpenMM System with system.to_openmm and the same add_constrained_forces"
    )


def _constraints(system: Any, table: Table | None) -> list[tuple[int, tuple]]:
    """The constraints that get another length: index, and what OpenMM's setter takes."""
    if table is None:
        return []
    present = [system.getConstraintParameters(i) for i in range(system.getNumConstraints())]
    rows = _in_their_order("constraints", present, table).rows()
    return [(i, row) for i, (row, had) in enumerate(zip(rows, present, strict=True)) if row[2] != had[2]._value]


def _sites(system: Any, table: Table | None) -> list[tuple[int, Any]]:
    """The virtual sites that change."""
    for particle, _ in (found := site_objects(table)):
        if not system.isVirtualSite(particle):
            raise ParameterMismatchError(f"particle {particle} of the OpenMM System is no virtual site")
    return [
        (particle, site)
        for particle, site in found
        if read_site(particle, system.getVirtualSite(particle)) != read_site(particle, site)
    ]


def _settings(force: Any) -> list[Any]:
    return [getattr(force, f"get{name}")() for name in _SETTINGS if hasattr(force, f"get{name}")]


def _copy_born(fresh: Any, force: Any) -> bool:
    """Copy particles and settings of implicit solvent; whether something else than a particle changed."""
    for i in range(fresh.getNumParticles()):
        row = fresh.getParticleParameters(i)
        if _is_a(force, "CustomGBForce"):
            force.setParticleParameters(i, row)
        else:
            force.setParticleParameters(i, *row)
    if _is_a(force, "CustomGBForce"):
        return _copy_expressions(fresh, force)
    changed = False
    for name in ("SolventDielectric", "SoluteDielectric", "SurfaceAreaEnergy"):
        value = getattr(fresh, f"get{name}")()
        changed |= getattr(force, f"get{name}")() != value
        getattr(force, f"set{name}")(value)
    return changed


def _require_same_expressions(fresh: Any, force: Any) -> None:
    if _is_a(force, "CustomGBForce") and fresh.getNumEnergyTerms() != force.getNumEnergyTerms():
        raise ParameterMismatchError("the CustomGBForce of the OpenMM System has other terms than this system's")


def _copy_expressions(fresh: Any, force: Any) -> bool:
    changed = False
    for i in range(fresh.getNumEnergyTerms()):
        term = fresh.getEnergyTermParameters(i)
        changed |= force.getEnergyTermParameters(i) != term
        force.setEnergyTermParameters(i, *term)
    return changed
