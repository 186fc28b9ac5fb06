"""Many configurations of one system: a trajectory, frame by frame, with bounded memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from openff_diffsystem.exceptions import BoxError, UnsupportedInputError
from openff_diffsystem.potentials.periodic.neighbors import approach, check_box
from openff_diffsystem.system import compiled
from openff_diffsystem.system.arguments import as_positions
from openff_diffsystem.system.lists import neighbor_list, particle_positions
from openff_diffsystem.system.model import model
from openff_diffsystem.units import nanometers

if TYPE_CHECKING:
    from openff_diffsystem.potentials.periodic.neighbors import NeighborList
    from openff_diffsystem.system.compiled import Theta
    from openff_diffsystem.system.data import SystemData


class FrameEnergies(NamedTuple):
    """What was computed of each frame.

    Attributes
    ----------
    energies
        ``(n_frames,)``, kJ/mol.
    gradients
        dU/dtheta, ``(n_frames, n_values)``, in the units of theta, or ``None`` where it was not asked for. Where theta
        was given as system parameters, the derivatives are those of their ``values``.
    """

    energies: np.ndarray
    gradients: np.ndarray | None


def evaluate_frames(
    system: SystemData,
    frames: Iterable[Any],
    theta: Any = None,
    box_vectors: Any = None,
    *,
    gradients: bool = False,
    chunk_size: int = 4,
    skin: float = 0.1,
    progress: bool = False,
) -> FrameEnergies:
    """Energies of many frames, and their gradients in theta.

    The neighbour list of a frame is built on the host while the device evaluates the frames before it, and serves
    the frames that follow for as long as it covers them. The mesh is that of the first frame, as in a simulation.

    Parameters
    ----------
    frames
        ``(n_frames, n_atoms, 3)``, nm, or an iterable of ``(n_atoms, 3)``, which is read as it is needed.
    theta
        As for ``DiffSystem.parameterize``. Its dtype is the precision of the evaluation, whatever that of the frames.
    box_vectors
        ``(3, 3)``, nm, for all frames, or one per frame, ``(n_frames, 3, 3)`` or an iterable; by default the system's.
        Without any box the molecules are isolated.
    gradients
        Whether to return dU/dtheta of every frame.
    chunk_size
        How many frames may be under way at once; memory grows with it.
    skin
        As for ``DiffSystem.neighbor_list``. Where frames are too far apart for lists to be shared, most trajectories on
        disk, a small one (0.02) leaves fewer pairs to evaluate.
    progress
        Whether to show a progress bar.

    Raises
    ------
    BoxError
        If a box is not in reduced form or narrower than twice the cutoff.
    UnsupportedInputError
        If there are fewer boxes than frames, or more where they are a sequence; if a frame is ``None``; or if there are
        no frames at all.
    """
    given = jax.tree.map(jnp.asarray, system.as_theta(theta))
    boxes = _boxes(system, box_vectors)
    n_boxes = None if box_vectors is None or _is_for_all(box_vectors) else _length(box_vectors)
    _require_as_many(n_boxes, _length(frames))
    lists = _Lists(system, given, skin)
    pending: deque = deque()
    results: list[tuple] = []
    for i, frame in enumerate(tqdm(frames, disable=not progress, unit="frame")):
        positions = nanometers(frame, f"positions of frame {i}", (None, 3))
        if positions is None:
            raise UnsupportedInputError(f"frame {i} has no positions")
        try:
            box = next(boxes)
        except StopIteration:
            raise UnsupportedInputError(f"there is no box for frame {i}") from None
        neighbors = None if box is None else lists.covering(positions, box)
        pending.append(_evaluate(system, positions, given, box, neighbors, gradients))
        if len(pending) >= chunk_size:
            results.append(jax.device_get(pending.popleft()))
    results.extend(map(jax.device_get, pending))
    if not results:
        raise UnsupportedInputError("there are no frames")
    _require_as_many(n_boxes, len(results))
    if not gradients:
        return FrameEnergies(np.array(results), None)
    energies, slopes = zip(*results, strict=True)
    return FrameEnergies(np.array(energies), np.stack(slopes))


class _Lists:
    """The neighbour list of the latest frames, rebuilt where it does not cover the next one.

    Whether it does is found out on the host: on the device the question would wait for the frames under way.
    """

    def __init__(self, system: SystemData, theta: Theta, skin: float) -> None:
        self.system = system
        self.theta = theta
        self.skin = skin
        self.latest: NeighborList | None = None
        self.served: NeighborList | None = None
        self.host: _Reference | None = None

    def covering(self, positions: np.ndarray, box: np.ndarray) -> NeighborList:
        """A list that covers a configuration, ``(n_atoms, 3)`` or ``(n_particles, 3)``, and a box, ``(3, 3)``, nm.

        Its numbers are in the precision of theta.
        """
        if self.latest is not None:
            check_box(box, self.latest.scheme.cutoff)
        particles = positions
        if len(positions) != self.system.n_particles:
            particles = np.asarray(particle_positions(self.system, positions, self.theta))
        if self.host is None or self.served is None or not self.host.covers(particles, box):
            self.latest = neighbor_list(self.system, particles, box, self.theta, skin=self.skin, like=self.latest)
            self.served = _cast(self.latest, _dtype(self.theta))
            self.host = _Reference.of(self.latest)
        return self.served


class _Reference(NamedTuple):
    """What a neighbour list was built for, on the host; the attributes are those of :class:`NeighborList`."""

    positions: np.ndarray
    images: np.ndarray
    box: np.ndarray
    skin: float

    @classmethod
    def of(cls, neighbors: NeighborList) -> _Reference:
        """That of a list."""
        return cls(
            np.asarray(neighbors.reference_positions),
            np.asarray(neighbors.images),
            np.asarray(neighbors.reference_box),
            float(neighbors.skin),
        )

    def covers(self, particles: np.ndarray, box: np.ndarray) -> bool:
        """Whether the list is complete for particles, ``(n_particles, 3)``, and a box, ``(3, 3)``, nm.

        The device asks again when it evaluates, in a precision that may be lower, so the last hundredth of the skin
        is left alone.
        """
        return bool(approach(particles - self.positions, box - self.box, self.images, np) <= 0.99 * self.skin)


def _cast(tree: Any, dtype: Any) -> Any:
    """A pytree with its real numbers in another precision."""
    return jax.tree.map(lambda a: a.astype(dtype) if jnp.issubdtype(a.dtype, jnp.floating) else a, tree)


def _is_for_all(box_vectors: Any) -> bool:
    return np.ndim(getattr(box_vectors, "m", box_vectors)) == 2


def _require_as_many(n_boxes: int | None, n_frames: int | None) -> None:
    if n_boxes is not None and n_frames is not None and n_boxes != n_frames:
        raise UnsupportedInputError(f"there are {n_boxes} boxes for {n_frames} frames")


def _length(values: Any) -> int | None:
    return len(values) if hasattr(values, "__len__") else None


def _dtype(theta: Theta) -> jnp.dtype:
    return jax.tree.leaves(theta)[0].dtype


def _evaluate(
    system: SystemData, positions: np.ndarray, theta: Theta, box: Any, neighbors: Any, gradients: bool
) -> Any:
    """The energy of a frame, or the energy and its gradient in theta, not waited for."""
    found = model(system, periodic=box is not None)
    at = jnp.asarray(as_positions(positions, system.n_atoms, system.n_positions), _dtype(theta))
    arguments: tuple = (found, at, theta)
    if box is not None:
        arguments = (*arguments, jnp.asarray(box, at.dtype), neighbors)
    if not gradients:
        return (compiled.energy if box is None else compiled.energy_in_box)(*arguments)
    evaluate = compiled.energy_and_slopes if box is None else compiled.energy_and_slopes_in_box
    energy, slopes = evaluate(*arguments)
    return energy, jax.tree.leaves(slopes)[0]


def _boxes(system: SystemData, box_vectors: Any) -> Any:
    """A box for every frame: the same for all, or one after the other."""
    box = system.box_vectors if box_vectors is None else box_vectors
    if box is None or _is_for_all(box):
        one = None if box is None else nanometers(box, "box vectors", (3, 3), BoxError)
        while True:
            yield one
    for i, each in enumerate(box):
        yield nanometers(each, f"box vectors of frame {i}", (3, 3), BoxError)
