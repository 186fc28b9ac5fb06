"""Many configurations of one system: a trajectory, frame by frame, with bounded memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sized
from dataclasses import replace
from itertools import repeat
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from tqdm import tqdm

from openff_diffsystem._jax.fork import require_own_process
from openff_diffsystem.exceptions import InvalidInputError
from openff_diffsystem.system import compiled
from openff_diffsystem.system.arguments import Configuration, check_shapes, host_box_vectors, n_axes
from openff_diffsystem.system.data import SystemData
from openff_diffsystem.system.lists import NeighborLists
from openff_diffsystem.system.model import energy_model
from openff_diffsystem.units import nanometers


class FrameEnergies(NamedTuple):
    """The results for each frame.

    Attributes
    ----------
    energies
        ``(n_frames,)``, kJ/mol.
    gradients
        dU/dtheta, ``(n_frames, n_values)``, kJ/mol per unit of theta; ``None`` if it was not asked for. If theta was
        given as system parameters, these are derivatives with respect to their ``values``.
    """

    energies: Float[np.ndarray, " frames"]
    gradients: Float[np.ndarray, "frames values"] | None


def evaluate_frames(
    system: SystemData,
    frames: Iterable[object],
    theta: object = None,
    box_vectors: Iterable[object] | None = None,
    *,
    gradients: bool = False,
    chunk_size: int = 4,
    skin: float = 0.1,
    progress: bool = False,
) -> FrameEnergies:
    """Energies of many frames, and their gradients with respect to theta.

    The neighbour list of a frame is built on the host while the device evaluates the frames before it. It is used for
    the following frames as long as it covers them. The mesh is that of the first frame, as in a simulation.

    Parameters
    ----------
    frames
        ``(n_frames, n_atoms, 3)``, nm, or an iterable of ``(n_atoms, 3)``, which is read as it is needed.
    theta
        As for ``DiffSystem.parameterize``. Its dtype is the precision of the evaluation; that of the frames is not.
    box_vectors
        ``(3, 3)``, nm, for all frames, or one per frame, ``(n_frames, 3, 3)`` or an iterable; by default the system's.
        If there is no box, the molecules are isolated.
    gradients
        Whether to return dU/dtheta of every frame.
    chunk_size
        How many frames may be in evaluation at once; memory grows with it.
    skin
        As for ``DiffSystem.neighbor_list``. In most saved trajectories frames are too different to share a list; then
        a small skin (0.02) leaves fewer pairs to evaluate.
    progress
        Whether to show a progress bar.

    Raises
    ------
    BoxError
        If a box is not in reduced form or narrower than twice the cutoff.
    InvalidInputError
        If there are fewer boxes than frames; if there are more, and boxes are a sequence; if a frame is ``None``; or if
        there are no frames at all.
    """
    require_own_process()
    given = jax.tree.map(jnp.asarray, system.as_theta(theta))
    dtype = jax.tree.leaves(given)[0].dtype
    boxes, n_boxes = _boxes(system.box_vectors if box_vectors is None else box_vectors)
    _require_as_many(n_boxes, _length(frames))
    lists = NeighborLists(system, skin, one_scheme=True)
    evaluate = compiled.energy_and_slopes if gradients else compiled.energy
    pending: deque = deque()
    results: list[tuple] = []
    for i, frame in enumerate(tqdm(frames, disable=not progress, unit="frame")):
        positions = nanometers(frame, f"positions of frame {i}", (None, 3))
        if positions is None:
            raise InvalidInputError(f"frame {i} has no positions")
        try:
            box = next(boxes)
        except StopIteration:
            raise InvalidInputError(f"there is no box for frame {i}") from None
        check_shapes(system, positions.shape, None if box is None else box.shape)
        on_host = Configuration(positions, box)
        neighbors = lists.covering(on_host, given)
        at = replace(jax.tree.map(lambda array: jnp.asarray(array, dtype), on_host), neighbors=neighbors)
        pending.append(evaluate(energy_model(system, at.is_periodic), at, given))
        if len(pending) >= chunk_size:
            results.append(jax.device_get(pending.popleft()))
    results.extend(map(jax.device_get, pending))
    if not results:
        raise InvalidInputError("there are no frames")
    _require_as_many(n_boxes, len(results))
    if not gradients:
        return FrameEnergies(np.array(results), None)
    energies, slopes = zip(*results, strict=True)
    return FrameEnergies(np.array(energies), np.stack([jax.tree.leaves(slope)[0] for slope in slopes]))


def _require_as_many(n_boxes: int | None, n_frames: int | None) -> None:
    if n_boxes is not None and n_frames is not None and n_boxes != n_frames:
        raise InvalidInputError(f"there are {n_boxes} boxes for {n_frames} frames")


def _length(values: Iterable[object]) -> int | None:
    return len(values) if isinstance(values, Sized) else None


def _boxes(box_vectors: Iterable[object] | None) -> tuple[Iterator[Float[np.ndarray, "3 3"] | None], int | None]:
    """The boxes of the frames, one after the other, and their number if it is known; a single box is repeated."""
    if box_vectors is None or n_axes(box_vectors) == 2:
        return repeat(host_box_vectors(box_vectors)), None
    boxes = (host_box_vectors(each, f"box vectors of frame {i}") for i, each in enumerate(box_vectors))
    return boxes, _length(box_vectors)
