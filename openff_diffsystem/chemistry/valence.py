"""Bonds, angles, torsions and constraints of one molecule."""

from __future__ import annotations

from typing import Any

import numpy as np

from openff_diffsystem.chemistry.bond_orders import interpolation_weights
from openff_diffsystem.chemistry.matching import AtomIndices, forward_or_reversed, improper, last_match_wins
from openff_diffsystem.chemistry.molecule import PreparedMolecule
from openff_diffsystem.chemistry.terms import Terms, index_array
from openff_diffsystem.exceptions import UnassignedParameterError, UnsupportedForceFieldError
from openff_diffsystem.parameters.assignment import NO_SOURCE, AffineRows
from openff_diffsystem.parameters.layout import ParameterLayout
from openff_diffsystem.sections import SECTIONS

BondOrders = dict[tuple[int, int], float]

TREFOIL = ((0, 1, 2), (1, 2, 0), (2, 0, 1))
"""Orders of the three outer atoms of an improper torsion (SMIRNOFF specification, "ImproperTorsions")."""


def bonds(
    molecule: PreparedMolecule, handler: Any, layout: ParameterLayout, bond_orders: BondOrders | None = None
) -> Terms:
    """Harmonic bonds, columns ``k`` (kJ/mol/nm2) and ``length`` (nm), energy k/2 (r - length)^2."""
    assigned = last_match_wins(molecule.rdmol, handler.parameters, forward_or_reversed)
    atoms, parameter_rows = list(assigned), list(assigned.values())
    columns = SECTIONS["Bonds"].columns
    rows = AffineRows.gather(*(layout.positions("Bonds", name)[parameter_rows] for name in columns))
    for column, name in enumerate(columns):
        for i in np.flatnonzero(rows.source[:, column] == NO_SOURCE):
            a, b = atoms[i]
            keys = getattr(handler.parameters[parameter_rows[i]], f"{name}_bondorder")
            labels = {key: f"{name}_bondorder{key}" for key in keys}
            _interpolate(
                rows,
                i,
                column,
                layout,
                "Bonds",
                parameter_rows[i],
                labels,
                _order(molecule, bond_orders, a, b),
            )
    return Terms(columns, index_array(atoms, 2), rows)


def angles(molecule: PreparedMolecule, handler: Any, layout: ParameterLayout) -> Terms:
    """Harmonic angles, columns ``k`` (kJ/mol/rad2) and ``angle`` (rad), energy k/2 (theta - angle)^2."""
    assigned = last_match_wins(molecule.rdmol, handler.parameters, forward_or_reversed)
    parameter_rows = list(assigned.values())
    columns = SECTIONS["Angles"].columns
    rows = AffineRows.gather(*(layout.positions("Angles", name)[parameter_rows] for name in columns))
    return Terms(columns, index_array(list(assigned), 3), rows)


def proper_torsions(
    molecule: PreparedMolecule, handler: Any, layout: ParameterLayout, bond_orders: BondOrders | None = None
) -> Terms:
    """Periodic torsions, one row per torsion and periodicity.

    Columns ``k`` (kJ/mol), ``phase`` (rad) and ``idivf``, static ``periodicity``; energy
    k/idivf (1 + cos(periodicity phi - phase)). A parameter without ``idivf`` counts as 1, as in openff-interchange.
    """
    assigned = last_match_wins(molecule.rdmol, handler.parameters, forward_or_reversed)
    torsions = [(atoms, row, n) for atoms, row in assigned.items() for n in range(_n_terms(handler, row))]
    terms = _periodic(handler, layout, torsions, default_idivf=1.0)
    for i in np.flatnonzero(terms.rows.source[:, 0] == NO_SOURCE):
        (_, b, c, _), row, n = torsions[i]
        keys = handler.parameters[row].k_bondorder[n]
        labels = {key: f"k{n + 1}_bondorder{key}" for key in keys}
        order = _order(molecule, bond_orders, min(b, c), max(b, c))
        _interpolate(terms.rows, i, 0, layout, "ProperTorsions", row, labels, order)
    return terms


def improper_torsions(molecule: PreparedMolecule, handler: Any, layout: ParameterLayout) -> Terms:
    """Periodic improper torsions as a trefoil: three rows per centre and periodicity, the central atom first.

    Columns and energy as for :func:`proper_torsions`. A parameter without ``idivf`` takes the section's
    ``default_idivf``, and 3 where that is ``"auto"``.
    """
    assigned = last_match_wins(molecule.rdmol, handler.parameters, improper)
    torsions = []
    for (a, centre, b, c), row in assigned.items():
        if not {a, b, c} <= set(molecule.neighbours[centre]):
            raise UnsupportedForceFieldError(
                f"improper torsion {handler.parameters[row].smirks!r} matches "
                f"{molecule.describe((a, centre, b, c))}, whose second atom is not bonded to the other three"
            )
        outer = (a, b, c)
        for n in range(_n_terms(handler, row)):
            torsions += [((centre, outer[i], outer[j], outer[k]), row, n) for i, j, k in TREFOIL]
    default = handler.default_idivf
    column = layout.sections["ImproperTorsions"].columns.get("default_idivf")
    return _periodic(
        handler,
        layout,
        torsions,
        default_idivf=3.0 if default == "auto" else float(default),
        default_source=NO_SOURCE if column is None else column.start,
    )


