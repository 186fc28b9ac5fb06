"""The configuration that a caller passes: positions and box vectors, converted and checked once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from openff_diffsystem._jax.types import AnyArray
from openff_diffsystem.exceptions import BoxError, PositionsError
from openff_diffsystem.potentials.periodic.neighbors import NeighborList
from openff_diffsystem.system.data import SystemData
from openff_diffsystem.units import nanometers


@jax.tree_util.register_dataclass
@dataclass
class Configuration:
    """Where the particles are. A pytree; isolated molecules and a box have different tree structures.

    Attributes
    ----------
    positions
        ``(n_atoms, 3)`` or ``(n_particles, 3)``, nm; for isolated molecules also a stack, ``(n_conformers, n, 3)``.
    box_vectors
        ``(3, 3)``, nm; ``None`` for isolated molecules.
    neighbors
        A neighbour list, if there is one already; ``None`` for isolated molecules.
    """

    positions: Float[AnyArray, "*conformers points 3"]
    box_vectors: Float[AnyArray, "3 3"] | None = None
    neighbors: NeighborList | None = None

    @property
    def is_periodic(self) -> bool:
        """Whether there is a box."""
        return self.box_vectors is not None


def as_configuration(
    system: SystemData, positions: object, box_vectors: object = None, neighbors: NeighborList | None = None
) -> Configuration:
    """Positions and box vectors as jax arrays, from a ``Quantity`` or numbers in nm; by default the system's own box.

    Raises
    ------
    PositionsError, BoxError
        If a shape is wrong, see :func:`check_shapes`, or what is not a jax array holds NaN or infinity.
    """
    points, box = as_positions(positions), system.box_vectors if box_vectors is None else box_vectors
    if box is None:
        check_shapes(system, points.shape)
        return Configuration(points)
    vectors = box if isinstance(box, jax.Array) else jnp.asarray(host_box_vectors(box))
    check_shapes(system, points.shape, vectors.shape)
    return Configuration(points, vectors, neighbors)


def as_positions(positions: object) -> Array:
    """Positions, a ``Quantity`` or nm, as a jax array; a jax array is returned as it is, of whatever shape."""
    if isinstance(positions, jax.Array):
        return positions
    return jnp.asarray(nanometers(positions, "positions", (None,) * (n_axes(positions) - 2) + (None, 3)))


def n_axes(lengths: Any) -> int:
    """Number of axes of an array, of nested lists, or of a ``Quantity`` of openff-units or OpenMM."""
    return np.ndim(getattr(lengths, "m", getattr(lengths, "_value", lengths)))


def host_box_vectors(box: object, name: str = "box vectors") -> Float[np.ndarray, "3 3"] | None:
    """Box vectors in NumPy, from ``(3, 3)`` or edge lengths, ``(3,)``, a ``Quantity`` or nm; ``None`` from ``None``.

    Raises
    ------
    BoxError
        If the shape is wrong, or a value is not finite.
    """
    array = nanometers(box, name, (3, 3) if n_axes(box) == 2 else (3,), BoxError)
    return np.diag(array) if array is not None and array.ndim == 1 else array


def check_shapes(system: SystemData, positions: tuple[int, ...], box_vectors: tuple[int, ...] | None = None) -> None:
    """Raise unless the shapes are those of a configuration or, without a box, of a stack of configurations.

    Raises
    ------
    PositionsError
        If there is not one position for each atom or for each particle, or if there is a stack of them in a box.
    BoxError
        If box vectors do not have shape ``(3, 3)``.
    """
    if len(positions) not in (2, 3) or positions[-2:] not in ((system.n_atoms, 3), (system.n_positions, 3)):
        shapes = " or ".join(f"({n}, 3)" for n in dict.fromkeys((system.n_atoms, system.n_positions)))
        raise PositionsError(f"positions must have shape {shapes}, or a stack of those, got {positions}")
    if box_vectors is None:
        return
    if box_vectors != (3, 3):
        raise BoxError(f"box vectors must have shape (3, 3), got {box_vectors}")
    if len(positions) != 2:
        raise PositionsError(f"a periodic system takes one configuration at a time, got shape {positions}")
