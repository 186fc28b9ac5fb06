"""Smooth particle-mesh Ewald: the reciprocal part of the electrostatic energy of a periodic system.

Essmann et al., J. Chem. Phys. 103, 8577 (1995), equation numbers below are theirs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from openff_diffsystem._jax.summation import inner, total
from openff_diffsystem._jax.types import AnyArray
from openff_diffsystem.units import COULOMB

ORDER = 5
"""Order of the B-splines, OpenMM's."""

Mesh = tuple[int, int, int]
"""Points along each box vector."""


def reciprocal_energy(
    positions: Float[Array, "particles 3"],
    charges: Float[Array, " particles"],
    box_vectors: Float[Array, "3 3"],
    alpha: float,
    mesh: Mesh,
) -> Float[Array, ""]:
    """Reciprocal-space energy, the neutralising background included, the self-energy not, kJ/mol.

    Parameters
    ----------
    positions
        ``(n_particles, 3)``, nm.
    charges
        ``(n_particles,)``, e.
    box_vectors
        ``(3, 3)``, nm.
    alpha
        Splitting parameter, 1/nm. Static.
    mesh
        Points of the grid along each box vector. Static.
    """

    def kernel(square: Float[Array, "n1 n2 half"]) -> Float[Array, "n1 n2 half"]:
        # (2.5) leaves out m = 0: the background neutralises it
        square = square.at[0, 0, 0].set(1.0)
        return (jnp.exp(-((np.pi / alpha) ** 2) * square) / square).at[0, 0, 0].set(0.0)

    volume = jnp.abs(jnp.linalg.det(box_vectors))
    total = mesh_sum(positions, charges, box_vectors, mesh, kernel) / (2.0 * np.pi * volume)
    return COULOMB * (total + background_energy(charges, volume, alpha))


