"""A topology as unique molecules times copies."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from jaxtyping import Float, Int
from openff.toolkit import Molecule, Topology

from openff_diffsystem.chemistry.molecule import BondGraph, PreparedMolecule
from openff_diffsystem.exceptions import InvalidInputError, UnsupportedInputError

Graph = TypeVar("Graph", bound=BondGraph)
"""A molecule of the toolkit, or only atoms and bonds where a system is read from another program."""


@dataclass
class Species(Generic[Graph]):
    """A unique molecule and where its copies are. Copies have the same atoms and bonds in the same order.

    Attributes
    ----------
    prepared
        The molecule.
    molecules
        ``(n_copies,)``: positions of the copies in the topology.
    starts
        ``(n_copies,)``: topology index of the first atom of each copy.
    """

    prepared: Graph
    molecules: Int[np.ndarray, " copies"]
    starts: Int[np.ndarray, " copies"]


def unique_species(topology: object) -> list[Species[PreparedMolecule]]:
    """The unique molecules of a ``Topology`` or list of ``Molecule``, in order of first appearance.

    Isomorphic molecules with atoms in another order count as another species.
    """
    molecules = list(_molecules(topology))
    if not molecules:
        raise InvalidInputError("the topology holds no molecule")
    first: dict[str, int] = {}
    species_of = np.empty(len(molecules), dtype=np.int64)
    prepared: list[PreparedMolecule] = []
    for i, molecule in enumerate(molecules):
        try:
            key = molecule.ordered_connection_table_hash()
        except AttributeError:
            key = PreparedMolecule(molecule).key  # raises, naming the type
        if key not in first:
            first[key] = len(prepared)
            prepared.append(PreparedMolecule(molecule))
        species_of[i] = first[key]
    sizes = np.array([p.n_atoms for p in prepared])[species_of]
    starts = np.cumsum(sizes) - sizes
    return [
        Species(p, molecules=(copies := np.flatnonzero(species_of == i)), starts=starts[copies])
        for i, p in enumerate(prepared)
    ]


def masses_of_species(species: list[Species[PreparedMolecule]], n_atoms: int) -> Float[np.ndarray, " atoms"]:
    """Masses of all atoms of the topology, ``(n_atoms,)``, dalton."""
    masses = np.empty(n_atoms)
    for one in species:
        mine = np.array([atom.mass.m_as("dalton") for atom in one.prepared.molecule.atoms])
        masses[one.starts[:, None] + np.arange(len(mine))] = mine
    return masses


def isomorphic_predecessors(
    species: list[Species[PreparedMolecule]],
) -> list[tuple[int, Int[np.ndarray, " atoms"]] | None]:
    """For each species: the earlier one that is the same molecule in another atom order, with the atom map; or None.

    Charges are computed once per molecule, whatever the order of its atoms, so that they agree between
    copies. The map gives the atom of the earlier species for each atom.
    """
    result: list[tuple[int, np.ndarray] | None] = []
    by_smiles: dict[str, int] = {}
    for i, one in enumerate(species):
        if len(species) == 1:
            return [None]
        molecule = one.prepared.molecule
        earlier = by_smiles.setdefault(molecule.to_smiles(), i)
        if earlier == i:
            result.append(None)
            continue
        _, atom_map = Molecule.are_isomorphic(molecule, species[earlier].prepared.molecule, return_atom_map=True)
        result.append(None if atom_map is None else (earlier, np.array([atom_map[a] for a in range(molecule.n_atoms)])))
    return result


def _molecules(topology: object) -> Iterable[Any]:
    if isinstance(topology, Topology):
        return topology.molecules
    if isinstance(topology, Molecule):
        return [topology]
    if isinstance(topology, list | tuple):
        return topology
    raise UnsupportedInputError(f"expected a Topology or a list of Molecule, got {type(topology).__name__}")
