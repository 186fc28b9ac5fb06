"""Nonbonded terms between listed pairs, without cutoff."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from openff_diffsystem.potentials.geometry import safe_sqrt
from openff_diffsystem.units import COULOMB


PADDING, FULL, SCALED_14 = 0, 1, 2
"""Kinds of pairs: none at all (a filler for equal shapes), one that interacts fully, one with the 1-4 scales."""


def squared_distances(positions: jax.Array, pairs: jax.Array, kinds: jax.Array) -> jax.Array:
    """Squared distances of pairs, ``(n_pairs,)``, nm2; 1 for padding, so that nothing diverges there.

    Parameters
    ----------
    positions
        ``(n_particles, 3)``, nm.
    pairs, kinds
        ``(n_pairs, 2)``, int32, and ``(n_pairs,)``, int8.
    """
    displacements = positions[pairs[:, 1]] - positions[pairs[:, 0]]
    return jnp.where(kinds == PADDING, 1.0, jnp.sum(displacements * displacements, axis=-1))


def scales(kinds: jax.Array, scale14: jax.Array) -> jax.Array:
    """Factor of each pair's energy, ``(n_pairs,)``: 0 for padding, 1, or ``scale14``."""
    return jnp.where(kinds == SCALED_14, scale14, (kinds == FULL).astype(scale14.dtype))


def lennard_jones(r2: jax.Array, pairs: jax.Array, parameters: jax.Array) -> jax.Array:
    """4 epsilon ((sigma/r)^12 - (sigma/r)^6) per pair, Lorentz-Berthelot combining rules.

    sigma is the arithmetic and epsilon the geometric mean. Where an epsilon is zero, the derivative with
    respect to it is defined as zero (the geometric mean has none there).

    Parameters
    ----------
    r2
        Squared distances, ``(n_pairs,)``, nm2.
    pairs
        ``(n_pairs, 2)``, int32.
    parameters
        ``(n_particles, 2)``: epsilon (kJ/mol), sigma (nm).

    Returns
    -------
    jax.Array
        ``(n_pairs,)``, kJ/mol.
    """
    halves = jnp.stack([safe_sqrt(parameters[:, 0]), 0.5 * parameters[:, 1]], axis=1)
    first, second = halves[pairs[:, 0]], halves[pairs[:, 1]]
    x6 = ((first[:, 1] + second[:, 1]) ** 2 / r2) ** 3
    return 4.0 * first[:, 0] * second[:, 0] * (x6 * x6 - x6)


def coulomb(r2: jax.Array, pairs: jax.Array, charges: jax.Array) -> jax.Array:
    """q_i q_j / (4 pi eps0 r) per pair.

    Parameters
    ----------
    r2
        Squared distances, ``(n_pairs,)``, nm2.
    pairs
        ``(n_pairs, 2)``, int32.
    charges
        ``(n_particles,)``, e.

    Returns
    -------
    jax.Array
        ``(n_pairs,)``, kJ/mol.
    """
    return COULOMB * charges[pairs[:, 0]] * charges[pairs[:, 1]] * jax.lax.rsqrt(r2)
