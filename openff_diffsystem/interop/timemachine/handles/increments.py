"""Bond charge increments, which are added to base charges and keep their sum, in the aromaticity model of AM1-BCC.

Jakalian, Jack and Bayly, J. Comput. Chem. 23, 1623 (2002), describe five kinds of aromatic rings of a Kekulé
structure. Six-membered rings are found first; later kinds may depend on rings that were found before.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection

import numpy as np
from jaxtyping import Float, Int
from rdkit import Chem

from openff_diffsystem.chemistry.matching import parsed, tagged_matches
from openff_diffsystem.exceptions import UnsupportedForceFieldError
from openff_diffsystem.interop.timemachine.handles.smirks import Pattern
from openff_diffsystem.parameters.affine import AffineMap
from openff_diffsystem.parameters.assignment import AffineRows

_X = "#6X3,#7X2,#15X2,#7X3+1,#15X3+1,#8X2+1,#16X2+1"
"""Atoms that can bear a double bond in the ring."""

_Y = "#6X2-1,#7X2-1,#8X2,#16X2,#7X3,#15X3"
"""Atoms that can give a lone pair to the ring."""


def directed_bonds(
    mol: Chem.Mol, smirks: Collection[str]
) -> tuple[Int[np.ndarray, "matched 2"], Int[np.ndarray, " matched"]]:
    """The first pattern that matches each directed bond, in the aromaticity model of AM1-BCC.

    Returns
    -------
    idxs
        ``(n_matched, 2)``, int32: the atom that gains and the atom that loses the increment.
    rows
        ``(n_matched,)``: positions in ``smirks``. A pattern that matches a bond both ways gives two rows that cancel.
    """
    for pattern in smirks:
        if parsed(pattern).tags != (1, 2):
            raise UnsupportedForceFieldError(f"a bond charge increment tags atoms :1 and :2, but {pattern!r} does not")
    assigned: dict[tuple[int, ...], int] = {}
    for atoms, row in tagged_matches(with_am1bcc_aromaticity(mol), [Pattern(pattern) for pattern in smirks]):
        assigned.setdefault(atoms, row)
    idxs = np.array(list(assigned), dtype=np.int32).reshape(-1, 2)
    return idxs, np.array(list(assigned.values()), dtype=np.int64)


def increment_map(
    idxs: Int[np.ndarray, "matched 2"],
    rows: Int[np.ndarray, " matched"],
    base: Float[np.ndarray, " atoms"],
    n_parameters: int,
) -> AffineMap:
    """The map from increments to charges: ``base`` plus and minus the increment of each directed bond."""
    weights: dict[tuple[int, int], float] = defaultdict(float)
    for (gains, loses), row in zip(idxs.tolist(), rows.tolist(), strict=True):
        weights[gains, row] += 1.0
        weights[loses, row] -= 1.0
    table = AffineRows.empty(len(base), 1)
    table.offset[:, 0] = base
    for (atom, row), weight in weights.items():
        if weight:
            table.add(atom, 0, row, weight)
    return AffineMap(table.flatten(), (len(base),), n_parameters)


def kekulized_copy(mol: Chem.Mol) -> Chem.RWMol:
    """A copy with single and double bonds and no aromatic flags."""
    copy = Chem.RWMol(mol)
    Chem.Kekulize(copy, clearAromaticFlags=True)
    copy.UpdatePropertyCache(strict=False)
    Chem.FastFindRings(copy)
    return copy


def with_am1bcc_aromaticity(mol: Chem.Mol) -> Chem.RWMol:
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


def _rings(mol: Chem.Mol, atoms: list[str], bonds: str) -> list[tuple[int, ...]]:
    """The atoms of each ring, once. The last bond leads back to the first atom."""
    first, *others = (f"[{atom}]" for atom in atoms)
    chain = "".join(f"{bond}@{atom}" for bond, atom in zip(bonds[:-1], others, strict=True))
    query = parsed(f"{first}1{chain}{bonds[-1]}@1").query
    return list(mol.GetSubstructMatches(query, uniquify=True, maxMatches=10**6))


def _mark_until_settled(
    mol: Chem.Mol, atoms: list[str], bonds: str, six: set[int], aromatic: tuple[int, ...]
) -> set[int]:
    """Mark rings whose atoms at the places ``aromatic`` are in six-membered aromatic rings, until no more are found."""
    found: set[int] = set()
    while True:
        rings = [ring for ring in _rings(mol, atoms, bonds) if all(ring[i] in six | found for i in aromatic)]
        more = found | _mark(mol, rings)
        if more == found:
            return found
        found = more


def _mark(mol: Chem.Mol, rings: list[tuple[int, ...]]) -> set[int]:
    """Flag the atoms of rings, and every ring bond between two atoms of one ring, as aromatic. Returns the atoms."""
    for ring in rings:
        members = set(ring)
        for index in ring:
            mol.GetAtomWithIdx(index).SetIsAromatic(True)
        for bond in mol.GetBonds():
            if bond.IsInRing() and {bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()} <= members:
                bond.SetIsAromatic(True)
                bond.SetBondType(Chem.BondType.AROMATIC)
    return {index for ring in rings for index in ring}
