"""Which row of a system's parameters belongs to which term of a graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from openff_diffsystem.chemistry.matching import forward_or_reversed
from openff_diffsystem.exceptions import ParameterMismatchError
from openff_diffsystem.neural.graph import MoleculeGraph
from openff_diffsystem.system import DiffSystem
from openff_diffsystem.system_parameters import is_per_particle

TERMS = {"Bonds": "bonds", "Angles": "angles", "ProperTorsions": "propers", "ImproperTorsions": "impropers"}
"""The graph's terms by section; in other sections a term is an atom."""


def check_known(section: str) -> None:
    """Raise unless the terms of a section are bonds, angles, torsions or atoms of a graph."""
    if section not in TERMS and not is_per_particle(section):
        raise ParameterMismatchError(f"{section} has no terms that a graph knows, so no model can emit them")


class Rows(NamedTuple):
    """Rows of ``parameters.unique(section)`` that have a term in the graph.

    Attributes
    ----------
    row, term
        ``(n,)``: the row, and the graph's bond, angle, torsion or atom.
    periodicity
        ``(n,)`` of torsions.
    """

    row: np.ndarray
    term: np.ndarray
    periodicity: np.ndarray | None


class UniqueMolecules:
    """The unique molecules of a system, as blocks of rows with atoms counted within the molecule.

    Parameters
    ----------
    graphs
        The graph of each.
    """

    def __init__(self, system: DiffSystem, graphs: Sequence[MoleculeGraph]) -> None:
        self.system = system
        sections = system.system_layout.sections
        copies = [n for _, n in system.molecules]
        sites = sections["VirtualSites"].blocks if "VirtualSites" in sections else [(0, n) for n in copies]
        self.n_atoms = [graph.n_atoms for graph in graphs]
        self.n_sites = [n for n, _ in sites]
        order = system.system_layout.particle_order
        numbers = np.arange(system.n_particles) if order is None else np.argsort(order.array)
        sizes = [a + s for a, s in zip(self.n_atoms, self.n_sites, strict=True)]
        start = np.cumsum([0, *(size * n for size, n in zip(sizes, copies, strict=True))])
        # of each particle of a first copy its number within the molecule
        self._local = np.full(system.n_particles, -1, dtype=np.int64)
        for first, size in zip(start, sizes, strict=False):
            self._local[numbers[first : first + size]] = np.arange(size)

    def terms(self, section: str, molecule: int) -> tuple[int, np.ndarray, np.ndarray | None]:
        """Of one molecule: its first row, the particles of its rows ``(n, width)``, and periodicities ``(n,)``."""
        blocks = self.system.system_layout.sections[section].blocks
        first_row = sum(n for n, _ in blocks[:molecule])
        first = sum(n * copies for n, copies in blocks[:molecule])
        mine = slice(first, first + blocks[molecule][0])
        periodicity = self.system.term_static[section].get("periodicity")
        indices = self._local[self.system.term_indices[section][mine]]
        return first_row, indices, None if periodicity is None else periodicity[mine]

    def rows(self, section: str, molecule: int, numbers: Mapping[Any, int], shift: int) -> Rows:
        """The rows of a section in one molecule, and their terms in a graph that holds it. Virtual sites have none.

        Parameters
        ----------
        numbers
            The graph's :func:`term_numbers`.
        shift
            The molecule's first atom in the graph.
        """
        first, indices, periodicity = self.terms(section, molecule)
        if section not in TERMS:
            indices = indices[: self.n_atoms[molecule]]
        return Rows(
            row=first + np.arange(len(indices)),
            term=np.array([numbers[_key(section, tuple(a))] for a in (indices + shift).tolist()], dtype=np.int64),
            periodicity=periodicity,
        )


def term_numbers(section: str, graph: MoleculeGraph) -> dict[Any, int]:
    """The number of each term of a graph by its atoms."""
    if section not in TERMS:
        return {(atom,): atom for atom in range(graph.n_atoms)}
    return {_key(section, atoms): i for i, atoms in enumerate(terms_of(section, graph))}


def terms_of(section: str, graph: MoleculeGraph) -> list[tuple[int, ...]]:
    """The atoms of each term of a graph; the centre of an improper torsion comes first, as in a system."""
    terms = (
        np.asarray(getattr(graph, TERMS[section])).tolist() if section in TERMS else np.arange(graph.n_atoms)[:, None]
    )
    if section == "ImproperTorsions":
        return [(centre, a, b, c) for a, centre, b, c in terms]
    return [tuple(atoms) for atoms in np.asarray(terms).tolist()]


def _key(section: str, atoms: tuple[int, ...]) -> tuple[int, ...]:
    if section == "ImproperTorsions":
        return atoms[0], *sorted(atoms[1:])
    return forward_or_reversed(atoms) if section in TERMS else atoms
