"""A system from an OpenMM System: its own per-term parameters are theta.

Espaloma, GAFF, AMBER and CHARMM files arrive as such a System. CHARMM files have correction maps, and impropers as a
custom force: a system holds the functional form of these itself. There are no SMIRKS: a parameter is named after the
atoms of its term, and terms share a parameter only on request, where their values are equal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax.numpy as jnp
import numpy as np
from jaxtyping import Int

from openff_diffsystem.exceptions import ParameterMismatchError, UnsupportedForceError, UnsupportedInputError
from openff_diffsystem.interop.openmm.forces import READ
from openff_diffsystem.interop.openmm.forces.lookup import described
from openff_diffsystem.interop.openmm.forces.part import Found
from openff_diffsystem.interop.openmm.theta import own_parameters
from openff_diffsystem.parameters.force_field import ForceFieldParameters
from openff_diffsystem.sections import NO_ATOM
from openff_diffsystem.system.data import System
from openff_diffsystem.units import nanometers

if TYPE_CHECKING:
    import openmm.app
    from openff.toolkit import Topology
    from openff.toolkit.topology import Atom

_WITHOUT_ENERGY = (
    "CMMotionRemover",
    "AndersenThermostat",
    "MonteCarloBarostat",
    "MonteCarloAnisotropicBarostat",
    "MonteCarloMembraneBarostat",
    "MonteCarloFlexibleBarostat",
)
"""Forces that contribute no energy and are ignored."""


def from_openmm(
    cls: type[System],
    openmm_system: openmm.System,
    topology: openmm.app.Topology | Topology | None = None,
    *,
    positions: object = None,
    tie_equal: bool = False,
) -> System:
    """A system with the terms and energies of an OpenMM System, whichever program made it.

    Theta holds the System's own parameters, one row per term: ``Bonds`` (k, length), ``Angles``, ``ProperTorsions``
    (all periodic torsions), ``vdW`` and ``Electrostatics`` per particle, ``NonbondedExceptions`` (charge_product,
    sigma, epsilon) for pairs with parameters of their own, ``NBFIX`` for pairs of atom types without a combining rule,
    ``Constraints``, ``VirtualSites``, ``GBSA``, ``CMAPTorsions``, and a section for each custom force. All terms
    count, whether constraints fix them or not. The result is periodic if the OpenMM System is.

    Parameters
    ----------
    openmm_system
        ``openmm.System`` of HarmonicBondForce, HarmonicAngleForce, PeriodicTorsionForce, RBTorsionForce,
        NonbondedForce (NoCutoff, CutoffPeriodic, PME or LJPME), GBSAOBCForce, CMAPTorsionForce, CustomBondForce,
        CustomAngleForce, CustomTorsionForce and CustomCompoundBondForce, with constraints and virtual sites; the
        CustomNonbondedForce of CHARMM force fields; and the CustomGBForce that openmm.app makes for HCT and OBC1.
        Thermostats, barostats and CMMotionRemover are ignored; everything else is refused.
    topology
        ``openmm.app.Topology`` or openff-toolkit's; it gives the atoms their names in labels of parameters.
    positions
        Of the atoms or of all particles, ``(n, 3)``, in OpenMM's order, a ``Quantity`` or nm.
    tie_equal
        Whether terms of a section with equal parameters share one row of theta.

    Notes
    -----
    Where virtual sites stand between atoms, as in OpenMM's own water models, particles are renumbered, atoms
    first; ``openmm_particles`` has their OpenMM indices, and :meth:`DiffSystem.to_openmm` restores them. Potentials
    take the positions of the atoms in this case.

    Raises
    ------
    UnsupportedForceError
        If a force, a virtual site or a setting cannot be represented; the message names it.
    """
    import openmm

    if not isinstance(openmm_system, openmm.System):
        raise UnsupportedInputError(f"expected an openmm.System, got {type(openmm_system).__name__}")
    _require_covered(openmm_system)
    found = Found(openmm_system)
    for part in READ:
        part.read(found)
    n, order = len(found.order), found.order
    atoms = order[: found.n_atoms]
    names = _atom_names(topology, order, found.n_atoms)
    layout, values, assignment, system_layout = own_parameters(
        found.terms, found.settings, names, tie_equal, found.forms
    )
    place = np.argsort(order)
    box = openmm_system.getDefaultPeriodicBoxVectors() if openmm_system.usesPeriodicBoundaryConditions() else None
    result = cls(
        force_field_parameters=ForceFieldParameters(jnp.asarray(values), layout),
        assignment_map=assignment,
        system_layout=system_layout,
        term_indices={
            section: np.where(one.particles == NO_ATOM, NO_ATOM, place[one.particles]).astype(np.int32)
            for section, one in found.terms.items()
        },
        term_static={section: one.static for section, one in found.terms.items()},
        excluded_pairs=np.sort(place[found.excluded_pairs], axis=1).astype(np.int32),
        pairs_14=np.empty((0, 2), dtype=np.int32),
        n_atoms=found.n_atoms,
        n_particles=n,
        box_vectors=None if box is None else np.array([[x._value for x in row] for row in box]),
        methods=found.methods,
        forms=found.forms,
        masses=np.array([openmm_system.getParticleMass(i)._value for i in atoms.tolist()]),
        engine_options=found.engine_options._replace(constrained_forces=True),
        openmm_particles=None if np.array_equal(order, np.arange(n)) else order,
    )
    given = nanometers(positions, "positions", (None, 3))
    if given is not None:
        result.positions = nanometers(given[atoms] if len(given) == n else given, "positions", (found.n_atoms, 3))
    return result


def _require_covered(openmm_system: openmm.System) -> None:
    covered = [kind for part in READ for kind in part.CLASSES]
    known = {*covered, *_WITHOUT_ENERGY}
    unknown = [described(force) for force in openmm_system.getForces() if type(force).__name__ not in known]
    if unknown:
        raise UnsupportedForceError(f"not covered: {', '.join(unknown)}; covered are {', '.join(covered)}")


def _atom_names(
    topology: openmm.app.Topology | Topology | None, order: Int[np.ndarray, " particles"], n_atoms: int
) -> list[str]:
    """A name for each particle of the OpenMM System: its index, with residue and name where they are known."""
    names = [str(i) for i in range(len(order))]
    if topology is None:
        return names
    atoms = list(topology.atoms() if callable(topology.atoms) else topology.atoms)
    places = {len(order): range(len(order)), n_atoms: order[:n_atoms].tolist()}.get(len(atoms))
    if places is None:
        raise ParameterMismatchError(
            f"the topology has {len(atoms)} atoms; the OpenMM System has {n_atoms}, and {len(order)} particles"
        )
    for place, atom in zip(places, atoms, strict=True):
        names[place] += f":{_describe(atom)}"
    return names


def _describe(atom: openmm.app.topology.Atom | Atom) -> str:
    """``ALA2:CA`` for an atom of OpenMM's or the toolkit's topology, as far as these are known."""
    residue = getattr(atom, "residue", None)
    if residue is not None:
        return f"{residue.name}{residue.id}:{atom.name}"
    metadata = atom.metadata
    place = f"{metadata['residue_name']}{metadata.get('residue_number', '')}:" if "residue_name" in metadata else ""
    return f"{place}{atom.name or atom.symbol}"
