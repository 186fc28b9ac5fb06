"""Which atoms and terms of a graph look alike, so that every network of the graph gives them equal numbers."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import Any

import numpy as np

from openff_diffsystem.neural.graph import BOND_FEATURES, NODE_FEATURES, MoleculeGraph


def refine(
    graph: MoleculeGraph,
    node_features: Sequence[str] = NODE_FEATURES,
    bond_features: Sequence[str] = BOND_FEATURES,
    rounds: int | None = None,
) -> np.ndarray:
    """Classes of atoms that message passing cannot tell apart: colour refinement (Weisfeiler and Leman, 1968).

    Parameters
    ----------
    node_features, bond_features
        What an atom and a bond show.
    rounds
        How many bonds far an atom looks; by default as far as it makes a difference.

    Returns
    -------
    numpy.ndarray
        ``(n_atoms,)``, int64. Atoms of different molecules can be in one class.
    """
    colours = _numbered(map(tuple, np.asarray(graph.node(*node_features)).reshape(graph.n_atoms, -1).tolist()))
    shown = np.asarray(graph.bond(*bond_features)).reshape(graph.n_bonds, -1).tolist()
    bonds = [(a, b, tuple(features)) for (a, b), features in zip(np.asarray(graph.bonds).tolist(), shown, strict=True)]
    done = 0
    while rounds is None or done < rounds:
        around: list[list[Any]] = [[] for _ in colours]
        for a, b, features in bonds:
            around[a].append((colours[b], features))
            around[b].append((colours[a], features))
        finer = _numbered((own, tuple(sorted(seen))) for own, seen in zip(colours, around, strict=True))
        if max(finer, default=0) == max(colours, default=0):
            break
        colours, done = finer, done + 1
    return np.array(colours, dtype=np.int64)


def term_classes(section: str, terms: Iterable[Sequence[int]], classes: np.ndarray) -> list[tuple[int, ...]]:
    """Keys that are equal for terms whose atoms look alike.

    Parameters
    ----------
    section
        In ``ImproperTorsions`` the first atom is the centre and the others have no order; elsewhere a term reads the
        same from both ends.
    terms
        The atoms of each.
    classes
        ``(n_atoms,)``.
    """
    seen = [tuple(int(classes[atom]) for atom in atoms) for atoms in terms]
    if section == "ImproperTorsions":
        return [(centre, *sorted(outer)) for centre, *outer in seen]
    return [min(row, row[::-1]) for row in seen]


def _numbered(keys: Iterable[Hashable]) -> list[int]:
    """Each key's number, in order of first appearance."""
    known: dict[Hashable, int] = {}
    return [known.setdefault(key, len(known)) for key in keys]
