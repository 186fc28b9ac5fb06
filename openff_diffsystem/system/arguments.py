"""What callers pass as a configuration: positions and box vectors, checked once at the boundary."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from openff_diffsystem.exceptions import BoxError, PositionsError
from openff_diffsystem.units import nanometers

if TYPE_CHECKING:
    from openff_diffsystem.potentials.periodic.neighbors import NeighborList
    from openff_diffsystem.system.data import SystemData


@jax.tree_util.register_dataclass
@dataclass
class Configuration:
    """Where the particles are. A pytree, whose structure says what is evaluated: isolated molecules or a box.

    Attributes
    ----------
    positions
        ``(n_atoms, 3)`` or ``(n_particles, 3)``, nm; of isolated molecules also a stack, ``(n_conformers, n, 3)``.
    box_vectors
        ``(3, 3)``, nm; ``None`` for isolated molecules.
    neighbors
        A neighbour list of the box, if there is one already.
    """

    positions: Any
    box_vectors: Any = None
    neighbors: NeighborList | None = None

    @property
    def is_periodic(self) -> bool:
        """Whether there is a box."""
        return self.box_vectors is not None


def as_configuration(
    system: SystemData, positions: Any, box_vectors: Any = None, neighbors: NeighborList | None = None
) -> Configuration:
    """Positions, and the given box or the system's own, as jax arrays; either may be a ``Quantity``, or numbers in nm.

    Raises
    ------
    PositionsError, BoxError
        If a shape is wrong, see :func:`check_shapes`, or an array of the host holds a NaN.
    """
    positions, box = as_positions(positions), system.box_vectors if box_vectors is None else box_vectors
    if box is None:
        check_shapes(system, positions.shape)
        return Configuration(positions)
    if not isinstance(box, jax.Array):
        box = jnp.asarray(host_box_vectors(box))
    check_shapes(system, positions.shape, box.shape)
    return Configuration(positions, box, neighbors)


def as_positions(positions: Any) -> jax.Array:
    """Positions, a ``Quantity`` or nm, as a jax array; their shape is checked by :func:`check_shapes`."""
    if isinstance(positions, jax.Array):
        return positions
    ndim = np.ndim(getattr(positions, "_value", positions))
    return jnp.asarray(nanometers(positions, "positions", (None,) * (ndim - 2) + (None, 3)))


def host_box_vectors(box: Any, name: str = "box vectors") -> np.ndarray | None:
    """Box vectors, ``(3, 3)`` or the edges of a brick, ``(3,)``, a ``Quantity`` or nm, as a NumPy array; or ``None``.

    Raises
    ------
    BoxError
        If the shape is another, or a value is not finite.
    """
    array = nanometers(box, name, (3, 3) if np.ndim(getattr(box, "m", box)) == 2 else (3,), BoxError)
    return np.diag(array) if array is not None and array.ndim == 1 else array


def check_shapes(system: SystemData, positions: tuple[int, ...], box_vectors: tuple[int, ...] | None = None) -> None:
    """Raise unless shapes are those of a configuration, or, without a box, of a stack of configurations.

    Raises
    ------
    PositionsError
        If positions are not those of all atoms or of all particles, or there is a stack of them in a box.
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
