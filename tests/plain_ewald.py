"""Plain Ewald summation: what the particle mesh approximates."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from openff_diffsystem.potentials.periodic.pme import background_energy
from openff_diffsystem.units import COULOMB


def ewald_reciprocal_energy(
    positions: Float[Array, "particles 3"],
    charges: Float[Array, " particles"],
    box_vectors: Float[Array, "3 3"],
    alpha: float,
    n_max: int,
) -> Float[Array, ""]:
    """Reciprocal-space energy by direct summation, the neutralising background included, the self-energy not, kJ/mol.

    Essmann et al., J. Chem. Phys. 103, 8577 (1995), equation (2.5).

    Parameters
    ----------
    positions
        ``(n_particles, 3)``, nm.
    charges
        ``(n_particles,)``, e.
    box_vectors
        ``(3, 3)``, nm.
    alpha
        Splitting parameter, 1/nm.
    n_max
        Largest component of the reciprocal lattice vectors that are summed.
    """
    inverse = jnp.linalg.inv(box_vectors)
    volume = jnp.abs(jnp.linalg.det(box_vectors))
    # half of the lattice: the other half is its mirror image
    n = np.stack(np.meshgrid(*[np.arange(-n_max, n_max + 1)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    n = n[len(n) // 2 + 1 :]

    def plane(total: Float[Array, ""], m: Float[Array, "3"]) -> tuple[Float[Array, ""], None]:
        wave = inverse @ m
        phase = 2.0 * np.pi * (positions @ wave)
        structure = jnp.vdot(charges, jnp.cos(phase)) ** 2 + jnp.vdot(charges, jnp.sin(phase)) ** 2
        square = jnp.vdot(wave, wave)
        return total + jnp.exp(-((np.pi / alpha) ** 2) * square) / square * structure, None

    total, _ = jax.lax.scan(plane, jnp.zeros((), positions.dtype), jnp.asarray(n, positions.dtype))
    return COULOMB * (total / (np.pi * volume) + background_energy(charges, volume, alpha))
