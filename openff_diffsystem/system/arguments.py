"""What callers pass as a configuration: positions and box vectors, checked once at the boundary."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from openff_diffsystem.exceptions import BoxError, PositionsError
from openff_diffsystem.units import nanometers


def as_positions(positions: Any, n_atoms: int, n_particles: int) -> jax.Array:
    """Positions ``(n_atoms, 3)`` or ``(n_particles, 3)``, or a stack of those, a ``Quantity`` or nm, as a jax array.

    Raises
    ------
    PositionsError
        If the shape is another, or an array of the host holds a NaN.
    """
    if not isinstance(positions, jax.Array):
        ndim = np.ndim(getattr(positions, "_value", positions))
        positions = jnp.asarray(nanometers(positions, "positions", (None,) * (ndim - 2) + (None, 3)))
    check_positions(positions.shape, n_atoms, n_particles)
    return positions


def check_positions(shape: tuple[int, ...], n_atoms: int, n_particles: int) -> None:
    """Raise a :class:`PositionsError` unless the shape is that of positions, or of a stack of those."""
    if len(shape) not in (2, 3) or shape[-2:] not in ((n_atoms, 3), (n_particles, 3)):
        shapes = " or ".join(f"({n}, 3)" for n in dict.fromkeys((n_atoms, n_particles)))
        raise PositionsError(f"positions must have shape {shapes}, or a stack of those, got {shape}")


def as_box_vectors(box_vectors: Any) -> jax.Array | None:
    """Box vectors, ``(3, 3)`` or the edges of a brick, ``(3,)``, a ``Quantity`` or nm, as a jax array; or ``None``.

    Raises
    ------
    BoxError
        If the shape of a jax array is not ``(3, 3)``, or an array of the host holds a NaN.
    """
    if not isinstance(box_vectors, jax.Array):
        box = host_box_vectors(box_vectors)
        return None if box is None else jnp.asarray(box)
    if box_vectors.shape != (3, 3):
        raise BoxError(f"box vectors must have shape (3, 3), got {box_vectors.shape}")
    return box_vectors


def host_box_vectors(box: Any) -> np.ndarray | None:
    """The same for what is no jax array, as a NumPy array."""
    array = nanometers(box, "box vectors", (3, 3) if np.ndim(getattr(box, "m", box)) == 2 else (3,), BoxError)
    return np.diag(array) if array is not None and array.ndim == 1 else array
