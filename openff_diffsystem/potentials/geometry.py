"""Vectors, angles and norms whose first and second derivatives stay finite where atoms are collinear or coincide.

A vector is a triple of arrays, one per component. On a CPU, XLA then fuses a whole energy term into one loop;
arrays ``(n, 3)`` with slices and cross products become dozens of loops in the backward pass.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from openff_diffsystem._jax.types import Vector


def split(array: Float[Array, "..."], sizes: Sequence[int], axis: int) -> list[Float[Array, "..."]]:
    """Cut an array along an axis. Its adjoint is one concatenation; adjoints of slices are padded and added."""
    return list(jax.lax.split(array, tuple(sizes), axis=axis))


def columns(array: Float[Array, "terms columns"]) -> list[Float[Array, "terms 1"]]:
    """The columns of ``(n, m)`` as m arrays ``(n, 1)``."""
    return split(array, (1,) * array.shape[1], axis=1)


def difference(a: Vector, b: Vector) -> Vector:
    """a - b."""
    return [x - y for x, y in zip(a, b, strict=True)]


def dot(a: Vector, b: Vector) -> Float[Array, "*terms"]:
    """a . b."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def cross(a: Vector, b: Vector) -> Vector:
    """a x b."""
    return [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]


def safe_sqrt(x: Float[Array, "*terms"] | float) -> Float[Array, "*terms"]:
    """Square root with derivative zero, not infinity, at zero."""
    zero = x == 0
    return jnp.where(zero, 0.0, jnp.sqrt(jnp.where(zero, 1.0, x)))


def norm(a: Vector) -> Float[Array, "*terms"]:
    """Length of a vector; the zero vector has length and derivative zero."""
    return safe_sqrt(dot(a, a))


def angle(a: Vector, b: Vector, c: Vector) -> Float[Array, "*terms"]:
    """Angle a-b-c in rad, in [0, pi]. The arctangent keeps its precision near 0 and pi; the arccosine does not."""
    u, v = difference(a, b), difference(c, b)
    return _arctan2(norm(cross(u, v)), dot(u, v))


def dihedral(a: Vector, b: Vector, c: Vector, d: Vector) -> Float[Array, "*terms"]:
    """Dihedral angle a-b-c-d in rad, in (-pi, pi], with OpenMM's sign (IUPAC); zero where three atoms are collinear."""
    ab, bc, cd = difference(b, a), difference(c, b), difference(d, c)
    n = cross(bc, cd)
    return _arctan2(dot(ab, n) * norm(bc), dot(cross(ab, bc), n))


def _arctan2(sine: Float[Array, "*terms"], cosine: Float[Array, "*terms"]) -> Float[Array, "*terms"]:
    undefined = (sine == 0) & (cosine == 0)
    return jnp.arctan2(jnp.where(undefined, 0.0, sine), jnp.where(undefined, 1.0, cosine))
