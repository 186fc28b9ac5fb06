"""Pairs of a ligand: those that nonbonded potentials leave out, and those that interact, with their parameters."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
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


def parameterize_nonbonded_pairlist(
    forcefield: Any,
    mol: Any,
    q_params: Any,
    q_params_intra: Any,
    lj_params: Any,
    lj_params_intra: Any,
    intramol_params: bool = True,
    *,
    scale14_lj: float = SCALE_14,
    scale14_q: float = SCALE_14,
) -> tuple[Any, np.ndarray]:
    """What timemachine's ``BaseTopology`` method of this name computes, as a function that jax can trace.

    Parameters
    ----------
    forcefield
        Anything with ``q_handle``, ``q_handle_intra``, ``lj_handle`` and ``lj_handle_intra``: timemachine's
        ``Forcefield`` or our :class:`Handles`.
    mol
        RDKit molecule.
    q_params, q_params_intra, lj_params, lj_params_intra
        ``params`` of these handles.
    intramol_params
        Use the ``intra`` handles.
    scale14_lj, scale14_q
        Fractions of 1-4 interactions that are removed.

    Returns
    -------
    params
        ``(n_pairs, 4)``: product of charges, sum of sigma/2, product of sqrt(epsilon), 0; scaled where 1-4.
    idxs
        ``(n_pairs, 2)``, int32, for ``NonbondedPairListPrecomputed``.
    """
    idxs, kept = intramolecular_pairs(mol, scale14_lj, scale14_q)
    if intramol_params:
        charges = forcefield.q_handle_intra.partial_parameterize(q_params_intra, mol)
        lennard_jones = forcefield.lj_handle_intra.partial_parameterize(lj_params_intra, mol)
    else:
        charges = forcefield.q_handle.partial_parameterize(q_params, mol)
        lennard_jones = forcefield.lj_handle.partial_parameterize(lj_params, mol)
    return combine_pairs(idxs, kept, jnp.asarray(charges), jnp.asarray(lennard_jones)), idxs


def combine_pairs(idxs: np.ndarray, kept: Any, charges: Any, lennard_jones: Any) -> Any:
    """Rows ``(q_ij, sigma_ij, epsilon_ij, 0)`` of pairs.

    Parameters
    ----------
    idxs, kept
        ``(n_pairs, 2)``: atoms; fractions kept, Coulomb and Lennard-Jones.
    charges
        ``(n_atoms,)``, times the square root of 138.935456.
    lennard_jones
        ``(n_atoms, 2)``: sigma/2 (nm) and sqrt(epsilon).
    """
    i, j = idxs.T
    q = charges[i] * charges[j] * kept[:, 0]
    sigma = lennard_jones[i, 0] + lennard_jones[j, 0]
    epsilon = lennard_jones[i, 1] * lennard_jones[j, 1] * kept[:, 1]
    return jnp.stack([q, sigma, epsilon, jnp.zeros_like(q)], axis=1)
