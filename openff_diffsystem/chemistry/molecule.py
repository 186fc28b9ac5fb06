"""One molecule, prepared for assignment: its RDKit form, its graph, its terms."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property, lru_cache

import numpy as np
from cachetools import LRUCache
from jaxtyping import Int
from openff.toolkit import Molecule, Topology
from openff.toolkit.utils.rdkit_wrapper import RDKitToolkitWrapper
from rdkit import Chem

from openff_diffsystem.chemistry.matching import AtomIndices, forward_or_reversed
from openff_diffsystem.exceptions import InvalidInputError, UnsupportedInputError

_RDKIT = RDKitToolkitWrapper()
_RDMOLS: LRUCache = LRUCache(maxsize=1024)
"""RDKit molecules by connection table: making one takes as long as matching all bonds."""


def bonded_pairs(molecule: Molecule, first: int = 0) -> list[tuple[int, int]]:
    """Bonded pairs of a molecule, the smaller index first, counting atoms from ``first``."""
    pairs = ((bond.atom1_index + first, bond.atom2_index + first) for bond in molecule.bonds)
    return [(a, b) if a < b else (b, a) for a, b in pairs]


class BondGraph:
    """Atoms and bonds, and the terms that follow from them.

    Attributes
    ----------
    n_atoms
        Number of atoms.
    bonds
        Bonded pairs, the smaller index first.
    """

    def __init__(self, n_atoms: int, bonds: Iterable[tuple[int, int]]) -> None:
        self.n_atoms = n_atoms
        self.bonds = tuple(bonds)

    @cached_property
    def neighbours(self) -> tuple[tuple[int, ...], ...]:
        """Bonded atoms of each atom, sorted."""
        found: list[list[int]] = [[] for _ in range(self.n_atoms)]
        for a, b in self.bonds:
            found[a].append(b)
            found[b].append(a)
        return tuple(tuple(sorted(atoms)) for atoms in found)

    @cached_property
    def angles(self) -> tuple[tuple[int, int, int], ...]:
        """Every angle once, ends in ascending order."""
        return tuple((a, b, c) for b, around in enumerate(self.neighbours) for a in around for c in around if a < c)

    @cached_property
    def propers(self) -> tuple[AtomIndices, ...]:
        """Every proper torsion once, the end with the smaller index first."""
        near = self.neighbours
        return tuple(
            forward_or_reversed((a, b, c, d))
            for b, c in self.bonds
            for a in near[b]
            if a != c
            for d in near[c]
            if d != b and d != a
        )

    @cached_property
    def excluded_pairs(self) -> Int[np.ndarray, "pairs 2"]:
        """Pairs one or two bonds apart, ``(n, 2)``, int32, ascending within and between rows."""
        pairs = {*self.bonds, *((a, c) for a, _, c in self.angles)}
        return np.array(sorted(pairs), dtype=np.int32).reshape(-1, 2)

    @cached_property
    def pairs_14(self) -> Int[np.ndarray, "pairs 2"]:
        """Pairs three bonds apart and not fewer, ``(n, 2)``, int32, ascending within and between rows."""
        nearer = {*self.bonds, *((a, c) for a, _, c in self.angles)}
        pairs = {(a, d) for a, _, _, d in self.propers} - nearer
        return np.array(sorted(pairs), dtype=np.int32).reshape(-1, 2)


class PreparedMolecule(BondGraph):
    """A molecule, and what assignment needs to know about it, each computed at most once.

    Attributes
    ----------
    molecule
        The openff-toolkit ``Molecule``.
    """

    def __init__(self, molecule: object) -> None:
        if not isinstance(molecule, Molecule):
            raise UnsupportedInputError(
                f"{type(molecule).__name__} has no chemistry to match SMIRKS against; a Molecule is needed"
            )
        self.molecule = molecule
        super().__init__(molecule.n_atoms, bonded_pairs(molecule))

    @cached_property
    def rdmol(self) -> Chem.Mol:
        """The RDKit molecule in the aromaticity model of SMIRNOFF, ready for substructure search."""
        key = self.key
        if key not in _RDMOLS:
            _RDMOLS[key] = _RDKIT.to_rdkit(self.molecule)
        return _RDMOLS[key]

    def describe(self, atoms: AtomIndices) -> str:
        """Atoms by index, name and element, for messages."""
        named = (self.molecule.atom(i) for i in atoms)
        return "-".join(f"{i}({a.name or a.symbol} {a.symbol})" for i, a in zip(atoms, named, strict=True))

    @property
    def name(self) -> str:
        """The molecule's name and SMILES, for messages."""
        smiles = self.molecule.to_smiles(explicit_hydrogens=False)
        return f"{self.molecule.name} ({smiles})" if self.molecule.name else smiles

    @property
    def key(self) -> str:
        """Equal for molecules with the same atoms and bonds in the same order."""
        return self.molecule.ordered_connection_table_hash()


def as_molecule(entity: object) -> Molecule:
    """The ``Molecule`` of a molecule, a one-molecule topology, or an RDKit molecule with explicit hydrogens.

    Raises
    ------
    UnsupportedInputError
        For anything else.
    InvalidInputError
        For several molecules, or implicit hydrogens.
    """
    if isinstance(entity, Molecule):
        return entity
    if isinstance(entity, Topology):
        if entity.n_molecules != 1:
            raise InvalidInputError(
                f"a handler parameterizes one molecule, this topology has {entity.n_molecules}; use DiffSystem"
            )
        return as_molecule(entity.molecule(0))
    if isinstance(entity, Chem.Mol):
        return _from_rdkit(entity.ToBinary(Chem.PropertyPickleOptions.AllProps))
    raise UnsupportedInputError(
        f"expected a Molecule, a one-molecule Topology or an RDKit molecule, got {type(entity).__name__}"
    )


@lru_cache(maxsize=1024)
def _from_rdkit(binary: bytes) -> Molecule:
    rdmol = Chem.Mol(binary)  # type: ignore[call-overload]
    for atom in rdmol.GetAtoms():
        if atom.GetTotalNumHs():
            raise InvalidInputError(
                f"atom {atom.GetIdx()} ({atom.GetSymbol()}) has implicit hydrogens; call Chem.AddHs first"
            )
    return Molecule.from_rdkit(rdmol, allow_undefined_stereo=True, hydrogens_are_explicit=True)
