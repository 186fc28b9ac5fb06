"""The terms of an Interchange, collection by collection, as rows of an assignment."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from openff.toolkit import Quantity

from openff_diffsystem.chemistry.molecule import BondGraph, bonded_pairs
from openff_diffsystem.chemistry.nonbonded import SIGMA_PER_RMIN_HALF, ClosePairs, close_pairs
from openff_diffsystem.chemistry.terms import Terms, index_array
from openff_diffsystem.exceptions import UnsupportedForceFieldError
from openff_diffsystem.interop.interchange.sources import Sources
from openff_diffsystem.parameters.assignment import NO_SOURCE, AffineRows
from openff_diffsystem.sections import NO_ATOM, SECTIONS, SITE_TYPES
from openff_diffsystem.units import to_md

if TYPE_CHECKING:
    from openff.interchange import Interchange
    from openff.interchange.components.potentials import Potential, WrappedPotential

Collection = Any
"""A collection of openff-interchange. Its keys have other attributes in each section, which its own types leave out."""

Key = Any
"""The key of a term or of a virtual site in a collection."""

_NAMES = {"scale14": "scale_14"}
"""Section-wide numbers whose names differ between OFFXML and openff-interchange."""

SETTINGS = {
    section.tag: {name: _NAMES.get(name, name) for name in section.settings}
    for section in SECTIONS.values()
    if section.settings
}
"""Section-wide numbers by section: the name in OFFXML, and the name in openff-interchange."""

_CONSTANT_CHARGES = frozenset(
    {"ToolkitAM1BCCHandler", "NAGLChargesHandler", "ChargeIncrementModelHandler"}
    | {"molecules_with_preset_charges", "ExternalSource"}
)
"""Origins of charges that are not force-field parameters."""


class Reading(NamedTuple):
    """An Interchange, the record of the numbers that it uses, and the keys of its virtual sites in order."""

    interchange: Interchange
    sources: Sources
    sites: list[Key]

    def rows(self, n_columns: int, *, sites: bool = True) -> AffineRows:
        """Empty rows for all atoms, and virtual sites after them."""
        return AffineRows.empty(self.interchange.topology.n_atoms + (len(self.sites) if sites else 0), n_columns)

    @property
    def site_rows(self) -> dict[Key, int]:
        """The particle of each key of a virtual site."""
        return {key: self.interchange.topology.n_atoms + i for i, key in enumerate(self.sites)}


def read_terms(interchange: Interchange, sources: Sources) -> tuple[dict[str, Terms], int]:
    """Terms by section for the whole topology, and the number of virtual sites. Section-wide numbers are recorded too.

    Raises
    ------
    UnsupportedForceFieldError
        If the Interchange holds a collection that cannot be represented.
    """
    unknown = [
        name
        for name, collection in interchange.collections.items()
        if name not in _READERS or getattr(collection, "is_plugin", False)
    ]
    if unknown:
        raise UnsupportedForceFieldError(f"cannot represent the collection(s) {', '.join(unknown)}")
    reading = Reading(interchange, sources, sites_of(interchange))
    terms = {
        section: _READERS[section](section, collection, reading)
        for section, collection in interchange.collections.items()
    }
    for section, names in SETTINGS.items():
        if section in interchange.collections:
            for ours, theirs in names.items():
                sources.position(section, None, ours, _plain(getattr(interchange.collections[section], theirs)))
    return terms, len(reading.sites)


def read_pairs(interchange: Interchange, terms: dict[str, Terms]) -> ClosePairs:
    """Exclusions and 1-4 pairs of the whole topology."""
    bonds, n_atoms = [], 0
    for molecule in interchange.topology.molecules:
        bonds += bonded_pairs(molecule, n_atoms)
        n_atoms += molecule.n_atoms
    parents = terms["VirtualSites"].indices[:, 0] if "VirtualSites" in terms else np.empty(0, dtype=np.int32)
    return close_pairs(BondGraph(n_atoms, bonds), parents)


def _plain(value: Quantity | float) -> Quantity | float:
    """Numbers without a unit as floats, as in an OFFXML file."""
    return float(value.m) if isinstance(value, Quantity) and str(value.units) in ("", "dimensionless") else value


def _weighted(potential: Potential | WrappedPotential) -> Iterator[tuple[Potential, float, str]]:
    """The parts of a potential, their weights, and the suffix of their attributes where a bond order interpolates."""
    if hasattr(potential, "_inner_data"):
        for part, weight in potential._inner_data.items():
            yield part, float(weight), f"_bondorder{part.map_key}"
    else:
        yield potential, 1.0, ""


def _add(rows: AffineRows, i: int, column: int, position: int, weight: float, value: Quantity | float) -> None:
    if position == NO_SOURCE:
        rows.offset[i, column] += weight * to_md(value)
    else:
        rows.add(i, column, position, weight)


def _harmonic(section: str, collection: Collection, reading: Reading) -> Terms:
    columns = SECTIONS[section].columns
    rows = AffineRows.empty(len(collection.key_map), len(columns))
    for i, potential_key in enumerate(collection.key_map.values()):
        for part, weight, suffix in _weighted(collection.potentials[potential_key]):
            for column, name in enumerate(columns):
                value = part.parameters[name]
                position = reading.sources.position(section, potential_key.id, name + suffix, value)
                _add(rows, i, column, position, weight, value)
    return Terms(
        columns,
        index_array([key.atom_indices for key in collection.key_map], SECTIONS[section].n_atoms),
        rows,
    )


def _torsions(section: str, collection: Collection, reading: Reading) -> Terms:
    columns = SECTIONS[section].columns
    rows = AffineRows.empty(len(collection.key_map), 3)
    periodicity = np.empty(len(collection.key_map), dtype=np.int32)
    for i, potential_key in enumerate(collection.key_map.values()):
        n = potential_key.mult + 1
        for part, weight, suffix in _weighted(collection.potentials[potential_key]):
            values = {name: _plain(part.parameters[name]) for name in columns}
            periodicity[i] = round(float(part.parameters["periodicity"].m))
            position = reading.sources.position(section, potential_key.id, f"k{n}{suffix}", values["k"])
            _add(rows, i, 0, position, weight, values["k"])
        for column, name in ((1, "phase"), (2, "idivf")):
            position = reading.sources.position(section, potential_key.id, f"{name}{n}", values[name])
            _add(rows, i, column, position, 1.0, values[name])
    indices = index_array([key.atom_indices for key in collection.key_map], 4)
    return Terms(columns, indices, rows, {"periodicity": periodicity})


def _constraints(section: str, collection: Collection, reading: Reading) -> Terms:
    rows = AffineRows.empty(len(collection.key_map), 1)
    for i, potential_key in enumerate(collection.key_map.values()):
        value = collection.potentials[potential_key].parameters["distance"]
        origin = potential_key.associated_handler
        attribute = "length" if origin == "Bonds" else "distance"
        _add(rows, i, 0, reading.sources.position(origin, potential_key.id, attribute, value), 1.0, value)
    return Terms(SECTIONS[section].columns, index_array([key.atom_indices for key in collection.key_map], 2), rows)


def sites_of(interchange: Interchange) -> list[Key]:
    """Keys of the virtual sites, molecule by molecule, in the order of openff-interchange's OpenMM export."""
    collection: Collection = interchange.collections.get("VirtualSites")
    if collection is None:
        return []
    if collection.exclusion_policy != "parents":
        raise UnsupportedForceFieldError(f"virtual sites with exclusion policy {collection.exclusion_policy!r}")
    ends = np.cumsum([molecule.n_atoms for molecule in interchange.topology.molecules])
    return sorted(
        collection.key_map,
        key=lambda key: int(np.searchsorted(ends, key.orientation_atom_indices[0], side="right")),
    )


