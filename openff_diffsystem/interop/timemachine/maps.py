"""From rows of ``params`` to parameters of terms: linear maps, kept per molecule, SMIRKS and shape of ``params``."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import numpy as np
from cachetools import LRUCache

from openff_diffsystem.affine import AffineMap
from openff_diffsystem.assignment import NO_SOURCE, AffineRows

_MAPS: LRUCache = LRUCache(maxsize=16384)


def gather(rows: np.ndarray, shape: tuple[int, ...], extra_columns: int = 0, weights: Any = None) -> AffineMap:
    """``params[rows]``, with columns of zeros appended and each column times its weight.

    Parameters
    ----------
    rows
        ``(n_terms,)``.
    shape
        Of ``params``: ``(n_rows,)`` or ``(n_rows, n_columns)``.
    """
    columns = 1 if len(shape) == 1 else shape[1]
    table = AffineRows.empty(len(rows), columns + extra_columns)
    table.source[:, :columns] = rows[:, None] * columns + np.arange(columns)
    table.source[:, columns:] = NO_SOURCE
    if weights is not None:
        table.weight[:, :columns] = weights
    result = (len(rows),) if len(shape) == 1 else (len(rows), columns + extra_columns)
    return AffineMap(table.flatten(), result, shape)


def cached(question: Hashable, build: Callable[[], Any]) -> Any:
    """What ``build`` gave when the question was first asked; errors are not kept."""
    known = _MAPS.get(question)
    if known is None:
        known = _MAPS[question] = build()
    return known


def apply(linear: AffineMap, params: Any) -> Any:
    """Apply a map to NumPy or jax arrays, traced or not; the result is of the same kind."""
    return linear.on_host(params) if isinstance(params, np.ndarray) else linear(params)


def as_array(params: Any) -> Any:
    """``params`` as they are, or as a NumPy array where they are a list."""
    return params if hasattr(params, "shape") else np.asarray(params, dtype=np.float64)
