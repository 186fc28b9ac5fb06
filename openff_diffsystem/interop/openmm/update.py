"""New parameters for an OpenMM System or Context that exists already."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from openff_diffsystem.exceptions import ParameterMismatchError, UnsupportedInputError
from openff_diffsystem.interop.openmm.sites import read_site
from openff_diffsystem.interop.openmm.tables import Table, host_parameters, tables
from openff_diffsystem.interop.openmm.to_openmm import configure_nonbonded, site_objects, to_openmm

if TYPE_CHECKING:
    from openff_diffsystem.system import DiffSystem

_SETTINGS = (
    "NonbondedMethod",
    "CutoffDistance",
    "UseSwitchingFunction",
    "SwitchingDistance",
    "EwaldErrorTolerance",
    "UseDispersionCorrection",
    "ReactionFieldDielectric",
)


def update_openmm(
    self: DiffSystem,
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
        If a force is missing, or its terms are not those of this system. The target may be updated in part then.
    UnsupportedInputError
        If the target is neither a System nor a Context.
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
    parameters = host_parameters(self, theta)
    found = tables(self, parameters, add_constrained_forces)
    anew = _constraints(system, found.constraints)
    anew |= _sites(system, found.sites)
    changed = []
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
            _set_terms(name, [getattr(force, get)(i) for i in range(count)], getattr(force, put), table)
            changed.append(force)
    if found.particles is not None:
        force = _only(system, "NonbondedForce")
        for i, row in enumerate(found.particles.rows()):
            force.setParticleParameters(i, *row)
        before = _settings(force)
        configure_nonbonded(force, self, parameters, ewald_tolerance)
        anew |= _settings(force) != before
    if found.born is not None:
        fresh = to_openmm(self, theta)
        name = "GBSAOBCForce" if self.methods["GBSA"]["gb_model"] == "OBC2" else "CustomGBForce"
        force = _only(system, name)
        anew |= _copy_born(_only(fresh, name), force)
        changed.append(force)
    if context is not None:
        _hand_over(context, changed, anew)


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


def _set_terms(name: str, present: list[Any], put: Any, table: Table) -> None:
    """Set the terms of a force, in the order in which it has them.

    Parameters
    ----------
    present
        What the getter of the force returns for each of its terms.
    put
        The setter: index, particles, values.
    """
    width = table.particles.shape[1]
    particles = np.array([row[:width] for row in present], dtype=np.int64).reshape(-1, width)
    extra = name == "PeriodicTorsionForce"  # one set of four atoms can have several torsions, told apart by periodicity
    periodicities = np.array([row[4] for row in present], dtype=np.int64) if extra else None
    order = _order(name, particles, periodicities, table.particles, table.values[0] if extra else None)
    for i, (atoms, values) in enumerate(
        zip(particles.tolist(), np.stack(table.reordered(order).values, axis=1).tolist(), strict=True)
    ):
        if extra:
            values[0] = int(values[0])
        put(i, *atoms, *values)


def _order(name: str, theirs: np.ndarray, theirs_n: Any, ours: np.ndarray, ours_n: Any) -> np.ndarray:
    """Which of our terms each of theirs is, ``(n_terms,)``; terms read the same from both ends."""
    keys = []
    for particles, n in ((theirs, theirs_n), (ours, ours_n)):
        backwards = particles[:, :1] > particles[:, -1:]
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


def _constraints(system: Any, table: Table | None) -> bool:
    """Set lengths of constraints; whether one changed."""
    present = [system.getConstraintParameters(i) for i in range(system.getNumConstraints())]
    if table is None:
        return False
    lengths = [row[2]._value for row in present]

    def put(i: int, a: int, b: int, length: float) -> None:
        if length != lengths[i]:
            system.setConstraintParameters(i, a, b, length)

    _set_terms("constraints", present, put, table)
    return [system.getConstraintParameters(i)[2]._value for i in range(len(present))] != lengths


def _sites(system: Any, table: Table | None) -> bool:
    """Set virtual sites; whether one changed."""
    changed = False
    for particle, site in site_objects(table):
        if not system.isVirtualSite(particle):
            raise ParameterMismatchError(f"particle {particle} of the OpenMM System is no virtual site")
        if read_site(particle, system.getVirtualSite(particle)) != read_site(particle, site):
            system.setVirtualSite(particle, site)
            changed = True
    return changed


def _settings(force: Any) -> list[Any]:
    return [getattr(force, f"get{name}")() for name in _SETTINGS]


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


def _copy_expressions(fresh: Any, force: Any) -> bool:
    if fresh.getNumEnergyTerms() != force.getNumEnergyTerms():
        raise ParameterMismatchError("the CustomGBForce of the OpenMM System has other terms than this system's")
    changed = False
    for i in range(fresh.getNumEnergyTerms()):
        term = fresh.getEnergyTermParameters(i)
        changed |= force.getEnergyTermParameters(i) != term
        force.setEnergyTermParameters(i, *term)
    return changed
