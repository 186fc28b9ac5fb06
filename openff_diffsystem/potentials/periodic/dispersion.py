"""The Lennard-Jones energy beyond the cutoff, for particles that are evenly distributed there.

OpenMM User Guide, "Lennard-Jones Interaction": the average over all pairs of the integral of the interaction from the
cutoff to infinity, and of what the switching function takes away. The average is over sums of
sqrt(epsilon_i epsilon_j) (sigma_i/2 + sigma_j/2)^n; expanding the power makes them products of sums over particles.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import comb

import numpy as np
from jaxtyping import Array, Float

from openff_diffsystem._jax.summation import inner


def long_range_correction(
    root_epsilons: Float[Array, " particles"],
    sizes: Float[Array, " particles"],
    volume: Float[Array, ""],
    cutoff: float,
    switch_distance: float,
) -> Float[Array, ""]:
    """Energy of all pairs beyond the cutoff, kJ/mol, as a function of every epsilon and sigma and of the volume.

    Parameters
    ----------
    root_epsilons
        sqrt(epsilon), ``(n_particles,)``, (kJ/mol)^(1/2).
    sizes
        sigma/2, ``(n_particles,)``, nm.
    volume
        nm3.
    cutoff, switch_distance
        nm.
    """
    n = len(sizes)
    repulsion, dispersion = (
        _pair_sum(root_epsilons, sizes, power) * tail(power, cutoff, switch_distance) for power in (12, 6)
    )
    return 16.0 * np.pi * n / (n + 1) * (repulsion - dispersion) / volume


def _pair_sum(
    root_epsilons: Float[Array, " particles"], sizes: Float[Array, " particles"], power: int
) -> Float[Array, ""]:
    """Sum over pairs i <= j of sqrt(epsilon_i epsilon_j) (sizes_i + sizes_j)^power."""
    of_all = [inner(root_epsilons, sizes**k) for k in range(power + 1)]
    itself = inner(root_epsilons**2, (2.0 * sizes) ** power)
    return 0.5 * (products_of_sums(of_all, of_all) + itself)


def products_of_sums(
    a: Sequence[Float[Array, "*terms"]], b: Sequence[Float[Array, "*terms"]]
) -> Float[Array, "*terms"]:
    """Sum over pairs of sqrt(epsilon_i epsilon_j) (sizes_i + sizes_j)^power, from such sums over i and over j."""
    power = len(a) - 1
    return sum((comb(power, k) * a[k] * b[power - k] for k in range(1, power + 1)), start=a[0] * b[power])


@lru_cache
def tail(power: int, cutoff: float, switch_distance: float) -> float:
    """Integral of r^(2 - power) from the cutoff to infinity, and of what is switched off before it."""
    beyond = cutoff ** (3 - power) / (power - 3)
    nodes, weights = np.polynomial.legendre.leggauss(64)
    t = (nodes + 1.0) / 2.0
    r = switch_distance + t * (cutoff - switch_distance)
    lost = t**3 * (10.0 - 15.0 * t + 6.0 * t * t) * r ** (2.0 - power)
    return float(beyond + (cutoff - switch_distance) / 2.0 * np.dot(weights, lost))
