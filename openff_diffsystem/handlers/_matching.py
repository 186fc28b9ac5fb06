"""Which terms a handler finds in one molecule, section by section."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from cachetools import LRUCache
from openff.toolkit import GLOBAL_TOOLKIT_REGISTRY, Molecule

from openff_diffsystem.chemistry import nonbonded, valence
from openff_diffsystem.chemistry.bond_orders import fractional_bond_orders, uses_interpolation
from openff_diffsystem.chemistry.charges.sections import CHARGE_SECTIONS
from openff_diffsystem.chemistry.molecule import PreparedMolecule
from openff_diffsystem.chemistry.terms import Terms, index_array
from openff_diffsystem.chemistry.virtual_sites import virtual_sites
from openff_diffsystem.exceptions import UnassignedParameterError, UnsupportedInputError
from openff_diffsystem.parameters.affine import AffineMap
from openff_diffsystem.parameters.assignment import AffineRows
from openff_diffsystem.parameters.layout import ParameterLayout
from openff_diffsystem.parameters.offxml import read_handlers

_OPTIONS = {
    "Constraints": {"bonds"},
    "Bonds": {"partial_bond_orders_from_molecules"},
    "ProperTorsions": {"partial_bond_orders_from_molecules"},
}


class Matched(NamedTuple):
    """The terms of one molecule under one handler: particle indices, and the map onto their parameters."""

    indices: np.ndarray
    map: AffineMap


def match_molecule(handler: Any, molecule: Molecule, options: dict[str, Any]) -> Matched:
    """The terms of a molecule, their indices and how they follow from ``handler.params``.

    Raises
    ------
    UnassignedParameterError
        If an atom, bond, angle or proper torsion has no parameter.
    UnsupportedInputError
        If an option is not one of the section's.
    """
    section = handler.TAGNAME
    unknown = set(options) - _OPTIONS.get(section, set())
    if unknown:
        raise UnsupportedInputError(f"{section}.parameterize takes no option {', '.join(sorted(unknown))}")
    prepared = PreparedMolecule(molecule)
    layout = handler_layout(handler)
    terms = _SECTIONS[section](prepared, handler, layout, options)
    if section in ("Bonds", "Angles", "ProperTorsions"):
        valence.check_all_assigned(prepared, section, terms)
    shape = (terms.n_terms, len(terms.columns))
    return Matched(terms.indices, AffineMap(terms.rows.flatten(), shape, layout.size))


def matching_key(handler: Any, molecule: Molecule, options: dict[str, Any]) -> Any:
    """Equal where the matched terms are, whatever the values of the parameters; ``None`` where that cannot be told."""
    if options:
        return None
    registry = repr(GLOBAL_TOOLKIT_REGISTRY) if handler.TAGNAME in CHARGE_SECTIONS else None
    return molecule.ordered_connection_table_hash(), registry, _structure(handler)


def handler_layout(handler: Any) -> ParameterLayout:
    """The layout of one handler's numbers. Reading a section anew takes as long as matching it."""
    key = _structure(handler)
    if key not in _LAYOUTS:
        _LAYOUTS[key] = read_handlers([handler])[0]
    return _LAYOUTS[key]


_LAYOUTS: LRUCache = LRUCache(maxsize=256)


def _structure(handler: Any) -> tuple:
    """Everything about a handler and its parameters but the values of their numbers."""
    return (handler.TAGNAME, *(_state(owner) for owner in (handler, *handler.parameters)))


def _state(owner: Any) -> tuple:
    return tuple([(name, _shape(value)) for name, value in owner.__dict__.items() if name != "_parameters"])


def _shape(value: Any) -> Any:
    """What is left of a value without its numbers: text, integers, and how long lists and which keys mappings have."""
    if type(value) is str or type(value) is int:
        return value
    if isinstance(value, list):
        return tuple(map(_shape, value))
    return tuple(value) if isinstance(value, dict) else None


