"""Pairs of atoms of a ligand: those that nonbonded potentials leave out, and those that interact, with parameters."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from rdkit import Chem

from openff_diffsystem._jax.types import AnyArray
from openff_diffsystem.interop.timemachine.conventions import SCALE_14


def generate_exclusion_idxs(
    mol: Chem.Mol,
    scale12: float = 1.0,
    scale13: float = 1.0,
    scale14_lj: float = SCALE_14,
    scale14_q: float = SCALE_14,
) -> tuple[Int[np.ndarray, "pairs 2"], Float[np.ndarray, "pairs 2"]]:
    """Pairs up to three bonds apart, and the fraction of their interaction that is removed.

    The shortest path between two atoms counts. The defaults are those of timemachine's topologies; SMIRNOFF's are
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
    mol: Chem.Mol, scale14_lj: float = SCALE_14, scale14_q: float = SCALE_14
) -> tuple[Int[np.ndarray, "pairs 2"], Float[np.ndarray, "pairs 2"]]:
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
    mol: Chem.Mol,
    q_params: object,
    q_params_intra: object,
    lj_params: object,
    lj_params_intra: object,
    intramol_params: bool = True,
    *,
    scale14_lj: float = SCALE_14,
    scale14_q: float = SCALE_14,
) -> tuple[Float[Array, "pairs 4"], Int[np.ndarray, "pairs 2"]]:
    """What timemachine's ``BaseTopology`` method of this name computes, as a function that jax can trace.

    Parameters
    ----------
    forcefield
        Anything with ``q_handle``, ``q_handle_intra``, ``lj_handle`` and ``lj_handle_intra``: timemachine's
        ``Forcefield`` or our :class:`Handles`.
    mol
        RDKit molecule.
    q_params, q_params_intra, lj_params, lj_params_intra
        ``params`` of these handles, which jax may trace.
    intramol_params
        Use the ``intra`` handles.
    scale14_lj, scale14_q
        Fractions of 1-4 interactions that are removed.

    Returns
    -------
    params
        ``(n_pairs, 4)``: product of charges, sum of sigma/2, product of sqrt(epsilon), and a zero. The products of 1-4
        pairs are scaled.
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


def combine_pairs(
    idxs: Int[np.ndarray, "pairs 2"],
    kept: Float[AnyArray, "pairs 2"],
    charges: Float[Array, " atoms"],
    lennard_jones: Float[Array, "atoms 2"],
) -> Float[Array, "pairs 4"]:
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
