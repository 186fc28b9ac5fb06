"""The aromaticity model of AM1-BCC on RDKit molecules, for bond charge increments.

Jakalian, Jack and Bayly, J. Comput. Chem. 23, 1623 (2002), describe five kinds of aromatic rings on a Kekulé
structure. Six-membered rings count first, and later kinds may rest on rings found before them.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from rdkit import Chem

_X = "#6X3,#7X2,#15X2,#7X3+1,#15X3+1,#8X2+1,#16X2+1"
"""Atoms that can bear a double bond in the ring."""

_Y = "#6X2-1,#7X2-1,#8X2,#16X2,#7X3,#15X3"
"""Atoms that can give a lone pair to the ring."""


def kekulized_copy(mol: Any) -> Any:
    """A copy with double bonds in place and no aromatic flags."""
    copy = Chem.RWMol(mol)
    Chem.Kekulize(copy, clearAromaticFlags=True)
    copy.UpdatePropertyCache(strict=False)
    Chem.FastFindRings(copy)
    return copy


def with_am1bcc_aromaticity(mol: Any) -> Any:
    """A copy whose aromatic atoms and bonds are those of AM1-BCC."""
    copy = kekulized_copy(mol)
    six = _mark(copy, _rings(copy, [_X] * 6, "=-=-=-"))
    six |= _mark_until_settled(copy, [_X] * 6, "=-=-:-", six, (4, 5))
    six |= _mark_until_settled(copy, [_X] * 6, "=-:~:-", six, (2, 3, 4, 5))
    seven = _mark(copy, _rings(copy, ["#6+1", *[_X] * 6], "-=-=-=-"))
    five = _rings(copy, [_Y, _X, _X, _X, _X], "-=-=-")
    taken = six | seven
    _mark(copy, [ring for ring in five if ring[1] not in taken and ring[2] not in taken])
    return copy


def _rings(mol: Any, atoms: list[str], bonds: str) -> list[tuple[int, ...]]:
    return list(mol.GetSubstructMatches(_ring_query(tuple(atoms), bonds), uniquify=True, maxMatches=10**6))


@lru_cache
def _ring_query(atoms: tuple[str, ...], bonds: str) -> Any:
    """A ring of atoms, the last bond back to the first."""
    first, *others = (f"[{atom}]" for atom in atoms)
    chain = "".join(f"{bond}@{atom}" for bond, atom in zip(bonds[:-1], others, strict=True))
    return Chem.MolFromSmarts(f"{first}1{chain}{bonds[-1]}@1")


def _mark_until_settled(mol: Any, atoms: list[str], bonds: str, six: set[int], aromatic: tuple[int, ...]) -> set[int]:
    """Rings of which the named atoms are in six-membered aromatic rings, until no more are found."""
    found: set[int] = set()
    while True:
        rings = [ring for ring in _rings(mol, atoms, bonds) if all(ring[i] in six | found for i in aromatic)]
        more = found | _mark(mol, rings)
        if more == found:
            return found
        found = more


def _mark(mol: Any, rings: list[tuple[int, ...]]) -> set[int]:
    """Flag the atoms of rings, and every ring bond between two atoms of one ring, as aromatic."""
    for ring in rings:
        members = set(ring)
        for index in ring:
            mol.GetAtomWithIdx(index).SetIsAromatic(True)
        for bond in mol.GetBonds():
            if bond.IsInRing() and {bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()} <= members:
                bond.SetIsAromatic(True)
                bond.SetBondType(Chem.BondType.AROMATIC)
    return {index for ring in rings for index in ring}
