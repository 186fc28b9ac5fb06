"""The static description of a flat vector of force-field parameters: what each number is.

Every number of an OFFXML file that has a value becomes one component of the vector. Components are
grouped into columns: all values of one attribute of one section (``k`` of ``Bonds``, ``k2`` of
``ProperTorsions``), one row per SMIRKS parameter that defines the attribute, or a single number for an
attribute of the section itself (``scale14`` of ``vdW``).

jax is not imported here: handlers read layouts, and importing the plugin must stay cheap.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from openff.units import Quantity

from openff_diffsystem.exceptions import NonFiniteParameterError, ParameterMismatchError


class NumericAttribute(NamedTuple):
    """Where a ``ParameterType`` or handler stores one number: ``getattr(owner, name)[term][key]``."""

    name: str
    term: int | None = None
    key: int | None = None

    @property
    def label(self) -> str:
        """The name that OFFXML gives the attribute, for example ``k2`` or ``k1_bondorder2``."""
        if self.term is None:
            return self.name if self.key is None else f"{self.name}{self.key}"
        if self.key is None:
            return f"{self.name}{self.term + 1}"
        stem, mapping = self.name.split("_", 1)
        return f"{stem}{self.term + 1}_{mapping}{self.key}"

    def get(self, owner: object) -> Quantity | float:
        """The value as the toolkit stores it: a ``Quantity`` or a float."""
        value = getattr(owner, self.name)
        if self.term is not None:
            value = value[self.term]
        return value if self.key is None else value[self.key]

    def set(self, owner: object, value: Quantity | float) -> None:
        """Replace the value through the toolkit's own validation."""
        if self.term is None and self.key is None:
            setattr(owner, self.name, value)
        elif self.key is None:
            getattr(owner, self.name)[self.term] = value
        elif self.term is None:
            getattr(owner, self.name)[self.key] = value
        else:
            getattr(owner, self.name)[self.term][self.key] = value


@dataclass(frozen=True)
class Column:
    """All values of one attribute of one section.

    Attributes
    ----------
    attribute
        Where the parameter or handler stores the number.
    unit
        MD unit of every value.
    rows
        The SMIRKS parameters that define the attribute, as positions in the section; ``None`` if it is
        an attribute of the section itself.
    start
        Position of the first value in the flat vector.
    """

    attribute: NumericAttribute
    unit: str
    rows: tuple[int, ...] | None
    start: int

    @property
    def name(self) -> str:
        return self.attribute.label

    @property
    def size(self) -> int:
        return 1 if self.rows is None else len(self.rows)

    @property
    def slice(self) -> slice:
        return slice(self.start, self.start + self.size)


@dataclass(frozen=True)
class SectionLayout:
    """One section: its SMIRKS parameters and its columns, by attribute name.

    In a system read from OpenMM, parameters have no SMIRKS, and their ids name the atoms.
    """

    tag: str
    smirks: tuple[str | None, ...]
    ids: tuple[str | None, ...]
    columns: dict[str, Column]

    @property
    def slice(self) -> slice:
        """The part of the flat vector that holds this section."""
        spans = [column.slice for column in self.columns.values()]
        return slice(spans[0].start, spans[-1].stop) if spans else slice(0, 0)


class ParameterLayout:
    """What each number of a flat vector of force-field parameters is.

    Hashed and compared by content, so that it can be static data of a pytree.
    """

    def __init__(self, sections: Iterable[SectionLayout]) -> None:
        self.sections = {section.tag: section for section in sections}
        self.size = sum(c.size for section in self.sections.values() for c in section.columns.values())

    @cached_property
    def _digest(self) -> bytes:
        content = [
            (s.tag, s.smirks, s.ids, [(c.attribute, c.unit, c.rows) for c in s.columns.values()])
            for s in self.sections.values()
        ]
        return hashlib.sha256(repr(content).encode()).digest()

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, ParameterLayout) and self._digest == other._digest)

    def __hash__(self) -> int:
        return hash(self._digest)

    def __repr__(self) -> str:
        return f"ParameterLayout({self.size} values in {', '.join(self.sections) or 'no section'})"

    @cached_property
    def components(self) -> tuple[Component, ...]:
        """What each component of the flat vector is, in order."""
        found = []
        for section in self.sections.values():
            for column in section.columns.values():
                for row in (None,) if column.rows is None else column.rows:
                    found.append(
                        Component(
                            section=section.tag,
                            id=None if row is None else section.ids[row],
                            smirks=None if row is None else section.smirks[row],
                            attribute=column.name,
                            unit=column.unit,
                            row=row,
                        )
                    )
        return tuple(found)

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """One name per component, ``SECTION/ID/ATTRIBUTE``, unique.

        A parameter without an id is named by its SMIRKS. ``#ROW`` follows an id or SMIRKS that several parameters
        of the section share.
        """
        shared = {}
        for section in self.sections.values():
            names = Counter(i or s for i, s in zip(section.ids, section.smirks, strict=True))
            shared[section.tag] = {name for name, count in names.items() if count > 1}
        labels = []
        for c in self.components:
            name = (c.id or c.smirks) if c.row is not None else ""
            if name in shared[c.section]:
                name = f"{name}#{c.row}"
            labels.append(f"{c.section}/{name}/{c.attribute}")
        return tuple(labels)

    def column(self, section: str, attribute: str) -> Column:
        """The column of an attribute.

        Raises
        ------
        ParameterMismatchError
            If the force field has no such section, or no parameter of it has the attribute.
        """
        if section not in self.sections:
            raise ParameterMismatchError(f"no section {section!r}; there are {', '.join(self.sections)}")
        columns = self.sections[section].columns
        if attribute not in columns:
            raise ParameterMismatchError(
                f"no attribute {attribute!r} in section {section}; there are {', '.join(columns) or 'none'}"
            )
        return columns[attribute]

    def positions(self, section: str, attribute: str) -> Int[np.ndarray, " parameters"]:
        """Positions of an attribute of all SMIRKS parameters in the flat vector, ``(n_parameters,)``; -1: undefined."""
        found = np.full(len(self.sections[section].smirks), -1, dtype=np.int64)
        column = self.sections[section].columns.get(attribute)
        if column is not None and column.rows is not None:
            found[list(column.rows)] = np.arange(column.start, column.start + column.size)
        return found

    def section_position(self, section: str, attribute: str) -> int:
        """Position of a section's own number in the flat vector."""
        return self.column(section, attribute).start


class Component(NamedTuple):
    """One component of the flat vector. ``row`` is ``None`` for a number of the section itself."""

    section: str
    id: str | None
    smirks: str | None
    attribute: str
    unit: str
    row: int | None


def check_finite(layout: ParameterLayout, values: Float[np.ndarray, " values"]) -> None:
    """Raise a :class:`NonFiniteParameterError` that names the components that are NaN or infinite."""
    bad = np.flatnonzero(~np.isfinite(values))
    if bad.size:
        named = ", ".join(f"{layout.labels[i]} = {values[i]}" for i in bad[:5])
        more = f" and {bad.size - 5} more" if bad.size > 5 else ""
        raise NonFiniteParameterError(f"force-field parameters must be finite: {named}{more}")
