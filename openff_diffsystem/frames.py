"""Many configurations of one system: a trajectory, frame by frame, with bounded memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np
from tqdm import tqdm

from openff_diffsystem.exceptions import UnsupportedInputError
from openff_diffsystem.units import nanometers

if TYPE_CHECKING:
    from openff_diffsystem.system import DiffSystem


class FrameEnergies(NamedTuple):
    """What was computed of each frame.

    Attributes
    ----------
    energies
        ``(n_frames,)``, kJ/mol.
    gradients
        dU/dtheta, ``(n_frames, n_values)``, in the units of theta, or ``None`` where it was not asked for.
    """

    energies: np.ndarray
    gradients: np.ndarray | None


def evaluate_frames(
    system: DiffSystem,
    frames: Iterable[Any],
    theta: Any = None,
    box_vectors: Any = None,
    *,
    gradients: bool = False,
    chunk_size: int = 4,
    progress: bool = False,
) -> FrameEnergies:
    """Energies of many frames, and their gradients in theta.

    The neighbour list of a frame is built on the host while the device evaluates the frames before it.

    Parameters
    ----------
    frames
        ``(n_frames, n_atoms, 3)``, nm, or an iterable of ``(n_atoms, 3)``, which is read as it is needed.
    theta
        As for ``DiffSystem.parameterize``.
    box_vectors
        ``(3, 3)``, nm, for all frames, or one per frame, ``(n_frames, 3, 3)`` or an iterable; by default the system's.
        Without any box the molecules are isolated.
    gradients
        Whether to return dU/dtheta of every frame.
    chunk_size
        How many frames may be under way at once; memory grows with it.
    progress
        Whether to show a progress bar.

    Raises
    ------
    UnsupportedInputError
        If there are more frames than boxes, or no frames at all.
    """
    potential = system.to_jax_potential()
    evaluate = jax.value_and_grad(potential, argnums=1) if gradients else potential
    vector = system.force_field_parameters.vector if theta is None else getattr(theta, "vector", theta)
    boxes = _boxes(system, box_vectors)
    neighbors = None
    pending: deque = deque()
    results: list[tuple] = []
    for i, frame in enumerate(tqdm(frames, disable=not progress, unit="frame")):
        positions = nanometers(frame, f"positions of frame {i}", (None, 3))
        try:
            box = next(boxes)
        except StopIteration:
            raise UnsupportedInputError(f"there is no box for frame {i}") from None
        if box is None:
            pending.append(evaluate(positions, vector))
        else:
            neighbors = system.neighbor_list(positions, box, vector, like=neighbors)
            pending.append(evaluate(jax.device_put(positions), vector, jax.device_put(box), neighbors))
        if len(pending) >= chunk_size:
            results.append(jax.device_get(pending.popleft()))
    results.extend(map(jax.device_get, pending))
    if not results:
        raise UnsupportedInputError("there are no frames")
    if not gradients:
        return FrameEnergies(np.array(results), None)
    energies, slopes = zip(*results, strict=True)
    return FrameEnergies(np.array(energies), np.stack(slopes))


def _boxes(system: DiffSystem, box_vectors: Any) -> Any:
    """A box for every frame: the same for all, or one after the other."""
    box = system.box_vectors if box_vectors is None else box_vectors
    if box is None or np.ndim(getattr(box, "m", box)) == 2:
        one = None if box is None else nanometers(box, "box vectors", (3, 3))
        while True:
            yield one
    for i, each in enumerate(box):
        yield nanometers(each, f"box vectors of frame {i}", (3, 3))
