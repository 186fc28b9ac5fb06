"""A system from any OpenMM System of standard forces: its own per-term parameters are theta.

Espaloma, GAFF, CHARMM and AMBER files all come as such a System. There are no SMIRKS: a parameter is named by the atoms
of its term, and shared by several only where equal ones are tied on request.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

from openff_diffsystem.assignment import AffineRows, Assignment
from openff_diffsystem.cutoffs import EngineOptions
from openff_diffsystem.exceptions import ParameterMismatchError, UnsupportedForceError, UnsupportedInputError
from openff_diffsystem.interop.openmm.sites import read_site
from openff_diffsystem.layout import Column, NumericAttribute, ParameterLayout, SectionLayout
from openff_diffsystem.parameters import ForceFieldParameters
from openff_diffsystem.site_types import NO_ATOM, SITE_TYPES, WEIGHTED_SITE_TYPES
from openff_diffsystem.system_parameters import SectionBlocks, SystemLayout
from openff_diffsystem.units import nanometers

if TYPE_CHECKING:
    from openff_diffsystem.system import DiffSystem

_WITHOUT_ENERGY = (
    "CMMotionRemover",
    "AndersenThermostat",
    "MonteCarloBarostat",
    "MonteCarloAnisotropicBarostat",
    "MonteCarloMembraneBarostat",
    "MonteCarloFlexibleBarostat",
)
"""Forces that contribute no energy and are passed over."""

_READ = ("HarmonicBondForce", "HarmonicAngleForce", "PeriodicTorsionForce", "NonbondedForce", "GBSAOBCForce")

_SITE_COLUMNS = {
    **dict.fromkeys(SITE_TYPES, ("distance", "outOfPlaneAngle", "inPlaneAngle")),
    "TwoParticleAverage": ("weight1", "weight2", None),
    "ThreeParticleAverage": ("weight1", "weight2", "weight3"),
    "OutOfPlane": ("weight12", "weight13", "weightCross"),
}

_UNITS = {
    "Bonds": {"k": "kilojoule / mole / nanometer**2"},
    "Angles": {"k": "kilojoule / mole / radian**2"},
    "ProperTorsions": {"k": "kilojoule / mole"},
    "": {
        **dict.fromkeys(("length", "distance", "sigma", "radius", "cutoff", "switch_width"), "nanometer"),
        **dict.fromkeys(("angle", "phase", "outOfPlaneAngle", "inPlaneAngle"), "radian"),
        "epsilon": "kilojoule / mole",
        "charge": "elementary_charge",
        "charge_product": "elementary_charge**2",
        "weightCross": "1 / nanometer",
        "surface_area_penalty": "kilojoule / mole / nanometer**2",
        "solvent_radius": "nanometer",
    },
}
"""By section and attribute; what is under no section's own name is under none, or else dimensionless."""

_MOLECULES_ARE_WHOLE = "call setUsesPeriodicBoundaryConditions(False) on it and keep molecules whole"


@dataclass
class _Terms:
    """The terms of one section as they are read: particles, values per column, and integers by name."""

    columns: tuple[str, ...]
    particles: np.ndarray
    values: np.ndarray
    static: dict[str, np.ndarray]


@dataclass
class _Nonbonded:
    """What a NonbondedForce says besides its terms: numbers of a section, and how interactions end."""

    settings: dict[tuple[str, str], float]
    periodic_vdw: str
    periodic_coulomb: str
    options: EngineOptions


def from_openmm(
    cls: type[DiffSystem],
    openmm_system: Any,
    topology: Any = None,
    *,
    positions: Any = None,
    tie_equal: bool = False,
) -> DiffSystem:
    """Read an OpenMM System; see :meth:`DiffSystem.from_openmm`."""
    import openmm

    if not isinstance(openmm_system, openmm.System):
        raise UnsupportedInputError(f"expected an openmm.System, got {type(openmm_system).__name__}")
    n = openmm_system.getNumParticles()
    is_site = np.array([openmm_system.isVirtualSite(i) for i in range(n)], dtype=bool)
    order = np.concatenate([np.flatnonzero(~is_site), np.flatnonzero(is_site)])
    forces = _sorted_forces(openmm_system)
    terms = _bonded_terms(forces)
    excluded = np.empty((0, 2), dtype=np.int64)
    nonbonded = _Nonbonded({}, "cutoff", "Ewald3D-ConductingBoundary", EngineOptions())
    if forces["NonbondedForce"]:
        force = _single(forces["NonbondedForce"])
        nonbonded = _nonbonded_settings(force)
        excluded = _add_nonbonded(terms, force, order)
    if forces["GBSAOBCForce"]:
        nonbonded.settings |= _add_born(terms, _single(forces["GBSAOBCForce"]), order)
    if openmm_system.getNumConstraints():
        rows = [openmm_system.getConstraintParameters(i) for i in range(openmm_system.getNumConstraints())]
        terms["Constraints"] = _terms(("distance",), rows, 2)
    if is_site.any():
        terms["VirtualSites"] = _sites(openmm_system, order[len(order) - is_site.sum() :], is_site)
    place = np.empty(n, dtype=np.int64)
    place[order] = np.arange(n)
    layout, values, assignment, system_layout = _layout(
        terms, nonbonded.settings, _atom_names(topology, order, int((~is_site).sum())), tie_equal
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
        methods=_methods(terms, nonbonded),
        masses=np.array([openmm_system.getParticleMass(i)._value for i in order[~is_site[order]].tolist()]),
        engine_options=nonbonded.options._replace(constrained_forces=True),
        openmm_particles=None if np.array_equal(order, np.arange(n)) else order,
    )
    given = nanometers(positions, "positions", (None, 3))
    if given is not None:
        atoms = given[order[: result.n_atoms]] if len(given) == n else given
        result.positions = nanometers(atoms, "positions", (result.n_atoms, 3))
    return result


