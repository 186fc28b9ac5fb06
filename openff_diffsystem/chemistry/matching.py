"""SMIRKS matching on a prepared RDKit molecule, as the toolkit matches, with each pattern parsed once."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from operator import itemgetter
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from rdkit import Chem

from openff_diffsystem.exceptions import UnsupportedForceFieldError

AtomIndices = tuple[int, ...]

_NO_LIMIT = int(np.iinfo(np.uintc).max)


@runtime_checkable
class Parameter(Protocol):
    """What matching needs of a parameter. A ``ParameterType`` of the toolkit has it."""

    @property
    def smirks(self) -> str:
        """Its pattern."""


class Query(NamedTuple):
    """A parsed pattern.

    Attributes
    ----------
    query
        The RDKit molecule.
    tags
        The tags :1, :2, ..., ascending.
    tagged
        The query atoms that carry them, in that order.
    untagged
        The pattern without its tags: patterns that share it have the same query atoms, in the same order.
    """

    query: Chem.Mol
    tags: tuple[int, ...]
    tagged: tuple[int, ...]
    untagged: str


@lru_cache(maxsize=65536)
def parsed(smirks: str) -> Query:
    """A pattern, parsed once in a process. The query is shared: do not change it.

    Raises
    ------
    UnsupportedForceFieldError
        If RDKit cannot parse it.
    """
    query = Chem.MolFromSmarts(smirks)
    if query is None:
        raise UnsupportedForceFieldError(f"RDKit cannot parse the SMIRKS {smirks!r}")
    tagged = {atom.GetAtomMapNum(): atom.GetIdx() for atom in query.GetAtoms() if atom.GetAtomMapNum()}
    tags = tuple(sorted(tagged))
    return Query(query, tags, tuple(tagged[tag] for tag in tags), re.sub(r":\d+\]", "]", smirks))


def _all_atoms(rdmol: Chem.Mol, query: Query) -> tuple[AtomIndices, ...]:
    return rdmol.GetSubstructMatches(query.query, uniquify=False, maxMatches=_NO_LIMIT, useChirality=True)


def _tagged_atoms(found: tuple[AtomIndices, ...], tagged: tuple[int, ...]) -> list[AtomIndices]:
    if len(tagged) < 2:
        return [tuple(match[i] for i in tagged) for match in found]
    return list(map(itemgetter(*tagged), found))


def _matches_of_all(rdmol: Chem.Mol, parameters: Iterable[Parameter]) -> Iterator[tuple[list[AtomIndices], int]]:
    """The matches of each parameter, in order, with its position in its section.

    Ports of Amber force fields have a pattern for each term of a residue. They differ only in the tagged atoms, so they
    are searched for once.
    """
    queries = [parsed(parameter.smirks) for parameter in parameters]
    still_to_come = Counter(query.untagged for query in queries)
    known: dict[str, tuple[AtomIndices, ...]] = {}
    for row, query in enumerate(queries):
        found = known.pop(query.untagged, None)
        if found is None:
            found = _all_atoms(rdmol, query)
        still_to_come[query.untagged] -= 1
        if still_to_come[query.untagged]:
            known[query.untagged] = found
        yield _tagged_atoms(found, query.tagged), row


def last_match_wins(
    rdmol: Chem.Mol,
    parameters: Iterable[Parameter],
    canonical: Callable[[AtomIndices], AtomIndices],
) -> dict[AtomIndices, int]:
    """The parameter that each group of atoms gets: the last one whose SMIRKS matches it (SMIRNOFF's hierarchy).

    Parameters
    ----------
    parameters
        Those of one section, in order.
    canonical
        Gives one order for all equivalent orders of the same atoms.

    Returns
    -------
    dict
        Atom indices to the position of the parameter in its section.
    """
    assigned: dict[AtomIndices, int] = {}
    for found, row in _matches_of_all(rdmol, parameters):
        for match in found:
            assigned[canonical(match)] = row
    return assigned


def tagged_matches(rdmol: Chem.Mol, parameters: Iterable[Parameter]) -> Iterator[tuple[AtomIndices, int]]:
    """Every match of every parameter, in order, with the position of the parameter in its section."""
    for found, row in _matches_of_all(rdmol, parameters):
        for match in found:
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
