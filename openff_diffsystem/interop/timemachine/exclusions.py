"""Close pairs of a molecule: what timemachine's nonbonded potentials leave out."""

from __future__ import annotations

from typing import Any

import numpy as np
from rdkit import Chem

from openff_diffsystem.interop.timemachine.conventions import SCALE_14


def generate_exclusion_idxs(
    mol: Any,
    scale12: float = 1.0,
    scale13: float = 1.0,
    scale14_lj: float = SCALE_14,
    scale14_q: float = SCALE_14,
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs up to three bonds apart, and the fraction of their interaction that is removed.

    A pair counts by its shortest path. The defaults are those of timemachine's topologies; SMIRNOFF's are
    ``scale14_lj=0.5`` and ``scale14_q=1 - 0.8333333333``.

    Returns
    -------
    idxs
        ``(n_pairs, 2)``, int32, ascending within and between rows.
    scales
        ``(n_pairs, 2)``, float64: Coulomb, Lennard-Jones.
    """
    distance = Chem.GetDistanceMatrix(mol)
    first, second = np.nonzero(np.triu((distance > 0) & (distance < 3.5)))
    removed = np.array([[scale12, scale12], [scale13, scale13], [scale14_q, scale14_lj]], dtype=np.float64)
    idxs = np.stack([first, second], axis=1).astype(np.int32)
    return idxs, removed[distance[first, second].astype(int) - 1]


def intramolecular_pairs(
    mol: Any, scale14_lj: float = SCALE_14, scale14_q: float = SCALE_14
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of a molecule that interact, and the fraction of their interaction that is kept.

    Returns
    -------
    idxs
        ``(n_pairs, 2)``, int32, ascending within and between rows.
    kept
        ``(n_pairs, 2)``, float64: Coulomb, Lennard-Jones.
    """
    n = mol.GetNumAtoms()
    excluded, removed = generate_exclusion_idxs(mol, scale14_lj=scale14_lj, scale14_q=scale14_q)
    kept = np.ones((n, n, 2))
    kept[tuple(excluded.T)] -= removed
    first, second = np.nonzero(np.triu((kept != 0).any(axis=-1), k=1))
    return np.stack([first, second], axis=1).astype(np.int32), kept[first, second]