def _sorted_forces(system: Any) -> dict[str, list[Any]]:
    """The forces by class.

    Raises
    ------
    UnsupportedForceError
        If one is of a class that is not covered.
    """
    found: dict[str, list[Any]] = {name: [] for name in _READ}
    unknown = []
    for force in system.getForces():
        kind = type(force).__name__
        if kind in found:
            found[kind].append(force)
            if kind not in ("NonbondedForce", "GBSAOBCForce") and force.usesPeriodicBoundaryConditions():
                raise UnsupportedForceError(f"{_name(force)} wraps its terms into the box; {_MOLECULES_ARE_WHOLE}")
        elif kind not in _WITHOUT_ENERGY:
            unknown.append(_name(force))
    if unknown:
        hint = ""
        if any("Custom" in name for name in unknown):
            hint = "; openff-interchange writes a single NonbondedForce with to_openmm(combine_nonbonded_forces=True)"
        raise UnsupportedForceError(f"not covered: {', '.join(unknown)}; covered are {', '.join(_READ)}{hint}")
    return found


def _name(force: Any) -> str:
    kind = type(force).__name__
    return kind if force.getName() == kind else f"{kind} {force.getName()!r}"


def _single(forces: list[Any]) -> Any:
    if len(forces) > 1:
        raise UnsupportedForceError(f"{len(forces)} forces of class {type(forces[0]).__name__}; one is covered")
    return forces[0]


def _number(value: Any) -> float:
    return float(getattr(value, "_value", value))


def _terms(columns: tuple[str, ...], rows: list[Any], width: int) -> _Terms:
    """Terms from what OpenMM's getters return: particles, then values in the order of ``columns``."""
    particles = np.array([row[:width] for row in rows], dtype=np.int64).reshape(-1, width)
    values = np.array([[_number(v) for v in row[width:]] for row in rows]).reshape(-1, len(columns))
    return _Terms(columns, particles, values, {})


def _bonded_terms(forces: dict[str, list[Any]]) -> dict[str, _Terms]:
    def rows(kind: str, count: str, get: str) -> list[Any]:
        return [getattr(force, get)(i) for force in forces[kind] for i in range(getattr(force, count)())]

    terms = {}
    if forces["HarmonicBondForce"]:
        found = rows("HarmonicBondForce", "getNumBonds", "getBondParameters")
        terms["Bonds"] = _terms(("k", "length"), [(*r[:2], r[3], r[2]) for r in found], 2)
    if forces["HarmonicAngleForce"]:
        found = rows("HarmonicAngleForce", "getNumAngles", "getAngleParameters")
        terms["Angles"] = _terms(("k", "angle"), [(*r[:3], r[4], r[3]) for r in found], 3)
    if forces["PeriodicTorsionForce"]:
        found = rows("PeriodicTorsionForce", "getNumTorsions", "getTorsionParameters")
        terms["ProperTorsions"] = _terms(("k", "phase", "idivf"), [(*r[:4], r[6], r[5], 1.0) for r in found], 4)
        terms["ProperTorsions"].static["periodicity"] = np.array([r[4] for r in found], dtype=np.int32)
    return terms


