"""The terms that a handler assigns in one molecule."""

from __future__ import annotations

from collections.abc import Hashable
from typing import NamedTuple

import numpy as np
from cachetools import LRUCache
from jaxtyping import Int
from openff.toolkit import GLOBAL_TOOLKIT_REGISTRY, Molecule
from openff.toolkit.typing.engines.smirnoff import ParameterHandler
from openff.toolkit.typing.engines.smirnoff.parameters import ParameterType

from openff_diffsystem.chemistry import valence
from openff_diffsystem.chemistry.charges.sections import CHARGE_SECTIONS
from openff_diffsystem.chemistry.molecule import PreparedMolecule
from openff_diffsystem.chemistry.sections import ASSIGNERS, Request
from openff_diffsystem.chemistry.terms import Terms
from openff_diffsystem.exceptions import UnsupportedInputError
from openff_diffsystem.handlers._arguments import Options
from openff_diffsystem.parameters.affine import AffineMap
from openff_diffsystem.parameters.assignment import AffineRows
from openff_diffsystem.parameters.layout import ParameterLayout
from openff_diffsystem.parameters.offxml import read_handlers


class Matched(NamedTuple):
    """The terms of a handler in one molecule: particle indices, and the map from ``params`` to their parameters."""

    indices: Int[np.ndarray, "terms atoms"]
    map: AffineMap


def match_molecule(handler: ParameterHandler, molecule: Molecule, options: Options) -> Matched:
    """The terms of a molecule, their indices and how they follow from ``handler.params``.

    Raises
    ------
    UnassignedParameterError
        If an atom, bond, angle or proper torsion has no parameter.
    UnsupportedInputError
        If the section has no such option.
    """
    section, assigner = handler.TAGNAME, ASSIGNERS[handler.TAGNAME]
    unknown = set(options) - assigner.options
    if unknown:
        raise UnsupportedInputError(f"{section}.parameterize takes no option {', '.join(sorted(unknown))}")
    layout = handler_layout(handler)
    given = options.get("partial_bond_orders_from_molecules")
    request = Request(PreparedMolecule(molecule), {section: handler}, layout, given)
    if "bonds" in options:
        request.assigned["Bonds"] = _as_constants(request.molecule, options["bonds"])
    terms = assigner.alone(request) if assigner.alone else request.terms(section)
    assert terms is not None
    shape = (terms.n_terms, len(terms.columns))
    return Matched(terms.indices, AffineMap(terms.rows.flatten(), shape, layout.size))


def _as_constants(molecule: PreparedMolecule, handler: ParameterHandler) -> Terms:
    """The bonds of a molecule, with the current numbers of their handler as constants."""
    layout, values = read_handlers([handler])
    bonds = valence.bonds(molecule, handler, layout)
    constants = AffineRows.empty(*bonds.rows.source.shape)
    constants.offset[:] = bonds.rows.flatten()(values).reshape(constants.offset.shape)
    return Terms(bonds.columns, bonds.indices, constants)


def matching_key(handler: ParameterHandler, molecule: Molecule, options: Options) -> Hashable:
    """A key of the terms, whatever the values of the parameters; ``None`` if the terms must be matched again."""
    if options:
        return None
    registry = repr(GLOBAL_TOOLKIT_REGISTRY) if handler.TAGNAME in CHARGE_SECTIONS else None
    return molecule.ordered_connection_table_hash(), registry, _structure(handler)


def handler_layout(handler: ParameterHandler) -> ParameterLayout:
    """The layout of one handler's numbers. They are kept, because reading a section takes as long as matching it."""
    key = _structure(handler)
    if key not in _LAYOUTS:
        _LAYOUTS[key] = read_handlers([handler])[0]
    return _LAYOUTS[key]


_LAYOUTS: LRUCache = LRUCache(maxsize=256)


def _structure(handler: ParameterHandler) -> tuple:
    """Everything about a handler and its parameters except the values of their numbers."""
    return (handler.TAGNAME, *(_state(owner) for owner in (handler, *handler.parameters)))


def _state(owner: ParameterHandler | ParameterType) -> tuple:
    return tuple([(name, _shape(value)) for name, value in owner.__dict__.items() if name != "_parameters"])


def _shape(value: object) -> Hashable:
    """A value without its floating-point numbers: text, integers, lengths of lists and keys of mappings."""
    if type(value) is str or type(value) is int:
        return value
    if isinstance(value, list):
        return tuple(map(_shape, value))
    return tuple(value) if isinstance(value, dict) else None
