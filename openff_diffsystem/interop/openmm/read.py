"""A system from an OpenMM System: its own per-term parameters are theta.

Espaloma, GAFF, AMBER and CHARMM files come as such a System. CHARMM's have correction maps, and impropers as a custom
force: a system holds the form of these itself. There are no SMIRKS: a parameter is named by the atoms of its term, and
shared by several only where equal ones are tied on request.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

from openff_diffsystem.exceptions import ParameterMismatchError, UnsupportedForceError, UnsupportedInputError
from openff_diffsystem.interop.openmm.forces.bonded import (
    Nonbonded,
    add_nonbonded,
    bonded_terms,
    nonbonded_settings,
    single,
    sorted_forces,
    terms_of,
)
from openff_diffsystem.interop.openmm.forces.implicit_solvent import read_born
from openff_diffsystem.interop.openmm.forces.own_forms import read_stored
from openff_diffsystem.interop.openmm.forces.terms import ForceTerms, described
from openff_diffsystem.interop.openmm.forces.typed_lennard_jones import read_typed
from openff_diffsystem.interop.openmm.forces.virtual_sites import read_sites
from openff_diffsystem.interop.openmm.theta import own_parameters
from openff_diffsystem.parameters.force_field import ForceFieldParameters
from openff_diffsystem.potentials.nbfix import SECTION as NBFIX
from openff_diffsystem.potentials.periodic.scheme import EngineOptions
from openff_diffsystem.sections import NO_ATOM
from openff_diffsystem.units import nanometers

if TYPE_CHECKING:
    from openff_diffsystem.system.data import System


def from_openmm(
    cls: type[System],
    openmm_system: Any,
    topology: Any = None,
    *,
    positions: Any = None,
    tie_equal: bool = False,
) -> System:
    """Take over an OpenMM System of standard and custom bonded forces, whoever made it, with its energies.

    Theta are its own parameters, one row per term: ``Bonds`` (k, length), ``Angles``, ``ProperTorsions`` (all
    periodic torsions), ``vdW`` and ``Electrostatics`` per particle, ``NonbondedExceptions`` (charge_product, sigma,
    epsilon) for pairs with parameters of their own, ``NBFIX`` for pairs of atom types that do not combine theirs,
    ``Constraints``, ``VirtualSites``, ``GBSA``, ``CMAPTorsions``, and a section for each custom force. Terms that are
    there count, whether constraints fix them or not. It is periodic if the System is.

    Parameters
    ----------
    openmm_system
        ``openmm.System`` of HarmonicBondForce, HarmonicAngleForce, PeriodicTorsionForce, RBTorsionForce,
        NonbondedForce (NoCutoff, CutoffPeriodic, PME or LJPME), GBSAOBCForce, CMAPTorsionForce, CustomBondForce,
        CustomAngleForce, CustomTorsionForce and CustomCompoundBondForce, with constraints and virtual sites; the
        CustomNonbondedForce of CHARMM force fields; and the CustomGBForce that openmm.app makes for HCT and OBC1.
        Thermostats, barostats and CMMotionRemover are passed over; all else is refused.
    topology
        ``openmm.app.Topology`` or openff-toolkit's; names the atoms in labels of parameters.
    positions
        Of the atoms or of all particles, in OpenMM's order, a ``Quantity`` or nm.
    tie_equal
        Whether terms of a section with equal parameters share one row of theta.

    Notes
    -----
    Where virtual sites stand between atoms, as in OpenMM's own water models, particles are numbered anew, atoms
    first; ``openmm_particles`` has their OpenMM indices, and :meth:`DiffSystem.to_openmm` goes back to them. Give
    potentials the positions of the atoms then.

    Raises
    ------
    UnsupportedForceError
        If a force, a virtual site or a setting cannot be represented; the message names it.
    """
    import openmm

    if not isinstance(openmm_system, openmm.System):
        raise UnsupportedInputError(f"expected an openmm.System, got {type(openmm_system).__name__}")
    n = openmm_system.getNumParticles()
    is_site = np.array([openmm_system.isVirtualSite(i) for i in range(n)], dtype=bool)
    order = np.concatenate([np.flatnonzero(~is_site), np.flatnonzero(is_site)])
    forces = sorted_forces(openmm_system)
    stored = read_stored(forces)
    terms = bonded_terms(forces) | stored.terms
    excluded = np.empty((0, 2), dtype=np.int64)
    nonbonded = Nonbonded({}, "cutoff", "Ewald3D-ConductingBoundary", EngineOptions())
    if forces["NonbondedForce"]:
        force = single(forces["NonbondedForce"])
        nonbonded = nonbonded_settings(force)
        excluded = add_nonbonded(terms, force, order)
    if forces["CustomNonbondedForce"]:
        _add_table(terms, nonbonded, single(forces["CustomNonbondedForce"]), forces["NonbondedForce"], order)
    words: dict[str, dict[str, str]] = {}
    if solvents := [*forces["GBSAOBCForce"], *forces["CustomGBForce"]]:
        charges = terms["Electrostatics"].values[:, 0] if "Electrostatics" in terms else np.zeros(0)
        born = read_born(single(solvents), charges, order)
        terms["GBSA"] = born.terms
        nonbonded.settings |= born.settings
        words["GBSA"] = born.words
    if openmm_system.getNumConstraints():
        rows = [openmm_system.getConstraintParameters(i) for i in range(openmm_system.getNumConstraints())]
        terms["Constraints"] = terms_of(("distance",), rows, 2)
    if is_site.any():
        terms["VirtualSites"] = read_sites(openmm_system, order[len(order) - is_site.sum() :], is_site)
    place = np.empty(n, dtype=np.int64)
    place[order] = np.arange(n)
    layout, values, assignment, system_layout = own_parameters(
        terms,
        nonbonded.settings | stored.settings,
        _atom_names(topology, order, int((~is_site).sum())),
        tie_equal,
        stored.settings,
    )
    box = openmm_system.getDefaultPeriodicBoxVectors() if openmm_system.usesPeriodicBoundaryConditions() else None
    result = cls(
        force_field_parameters=ForceFieldParameters(jnp.asarray(values), layout),
        assignment_map=assignment,
        system_layout=system_layout,
        term_indices={
            section: np.where(one.particles == NO_ATOM, NO_ATOM, place[one.particles]).astype(np.int32)
            for section, one in terms.items()
        },
        term_static={section: one.static for section, one in terms.items()},
        excluded_pairs=np.sort(place[excluded], axis=1).astype(np.int32),
        pairs_14=np.empty((0, 2), dtype=np.int32),
        n_atoms=int((~is_site).sum()),
        n_particles=n,
        box_vectors=None if box is None else np.array([[x._value for x in row] for row in box]),
        methods=_methods(terms, nonbonded) | words,
        forms=stored.forms,
        masses=np.array([openmm_system.getParticleMass(i)._value for i in order[~is_site[order]].tolist()]),
        engine_options=nonbonded.options._replace(constrained_forces=True),
        openmm_particles=None if np.array_equal(order, np.arange(n)) else order,
    )
    given = nanometers(positions, "positions", (None, 3))
    if given is not None:
        atoms = given[order[: result.n_atoms]] if len(given) == n else given
        result.positions = nanometers(atoms, "positions", (result.n_atoms, 3))
    return result


def _add_table(
    terms: dict[str, ForceTerms], nonbonded: Nonbonded, force: Any, beside: list[Any], order: np.ndarray
) -> None:
    """Take Lennard-Jones interactions from a CustomNonbondedForce, as one NonbondedForce would have them."""
    if not beside:
        raise UnsupportedForceError(f"{described(force)} without a NonbondedForce is not covered")
    typed = read_typed(force, beside[0])
    terms["vdW"].values = typed.values[order]
    if typed.own:
        terms["vdW"].static["type"] = typed.types[order].astype(np.int32)
        terms[NBFIX] = typed.terms()
    nonbonded.settings.pop(("vdW", "switch_width"), None)
    if nonbonded.settings and force.getUseSwitchingFunction():
        width = nonbonded.settings["vdW", "cutoff"] - force.getSwitchingDistance()._value
        nonbonded.settings["vdW", "switch_width"] = width
    nonbonded.options = nonbonded.options._replace(dispersion_correction=force.getUseLongRangeCorrection())


def _methods(terms: dict[str, ForceTerms], nonbonded: Nonbonded) -> dict[str, dict[str, str]]:
    methods = {
        "vdW": {
            "potential": "Lennard-Jones-12-6",
            "combining_rules": "Lorentz-Berthelot",
            "periodic_method": nonbonded.periodic_vdw,
            "nonperiodic_method": "no-cutoff",
        },
        "Electrostatics": {
            "periodic_potential": nonbonded.periodic_coulomb,
            "nonperiodic_potential": "Coulomb",
            "exception_potential": "Coulomb",
        },
    }
    return {section: words for section, words in methods.items() if section in terms}


def _atom_names(topology: Any, order: np.ndarray, n_atoms: int) -> list[str]:
    """A name per particle of the OpenMM System: its index, with residue and name where they are known."""
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


def _describe(atom: Any) -> str:
    """``ALA2:CA`` for an atom of OpenMM's or the toolkit's topology, as far as it is known."""
    residue = getattr(atom, "residue", None)
    if residue is not None:
        return f"{residue.name}{residue.id}:{atom.name}"
    metadata = atom.metadata
    place = f"{metadata['residue_name']}{metadata.get('residue_number', '')}:" if "residue_name" in metadata else ""
    return f"{place}{atom.name or atom.symbol}"
