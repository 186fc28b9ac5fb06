"""Terms as they stand between OpenMM's forces and a system: arrays of particles and of numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from openff_diffsystem.exceptions import UnsupportedForceError


@dataclass
class ForceTerms:
    """The terms of one section as they are read: particles, values per column, and integers by name.

    Attributes
    ----------
    columns
        Names of the values of a term.
    particles
        ``(n_terms, n_particles_per_term)``, indices of the OpenMM System.
    values
        ``(n_terms, n_columns)``.
    static
        Integers by name, ``(n_terms,)`` each.
    unit
        Of every column and setting, where they are not known by their names.
    shared
        ``(n_terms,)``, where terms use one of several tables of parameters: the number of the table. Its values are
        rows of one attribute, ``energy``, in theta.
    """

    columns: tuple[str, ...]
    particles: np.ndarray
    values: np.ndarray
    static: dict[str, np.ndarray]
    unit: str | None = None
    shared: np.ndarray | None = None


@dataclass
class Table:
    """The terms of one force as they are written.

    Attributes
    ----------
    particles
        ``(n_terms, n_particles_per_term)``, indices of the OpenMM System.
    values
        What OpenMM takes besides, in its order, ``(n_terms,)`` each.
    """

    particles: np.ndarray
    values: tuple[np.ndarray, ...]

    def rows(self) -> Iterator[tuple]:
        """The arguments of one term after the other, as Python numbers."""
        return zip(*self.particles.T.tolist(), *(column.tolist() for column in self.values), strict=True)

    def reordered(self, order: np.ndarray) -> Table:
        """The terms in another order."""
        return Table(self.particles[order], tuple(column[order] for column in self.values))


def number(value: Any) -> float:
    """A value, in MD units, that OpenMM returned."""
    return float(getattr(value, "_value", value))


def require_particles(force: Any, n_particles: int) -> None:
    """Raise an :class:`UnsupportedForceError` unless a force has as many particles as the System."""
    if force.getNumParticles() != n_particles:
        raise UnsupportedForceError(
            f"{described(force)} has {force.getNumParticles()} particles, the System has {n_particles}"
        )


def described(force: Any) -> str:
    """Class of a force, and its name where it has one of its own."""
    kind = type(force).__name__
    return kind if force.getName() == kind else f"{kind} {force.getName()!r}"
