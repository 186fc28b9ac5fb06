"""Angles and norms whose first and second derivatives stay finite where atoms are collinear or coincide."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def norm(vectors: jax.Array) -> jax.Array:
    """Length of vectors, ``(..., 3)`` to ``(...,)``; a zero vector has length and derivative zero."""
    squared = jnp.sum(vectors * vectors, axis=-1)
    zero = squared == 0
    return jnp.where(zero, 0.0, jnp.sqrt(jnp.where(zero, 1.0, squared)))


def safe_sqrt(x: jax.Array) -> jax.Array:
    """Square root with derivative zero, not infinity, at zero."""
    zero = x == 0
    return jnp.where(zero, 0.0, jnp.sqrt(jnp.where(zero, 1.0, x)))


def angle(a: jax.Array, b: jax.Array, c: jax.Array) -> jax.Array:
    """Angle a-b-c in rad, in [0, pi]. The arctangent keeps its precision near 0 and pi; the arccosine does not."""
    u, v = a - b, c - b
    sine, cosine = norm(jnp.cross(u, v)), jnp.sum(u * v, axis=-1)
    degenerate = (sine == 0) & (cosine == 0)
    return jnp.arctan2(sine, jnp.where(degenerate, 1.0, cosine))


def dihedral(a: jax.Array, b: jax.Array, c: jax.Array, d: jax.Array) -> jax.Array:
    """Dihedral angle a-b-c-d in rad, in (-pi, pi], with OpenMM's sign (IUPAC); zero where three atoms are collinear."""
    ab, bc, cd = b - a, c - b, d - c
    m, n = jnp.cross(ab, bc), jnp.cross(bc, cd)
    sine = jnp.sum(ab * n, axis=-1) * norm(bc)
    cosine = jnp.sum(m * n, axis=-1)
    degenerate = (sine == 0) & (cosine == 0)
    return jnp.arctan2(jnp.where(degenerate, 0.0, sine), jnp.where(degenerate, 1.0, cosine))
