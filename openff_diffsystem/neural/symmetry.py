"""Which atoms and terms of a graph look alike, so that every network of the graph gives them equal numbers."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import Any

import numpy as np

from openff_diffsystem.neural.graph import MoleculeGraph


def refine(graph: MoleculeGraph, nodes: Any = None, bonds: Any = None, rounds: int | None = None) -> np.ndarray:
    """Classes of atoms that message passing cannot tell apart: colour refinement (Weisfeiler and Leman, 1968).

    Parameters
    ----------
    nodes, bonds
        What each atom and each bond shows, ``(n_atoms, n)`` and ``(n_bonds, n)``; by default all features.
    rounds
        How many bonds far an atom looks; by default as far as it makes a difference.

    Returns
    -------
    numpy.ndarray
        ``(n_atoms,)``, int64. Atoms of different molecules can be in one class.
    """
    nodes = graph.nodes if nodes is None else nodes
    bonds = graph.bond_features if bonds is None else bonds
    colours = _numbered(map(tuple, np.asarray(nodes).tolist()))
    edges = [
        (a, b, tuple(features))
        for (a, b), features in zip(np.asarray(graph.bonds).tolist(), np.asarray(bonds).tolist(), strict=True)
    ]
    done = 0
    while rounds is None or done < rounds:
        around: list[list[Any]] = [[] for _ in colours]
        for a, b, features in edges:
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