def mesh_sum(
    positions: Float[Array, "particles 3"],
    weights: Float[Array, " particles"],
    box_vectors: Float[Array, "3 3"],
    mesh: Mesh,
    kernel: Callable[[Array], Array],
) -> Float[Array, ""]:
    """Sum of kernel(m^2) |S(m)|^2 over the reciprocal lattice, the structure factors S from a mesh, (4.7).

    Parameters
    ----------
    weights
        ``(n_particles,)``: the numbers that S(m) sums, for example charges.
    kernel
        Function of the squares of the reciprocal lattice vectors, ``(n1, n2, n3 // 2 + 1)``, nm-2, of which the first
        is m = 0.
    """
    dtype = positions.dtype
    inverse = jnp.linalg.inv(box_vectors)
    structure = jnp.fft.rfftn(spread(positions @ inverse, weights, mesh))
    # the last axis of a real transform is half as long
    n1, n2, n3 = mesh
    m1, m2, m3 = np.fft.fftfreq(n1, 1 / n1), np.fft.fftfreq(n2, 1 / n2), np.arange(n3 // 2 + 1.0)
    m = [
        jnp.asarray(m1, dtype)[:, None, None] * inverse[k, 0]
        + jnp.asarray(m2, dtype)[None, :, None] * inverse[k, 1]
        + jnp.asarray(m3, dtype)[None, None, :] * inverse[k, 2]
        for k in range(3)
    ]
    b1, b2, b3 = (jnp.asarray(_spline_weights(n), dtype) for n in mesh)
    twice = np.where((m3 == 0) | (2 * m3 == n3), 1.0, 2.0)
    factor = kernel(m[0] * m[0] + m[1] * m[1] + m[2] * m[2])
    factor *= b1[:, None, None] * b2[None, :, None] * (b3[: len(m3)] * jnp.asarray(twice, dtype))
    return total(factor * (structure.real**2 + structure.imag**2))


def background_energy(charges: Float[Array, " particles"], volume: Float[Array, ""], alpha: float) -> Float[Array, ""]:
    """Energy of the net charge with the uniform background that neutralises it, e^2/nm."""
    return -np.pi / (2.0 * alpha**2) * jnp.sum(charges) ** 2 / volume


def held_energy(
    charges: Float[Array, " particles"], pairs: Int[AnyArray, "pairs 2"], r2: Float[Array, " pairs"], alpha: float
) -> Float[Array, ""]:
    """Energy that reciprocal space counts for each charge with itself and pairs that do not interact, (2.4), kJ/mol.

    Both are thousands of times the energy of the system and nearly cancel in a molecule that is neutral, so they are
    added up particle by particle.

    Parameters
    ----------
    charges
        ``(n_particles,)``, e.
    pairs
        ``(n_pairs, 2)``, particles that are left out of the sum over pairs.
    r2
        ``(n_pairs,)``, their squared distances, nm2; zero is allowed.
    alpha
        Splitting parameter, 1/nm. Static.
    """
    apart = r2 > 0
    r = jnp.sqrt(jnp.where(apart, r2, 1.0))
    itself = alpha / math.sqrt(math.pi)
    potential = jnp.where(apart, 0.5 * jax.lax.erf(alpha * r) / r, itself)
    a, b = pairs.T
    held = itself * charges
    held = held.at[a].add(charges[b] * potential).at[b].add(charges[a] * potential)
    return COULOMB * inner(charges, held)


def spread(
    fractional: Float[Array, "particles 3"], charges: Float[Array, " particles"], shape: Mesh
) -> Float[Array, "n1 n2 n3"]:
    """Charges on the grid by B-splines, (4.6).

    Parameters
    ----------
    fractional
        ``(n_particles, 3)``, positions in units of the box vectors.
    charges
        ``(n_particles,)``.
    shape
        Points along each axis.
    """
    scaled = fractional * jnp.asarray(shape, fractional.dtype)
    cell = jax.lax.stop_gradient(jnp.floor(scaled))
    splines = _splines(scaled - cell)
    at = cell.astype(jnp.int32)[:, None, :] + jnp.arange(ORDER, dtype=jnp.int32)[None, :, None]
    at = jnp.mod(at, jnp.asarray(shape, jnp.int32))
    columns = (at[:, :, None, 0] * shape[1] + at[:, None, :, 1])[..., None] * shape[2] + at[:, None, None, :, 2]
    weights = charges[:, None, None] * splines[0][:, :, None] * splines[1][:, None, :]
    values = weights[..., None] * splines[2][:, None, None, :]
    grid = jnp.zeros(int(np.prod(shape)), values.dtype).at[columns.ravel()].add(values.ravel())
    return grid.reshape(shape)


def _splines(w: Float[Array, "particles 3"]) -> list[Float[Array, "particles 5"]]:
    """B-splines of fractions ``w``, ``(n_particles, 3)``, by recursion (4.1): ``(n_particles, 5)`` per axis."""
    values = [1.0 - w, w]
    for order in range(3, ORDER + 1):
        left, right = [jnp.zeros_like(w), *values], [*values, jnp.zeros_like(w)]
        values = [
            ((w + (order - 1 - k)) * a + (k + 1 - w) * b) / (order - 1)
            for k, (a, b) in enumerate(zip(left, right, strict=True))
        ]
    stacked = jnp.stack(values, axis=1)
    return [stacked[:, :, axis] for axis in range(3)]


@lru_cache
def _spline_weights(n: int) -> Float[np.ndarray, " frequencies"]:
    """|b(m)|^2 for the frequencies of a real-space axis of ``n`` points, (4.4) and (4.8)."""
    knots = _knots()
    phases = np.exp(2j * np.pi * np.outer(np.arange(n), np.arange(len(knots))) / n)
    square = np.abs(phases @ knots) ** 2
    # where the sum vanishes (4.4) has no value; OpenMM takes the mean of the neighbours
    for i in np.flatnonzero(square < 1e-7):
        square[i] = (square[i - 1] + square[(i + 1) % n]) / 2
    return 1.0 / square


def _knots() -> Float[np.ndarray, "4"]:
    """The spline of order 5 at the integers 1 to 4."""
    return np.array([1.0, 11.0, 11.0, 1.0]) / 24.0
