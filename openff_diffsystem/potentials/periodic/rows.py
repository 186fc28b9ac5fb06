"""The rows of a neighbour list as passes over all pairs read them: chunk by chunk, sums per block at the end."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Shaped, UInt8

from openff_diffsystem.potentials.periodic.neighbors import BLOCK, CHUNK, NeighborList

_BITS = np.uint8(1) << np.arange(BLOCK, dtype=np.uint8)


class Rows(NamedTuple):
    """The arrays of a :class:`NeighborList` that say which particles are neighbours."""

    blocks: Int[Array, "blocks 8"]
    row_block: Int[Array, " rows"]
    row_image: Int[Array, "rows 3"]
    neighbors: Int[Array, "rows 64"]
    lanes: UInt8[Array, "rows 64"]

    @classmethod
    def of(cls, neighbors: NeighborList) -> Rows:
        """The rows of a list."""
        return cls(*(getattr(neighbors, name) for name in cls._fields))

    def chunks(self) -> tuple[Shaped[Array, "chunks 256 ..."], ...]:
        """Block, translation, neighbours and lanes of the rows, ``(n_chunks, CHUNK, ...)``, to scan over."""
        return tuple(array.reshape(-1, CHUNK, *array.shape[1:]) for array in self[1:])

    def per_particle(
        self, sums: Float[Array, "blocks 8 columns"], n_particles: int
    ) -> Float[Array, "{n_particles} columns"]:
        """Sums of the particles of blocks, ``(n_blocks, 8, n_columns)``, by particle, ``(n_particles, n_columns)``."""
        places = jnp.arange(self.blocks.size, dtype=jnp.int32)
        place = jnp.zeros(n_particles + 1, jnp.int32).at[self.blocks.ravel()].set(places)[:n_particles]
        return sums.reshape(-1, sums.shape[-1])[place]


def interacting(lanes: UInt8[Array, "*pairs"]) -> Bool[Array, "*pairs 8"]:
    """The particles of the block with which a neighbour interacts, ``(..., 8)``, from its lanes, ``(...)``, uint8."""
    return (lanes[..., None] & _BITS) != 0
