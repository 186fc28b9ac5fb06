"""Nonbonded terms between listed pairs, without cutoff."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from openff_diffsystem._jax.types import AnyArray, Column, Vector
from openff_diffsystem.potentials.geometry import columns, difference, dot
from openff_diffsystem.units import COULOMB

PADDING, FULL, SCALED_14 = 0, 1, 2
"""Kinds of pairs: a filler that does not interact, a pair that interacts fully, and one with the 1-4 scales."""


CLOSEST = 1e-2
"""Closer pairs have the energy of this distance, nm: it is finite where particles overlap, in single precision too."""


def squared_distances(a: Vector, b: Vector, kinds: Int[AnyArray, "terms 1"]) -> Float[Array, "terms 1"]:
    """Squared distances of pairs, ``(n_pairs, 1)``, nm2, at least ``CLOSEST`` squared.

    Padding has 1, so that nothing diverges there.

    Parameters
    ----------
    a, b
        Positions, components ``(n_pairs, 1)``, nm.
    kinds
        ``(n_pairs, 1)``, int8.
    """
    displacement = difference(b, a)
    return jnp.where(kinds == PADDING, 1.0, jnp.maximum(dot(displacement, displacement), CLOSEST**2))


def scales(kinds: Int[AnyArray, "*terms"], scale14: Float[AnyArray, ""]) -> Float[Array, "*terms"]:
    """Factor of each pair's energy, in the shape of ``kinds``: 0 for padding, 1, or ``scale14``."""
    return jnp.where(kinds == SCALED_14, scale14, (kinds == FULL).astype(scale14.dtype))


def lennard_jones(r2: Column, root_epsilons: Sequence[Column], half_sigmas: Sequence[Column]) -> Column:
    """4 epsilon ((sigma/r)^12 - (sigma/r)^6) per pair, Lorentz-Berthelot combining rules.

    sigma is the arithmetic and epsilon the geometric mean, so each particle is given by the square root of
    its epsilon and half of its sigma.

    Parameters
    ----------
    r2
        Squared distances, ``(n_pairs, 1)``, nm2.
    root_epsilons
        sqrt(epsilon) of both particles, ``(n_pairs, 1)`` each, (kJ/mol)^(1/2).
    half_sigmas
        sigma/2 of both particles, ``(n_pairs, 1)`` each, nm.

    Returns
    -------
    array
        ``(n_pairs, 1)``, kJ/mol.
    """
    x6 = ((half_sigmas[0] + half_sigmas[1]) ** 2 / r2) ** 3
    return 4.0 * root_epsilons[0] * root_epsilons[1] * (x6 * x6 - x6)


def coulomb(r2: Column, charges: Sequence[Column]) -> Column:
    """q_i q_j / (4 pi eps0 r) per pair.

    Parameters
    ----------
    r2
        Squared distances, ``(n_pairs, 1)``, nm2.
    charges
        Charges of both particles, ``(n_pairs, 1)`` each, e.

    Returns
    -------
    array
        ``(n_pairs, 1)``, kJ/mol.
    """
    return COULOMB * charges[0] * charges[1] * jax.lax.rsqrt(r2)


def exception_energies(corners: Sequence[Vector], parameters: Float[Array, "terms 3"]) -> Column:
    """Coulomb and Lennard-Jones energy of pairs with parameters of their own, not combined from particles.

    Parameters
    ----------
    corners
        Positions of both particles, components ``(n_pairs, 1)``, nm.
    parameters
        ``(n_pairs, 3)``: charge product (e2), sigma (nm), epsilon (kJ/mol).

    Returns
    -------
    array
        ``(n_pairs, 1)``, kJ/mol.
    """
    charge_product, sigma, epsilon = columns(parameters)
    displacement = difference(corners[1], corners[0])
    r2 = dot(displacement, displacement)
    # fillers are pairs of a particle with itself, with parameters that are zero
    r2 = jnp.where(r2 > 0, r2, 1.0)
    x6 = (sigma**2 / r2) ** 3
    return COULOMB * charge_product * jax.lax.rsqrt(r2) + 4.0 * epsilon * (x6 * x6 - x6)