def _nonbonded_settings(force: Any) -> _Nonbonded:
    name = _name(force)
    for count in ("GlobalParameters", "ParticleParameterOffsets", "ExceptionParameterOffsets"):
        if getattr(force, f"getNum{count}")():
            raise UnsupportedForceError(f"{name} has {count}, which are not covered")
    if force.getExceptionsUsePeriodicBoundaryConditions():
        raise UnsupportedForceError(
            f"{name} wraps its exceptions into the box; call setExceptionsUsePeriodicBoundaryConditions(False) on it "
            "and keep molecules whole"
        )
    if not force.getIncludeDirectSpace():
        raise UnsupportedForceError(f"{name} leaves direct space out")
    words = {
        force.NoCutoff: ("cutoff", "Ewald3D-ConductingBoundary"),
        force.CutoffPeriodic: ("cutoff", "reaction-field"),
        force.PME: ("cutoff", "Ewald3D-ConductingBoundary"),
        force.LJPME: ("Ewald3D", "Ewald3D-ConductingBoundary"),
    }
    method = force.getNonbondedMethod()
    if method not in words:
        kind = {force.CutoffNonPeriodic: "CutoffNonPeriodic", force.Ewald: "Ewald"}.get(method, method)
        raise UnsupportedForceError(
            f"{name} with method {kind} is not covered; covered are NoCutoff, CutoffPeriodic, PME and LJPME"
        )
    if method == force.NoCutoff:
        return _Nonbonded({}, *words[method], EngineOptions())
    for get in ("getPMEParameters", "getLJPMEParameters"):
        if _number(getattr(force, get)()[0]):
            raise UnsupportedForceError(
                f"{name} sets its Ewald parameters itself ({get}); set them to 0 and use setEwaldErrorTolerance"
            )
    cutoff = _number(force.getCutoffDistance())
    switched = force.getUseSwitchingFunction() and method != force.LJPME
    settings = {("vdW", "cutoff"): cutoff, ("Electrostatics", "cutoff"): cutoff}
    if switched:
        settings["vdW", "switch_width"] = cutoff - _number(force.getSwitchingDistance())
    options = EngineOptions(
        ewald_tolerance=force.getEwaldErrorTolerance(),
        reaction_field_dielectric=force.getReactionFieldDielectric(),
        dispersion_correction=force.getUseDispersionCorrection(),
        mesh_cutoff=cutoff,
    )
    return _Nonbonded(settings, *words[method], options)


def _add_nonbonded(terms: dict[str, _Terms], force: Any, order: np.ndarray) -> np.ndarray:
    """Add particles and exceptions; the pairs that do not interact at all, ``(n, 2)``."""
    everyone = [force.getParticleParameters(i) for i in order.tolist()]
    particles = order[:, None]
    charges = np.array([[_number(charge)] for charge, _, _ in everyone]).reshape(-1, 1)
    shapes = np.array([[_number(epsilon), _number(sigma)] for _, sigma, epsilon in everyone]).reshape(-1, 2)
    terms["vdW"] = _Terms(("epsilon", "sigma"), particles, shapes, {})
    terms["Electrostatics"] = _Terms(("charge",), particles, charges, {})
    rows = [force.getExceptionParameters(i) for i in range(force.getNumExceptions())]
    exceptions = _terms(("charge_product", "sigma", "epsilon"), rows, 2)
    silent = (exceptions.values[:, 0] == 0) & (exceptions.values[:, 2] == 0)
    if not silent.all():
        terms["NonbondedExceptions"] = _Terms(
            exceptions.columns, exceptions.particles[~silent], exceptions.values[~silent], {}
        )
    return exceptions.particles[silent]


def _add_born(terms: dict[str, _Terms], force: Any, order: np.ndarray) -> dict[tuple[str, str], float]:
    """Add implicit solvent; its section-wide numbers."""
    name = _name(force)
    if force.getNonbondedMethod() != force.NoCutoff:
        raise UnsupportedForceError(f"{name} with a cutoff is not covered; covered is NoCutoff")
    rows = np.array([[_number(v) for v in force.getParticleParameters(i)] for i in order.tolist()])
    charges = terms["Electrostatics"].values[:, 0] if "Electrostatics" in terms else np.zeros(0)
    if not np.array_equal(charges, rows[:, 0]):
        raise UnsupportedForceError(f"the charges of {name} are not those of the NonbondedForce")
    terms["GBSA"] = _Terms(("radius", "scale"), order[:, None], rows[:, 1:], {})
    return {
        ("GBSA", "solvent_dielectric"): force.getSolventDielectric(),
        ("GBSA", "solute_dielectric"): force.getSoluteDielectric(),
        ("GBSA", "surface_area_penalty"): _number(force.getSurfaceAreaEnergy()),
        ("GBSA", "solvent_radius"): 0.14,  # nm, fixed in OpenMM's force
    }


def _sites(system: Any, particles: np.ndarray, is_site: np.ndarray) -> _Terms:
    sites = [read_site(i, system.getVirtualSite(i)) for i in particles.tolist()]
    orientation = np.full((len(sites), 4), NO_ATOM, dtype=np.int64)
    for row, (particle, site) in enumerate(zip(particles.tolist(), sites, strict=True)):
        nested = [atom for atom in site.atoms if is_site[atom]]
        if nested:
            raise UnsupportedForceError(f"virtual site {particle} depends on another one, {nested[0]}")
        orientation[row, : len(site.atoms)] = site.atoms
    values = np.array([site.parameters for site in sites])
    types = np.array([site.type for site in sites], dtype=np.int32)
    return _Terms(("distance", "outOfPlaneAngle", "inPlaneAngle"), orientation, values, {"type": types})


