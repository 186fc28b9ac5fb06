"""Bond charge increments: charges on top of base charges that none of the increments changes in sum."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from openff_diffsystem.affine import AffineMap
from openff_diffsystem.assignment import AffineRows
from openff_diffsystem.exceptions import UnsupportedForceFieldError
from openff_diffsystem.interop.timemachine.aromaticity import with_am1bcc_aromaticity


def directed_bonds(mol: Any, smirks: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """The pattern of each directed bond: the first that matches it, in the aromaticity model of AM1-BCC.

    Returns
    -------
    idxs
        ``(n_matched, 2)``, int32: the atom that gains and the atom that loses the increment.
    rows
        ``(n_matched,)``: positions in ``smirks``. A pattern that matches a bond both ways gives two rows that cancel.
    """
    prepared = with_am1bcc_aromaticity(mol)
    assigned: dict[tuple[int, int], int] = {}
    for row, pattern in enumerate(smirks):
        query, gains, loses = _query(pattern)
        for match in prepared.GetSubstructMatches(query, uniquify=False, maxMatches=10**6):
            assigned.setdefault((match[gains], match[loses]), row)
    idxs = np.array(list(assigned), dtype=np.int32).reshape(-1, 2)
    return idxs, np.array(list(assigned.values()), dtype=np.int64)


def increment_map(idxs: np.ndarray, rows: np.ndarray, base: np.ndarray, n_parameters: int) -> AffineMap:
    """``base``, ``(n_atoms,)``, plus and minus the increments of each directed bond."""
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


@lru_cache(maxsize=4096)
def _query(smirks: str) -> tuple[Any, int, int]:
    from rdkit import Chem

    query = Chem.MolFromSmarts(smirks)
    if query is None:
        raise UnsupportedForceFieldError(f"RDKit cannot parse the SMIRKS {smirks!r}")
    tagged = {atom.GetAtomMapNum(): atom.GetIdx() for atom in query.GetAtoms() if atom.GetAtomMapNum()}
    if set(tagged) != {1, 2}:
        raise UnsupportedForceFieldError(f"a bond charge increment tags atoms :1 and :2, {smirks!r} does not")
    return query, tagged[1], tagged[2]