def constraints(molecule: PreparedMolecule, handler: Any, layout: ParameterLayout, bonds: Terms | None = None) -> Terms:
    """Distance constraints, column ``distance`` (nm), taken from the bond where the constraint gives none.

    Raises
    ------
    UnassignedParameterError
        If a constraint gives no distance and there is no bond term between its atoms.
    """
    assigned = last_match_wins(molecule.rdmol, handler.parameters, forward_or_reversed)
    atoms, parameter_rows = list(assigned), list(assigned.values())
    rows = AffineRows.gather(layout.positions("Constraints", "distance")[parameter_rows])
    bonded = {} if bonds is None else {tuple(pair): i for i, pair in enumerate(bonds.indices.tolist())}
    for i in np.flatnonzero(rows.source[:, 0] == NO_SOURCE):
        bond = bonded.get(atoms[i])
        if bond is None:
            raise UnassignedParameterError(
                f"constraint {handler.parameters[parameter_rows[i]].smirks!r} gives no distance, and there is "
                f"no bond parameter between {molecule.describe(atoms[i])} of {molecule.name} to take it from"
            )
        column = bonds.columns.index("length")  # type: ignore[union-attr]
        rows.source[i, 0] = bonds.rows.source[bond, column]  # type: ignore[union-attr]
        rows.weight[i, 0] = bonds.rows.weight[bond, column]  # type: ignore[union-attr]
        rows.offset[i, 0] = bonds.rows.offset[bond, column]  # type: ignore[union-attr]
        rows.further += [
            (int(i), 0, source, weight)
            for row, c, source, weight in bonds.rows.further  # type: ignore[union-attr]
            if (row, c) == (bond, column)
        ]
    return Terms(SECTIONS["Constraints"].columns, index_array(atoms, 2), rows)


def check_all_assigned(
    molecule: PreparedMolecule,
    section: str,
    terms: Terms,
    constrained: frozenset[AtomIndices] = frozenset(),
) -> None:
    """Raise unless exactly the bonds, angles or proper torsions of a molecule have parameters.

    Parameters
    ----------
    constrained
        Constrained pairs. A bond needs no parameter if its atoms are such a pair, an angle if its end atoms are.

    Raises
    ------
    UnassignedParameterError
        If some do not, or others do. The message names the atoms.
    """
    wanted = getattr(molecule, SECTIONS[section].complete or "")
    have = set(map(tuple, terms.indices.tolist()))
    missing = [
        atoms
        for atoms in wanted
        if atoms not in have and not (len(atoms) < 4 and forward_or_reversed((atoms[0], atoms[-1])) in constrained)
    ]
    if missing:
        named = ", ".join(map(molecule.describe, missing[:5]))
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        raise UnassignedParameterError(f"{section} has no parameter for {named}{more} of {molecule.name}")
    extra = have.difference(wanted)
    if extra:
        named = molecule.describe(min(extra))
        raise UnassignedParameterError(
            f"{section} assigned parameters to {named} of {molecule.name}, which are not bonded that way"
        )


def _n_terms(handler: Any, row: int) -> int:
    return len(handler.parameters[row].periodicity)


def _periodic(
    handler: Any, layout: ParameterLayout, torsions: list, default_idivf: float, default_source: int = NO_SOURCE
) -> Terms:
    columns = SECTIONS[handler.TAGNAME].columns
    n_max = max((n for *_, n in torsions), default=-1) + 1
    tables = np.full((3, max(n_max, 1), len(handler.parameters)), NO_SOURCE, dtype=np.int64)
    for c, name in enumerate(columns):
        for n in range(n_max):
            tables[c, n] = layout.positions(handler.TAGNAME, f"{name}{n + 1}")
    parameter_rows = np.array([row for _, row, _ in torsions], dtype=np.int64)
    numbers = np.array([n for *_, n in torsions], dtype=np.int64)
    rows = AffineRows.gather(*(table[numbers, parameter_rows] for table in tables))
    no_idivf = rows.source[:, 2] == NO_SOURCE
    rows.source[no_idivf, 2] = default_source
    rows.offset[no_idivf, 2] = default_idivf if default_source == NO_SOURCE else 0.0
    periodicity = np.array([handler.parameters[r].periodicity[i] for _, r, i in torsions], dtype=np.int32)
    indices = index_array([atoms for atoms, *_ in torsions], 4)
    return Terms(columns, indices, rows, {"periodicity": periodicity})


def _order(molecule: PreparedMolecule, bond_orders: BondOrders | None, a: int, b: int) -> float:
    if bond_orders is None:
        raise UnassignedParameterError(
            f"the parameter of {molecule.describe((a, b))} of {molecule.name} is interpolated between bond orders, "
            "and the bond order is not known"
        )
    return bond_orders[a, b]


def _interpolate(
    rows: AffineRows,
    i: Any,
    column: int,
    layout: ParameterLayout,
    section: str,
    parameter_row: int,
    labels: dict[int, str],
    bond_order: float,
) -> None:
    for key, weight in interpolation_weights(labels, bond_order).items():
        rows.add(i, column, int(layout.positions(section, labels[key])[parameter_row]), weight)
