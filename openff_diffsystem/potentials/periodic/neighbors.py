"""Neighbour lists for periodic systems: blocks of particles and the particles near them, built on the host.

A list is an argument of the potential, so it can be reused while nothing has moved by more than half the skin.
Every block of eight particles that are close in space has rows of up to 64 neighbours, all seen through the same
periodic image. Each pair is listed from both sides: forces are then sums along a row, and nothing is scattered.

Libraries of neighbour lists give pairs of particles. With pairs from a k-d tree, sorted into rows, a list of 15,000
particles took six times as long.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import product
from types import ModuleType
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from openff_diffsystem._jax.static import STATIC
from openff_diffsystem._jax.types import AnyArray, Scalar
from openff_diffsystem.exceptions import BoxError, PositionsError
from openff_diffsystem.potentials.periodic.scheme import CutoffScheme

Condition = Bool[AnyArray, ""] | bool | np.bool_

BLOCK = 8
"""Particles of a block: the lanes of one vector register in single precision."""

ROW = 64
"""Neighbours in a row."""

CHUNK = 256
"""Rows evaluated at once; lists are padded to a multiple."""

_HEADROOM = 1.04
"""Spare rows, so that lists along a trajectory have one shape and one program."""

_TRANSLATIONS = np.array(list(product((-1, 0, 1), repeat=3)))
"""Translations to the neighbouring boxes, in box vectors."""

_AT_ONCE = 256
"""Blocks whose neighbours are searched at once."""

_FAR = 1e9
"""Squared distance, nm2, of fillers of a block."""


@jax.tree_util.register_dataclass
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
        ``(n_rows, 64)``, uint8: bit i is set where the neighbour is within reach of particle i of the block and
        interacts with it.
    images
        ``(n_particles, 3)``, int32: the translation that brings each particle into the box.
    reference_positions, reference_box
        ``(n_particles, 3)`` and ``(3, 3)``, nm: what the list was built for.
    skin
        How much longer than the cutoff the list reaches, nm.
    scheme
        How interactions end at the cutoff. Static.
    """

    blocks: Int[AnyArray, "blocks 8"]
    row_block: Int[AnyArray, " rows"]
    row_image: Int[AnyArray, "rows 3"]
    neighbors: Int[AnyArray, "rows 64"]
    lanes: UInt8[AnyArray, "rows 64"]
    images: Int[AnyArray, "particles 3"]
    reference_positions: Float[AnyArray, "particles 3"]
    reference_box: Float[AnyArray, "3 3"]
    skin: Float[AnyArray, ""]
    scheme: CutoffScheme = field(metadata=STATIC)

    def reach_used(self, positions: Float[AnyArray, "particles 3"], box_vectors: Float[AnyArray, "3 3"]) -> Scalar:
        """How much of the skin is used up, nm: by how much two particles may have approached since the list was built.

        That is twice the largest displacement, and what the box moved by. Positions are those of all particles, in
        JAX; or in NumPy, for a list :attr:`on_host`.
        """
        moved, drift = positions - self.reference_positions, box_vectors - self.reference_box
        xp = np if isinstance(moved, np.ndarray) else jnp
        largest = xp.sqrt(xp.max(xp.sum((moved + self.images @ drift) ** 2, axis=1)))
        return 2.0 * largest + xp.sum(xp.sqrt(xp.sum(drift**2, axis=1)))

    @cached_property
    def on_host(self) -> NeighborList:
        """The list with NumPy arrays where :meth:`reach_used` needs them."""
        return replace(
            self,
            images=np.asarray(self.images),
            reference_positions=np.asarray(self.reference_positions),
            reference_box=np.asarray(self.reference_box),
        )


def box_conditions(
    box_vectors: Float[AnyArray, "3 3"], cutoff: float, xp: ModuleType = jnp
) -> tuple[Condition, Condition, Condition]:
    """Whether box vectors, nm, are triangular, reduced, and at least twice the cutoff wide: one boolean each.

    Triangular means lower triangular with a positive diagonal, reduced is OpenMM's reduced form. ``xp`` is the
    library of the array: ``numpy`` on the host.
    """
    a, b, c = box_vectors
    narrowest, slack = xp.min(xp.diagonal(box_vectors)), 1e-6 * abs(a[0])
    triangular = (narrowest > 0) & ~xp.any(xp.triu(box_vectors, 1))
    reduced = (abs(b[0]) <= a[0] / 2 + slack) & (abs(c[0]) <= a[0] / 2 + slack) & (abs(c[1]) <= b[1] / 2 + slack)
    return triangular, reduced, narrowest >= 2 * cutoff - slack