def _bonds(molecule: PreparedMolecule, handler: Any, layout: ParameterLayout, options: dict[str, Any]) -> Terms:
    return valence.bonds(molecule, handler, layout, _bond_orders(molecule, handler, options))


def _angles(molecule: PreparedMolecule, handler: Any, layout: ParameterLayout, options: dict[str, Any]) -> Terms:
    return valence.angles(molecule, handler, layout)


def _propers(molecule: PreparedMolecule, handler: Any, layout: ParameterLayout, options: dict[str, Any]) -> Terms:
    return valence.proper_torsions(molecule, handler, layout, _bond_orders(molecule, handler, options))


def _impropers(molecule: PreparedMolecule, handler: Any, layout: ParameterLayout, options: dict[str, Any]) -> Terms:
    return valence.improper_torsions(molecule, handler, layout)


def _constraints(molecule: PreparedMolecule, handler: Any, layout: ParameterLayout, options: dict[str, Any]) -> Terms:
    if "bonds" not in options:
        try:
            return valence.constraints(molecule, handler, layout)
        except UnassignedParameterError as error:
            raise UnassignedParameterError(
                f"{error}; pass bonds=force_field['Bonds'] to take the length of the bond as a constant, or use "
                "DiffSystem, which differentiates it"
            ) from None
    bond_layout, bond_values = read_handlers([options["bonds"]])
    bonds = valence.bonds(molecule, options["bonds"], bond_layout)
    constants = AffineRows.empty(*bonds.rows.source.shape)
    constants.offset[:] = bonds.rows.flatten()(bond_values).reshape(constants.offset.shape)
    return valence.constraints(molecule, handler, layout, Terms(bonds.columns, bonds.indices, constants))


def _vdw(molecule: PreparedMolecule, handler: Any, layout: ParameterLayout, options: dict[str, Any]) -> Terms:
    return nonbonded.vdw(molecule, handler, layout)


def _gbsa(molecule: PreparedMolecule, handler: Any, layout: ParameterLayout, options: dict[str, Any]) -> Terms:
    return nonbonded.gbsa(molecule, handler, layout)


def _electrostatics(
    molecule: PreparedMolecule, handler: Any, layout: ParameterLayout, options: dict[str, Any]
) -> Terms:
    pairs = molecule.pairs_14
    source = np.full(len(pairs), layout.section_position("Electrostatics", "scale14"))
    return Terms(("scale14",), pairs, AffineRows.gather(source))


def _virtual_sites(molecule: PreparedMolecule, handler: Any, layout: ParameterLayout, options: dict[str, Any]) -> Terms:
    return virtual_sites(molecule, handler, layout)


def _charges(molecule: PreparedMolecule, handler: Any, layout: ParameterLayout, options: dict[str, Any]) -> Terms:
    rows = CHARGE_SECTIONS[handler.TAGNAME](molecule, handler, layout)
    if rows is None:
        raise UnassignedParameterError(f"{handler.TAGNAME} does not cover every atom of {molecule.name}")
    return Terms(("charge",), index_array(list(range(molecule.n_atoms)), 1), rows)


def _bond_orders(molecule: PreparedMolecule, handler: Any, options: dict[str, Any]) -> Any:
    if not uses_interpolation(handler):
        return None
    given = options.get("partial_bond_orders_from_molecules")
    return fractional_bond_orders(molecule.molecule, handler.fractional_bondorder_method, given)


_SECTIONS: dict[str, Callable[[PreparedMolecule, Any, ParameterLayout, dict[str, Any]], Terms]] = {
    "Constraints": _constraints,
    "Bonds": _bonds,
    "Angles": _angles,
    "ProperTorsions": _propers,
    "ImproperTorsions": _impropers,
    "vdW": _vdw,
    "Electrostatics": _electrostatics,
    "VirtualSites": _virtual_sites,
    "GBSA": _gbsa,
    **{section: _charges for section in CHARGE_SECTIONS},
}