def _methods(terms: dict[str, _Terms], nonbonded: _Nonbonded) -> dict[str, dict[str, str]]:
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
        "GBSA": {"gb_model": "OBC2", "sa_model": "ACE"},
    }
    return {section: words for section, words in methods.items() if section in terms}


def _layout(
    terms: dict[str, _Terms],
    settings: dict[tuple[str, str], float],
    names: list[str],
    tie_equal: bool,
) -> tuple[ParameterLayout, np.ndarray, Assignment, SystemLayout]:
    """Theta, and the map from it to the system parameters: a gather, with constants where there is nothing to fit."""
    sections, values, maps = [], [], []
    blocks: dict[str, SectionBlocks] = {}
    sources: dict[tuple[str, str], int] = {}
    start = n_values = 0
    for section, one in terms.items():
        columns: dict[str, Column] = {}
        for (tag, name), value in settings.items():
            if tag == section:
                columns[name] = Column(NumericAttribute(name), _unit(tag, name), None, start)
                sources[tag, name] = start
                values.append(np.array([value]))
                start += 1
        first, row_of_term = _rows(one, tie_equal)
        rows = AffineRows.empty(len(one.particles), len(one.columns))
        for c, attributes in enumerate(_attributes(section, one)):
            chosen = attributes[first]
            for attribute in dict.fromkeys(name for name in chosen.tolist() if name):
                members = np.flatnonzero(chosen == attribute)
                columns[attribute] = Column(
                    NumericAttribute(attribute), _unit(section, attribute), tuple(members.tolist()), start
                )
                position = np.full(len(first), -1)
                position[members] = start + np.arange(len(members))
                has = position[row_of_term] >= 0
                rows.source[has, c] = position[row_of_term][has]
                values.append(one.values[first[members], c])
                start += len(members)
            constant = attributes == ""
            rows.offset[constant, c] = one.values[constant, c]
        labels = tuple(_label(names, one, term) for term in first.tolist())
        sections.append(SectionLayout(section, (None,) * len(first), labels, columns))
        maps.append(rows.flatten())
        blocks[section] = SectionBlocks(one.columns, n_values, ((len(one.particles), 1),))
        n_values += one.values.size
    constants = {(s, "scale14"): 1.0 for s in ("vdW", "Electrostatics") if s in terms}
    numbers = AffineRows.empty(len(sources) + len(constants), 1)
    numbers.source[: len(sources), 0] = list(sources.values())
    numbers.offset[len(sources) :, 0] = list(constants.values())
    maps.append(numbers.flatten())
    positions = {key: n_values + i for i, key in enumerate((*sources, *constants))}
    return (
        ParameterLayout(sections),
        np.concatenate(values) if values else np.empty(0),
        Assignment.concatenate(maps),
        SystemLayout(blocks, positions, None),
    )


def _rows(one: _Terms, tie_equal: bool) -> tuple[np.ndarray, np.ndarray]:
    """The first term of each row of parameters, ``(n_rows,)``, and the row of each term, ``(n_terms,)``."""
    n = len(one.particles)
    if not tie_equal or not n:
        return np.arange(n), np.arange(n)
    table = np.column_stack([one.values, *one.static.values()])
    _, first, inverse = np.unique(table, axis=0, return_index=True, return_inverse=True)
    by_appearance = np.argsort(first)
    number = np.empty(len(first), dtype=np.int64)
    number[by_appearance] = np.arange(len(first))
    return first[by_appearance], number[inverse.reshape(-1)]


def _attributes(section: str, one: _Terms) -> list[np.ndarray]:
    """By column the name of each term's attribute, ``(n_terms,)``; empty where the value is no parameter."""
    n = len(one.particles)
    if section != "VirtualSites":
        return [np.full(n, "" if name == "idivf" else name) for name in one.columns]
    kinds = np.array([*SITE_TYPES, *WEIGHTED_SITE_TYPES])[one.static["type"]]
    return [np.array([_SITE_COLUMNS[kind][c] or "" for kind in kinds.tolist()]) for c in range(3)]


def _unit(section: str, attribute: str) -> str:
    return _UNITS.get(section, {}).get(attribute) or _UNITS[""].get(attribute, "dimensionless")


def _label(names: list[str], one: _Terms, term: int) -> str:
    label = "-".join(names[i] for i in one.particles[term].tolist() if i != NO_ATOM)
    return f"{label}(n={one.static['periodicity'][term]})" if "periodicity" in one.static else label


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
