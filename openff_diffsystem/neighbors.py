"""Neighbour lists for periodic systems: blocks of particles and the particles near them, built on the host.

A list is an argument of the potential, so it can be reused while nothing has moved by more than half the skin.
Every block of eight particles that are close in space has rows of up to 64 neighbours, all seen through the same
periodic image. Each pair is listed from both sides: forces are then sums along a row, and nothing is scattered.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import chain, product
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.spatial import cKDTree

from openff_diffsystem.cutoffs import CutoffScheme
from openff_diffsystem.exceptions import BoxError, PositionsError

BLOCK = 8
"""Particles of a block: the lanes of one vector register in single precision."""

ROW = 64
"""Neighbours in a row."""

CHUNK = 256
"""Rows evaluated at once; lists are padded to a multiple."""

_HEADROOM = 1.04
"""Spare rows, so that lists along a trajectory have one shape and one program."""


@partial(
    jax.tree_util.register_dataclass,
    data_fields=[
        "blocks",
        "row_block",
        "row_image",
        "neighbors",
        "lanes",
        "images",
        "reference_positions",
        "reference_box",
        "skin",
    ],
    meta_fields=["scheme"],
)
@dataclass
class NeighborList:
    """Which particles are within a cutoff and a skin of each other. A pytree.

    Attributes
    ----------
    blocks
        ``(n_blocks, 8)``, int32: the particles of each block; ``n_particles`` fills up incomplete ones.
    row_block
        ``(n_rows,)``, int32: the block that a row belongs to; ``n_blocks`` for spare rows.
    row_image
        ``(n_rows, 3)``, int8: the lattice translation of a row's neighbours, in box vectors.
    neighbors
        ``(n_rows, 64)``, int32: the neighbours; ``n_particles`` fills up incomplete rows.
    lanes
        ``(n_rows, 64)``, uint8: bit i is set where the neighbour interacts with particle i of the block.
    images
        ``(n_particles, 3)``, int32: the translation that brings each particle into the box.
    reference_positions, reference_box
        ``(n_particles, 3)`` and ``(3, 3)``, nm: what the list was built for.
    skin
        How much longer than the cutoff the list reaches, nm.
    scheme
        How interactions end at the cutoff. Static.
    """

    blocks: Any
    row_block: Any
    row_image: Any
    neighbors: Any
    lanes: Any
    images: Any
    reference_positions: Any
    reference_box: Any
    skin: Any
    scheme: CutoffScheme

    def reach_used(self, positions: jax.Array, box_vectors: jax.Array) -> jax.Array:
        """How much of the skin motion has used up, nm: the list is complete while this is at most ``skin``.

        Two particles approach by at most twice the largest displacement, plus what the box vectors moved by.
        """
        drift = box_vectors - self.reference_box
        moved = positions - self.reference_positions + self.images @ drift
        largest = jnp.sqrt(jnp.max(jnp.sum(moved**2, axis=1)))
        return 2.0 * largest + jnp.sum(jnp.sqrt(jnp.sum(drift**2, axis=1)))


def check_box(box_vectors: np.ndarray, cutoff: float) -> None:
    """Raise unless box vectors, ``(3, 3)``, nm, are in OpenMM's reduced form and twice the cutoff wide.

    Raises
    ------
    BoxError
        Naming the vector at fault.
    """
    if box_vectors.shape != (3, 3) or not np.isfinite(box_vectors).all():
        raise BoxError(f"box vectors must be finite, (3, 3), in nm; got {box_vectors.tolist()}")
    a, b, c = box_vectors
    slack = 1e-6 * abs(a[0])
    if np.diag(box_vectors).min() <= 0 or abs(np.triu(box_vectors, 1)).max() > 0:
        raise BoxError("box vectors must be lower triangular with a positive diagonal (a along x, b in the xy plane)")
    if 2 * abs(b[0]) > a[0] + slack or 2 * abs(c[0]) > a[0] + slack or 2 * abs(c[1]) > b[1] + slack:
        raise BoxError("box vectors are not in reduced form: |b_x|, |c_x| <= a_x / 2 and |c_y| <= b_y / 2")
    narrowest = np.diag(box_vectors).min()
    if narrowest < 2 * cutoff:
        raise BoxError(f"the box is {narrowest:.4g} nm wide, less than twice the cutoff of {cutoff:.4g} nm")


def build_neighbor_list(
    positions: np.ndarray,
    box_vectors: np.ndarray,
    not_interacting: np.ndarray,
    scheme: CutoffScheme,
    skin: float = 0.1,
    n_rows: int | None = None,
) -> NeighborList:
    """Find all neighbours of a configuration.

    Parameters
    ----------
    positions
        ``(n_particles, 3)``, nm.
    box_vectors
        ``(3, 3)``, nm, in OpenMM's reduced form.
    not_interacting
        ``(n, 2)``, int: pairs that the list leaves out.
    scheme
        Its cutoff is how far the list has to reach.
    skin
        How much further it reaches, nm.
    n_rows
        Length to pad to where it suffices, so that lists of equal length share a program.

    Raises
    ------
    BoxError
        If the box is not reduced or narrower than twice the cutoff.
    PositionsError
        If a position is NaN or infinite.
    """
    positions, box = np.asarray(positions, dtype=float), np.asarray(box_vectors, dtype=float)
    check_box(box, scheme.cutoff)
    bad = np.flatnonzero(~np.isfinite(positions).all(axis=1))
    if len(bad):
        raise PositionsError(f"the position of particle {bad[0]} is {positions[bad[0]].tolist()}")
    fractional = positions @ np.linalg.inv(box)
    images = -np.floor(fractional).astype(np.int32)
    fractional = fractional + images
    wrapped = positions + images @ box
    blocks = _blocks(fractional, box)
    entries = _entries(wrapped, box, blocks, scheme.cutoff + skin)
    lanes = _lanes(entries, blocks, fractional, not_interacting)
    used = lanes != 0
    row_block, row_image, neighbors, bits = _rows(
        Entries(*(column[used] for column in entries)), lanes[used], len(blocks), len(positions), n_rows
    )
    real = jax.dtypes.canonicalize_dtype(float)
    return jax.device_put(
        NeighborList(
            blocks=blocks.astype(np.int32),
            row_block=row_block,
            row_image=row_image,
            neighbors=neighbors,
            lanes=bits,
            images=images,
            reference_positions=positions.astype(real),
            reference_box=box.astype(real),
            skin=np.asarray(skin, dtype=real),
            scheme=scheme,
        )
    )


class Entries(NamedTuple):
    """Neighbours of blocks: block, translation ``(n, 3)`` and particle of each, sorted by block and translation."""

    block: np.ndarray
    image: np.ndarray
    particle: np.ndarray


def _blocks(fractional: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Group particles that are close: columns along z, cut into blocks as long as the columns are wide."""
    n = len(fractional)
    edges = np.diag(box)
    side = (BLOCK * np.prod(edges) / n) ** (1 / 3)
    nx, ny = (max(1, round(edge / side)) for edge in edges[:2])
    x = np.minimum((fractional[:, 0] * nx).astype(int), nx - 1)
    y = np.minimum((fractional[:, 1] * ny).astype(int), ny - 1)
    column = x * ny + y
    order = np.lexsort((fractional[:, 2], column))
    count = np.bincount(column, minlength=nx * ny)
    padded = -(-count // BLOCK) * BLOCK
    rank = np.arange(n) - np.repeat(np.cumsum(count) - count, count)
    blocks = np.full(padded.sum(), n)
    blocks[np.repeat(np.cumsum(padded) - padded, count) + rank] = order
    return blocks.reshape(-1, BLOCK)


def _entries(wrapped: np.ndarray, box: np.ndarray, blocks: np.ndarray, reach: float) -> Entries:
    """Every particle within reach of the bounding box of a block, through every translation."""
    n = len(wrapped)
    filled = blocks < n
    corners = wrapped[np.minimum(blocks, n - 1)]
    low = np.where(filled[:, :, None], corners, np.inf).min(axis=1)
    high = np.where(filled[:, :, None], corners, -np.inf).max(axis=1)
    ghosts, ghost_image, ghost_particle = _ghosts(wrapped, box, reach)
    center, radius = (low + high) / 2, np.linalg.norm(high - low, axis=1) / 2
    found = cKDTree(ghosts).query_ball_point(center, radius + reach, workers=-1, return_sorted=False)
    count = np.fromiter(map(len, found), dtype=np.int64, count=len(found))
    block = np.repeat(np.arange(len(blocks)), count)
    ghost = np.fromiter(chain.from_iterable(found), dtype=np.int64, count=count.sum())
    # single precision halves the time; what it may round off is added to the reach
    squared = np.zeros(len(block), dtype=np.float32)
    for axis in range(3):
        at, bottom, top = (a[:, axis].astype(np.float32) for a in (ghosts, low, high))
        x = at[ghost]
        gap = np.maximum(bottom[block] - x, x - top[block])
        squared += np.maximum(gap, 0.0, out=gap) ** 2
    near = squared < (reach + 1e-5) ** 2
    block, ghost = block[near], ghost[near]
    image = ghost_image[ghost]
    order = np.argsort((block * 27 + (image + 1) @ [9, 3, 1]) * n + ghost_particle[ghost], kind="stable")
    return Entries(block[order], image[order], ghost_particle[ghost[order]])


def _ghosts(wrapped: np.ndarray, box: np.ndarray, reach: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The particles and their images within reach of the box: positions, translations, particle indices."""
    fractional = wrapped @ np.linalg.inv(box)
    margin = reach * np.linalg.norm(np.linalg.inv(box), axis=0)  # reach over the distance between lattice planes
    positions, images, particles = [], [], []
    for image in product((-1, 0, 1), repeat=3):
        shifted = fractional + image
        near = np.flatnonzero(((shifted > -margin) & (shifted < 1 + margin)).all(axis=1))
        positions.append(wrapped[near] + np.array(image) @ box)
        images.append(np.broadcast_to(np.array(image), (len(near), 3)))
        particles.append(near)
    return np.concatenate(positions), np.concatenate(images), np.concatenate(particles)


def _lanes(entries: Entries, blocks: np.ndarray, fractional: np.ndarray, not_interacting: np.ndarray) -> np.ndarray:
    """Bit i of each entry: whether the neighbour interacts with particle i of the block."""
    n = len(fractional)
    filled = (blocks < n) @ (1 << np.arange(BLOCK))
    lanes = filled[entries.block].astype(np.uint8)
    place = np.empty(n, dtype=np.int64)
    place[blocks[blocks < n]] = np.flatnonzero(blocks.ravel() < n)
    itself = np.arange(n)
    first = np.concatenate([not_interacting[:, 0], not_interacting[:, 1], itself])
    second = np.concatenate([not_interacting[:, 1], not_interacting[:, 0], itself])
    # pairs that are left out are close, so they are in the list through the nearest image or not at all
    image = np.rint(fractional[first] - fractional[second]).astype(np.int64)
    key = (place[first] // BLOCK * 27 + (image + 1) @ [9, 3, 1]) * n + second
    present = (entries.block * 27 + (entries.image + 1) @ [9, 3, 1]) * n + entries.particle
    at = np.searchsorted(present, key)
    hit = (at < len(present)) & (present[np.minimum(at, len(present) - 1)] == key)
    np.bitwise_and.at(lanes, at[hit], (~(1 << place[first[hit]] % BLOCK) & 0xFF).astype(np.uint8))
    return lanes


def _rows(
    entries: Entries, lanes: np.ndarray, n_blocks: int, n_particles: int, n_rows: int | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Entries of one block and translation side by side in rows: block, translation, neighbours, lanes of each row."""
    group = entries.block * 27 + (entries.image + 1) @ [9, 3, 1]
    starts = np.flatnonzero(np.r_[True, group[1:] != group[:-1]]) if len(group) else np.empty(0, dtype=np.int64)
    size = np.diff(np.r_[starts, len(group)])
    rows_of = -(-size // ROW)
    used = int(rows_of.sum())
    if n_rows is None or n_rows < used:
        n_rows = -(-int(used * _HEADROOM) // CHUNK) * CHUNK
    n_rows = max(n_rows, CHUNK)
    rank = np.arange(len(group)) - np.repeat(starts, size)
    row = np.repeat(np.cumsum(rows_of) - rows_of, size) + rank // ROW
    neighbors = np.full((n_rows, ROW), n_particles, dtype=np.int32)
    bits = np.zeros((n_rows, ROW), dtype=np.uint8)
    neighbors[row, rank % ROW] = entries.particle
    bits[row, rank % ROW] = lanes
    block = np.full(n_rows, n_blocks, dtype=np.int32)
    image = np.zeros((n_rows, 3), dtype=np.int8)
    block[:used] = np.repeat(entries.block[starts], rows_of)
    image[:used] = np.repeat(entries.image[starts], rows_of, axis=0)
    return block, image, neighbors, bits
