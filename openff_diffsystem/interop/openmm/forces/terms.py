"""Terms on their way between OpenMM's forces and a system: arrays of particles and of numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int, Real

from openff_diffsystem.exceptions import ParameterMismatchError
from openff_diffsystem.interop.openmm.forces.lookup import Row, number
from openff_diffsystem.sections import SECTIONS

if TYPE_CHECKING:
    import openmm


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
        The unit of all columns and settings, where their names do not imply one.
    shared
        ``(n_terms,)``: the number of the table that a term uses, where terms share tables of parameters, as in
        correction maps. In theta the values of all tables are rows of one attribute, ``energy``.
    """

    columns: tuple[str, ...]
    particles: Int[np.ndarray, "terms particles"]
    values: Float[np.ndarray, "terms columns"]
    static: dict[str, Int[np.ndarray, " terms"]] = field(default_factory=dict)
    unit: str | None = None
    shared: Int[np.ndarray, " terms"] | None = None


@dataclass
class Table:
    """The terms of one force as they are written.

    Attributes
    ----------
    particles
        ``(n_terms, n_particles_per_term)``, indices of the OpenMM System.
    values
        The further arguments of OpenMM, in its order, ``(n_terms,)`` each.
    """

    particles: Int[np.ndarray, "terms particles"]
    values: tuple[Real[np.ndarray, " terms"], ...]

    def rows(self) -> Iterator[tuple[float, ...]]:
        """The arguments of each term, as Python numbers."""
        return zip(*self.particles.T.tolist(), *(column.tolist() for column in self.values), strict=True)

    def add_to(self, holder: openmm.Force | openmm.System, term: str) -> None:
        """Add each row to a force as a ``Bond``, ``Torsion``, ..., or to a System as a ``Constraint``."""
        add = getattr(holder, f"add{term}")
        for row in self.rows():
            add(*row)

    def set_in(self, force: openmm.Force, term: str) -> None:
        """Give the terms of a force these values."""
        change = getattr(force, f"set{term}Parameters")
        for i, row in enumerate(self.rows()):
            change(i, *row)


def terms_of(section: str, rows: Sequence[Row], names: Sequence[str] | None = None) -> ForceTerms:
    """Terms of a section from what OpenMM's getters return: particles, then values.

    Parameters
    ----------
    names
        Names of the values, in OpenMM's order; by default those of the section. A column without a value is 1.
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
    name: str, present: Sequence[Row], ours: Table, *, directed: bool = False, periodicity: bool = False
) -> Table:
    """Our terms in the order of a force, each with its particles in the order that the force has.

    Parameters
    ----------
    name
        Name of the force, for the message.
    present
        What the getter of the force returns for each of its terms.
    directed
        Whether a term with its particles in reverse order is another term.
    periodicity
        Whether the first value is the periodicity, which distinguishes torsions of the same atoms.

    Raises
    ------
    ParameterMismatchError
        If the force has other terms.
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


def distinct_rows(
    table: Real[np.ndarray, "rows columns"],
) -> tuple[Int[np.ndarray, " different"], Int[np.ndarray, " rows"]]:
    """Where each different row appears first, ``(n_different,)``, and which of these each row is, ``(n_rows,)``."""
    _, first, inverse = np.unique(table, axis=0, return_index=True, return_inverse=True)
    by_appearance = np.argsort(first)
    number_of = np.empty(len(first), dtype=np.int64)
    number_of[by_appearance] = np.arange(len(first))
    return first[by_appearance], number_of[inverse.reshape(-1)]