def check_box(box_vectors: Float[np.ndarray, "..."], cutoff: float) -> None:
    """Raise unless box vectors, ``(3, 3)``, nm, are finite and all of :func:`box_conditions`.

    Raises
    ------
    BoxError
        If one condition is not met. The message names it.
    """
    if box_vectors.shape != (3, 3) or not np.isfinite(box_vectors).all():
        raise BoxError(f"box vectors must be finite, (3, 3), in nm; got {box_vectors.tolist()}")
    triangular, reduced, wide = box_conditions(box_vectors, cutoff, np)
    if not triangular:
        raise BoxError("box vectors must be lower triangular with a positive diagonal (a along x, b in the xy plane)")
    if not reduced:
        raise BoxError("box vectors are not in reduced form: |b_x|, |c_x| <= a_x / 2 and |c_y| <= b_y / 2")
    if not wide:
        narrowest = np.diag(box_vectors).min()
        raise BoxError(f"the box is {narrowest:.4g} nm wide, less than twice the cutoff of {cutoff:.4g} nm")


def check_finite(positions: Float[AnyArray, "particles 3"]) -> None:
    """Raise a :class:`PositionsError` that names the first particle whose position is NaN or infinite."""
    array = np.asarray(positions)
    finite = np.isfinite(array).all(axis=1)
    if not finite.all():
        i = int(np.argmin(finite))
        raise PositionsError(f"the position of particle {i} is {array[i].tolist()}")


