"""Which atoms and terms of a graph look alike, so that every graph network gives them equal numbers."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from itertools import pairwise

import numpy as np
from jaxtyping import Int, Shaped

from openff_diffsystem._jax.types import AnyArray
from openff_diffsystem.neural.graph import MoleculeGraph


def refine(
    graph: MoleculeGraph,
    nodes: Shaped[AnyArray, "atoms features"] | None = None,
    bonds: Shaped[AnyArray, "bonds bond_features"] | None = None,
    rounds: int | None = None,
) -> Int[np.ndarray, " atoms"]:
    """Classes of atoms that message passing cannot tell apart: colour refinement (Weisfeiler and Leman, 1968).

    Parameters
    ----------
    nodes, bonds
        Features of each atom and each bond, ``(n_atoms, n)`` and ``(n_bonds, n)``; by default all features.
    rounds
        How many bonds away from an atom to look; by default until the classes no longer change.

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
        around: list[list[tuple]] = [[] for _ in colours]
        for a, b, features in edges:
            around[a].append((colours[b], features))
            around[b].append((colours[a], features))
        finer = _numbered((own, tuple(sorted(seen))) for own, seen in zip(colours, around, strict=True))
        if max(finer, default=0) == max(colours, default=0):
            break
        colours, done = finer, done + 1
    return np.array(colours, dtype=np.int64)


def term_classes(
    section: str,
    terms: Iterable[Sequence[int]],
    classes: Int[np.ndarray, " atoms"],
    bonds: Mapping[tuple[int, int], int],
) -> list[tuple[Hashable, ...]]:
    """A key for each term; keys are equal if the atoms, and the bonds between them, look alike.

    Parameters
    ----------
    section
        In ``ImproperTorsions`` the first atom is the centre and the order of the others is irrelevant; in other
        sections a term reads the same from both ends.
    terms
        The atoms of each term.
    classes
        The class of each atom, ``(n_atoms,)``.
    bonds
        The class of each bond, by its atoms in both orders.
    """
    if section == "ImproperTorsions":
        return [
            (int(classes[centre]), *sorted((bonds[centre, atom], int(classes[atom])) for atom in outer))
            for centre, *outer in terms
        ]
    keys: list[tuple[Hashable, ...]] = []
    for atoms in terms:
        seen = [int(classes[atoms[0]])]
        for a, b in pairwise(atoms):
            seen += [bonds[a, b], int(classes[b])]
        keys.append(min(tuple(seen), tuple(seen[::-1])))
    return keys


def bond_classes(graph: MoleculeGraph) -> Int[np.ndarray, " bonds"]:
    """Classes of bonds: equal for equal features of the bond, whatever its atoms, ``(n_bonds,)``, int64."""
    return np.array(_numbered(map(tuple, np.asarray(graph.bond_features).tolist())), dtype=np.int64)


def _numbered(keys: Iterable[Hashable]) -> list[int]:
    """Each key's number, in order of first appearance."""
    known: dict[Hashable, int] = {}
    return [known.setdefault(key, len(known)) for key in keys]
