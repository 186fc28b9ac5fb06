"""How things are timed: wall time, the best and the median of several calls, each finished before the clock stops."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np


class Timing(NamedTuple):
    """Seconds per call."""

    best: float
    median: float


def measure(function: Callable[[], Any], repeats: int) -> Timing:
    """Time a call, after one that is not counted."""
    jax.block_until_ready(function())
    gc.collect()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(function())
        times.append(time.perf_counter() - start)
    return Timing(min(times), float(np.median(times)))


def once(function: Callable[[], Any]) -> float:
    """Seconds of a single call, compilation included; garbage of what ran before is collected first."""
    gc.collect()
    start = time.perf_counter()
    jax.block_until_ready(function())
    return time.perf_counter() - start


def show(seconds: float) -> str:
    """Seconds in a readable unit."""
    for unit, factor in (("s", 1.0), ("ms", 1e3), ("us", 1e6)):
        if seconds * factor >= 1:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"


class Row(NamedTuple):
    """One line of the report: what, the figure, what it is compared with, the bar, and whether it is met."""

    what: str
    figure: str
    peer: str = ""
    bar: str = ""
    met: bool | None = None
