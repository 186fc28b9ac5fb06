"""A system from a ready Interchange: its assignments are read off, no chemistry is done again.

The force-field parameters are the potentials of the Interchange, one row per SMIRKS that applies somewhere,
or, where the force field is at hand, the rows of that force field.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np

from openff_diffsystem.chemistry.assemble import Assembled, SpeciesTerms, number_particles
from openff_diffsystem.chemistry.molecule import BondGraph, bonded_pairs
from openff_diffsystem.chemistry.nonbonded import SIGMA_PER_RMIN_HALF, ClosePairs, close_pairs
from openff_diffsystem.chemistry.species import Species
from openff_diffsystem.chemistry.terms import Terms, index_array
from openff_diffsystem.exceptions import ParameterMismatchError, UnsupportedForceFieldError
from openff_diffsystem.forms.methods import Methods, _word
from openff_diffsystem.parameters.assignment import NO_SOURCE, AffineRows
from openff_diffsystem.parameters.force_field import ForceFieldParameters
from openff_diffsystem.parameters.layout import Column, NumericAttribute, ParameterLayout, SectionLayout
from openff_diffsystem.parameters.offxml import handlers_of, read_handlers
from openff_diffsystem.sections import NO_ATOM, SECTIONS, SITE_TYPES
from openff_diffsystem.system.construction import from_assembled
from openff_diffsystem.system.data import System
from openff_diffsystem.units import md_unit, to_md

_HARMONIC = {"Bonds": ("k", "length"), "Angles": ("k", "angle")}
_TORSIONS = ("ProperTorsions", "ImproperTorsions")
SETTINGS = {
    "vdW": {"scale14": "scale_14", "cutoff": "cutoff", "switch_width": "switch_width"},
    "Electrostatics": {"scale14": "scale_14", "cutoff": "cutoff"},
    "GBSA": {
        "solvent_dielectric": "solvent_dielectric",
        "solute_dielectric": "solute_dielectric",
        "surface_area_penalty": "surface_area_penalty",
        "solvent_radius": "solvent_radius",
    },
}
"""Section-wide numbers: their OFFXML names, and those of openff-interchange."""

_CONSTANT_CHARGES = frozenset(
    {"ToolkitAM1BCCHandler", "NAGLChargesHandler", "ChargeIncrementModelHandler"}
    | {"molecules_with_preset_charges", "ExternalSource"}
)
"""Origins of charges that no force-field parameter stands for."""


class Sources:
    """Finds the position in the flat vector of a number of a potential, and notes the number down.

    Without a force field the layout is made of what is asked for, in order.
    """

    def __init__(self, force_field: Any = None, layout: ParameterLayout | None = None) -> None:
        self._force_field = force_field
        self._layout = layout
        self._rows: dict[str, list[str]] = {}
        self._found: dict[tuple[str, str], dict[int | None, tuple[int, Any]]] = {}
        self._count = 0

    def position(self, section: str, name: str | None, attribute: str, value: Any) -> int:
        """Position of ``attribute`` of the parameter with SMIRKS ``name``, or of the section where that is ``None``."""
        if self._layout is not None:
            return self._in_force_field(section, name, attribute)
        row = None
        if name is not None:
            names = self._rows.setdefault(section, [])
            if name not in names:
                names.append(name)
            row = names.index(name)
        column = self._found.setdefault((section, attribute), {})
        if row not in column:
            column[row] = (self._count, value)
            self._count += 1
        return column[row][0]

    def _in_force_field(self, section: str, name: str | None, attribute: str) -> int:
        layout: ParameterLayout = self._layout  # type: ignore[assignment]
        if name is None:
            return layout.section_position(section, attribute)
        if section not in layout.sections:
            raise ParameterMismatchError(f"the force field has no section {section}")
        parameters = self._force_field.get_parameter_handler(section).parameters
        keys = [f"{p.smirks} {p.name} {p.match}" if section == "VirtualSites" else p.smirks for p in parameters]
        if name not in keys:
            raise ParameterMismatchError(f"the force field has no {section} parameter {name!r}")
        # of several parameters with one SMIRKS the last is the one that applies
        row = len(keys) - 1 - keys[::-1].index(name)
        return int(layout.positions(section, attribute)[row])

    def finish(self, sections: list[str]) -> tuple[ParameterLayout, np.ndarray, dict[int, int]]:
        """Layout and values of everything asked for, and the final position of each preliminary one."""
        described: list[SectionLayout] = []
        values: list[float] = []
        final: dict[int, int] = {}
        for section in sections:
            columns = {}
            for (tag, attribute), rows in self._found.items():
                if tag != section:
                    continue
                ordered = sorted(rows, key=lambda row: -1 if row is None else row)
                example = rows[ordered[0]][1]
                unit = md_unit(example) if hasattr(example, "_units") else "dimensionless"
                described_rows = None if ordered == [None] else tuple(row for row in ordered if row is not None)
                columns[attribute] = Column(NumericAttribute(attribute), unit, described_rows, len(values))
                for row in ordered:
                    final[rows[row][0]] = len(values)
                    values.append(to_md(rows[row][1]))
            names = tuple(self._rows.get(section, ()))
            described.append(SectionLayout(section, names, (None,) * len(names), columns))
        return ParameterLayout(described), np.array(values), final


def read_terms(interchange: Any, sources: Sources) -> tuple[dict[str, Terms], int]:
    """Terms by section for the whole topology, and the number of virtual sites. Asks for section-wide numbers as well.

    Raises
    ------
    UnsupportedForceFieldError
        If the Interchange holds a collection that cannot be represented.
    """
    supported = {*_HARMONIC, *_TORSIONS, "Constraints", "vdW", "Electrostatics", "VirtualSites", "GBSA"}
    unknown = [
        name
        for name, collection in interchange.collections.items()
        if name not in supported or getattr(collection, "is_plugin", False)
    ]
    if unknown:
        raise UnsupportedForceFieldError(f"cannot represent the collection(s) {', '.join(unknown)}")
    sites = sites_of(interchange)
    terms: dict[str, Terms] = {}
    for section, collection in interchange.collections.items():
        if section in _HARMONIC:
            terms[section] = _harmonic(section, collection, sources)
        elif section in _TORSIONS:
            terms[section] = _torsions(section, collection, sources)
        elif section == "Constraints":
            terms[section] = _constraints(collection, sources)
        elif section == "vdW":
            terms[section] = _vdw(interchange, collection, sites, sources)
        elif section == "Electrostatics":
            terms[section] = _charges(interchange, collection, sites, sources)
        elif section == "GBSA":
            terms[section] = _gbsa(interchange, collection, sources)
        elif section == "VirtualSites":
            terms[section] = _virtual_sites(collection, sites, sources)
    for section, names in SETTINGS.items():
        if section in interchange.collections:
            for ours, theirs in names.items():
                sources.position(section, None, ours, _plain(getattr(interchange.collections[section], theirs)))
    return terms, len(sites)


def read_pairs(interchange: Any, terms: dict[str, Terms]) -> ClosePairs:
    """Exclusions and 1-4 pairs of the whole topology."""
    bonds, n_atoms = [], 0
    for molecule in interchange.topology.molecules:
        bonds += bonded_pairs(molecule, n_atoms)
        n_atoms += molecule.n_atoms
    parents = terms["VirtualSites"].indices[:, 0] if "VirtualSites" in terms else np.empty(0, dtype=np.int32)
    return close_pairs(BondGraph(n_atoms, bonds), parents)


def _plain(value: Any) -> Any:
    """Numbers without unit as floats, as an OFFXML file has them."""
    return float(value.m) if hasattr(value, "m") and str(value.units) in ("", "dimensionless") else value


def _weighted(potential: Any) -> Iterator[tuple[Any, float, str]]:
    """The parts of a potential, their weights, and what bond order adds to the names of their attributes."""
    if hasattr(potential, "_inner_data"):
        for part, weight in potential._inner_data.items():
            yield part, float(weight), f"_bondorder{part.map_key}"
    else:
        yield potential, 1.0, ""


def _add(rows: AffineRows, i: int, column: int, position: int, weight: float, value: Any) -> None:
    if position == NO_SOURCE:
        rows.offset[i, column] += weight * to_md(value)
    else:
        rows.add(i, column, position, weight)


def _harmonic(section: str, collection: Any, sources: Sources) -> Terms:
    columns = _HARMONIC[section]
    rows = AffineRows.empty(len(collection.key_map), len(columns))
    for i, potential_key in enumerate(collection.key_map.values()):
        for part, weight, suffix in _weighted(collection.potentials[potential_key]):
            for column, name in enumerate(columns):
                value = part.parameters[name]
                position = sources.position(section, potential_key.id, name + suffix, value)
                _add(rows, i, column, position, weight, value)
    return Terms(
        columns,
        index_array([key.atom_indices for key in collection.key_map], 2 + (section == "Angles")),
        rows,
    )


def _torsions(section: str, collection: Any, sources: Sources) -> Terms:
    columns = ("k", "phase", "idivf")
    rows = AffineRows.empty(len(collection.key_map), 3)
    periodicity = np.empty(len(collection.key_map), dtype=np.int32)
    for i, potential_key in enumerate(collection.key_map.values()):
        n = potential_key.mult + 1
        for part, weight, suffix in _weighted(collection.potentials[potential_key]):
            values = {name: _plain(part.parameters[name]) for name in columns}
            periodicity[i] = round(float(part.parameters["periodicity"].m))
            position = sources.position(section, potential_key.id, f"k{n}{suffix}", values["k"])
            _add(rows, i, 0, position, weight, values["k"])
        for column, name in ((1, "phase"), (2, "idivf")):
            position = sources.position(section, potential_key.id, f"{name}{n}", values[name])
            _add(rows, i, column, position, 1.0, values[name])
    indices = index_array([key.atom_indices for key in collection.key_map], 4)
    return Terms(columns, indices, rows, {"periodicity": periodicity})


def _constraints(collection: Any, sources: Sources) -> Terms:
    rows = AffineRows.empty(len(collection.key_map), 1)
    for i, potential_key in enumerate(collection.key_map.values()):
        value = collection.potentials[potential_key].parameters["distance"]
        section = potential_key.associated_handler
        attribute = "length" if section == "Bonds" else "distance"
        _add(rows, i, 0, sources.position(section, potential_key.id, attribute, value), 1.0, value)
    return Terms(("distance",), index_array([key.atom_indices for key in collection.key_map], 2), rows)


def sites_of(interchange: Any) -> list[Any]:
    """Keys of the virtual sites, molecule by molecule, the order of the OpenMM export."""
    collection = interchange.collections.get("VirtualSites")
    if collection is None:
        return []
    if collection.exclusion_policy != "parents":
        raise UnsupportedForceFieldError(f"virtual sites with exclusion policy {collection.exclusion_policy!r}")
    ends = np.cumsum([molecule.n_atoms for molecule in interchange.topology.molecules])
    return sorted(
        collection.key_map,
        key=lambda key: int(np.searchsorted(ends, key.orientation_atom_indices[0], side="right")),
    )


def _particle_row(key: Any, site_rows: dict[Any, int]) -> int:
    return site_rows[key] if key in site_rows else key.atom_indices[0]


def _vdw(interchange: Any, collection: Any, sites: list[Any], sources: Sources) -> Terms:
    n_atoms = interchange.topology.n_atoms
    site_rows = {key: n_atoms + i for i, key in enumerate(sites)}
    rows = AffineRows.empty(n_atoms + len(sites), 2)
    for key, potential_key in collection.key_map.items():
        i = _particle_row(key, site_rows)
        section = "VirtualSites" if key in site_rows else "vdW"
        epsilon, sigma = (collection.potentials[potential_key].parameters[name] for name in ("epsilon", "sigma"))
        _add(rows, i, 0, sources.position(section, potential_key.id, "epsilon", epsilon), 1.0, epsilon)
        position = sources.position(section, potential_key.id, "sigma", sigma)
        if position == NO_SOURCE:
            position = sources.position(section, potential_key.id, "rmin_half", sigma)
            rows.add(i, 1, position, SIGMA_PER_RMIN_HALF)
        else:
            rows.add(i, 1, position, 1.0)
    return Terms(("epsilon", "sigma"), index_array(list(range(len(rows.source))), 1), rows)


def _charges(interchange: Any, collection: Any, sites: list[Any], sources: Sources) -> Terms:
    n_atoms = interchange.topology.n_atoms
    site_rows = {key: n_atoms + i for i, key in enumerate(sites)}
    rows = AffineRows.empty(n_atoms + len(sites), 1)
    for key, potential_key in collection.key_map.items():
        parameters = collection.potentials[potential_key].parameters
        if key in site_rows:
            increments = parameters["charge_increments"]
            for n, (atom, value) in enumerate(zip(key.orientation_atom_indices, increments, strict=True)):
                position = sources.position("VirtualSites", potential_key.id, f"charge_increment{n + 1}", value)
                _add(rows, site_rows[key], 0, position, -1.0, value)
                _add(rows, atom, 0, position, 1.0, value)
            continue
        atom = key.atom_indices[0]
        origin = potential_key.associated_handler
        if "charge_increment" in parameters:
            attribute, value = f"charge_increment{potential_key.mult + 1}", parameters["charge_increment"]
            position = sources.position("ChargeIncrementModel", potential_key.id, attribute, value)
        elif origin == "LibraryCharges":
            value = parameters["charge"]
            position = sources.position("LibraryCharges", potential_key.id, f"charge{potential_key.mult + 1}", value)
        elif origin in _CONSTANT_CHARGES:
            position, value = NO_SOURCE, parameters["charge"]
        else:
            raise UnsupportedForceFieldError(f"charges from {origin!r}")
        _add(rows, atom, 0, position, 1.0, value)
    return Terms(("charge",), index_array(list(range(len(rows.source))), 1), rows)


def _gbsa(interchange: Any, collection: Any, sources: Sources) -> Terms:
    columns = ("radius", "scale")
    rows = AffineRows.empty(interchange.topology.n_atoms, 2)
    for key, potential_key in collection.key_map.items():
        for column, name in enumerate(columns):
            value = _plain(collection.potentials[potential_key].parameters[name])
            position = sources.position("GBSA", potential_key.id, name, value)
            _add(rows, key.atom_indices[0], column, position, 1.0, value)
    return Terms(columns, index_array(list(range(len(rows.source))), 1), rows)


def _virtual_sites(collection: Any, sites: list[Any], sources: Sources) -> Terms:
    columns = ("distance", "outOfPlaneAngle", "inPlaneAngle")
    rows = AffineRows.empty(len(sites), 3)
    indices = np.full((len(sites), 4), NO_ATOM, dtype=np.int32)
    for i, key in enumerate(sites):
        indices[i, : len(key.orientation_atom_indices)] = key.orientation_atom_indices
        potential_key = collection.key_map[key]
        parameters = collection.potentials[potential_key].parameters
        for column, name in enumerate(columns):
            value = parameters.get(name)
            if value is not None:
                rows.add(i, column, sources.position("VirtualSites", potential_key.id, name, value), 1.0)
    types = np.array([SITE_TYPES.index(key.type) for key in sites], dtype=np.int32)
    return Terms(columns, indices, rows, {"type": types})


def assemble_interchange(interchange: Any, force_field: Any = None) -> tuple[ParameterLayout, np.ndarray, Assembled]:
    """Layout and values of the force-field parameters, and the assembled system, of a ready Interchange.

    Arguments and errors are those of :func:`openff_diffsystem.construction.from_interchange`.
    """
    if force_field is None:
        sources = Sources()
        terms, n_sites = read_terms(interchange, sources)
        layout, values, final = sources.finish([*interchange.collections, "LibraryCharges", "ChargeIncrementModel"])
        for one in terms.values():
            _renumber(one.rows, final)
    else:
        layout, values = read_handlers(handlers_of(force_field))
        terms, n_sites = read_terms(interchange, Sources(force_field, layout))
    pairs = read_pairs(interchange, terms)
    whole = BondGraph(interchange.topology.n_atoms, ())
    species = Species(whole, molecules=np.zeros(1, dtype=np.int64), starts=np.zeros(1, dtype=np.int64))
    return layout, values, number_particles([SpeciesTerms(species, terms, pairs, n_sites)], layout)


def _renumber(rows: AffineRows, final: dict[int, int]) -> None:
    used = rows.source != NO_SOURCE
    rows.source[used] = [final[position] for position in rows.source[used].tolist()]
    rows.further = [(row, column, final[source], weight) for row, column, source, weight in rows.further]


_INTERCHANGE_NAMES = {"combining_rules": "mixing_rule"}


_IMPLIED = {("vdW", "potential"): "Lennard-Jones-12-6"}
"""What collections of openff-interchange do not say because they know one potential."""


_INTERCHANGE_WORDS = {"pme": "Ewald3D", "lorentz-berthelot": "Lorentz-Berthelot"}


def methods_of_interchange(interchange: Any) -> Methods:
    """The choices of the collections of an Interchange."""
    methods: Methods = {}
    for section, record in SECTIONS.items():
        if not record.words or section not in interchange.collections:
            continue
        collection = interchange.collections[section]
        methods[section] = {}
        for name in record.words:
            value = _IMPLIED.get((section, name)) or getattr(collection, _INTERCHANGE_NAMES.get(name, name))
            methods[section][name] = _word(_INTERCHANGE_WORDS.get(value, value))
    return methods


def from_interchange(cls: type[System], interchange: Any, force_field: Any = None) -> System:
    """Take over the assignments of a ready ``Interchange``; no chemistry is done again.

    Parameters
    ----------
    interchange
        An ``Interchange`` made with ``Interchange.from_smirnoff``.
    force_field
        The ``ForceField`` it was made with. With it, theta is all of that force field and can be written back
        to it; without it, theta holds the parameters that the Interchange uses, one row per SMIRKS.

    Raises
    ------
    UnsupportedForceFieldError
        If the Interchange holds something that cannot be represented.
    ParameterMismatchError
        If the force field lacks a parameter that the Interchange uses.
    """
    from openff_diffsystem.chemistry.origin import InterchangeOrigin
    from openff_diffsystem.interop.interchange.read import assemble_interchange, methods_of_interchange

    layout, values, assembled = assemble_interchange(interchange, force_field)
    return from_assembled(
        cls,
        ForceFieldParameters(jnp.asarray(values), layout),
        assembled,
        box=interchange.box,
        positions=interchange.positions,
        methods=methods_of_interchange(interchange),
        forms={},
        molecules=tuple((m.to_smiles(mapped=True), 1) for m in interchange.topology.molecules),
        masses=np.array([atom.mass.m_as("dalton") for atom in interchange.topology.atoms]),
        origin=InterchangeOrigin(interchange),
    )
