"""Terms as they stand between OpenMM's forces and a system: arrays of particles and of numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from openff_diffsystem.exceptions import ParameterMismatchError
from openff_diffsystem.interop.openmm.forces.lookup import number
from openff_diffsystem.sections import SECTIONS


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
    static: dict[str, np.ndarray] = field(default_factory=dict)
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

    def add_to(self, holder: Any, term: str) -> None:
        """Add each row to a force as a ``Bond``, ``Torsion``, ..., or to a System as a ``Constraint``."""
        for row in self.rows():
            getattr(holder, f"add{term}")(*row)

    def set_in(self, force: Any, term: str) -> None:
        """Give the terms of a force these values."""
        for i, row in enumerate(self.rows()):
            getattr(force, f"set{term}Parameters")(i, *row)


def terms_of(section: str, rows: Sequence[Any], names: Sequence[str] | None = None) -> ForceTerms:
    """Terms of a section from what OpenMM's getters return: particles, then values.

    Parameters
    ----------
    names
        Of the values, in OpenMM's order: by default that of the section. A column that is not among them is 1.
    """
    record = SECTIONS[section]
    names, width = names or record.columns, record.n_atoms
    numbers = np.array([[number(value) for value in row[width:]] for row in rows]).reshape(-1, len(names))
    named = dict(zip(names, numbers.T, strict=True))
    return ForceTerms(
        record.columns,
        np.array([row[:width] for row in rows], dtype=np.int64).reshape(-1, width),
        np.stack([named.get(name, np.ones(len(rows))) for name in record.columns], axis=1),
        {name: named[name].astype(np.int32) for name in record.static},
    )


def in_their_order(
    name: str, present: Sequence[Any], ours: Table, *, directed: bool = False, periodicity: bool = False
) -> Table:
    """Our terms in the order of a force, and with its order of the particles of each.

    Parameters
    ----------
    name
        Of the force, for the message.
    present
        What the getter of the force returns for each of its terms.
    directed
        Whether a term is another one with its particles the other way round.
    periodicity
        Whether the first value is one, which tells apart torsions of the same atoms.

    Raises
    ------
    ParameterMismatchError
        If the terms are others.
    """
    width = ours.particles.shape[1]
    columns = width + periodicity
    theirs = np.array([row[:columns] for row in present], dtype=np.int64).reshape(-1, columns)
    keys = []
    for terms in (theirs, np.column_stack([ours.particles, *ours.values[:periodicity]])):
        particles = terms[:, :width]
        backwards = (particles[:, :1] > particles[:, -1:]) & (not directed)
        keys.append(np.column_stack([np.where(backwards, particles[:, ::-1], particles), terms[:, width:]]))
    by_theirs, by_ours = (np.lexsort(key.T[::-1]) for key in keys)
    if not np.array_equal(keys[0][by_theirs], keys[1][by_ours]):
        raise ParameterMismatchError(
            f"the terms of the {name} are not those of this system: it has {len(theirs)}, this system "
            f"{len(ours.particles)}; make the OpenMM System with system.to_openmm and the same add_constrained_forces"
        )
    order = np.empty(len(theirs), dtype=np.int64)
    order[by_theirs] = by_ours
    return Table(theirs[:, :width], tuple(column[order] for column in ours.values))


def distinct_rows(table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where each different row appears first, ``(n_different,)``, and which of them each row is, ``(n_rows,)``."""
    _, first, inverse = np.unique(table, axis=0, return_index=True, return_inverse=True)
    by_appearance = np.argsort(first)
    number_of = np.empty(len(first), dtype=np.int64)
    number_of[by_appearance] = np.arange(len(first))
    return first[by_appearance], number_of[inverse.reshape(-1)]