def build_neighbor_list(
    positions: Float[np.ndarray, "particles 3"],
    box_vectors: Float[np.ndarray, "3 3"],
    not_interacting: Int[np.ndarray, "pairs 2"],
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
        Number of rows, filled up if fewer are needed, so that lists of equal length share a program.

    Raises
    ------
    BoxError
        If the box is not reduced, narrower than twice the cutoff, or than cutoff and skin together.
    PositionsError
        If a position is NaN or infinite.
    """
    positions, box = np.asarray(positions, dtype=float), np.asarray(box_vectors, dtype=float)
    check_box(box, scheme.cutoff)
    # only neighbouring boxes are searched: nothing further away than the width of the box is found
    if not 0 <= scheme.cutoff + skin <= np.diag(box).min():
        raise BoxError(
            f"cutoff and skin, {scheme.cutoff:.4g} nm and {skin:.4g} nm, must not reach further than the box is wide, "
            f"{np.diag(box).min():.4g} nm"
        )
    check_finite(positions)
    fractional = positions @ np.linalg.inv(box)
    images = -np.floor(fractional).astype(np.int32)
    fractional = fractional + images
    wrapped = positions + images @ box
    blocks = _blocks(fractional, box)
    pairs = _block_pairs(wrapped, box, blocks, scheme.cutoff + skin)
    _leave_out(pairs, blocks, fractional, not_interacting)
    row_block, row_image, neighbors, bits = _rows(pairs, blocks, len(positions), n_rows)
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


class BlockPairs(NamedTuple):
    """Blocks and the images of blocks that are near them, sorted by block and translation.

    Attributes
    ----------
    block, translation, other
        ``(n,)``: a block, and the block that is near it after a translation, counted in ``_TRANSLATIONS``.
    lanes
        ``(n, 8)``, uint8: for each particle of the other block, with which particles of the block it interacts.
    """

    block: Int[np.ndarray, " pairs"]
    translation: Int[np.ndarray, " pairs"]
    other: Int[np.ndarray, " pairs"]
    lanes: UInt8[np.ndarray, "pairs 8"]


def _blocks(fractional: Float[np.ndarray, "particles 3"], box: Float[np.ndarray, "3 3"]) -> Int[np.ndarray, "blocks 8"]:
    """Group particles that are close: columns along z, cut into blocks as long as the columns are wide.

    Columns are passed upwards and downwards in turn, so that a block that begins in one column and ends in the next is
    compact too. Only the last block is incomplete.
    """
    n = len(fractional)
    nx, ny = (max(1, round(edge / _side(n, box))) for edge in np.diag(box)[:2])
    x = np.minimum((fractional[:, 0] * nx).astype(int), nx - 1)
    y = np.minimum((fractional[:, 1] * ny).astype(int), ny - 1)
    column = x * ny + np.where(x % 2, ny - 1 - y, y)
    blocks = np.full(-(-n // BLOCK) * BLOCK, n)
    blocks[:n] = np.lexsort((np.where(column % 2, -1, 1) * fractional[:, 2], column))
    return blocks.reshape(-1, BLOCK)


def _side(n_particles: int, box: Float[np.ndarray, "3 3"]) -> float:
    """Edge of a cube that holds as many particles as a block, on average."""
    return float((BLOCK * np.prod(np.diag(box)) / n_particles) ** (1 / 3))


def _block_pairs(
    wrapped: Float[np.ndarray, "particles 3"],
    box: Float[np.ndarray, "3 3"],
    blocks: Int[np.ndarray, "blocks 8"],
    reach: float,
) -> BlockPairs:
    """Every pair of blocks whose bounding boxes are within reach, with the lanes of particles that are."""
    filled = blocks < len(wrapped)
    members = wrapped[np.where(filled, blocks, blocks[:, :1])] - box.sum(axis=0) / 2
    low, high = members.min(axis=1), members.max(axis=1)
    shifts = _TRANSLATIONS @ box
    outside = (low.min(axis=0) - reach > high + shifts[:, None]) | (high.max(axis=0) + reach < low + shifts[:, None])
    translation, other = np.nonzero(~outside.any(axis=2))
    images = members[other] + shifts[translation, None]
    # distances are computed in single precision; the possible rounding error is added to the reach
    squared_reach = np.float32(reach**2 + 32 * np.finfo(np.float32).eps * (images**2).sum(axis=2).max())
    near_low, near_high = low[other] + shifts[translation], high[other] + shifts[translation]
    block, image = _near_boxes(low, high, near_low, near_high, squared_reach, _side(len(wrapped), box))
    # |x - y|^2 as one product of matrices per block: (x, |x|^2, 1) . (-2y, 1, |y|^2)
    theirs = np.empty((len(images), BLOCK, 5), dtype=np.float32)
    theirs[:, :, :3], theirs[:, :, 4] = images, 1
    theirs[:, :, 3] = np.where(filled[other], (images**2).sum(axis=2), _FAR)
    mine = np.empty((len(blocks), 5, BLOCK), dtype=np.float32)
    mine[:, :3], mine[:, 3] = -2 * members.swapaxes(1, 2), 1
    mine[:, 4] = np.where(filled, (members**2).sum(axis=2), _FAR)
    lanes = np.empty((len(image), BLOCK), dtype=np.uint8)
    ends = np.cumsum(np.bincount(block, minlength=len(blocks))).tolist()
    for one, start, end in zip(mine, [0, *ends], ends, strict=False):
        near = theirs.take(image[start:end], axis=0).reshape(-1, 5) @ one < squared_reach
        lanes[start:end] = np.packbits(near, bitorder="little").reshape(-1, BLOCK)
    return BlockPairs(block, translation[image], other[image], lanes)


def _near_boxes(
    low: Float[np.ndarray, "blocks 3"],
    high: Float[np.ndarray, "blocks 3"],
    image_low: Float[np.ndarray, "images 3"],
    image_high: Float[np.ndarray, "images 3"],
    squared_reach: np.floating,
    side: float,
) -> tuple[Int[np.ndarray, " pairs"], Int[np.ndarray, " pairs"]]:
    """Pairs of a bounding box and an image of such a box that are within reach, as sorted indices.

    Images are sorted by the cell that their center is in; cells are flat, so that a box meets a run of images in each
    column of cells around it.
    """
    width = side * np.array([1.0, 1.0, 0.5])
    center, half = (image_low + image_high) / 2, (image_high - image_low).max(axis=0) / 2
    origin = center.min(axis=0)
    cell = ((center - origin) / width).astype(int)
    shape = cell.max(axis=0) + 1
    flat = np.ravel_multi_index(tuple(cell.T), tuple(shape))
    order = np.argsort(flat, kind="stable")
    starts = np.searchsorted(flat[order], np.arange(np.prod(shape) + 1))
    sides = [a.T.astype(np.float32) for a in (low, high, image_low[order], image_high[order])]
    # the center of an image is within reach and half an image of a box, in units of cells
    bottom, top, extra = (low - half - origin) / width, (high + half - origin) / width, np.sqrt(squared_reach) / width
    first = np.maximum(bottom - extra, 0).astype(int)
    last = np.minimum(top + extra, shape - 1).astype(int)
    columns = np.max(last - first, axis=0) + 1
    boxes, images = [], []
    # a few boxes at a time: what is computed for each candidate stays in the processor's cache
    for start in range(0, len(low), _AT_ONCE):
        some = slice(start, start + _AT_ONCE)
        x, y = (first[some, k, None] + np.arange(columns[k]) for k in range(2))
        gap_x, gap_y = (
            np.maximum(np.maximum(at - top[some, k, None], bottom[some, k, None] - at - 1), 0) * width[k]
            for k, at in enumerate((x, y))
        )
        room = squared_reach - gap_x[:, :, None] ** 2 - gap_y[:, None, :] ** 2
        room[(x >= shape[0])[:, :, None] | (y >= shape[1])[:, None, :]] = -1
        box, i, j = np.nonzero(room >= 0)
        room = np.sqrt(room[box, i, j]) / width[2]
        column = (x[box, i] * shape[1] + y[box, j]) * shape[2]
        begin, end = (
            starts[column + np.clip(z, 0, shape[2]).astype(int)]
            for z in (bottom[some, 2][box] - room, top[some, 2][box] + room + 1)
        )
        count = end - begin
        image = np.arange(count.sum()) + np.repeat(begin - (np.cumsum(count) - count), count)
        per_box = np.bincount(box, weights=count, minlength=len(x)).astype(int)
        squared = np.zeros(len(image), dtype=np.float32)
        for box_low, box_high, images_low, images_high in zip(*sides, strict=True):
            above = images_low.take(image) - np.repeat(box_high[some], per_box)
            below = np.repeat(box_low[some], per_box) - images_high.take(image)
            squared += np.maximum(np.maximum(above, below), 0) ** 2
        near = np.flatnonzero(squared < squared_reach)
        found = np.repeat(np.arange(start, start + len(x)), per_box)[near]
        boxes.append(found)
        images.append(np.sort(found * len(order) + order[image[near]]) - found * len(order))
    return np.concatenate(boxes), np.concatenate(images)


def _leave_out(
    pairs: BlockPairs,
    blocks: Int[np.ndarray, "blocks 8"],
    fractional: Float[np.ndarray, "particles 3"],
    not_interacting: Int[np.ndarray, "left_out 2"],
) -> None:
    """Switch off the lanes of pairs that do not interact, and of each particle with itself."""
    n = len(fractional)
    place = np.empty(n, dtype=np.int64)
    place[blocks[blocks < n]] = np.flatnonzero(blocks.ravel() < n)
    itself = np.arange(n)
    first = np.concatenate([not_interacting[:, 0], not_interacting[:, 1], itself])
    second = np.concatenate([not_interacting[:, 1], not_interacting[:, 0], itself])
    # pairs that are left out are close, so they are in the list through the nearest image or not at all
    translation = (np.rint(fractional[first] - fractional[second]).astype(np.int64) + 1) @ [9, 3, 1]
    present = (pairs.block * len(_TRANSLATIONS) + pairs.translation) * len(blocks) + pairs.other
    key = (place[first] // BLOCK * len(_TRANSLATIONS) + translation) * len(blocks) + place[second] // BLOCK
    at = np.searchsorted(present, key)
    hit = present[np.minimum(at, len(present) - 1)] == key
    lane = (1 << place[first[hit]] % BLOCK).astype(np.uint8)
    np.bitwise_and.at(pairs.lanes, (at[hit], place[second[hit]] % BLOCK), ~lane)


def _rows(
    pairs: BlockPairs, blocks: Int[np.ndarray, "blocks 8"], n_particles: int, n_rows: int | None
) -> tuple[
    Int[np.ndarray, " rows"], Int[np.ndarray, "rows 3"], Int[np.ndarray, "rows 64"], UInt8[np.ndarray, "rows 64"]
]:
    """Neighbours of one block through one translation side by side in rows.

    Returns block, translation, neighbours and lanes of each row.
    """
    listed = np.flatnonzero(pairs.lanes != 0)
    group = pairs.block * len(_TRANSLATIONS) + pairs.translation
    starts = np.flatnonzero(np.diff(group, prepend=-1))
    size = np.diff(np.searchsorted(listed, np.append(starts, len(group)) * BLOCK))
    rows_of = -(-size // ROW)
    used = int(rows_of.sum())
    if n_rows is None or n_rows < used:
        n_rows = -(-int(used * _HEADROOM) // CHUNK) * CHUNK
    n_rows = max(n_rows, CHUNK)
    # every row is full but the last of its group
    length = np.full(used, ROW)
    filled = size > 0
    length[np.cumsum(rows_of)[filled] - 1] -= (rows_of * ROW - size)[filled]
    places = np.flatnonzero(np.arange(ROW) < length[:, None])
    neighbors = np.full((n_rows, ROW), n_particles, dtype=np.int32)
    bits = np.zeros((n_rows, ROW), dtype=np.uint8)
    neighbors.ravel()[places] = blocks.astype(np.int32).take(pairs.other, axis=0).ravel().take(listed)
    bits.ravel()[places] = pairs.lanes.ravel().take(listed)
    block = np.full(n_rows, len(blocks), dtype=np.int32)
    image = np.zeros((n_rows, 3), dtype=np.int8)
    block[:used] = np.repeat(pairs.block[starts], rows_of)
    image[:used] = np.repeat(_TRANSLATIONS[pairs.translation[starts]], rows_of, axis=0)
    return block, image, neighbors, bits
