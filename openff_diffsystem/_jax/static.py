"""Arrays as static data of pytrees."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

STATIC = {"static": True}
"""Metadata of a field that jax compares and never traces, in a dataclass that is a pytree."""


class StaticArray:
    """A NumPy array that is hashed and compared by content, so that jit can treat it as static."""

    def __init__(self, array: ArrayLike) -> None:
        self.array = np.ascontiguousarray(array)

    @cached_property
    def _content(self) -> tuple:
        return self.array.shape, str(self.array.dtype), self.array.tobytes()

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, StaticArray) and self._content == other._content)

    def __hash__(self) -> int:
        return hash(self._content)

    def __len__(self) -> int:
        return len(self.array)

    def __repr__(self) -> str:
        return f"StaticArray(shape={self.array.shape})"
