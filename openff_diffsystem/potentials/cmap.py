"""Correction maps: an energy tabulated over two dihedral angles, which CHARMM and AMBER's ff19SB use for backbones."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import isqrt, pi

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from openff_diffsystem._jax.types import Column, Vector
from openff_diffsystem.forms.form import Settings
from openff_diffsystem.potentials.geometry import dihedral


def correction_maps(
    corners: Sequence[Vector], parameters: Float[Array, "terms values"], settings: Settings
) -> Float[Array, "terms 1"]:
    """The periodic bicubic spline through a map, at both dihedral angles of each term (OpenMM, "CMAPTorsionForce").

    A spline is linear in the values it goes through, so the energy is ``b(phi) E b(psi)`` with the values E and
    vectors b that depend on an angle alone: see :func:`spline_weights`.

    Parameters
    ----------
    corners
        Positions of the eight atoms, four of each dihedral angle, components ``(n_terms, 1)``, nm.
    parameters
        ``(n_terms, size * size)``: the map (kJ/mol); the value at angles ``2 pi i / size`` and ``2 pi j / size`` is
        number ``i + size * j``.
    settings
        Not used.

    Returns
    -------
    array
        ``(n_terms, 1)``, kJ/mol.
    """
    size = isqrt(parameters.shape[1])
    first, second = (spline_weights(dihedral(*four), size) for four in (corners[:4], corners[4:]))
    maps = parameters.reshape(-1, size, size)
    return jnp.sum(second * jnp.sum(maps * first[:, None, :], axis=2), axis=1, keepdims=True)


def spline_weights(angle: Column, size: int) -> Float[Array, "terms {size}"]:
    """The weight of each of ``size`` values, evenly spaced around a circle, in the cubic spline through them.

    Parameters
    ----------
    angle
        ``(n, 1)``, rad; any multiple of 2 pi may be added.

    Returns
    -------
    array
        ``(n, size)``. Twice continuously differentiable in the angle.
    """
    place = angle * (size / (2.0 * pi))
    left = jnp.floor(place)
    t = place - left
    knot = left.astype(jnp.int32) % size
    at = jnp.arange(size, dtype=jnp.int32)
    here, there = ((knot + step) % size == at for step in (0, 1))
    slopes = jnp.asarray(knot_slopes(size), dtype=angle.dtype)
    slope_here, slope_there = (slopes[(knot[:, 0] + step) % size] for step in (0, 1))
    # Hermite's basis on one interval
    return (
        here * (1.0 + t**2 * (2.0 * t - 3.0))
        + there * (t**2 * (3.0 - 2.0 * t))
        + slope_here * (t * (1.0 - t) ** 2)
        + slope_there * (t**2 * (t - 1.0))
    )


@lru_cache
def knot_slopes(size: int) -> Float[np.ndarray, "{size} {size}"]:
    """The matrix from the values of a periodic cubic spline at its knots to its slopes there, for unit spacing.

    Its second derivatives are continuous if ``d[i-1] + 4 d[i] + d[i+1] = 3 (f[i+1] - f[i-1])``.
    """
    one = np.eye(size)
    after, before = np.roll(one, 1, axis=1), np.roll(one, -1, axis=1)
    return np.linalg.solve(before + 4.0 * one + after, 3.0 * (after - before))