def _particle_row(key: Key, site_rows: dict[Key, int]) -> int:
    return site_rows[key] if key in site_rows else key.atom_indices[0]


def _vdw(section: str, collection: Collection, reading: Reading) -> Terms:
    site_rows, rows = reading.site_rows, reading.rows(2)
    for key, potential_key in collection.key_map.items():
        i = _particle_row(key, site_rows)
        origin = "VirtualSites" if key in site_rows else section
        epsilon, sigma = (collection.potentials[potential_key].parameters[name] for name in ("epsilon", "sigma"))
        _add(rows, i, 0, reading.sources.position(origin, potential_key.id, "epsilon", epsilon), 1.0, epsilon)
        position = reading.sources.position(origin, potential_key.id, "sigma", sigma)
        if position == NO_SOURCE:
            position = reading.sources.position(origin, potential_key.id, "rmin_half", sigma)
            rows.add(i, 1, position, SIGMA_PER_RMIN_HALF)
        else:
            rows.add(i, 1, position, 1.0)
    return Terms(SECTIONS[section].columns, index_array(list(range(len(rows.source))), 1), rows)


def _charges(section: str, collection: Collection, reading: Reading) -> Terms:
    site_rows, rows, sources = reading.site_rows, reading.rows(1), reading.sources
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
    return Terms(SECTIONS[section].columns, index_array(list(range(len(rows.source))), 1), rows)


def _gbsa(section: str, collection: Collection, reading: Reading) -> Terms:
    columns = SECTIONS[section].columns
    rows = reading.rows(len(columns), sites=False)
    for key, potential_key in collection.key_map.items():
        for column, name in enumerate(columns):
            value = _plain(collection.potentials[potential_key].parameters[name])
            position = reading.sources.position(section, potential_key.id, name, value)
            _add(rows, key.atom_indices[0], column, position, 1.0, value)
    return Terms(columns, index_array(list(range(len(rows.source))), 1), rows)


def _virtual_sites(section: str, collection: Collection, reading: Reading) -> Terms:
    columns = SECTIONS[section].columns
    rows = AffineRows.empty(len(reading.sites), len(columns))
    indices = np.full((len(reading.sites), SECTIONS[section].n_atoms), NO_ATOM, dtype=np.int32)
    for i, key in enumerate(reading.sites):
        indices[i, : len(key.orientation_atom_indices)] = key.orientation_atom_indices
        potential_key = collection.key_map[key]
        parameters = collection.potentials[potential_key].parameters
        for column, name in enumerate(columns):
            value = parameters.get(name)
            if value is not None:
                rows.add(i, column, reading.sources.position(section, potential_key.id, name, value), 1.0)
    types = np.array([SITE_TYPES.index(key.type) for key in reading.sites], dtype=np.int32)
    return Terms(columns, indices, rows, {"type": types})


_Reader = Callable[[str, Collection, Reading], Terms]

_READERS: dict[str, _Reader] = {
    "Constraints": _constraints,
    "Bonds": _harmonic,
    "Angles": _harmonic,
    "ProperTorsions": _torsions,
    "ImproperTorsions": _torsions,
    "vdW": _vdw,
    "Electrostatics": _charges,
    "GBSA": _gbsa,
    "VirtualSites": _virtual_sites,
}
"""The reader of each collection."""
