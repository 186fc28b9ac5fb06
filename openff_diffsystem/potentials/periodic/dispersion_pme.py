"""Lennard-Jones attraction beyond the cutoff by particle-mesh Ewald, as OpenMM's LJPME computes it.

Reciprocal space needs coefficients that are products over particles, c_i c_j = 4 sqrt(epsilon_i epsilon_j)
sigma_i^3 sigma_j^3, which is not what the Lorentz rule gives. Within the cutoff the difference is corrected; there both
are shifted to zero (Wennberg et al., J. Chem. Theory Comput. 11, 5737 (2015)).
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from openff_diffsystem._jax.summation import inner
from openff_diffsystem.potentials.periodic.pme import Mesh, mesh_sum

_SERIES = [0.5 * (-1.0) ** k / (math.factorial(k) * (k + 3)) for k in range(18)]
"""Powers of u of (1 - exp(-u) (1 + u + u^2/2)) / u^3; 18 are exact to rounding for u < 1."""


def dispersion_coefficients(
    root_epsilons: Float[Array, " particles"], sizes: Float[Array, " particles"]
) -> Float[Array, " particles"]:
    """c_i = 2 sqrt(epsilon_i) sigma_i^3 per particle, from sqrt(epsilon) and sigma/2; (kJ/mol)^(1/2) nm^3."""
    return 16.0 * root_epsilons * sizes**3


def reciprocal_dispersion(
    positions: Float[Array, "particles 3"],
    coefficients: Float[Array, " particles"],
    box_vectors: Float[Array, "3 3"],
    alpha: float,
    mesh: Mesh,
) -> Float[Array, ""]:
    """Reciprocal-space energy of the attraction, the self-energy included, kJ/mol.

    Essmann et al., J. Chem. Phys. 103, 8577 (1995), equation (5.4).

    Parameters
    ----------
    positions
        ``(n_particles, 3)``, nm.
    coefficients
        :func:`dispersion_coefficients`.
    box_vectors
        ``(3, 3)``, nm.
    alpha
        Splitting parameter, 1/nm. Static.
    mesh
        Points of the grid along each box vector. Static.
    """

    def kernel(square: Float[Array, "n1 n2 half"]) -> Float[Array, "n1 n2 half"]:
        m = jnp.sqrt(square.at[0, 0, 0].set(1.0))
        b = (np.pi / alpha) * m
        terms = 2.0 * np.pi**3 * math.sqrt(np.pi) * jax.scipy.special.erfc(b) * m**3
        terms += jnp.exp(-b * b) * (alpha**3 - 2.0 * alpha * np.pi**2 * m * m)
        return terms.at[0, 0, 0].set(alpha**3)

    volume = jnp.abs(jnp.linalg.det(box_vectors))
    total = mesh_sum(positions, coefficients, box_vectors, mesh, kernel)
    prefactor = -np.pi * math.sqrt(np.pi) / (6.0 * volume)
    return prefactor * total + alpha**6 / 12.0 * inner(coefficients, coefficients)


def screened_dispersion(r2: Float[Array, " pairs"], alpha: float) -> Float[Array, " pairs"]:
    """What reciprocal space counts of 1/r^6, nm-6: (1 - exp(-u) (1 + u + u^2/2)) / r^6 with u = alpha^2 r^2."""
    u = alpha**2 * r2
    near = u < 1.0
    low, high = jnp.where(near, u, 0.0), jnp.where(near, 1.0, u)
    series = jnp.polyval(jnp.asarray(_SERIES[::-1], r2.dtype), low)
    direct = (1.0 - jnp.exp(-high) * (1.0 + high + 0.5 * high * high)) / high**3
    return alpha**6 * jnp.where(near, series, direct)
