"""Which row of a system's parameters belongs to which term of a graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from openff_diffsystem.chemistry.matching import AtomIndices, forward_or_reversed
from openff_diffsystem.exceptions import ParameterMismatchError
from openff_diffsystem.neural.graph import MoleculeGraph
from openff_diffsystem.parameters.system import SystemLayout
from openff_diffsystem.sections import SECTIONS
from openff_diffsystem.system.data import SystemData

TERMS = {section.tag: section.graph_terms for section in SECTIONS.values() if section.graph_terms}
"""For each section, the name of its terms in a graph; in other sections a term is an atom."""


def check_known(section: str, layout: SystemLayout) -> None:
    """Raise if the terms of a section are not bonds, angles, torsions or atoms."""
    if section not in TERMS and section in layout.sections and not layout.sections[section].per_particle:
        raise ParameterMismatchError(
            f"the terms of {section} are not terms of a molecule graph, so no model can emit them"
        )


class GraphRows(NamedTuple):
    """Rows of ``parameters.unique(section)``, and their terms in a graph.

    Attributes
    ----------
    row, term
        ``(n,)``: the row, and the number of its bond, angle, torsion or atom in the graph.
    periodicity
        ``(n,)`` for torsions, otherwise ``None``.
    """

    row: Int[np.ndarray, " rows"]
    term: Int[np.ndarray, " rows"]
    periodicity: Int[np.ndarray, " rows"] | None


class UniqueMolecules:
    """The molecules of a system: the rows of each, and its atoms counted from zero.

    A system made from SMIRNOFF has a block of rows for each unique molecule; one made from an Interchange has one block
    for everything, and lists every copy as a molecule of its own.

    Parameters
    ----------
    system
        A system with known molecules.
    """

    def __init__(self, system: SystemData) -> None:
        self.system = system
        # in mapped SMILES every atom is in brackets
        self.n_atoms = [mapped.count("[") for mapped, _ in system.molecules]
        n_molecules = len(self.n_atoms)
        sections = system.system_layout.sections
        self._together = any(len(section.blocks) != n_molecules for section in sections.values())
        if self._together:
            ends = np.cumsum(self.n_atoms)
            self._owner = np.repeat(np.arange(n_molecules), self.n_atoms)
            self._local = np.arange(system.n_atoms) - (ends - self.n_atoms)[self._owner]
            if system.n_particles > system.n_atoms:
                parents = system.term_indices["VirtualSites"][:, 0]
                self._owner = np.concatenate([self._owner, self._owner[parents]])
                self._local = np.concatenate([self._local, np.full(len(parents), -1)])
            self.n_sites = (np.bincount(self._owner, minlength=n_molecules) - self.n_atoms).tolist()
            return
        copies = [n for _, n in system.molecules]
        sites = sections["VirtualSites"].blocks if "VirtualSites" in sections else [(0, n) for n in copies]
        self.n_sites = [n for n, _ in sites]
        order = system.system_layout.particle_order
        numbers = np.arange(system.n_particles) if order is None else np.argsort(order.array)
        sizes = [a + s for a, s in zip(self.n_atoms, self.n_sites, strict=True)]
        start = np.cumsum([0, *(size * n for size, n in zip(sizes, copies, strict=True))])
        # number within the molecule, for the particles of each molecule's first copy
        self._local = np.full(system.n_particles, -1, dtype=np.int64)
        for first, size in zip(start, sizes, strict=False):
            self._local[numbers[first : first + size]] = np.arange(size)

    def terms(
        self, section: str, molecule: int
    ) -> tuple[Int[np.ndarray, " rows"], Int[np.ndarray, "rows particles"], Int[np.ndarray, " rows"] | None]:
        """Rows of one molecule ``(n,)``, their particles ``(n, width)``, and the periodicities of torsions ``(n,)``."""
        indices = self.system.term_indices[section]
        periodicity = self.system.term_static[section].get("periodicity")
        if self._together:
            rows = mine = np.flatnonzero(self._owner[indices[:, 0]] == molecule)
        else:
            blocks = self.system.system_layout.sections[section].blocks
            n_terms = blocks[molecule][0]
            rows = sum(n for n, _ in blocks[:molecule]) + np.arange(n_terms)
            mine = sum(n * copies for n, copies in blocks[:molecule]) + np.arange(n_terms)
        return rows, self._local[indices[mine]], None if periodicity is None else periodicity[mine]

    def rows(self, section: str, molecule: int, numbers: Mapping[AtomIndices, int], shift: int) -> GraphRows:
        """The rows of a section in one molecule, without virtual sites, and their terms in a graph with this molecule.

        Parameters
        ----------
        numbers
            The :func:`term_numbers` of the graph.
        shift
            Position of the molecule's first atom in the graph.
        """
        rows, indices, periodicity = self.terms(section, molecule)
        if section not in TERMS:
            rows, indices = rows[: self.n_atoms[molecule]], indices[: self.n_atoms[molecule]]
        return GraphRows(
            row=rows,
            term=np.array([numbers[_key(section, tuple(a))] for a in (indices + shift).tolist()], dtype=np.int64),
            periodicity=periodicity,
        )


def term_numbers(section: str, graph: MoleculeGraph) -> dict[AtomIndices, int]:
    """The number of each term of a graph, by the atoms of the term."""
    if section not in TERMS:
        return {(atom,): atom for atom in range(graph.n_atoms)}
    return {_key(section, atoms): i for i, atoms in enumerate(terms_of(section, graph))}


def terms_of(section: str, graph: MoleculeGraph) -> list[AtomIndices]:
    """The atoms of each term of a graph; the centre of an improper torsion comes first, as in a system."""
    terms = (
        np.asarray(getattr(graph, TERMS[section])).tolist() if section in TERMS else np.arange(graph.n_atoms)[:, None]
    )
    if section == "ImproperTorsions":
        return [(centre, a, b, c) for a, centre, b, c in terms]
    return [tuple(atoms) for atoms in np.asarray(terms).tolist()]


def _key(section: str, atoms: AtomIndices) -> AtomIndices:
    if section == "ImproperTorsions":
        return atoms[0], *sorted(atoms[1:])
    return forward_or_reversed(atoms) if section in TERMS else atoms
