"""The process in which jax runs: its threads do not survive a fork, and a child that needs them waits for ever."""

from __future__ import annotations

import os

from openff_diffsystem.exceptions import ForkedProcessError

_USED_IN: int | None = None
"""The process in which this package first used jax. A forked child process inherits the value."""


def note_use_of_jax() -> None:
    """Remember the process that puts numbers of a system on a device, unless one is remembered already."""
    global _USED_IN
    if _USED_IN is None:
        _USED_IN = os.getpid()


def require_own_process() -> None:
    """Check the process before anything is compiled or evaluated.

    Raises
    ------
    ForkedProcessError
        If this process was forked from one that had made or read a system.
    """
    note_use_of_jax()
    if os.getpid() != _USED_IN:
        raise ForkedProcessError(
            "this process was forked from one in which jax runs, and would hang: start it with 'spawn', as in "
            "DataLoader(..., multiprocessing_context='spawn') or multiprocessing.get_context('spawn'), or make and "
            "read systems only after the fork"
        )
