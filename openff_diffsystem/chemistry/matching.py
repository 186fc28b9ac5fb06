"""SMIRKS matching on a prepared RDKit molecule, as the toolkit matches, with each pattern parsed once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from operator import itemgetter
from typing import Any

import numpy as np
from rdkit import Chem

from openff_diffsystem.exceptions import UnsupportedForceFieldError

AtomIndices = tuple[int, ...]

_NO_LIMIT = int(np.iinfo(np.uintc).max)


@lru_cache(maxsize=65536)
def _query(smirks: str) -> tuple[Any, tuple[int, ...]]:
    """A parsed pattern and the query atoms that carry the tags :1, :2, ..., in that order."""
    query = Chem.MolFromSmarts(smirks)
    if query is None:
        raise UnsupportedForceFieldError(f"RDKit cannot parse the SMIRKS {smirks!r}")
    tagged = {atom.GetAtomMapNum(): atom.GetIdx() for atom in query.GetAtoms() if atom.GetAtomMapNum()}
    return query, tuple(tagged[tag] for tag in sorted(tagged))


def matches(rdmol: Any, smirks: str) -> list[AtomIndices]:
    """Every match of a pattern, all permutations: the atoms with tags :1, :2, ..., in that order."""
    query, tagged = _query(smirks)
    found = rdmol.GetSubstructMatches(query, uniquify=False, maxMatches=_NO_LIMIT, useChirality=True)
    if len(tagged) == 1:
        return [(match[tagged[0]],) for match in found]
    return list(map(itemgetter(*tagged), found)) if tagged else [() for _ in found]


def last_match_wins(
    rdmol: Any,
    parameters: Iterable[Any],
    canonical: Callable[[AtomIndices], AtomIndices],
) -> dict[AtomIndices, int]:
    """The parameter that each group of atoms gets: the last one whose SMIRKS matches it (SMIRNOFF's hierarchy).

    Parameters
    ----------
    parameters
        ``ParameterType`` objects of one section, in order.
    canonical
        Maps equivalent orders of the same atoms onto one.

    Returns
    -------
    dict
        Atom indices to the position of the parameter in its section.
    """
    assigned: dict[AtomIndices, int] = {}
    for row, parameter in enumerate(parameters):
        for match in matches(rdmol, parameter.smirks):
            assigned[canonical(match)] = row
    return assigned


def tagged_matches(rdmol: Any, parameters: Iterable[Any]) -> Iterator[tuple[AtomIndices, int]]:
    """Every match of every parameter, in order, with the position of the parameter in its section."""
    for row, parameter in enumerate(parameters):
        for match in matches(rdmol, parameter.smirks):
            yield match, row


def forward_or_reversed(atoms: AtomIndices) -> AtomIndices:
    """Bonds, angles and proper torsions: the end with the smaller index first."""
    return atoms if atoms[0] <= atoms[-1] else atoms[::-1]


def improper(atoms: AtomIndices) -> AtomIndices:
    """Improper torsions, as matched with the central atom second: the outer atoms sorted."""
    first, second, third = sorted((atoms[0], atoms[2], atoms[3]))
    return first, atoms[1], second, third


def in_any_order(atoms: AtomIndices) -> AtomIndices:
    """The same atoms in whatever order: sorted."""
    return tuple(sorted(atoms))
