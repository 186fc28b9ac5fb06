"""Sums over many numbers that stay accurate in single precision."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def inner(a: Float[Array, "*shape"], b: Float[Array, "*shape"]) -> Float[Array, ""]:
    """Inner product of two arrays of one shape, a scalar.

    XLA adds up the elements of a vector as a tree, but a dot product one by one: for 15,000 equal charges in single
    precision the dot product is wrong in the fourth digit.
    """
    return jnp.sum(a * b)


def total(grid: Float[Array, "..."]) -> Float[Array, ""]:
    """Sum of all elements of an array of several axes, a scalar.

    XLA would add up all elements one by one. Summing one axis after the other gives partial sums, which round less.
    """
    while grid.ndim > 1:
        grid = jax.lax.optimization_barrier(jnp.sum(grid, axis=-1))
    return jnp.sum(grid)
