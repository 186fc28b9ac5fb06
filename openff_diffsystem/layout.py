"""The static description of a flat vector of force-field parameters: which number stands where.

Every number of an OFFXML file that has a value becomes one component of the vector. Components are
grouped into columns: all values of one attribute of one section (``k`` of ``Bonds``, ``k2`` of
``ProperTorsions``), one row per SMIRKS parameter that defines the attribute, or a single number for an
attribute of the section itself (``scale14`` of ``vdW``).

No jax here: handlers and chemistry read layouts, and importing the plugin must stay cheap.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from openff_diffsystem.exceptions import NonFiniteParameterError, ParameterMismatchError, UnsupportedInputError
from openff_diffsystem.units import from_md, md_unit, to_md


class NumericAttribute(NamedTuple):
    """Where one number lives on a ``ParameterType`` or handler: ``getattr(owner, name)[term][key]``."""

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

    def get(self, owner: Any) -> Any:
        """The value as the toolkit stores it: a ``Quantity`` or a float."""
        value = getattr(owner, self.name)
        if self.term is not None:
            value = value[self.term]
        return value if self.key is None else value[self.key]

    def set(self, owner: Any, value: Any) -> None:
        """Replace the value through the toolkit's own validation."""
        if self.term is None and self.key is None:
            setattr(owner, self.name, value)
        elif self.key is None:
            getattr(owner, self.name)[self.term] = value
        elif self.term is None:
            getattr(owner, self.name)[self.key] = value
        else:
            getattr(owner, self.name)[self.term][self.key] = value


def numeric_attributes(owner: Any) -> Iterator[tuple[NumericAttribute, Any]]:
    """Every differentiable number of a ``ParameterType`` or handler, with its value.

    A number is differentiable if it is a ``Quantity`` or a float. Integers (periodicities, numbers of
    conformers) and the attribute that ``vdW`` derives from the one that was written are not.
    """
    derived = getattr(owner, "_extra_nb_var", None)
    for name, value in _defined_attributes(owner):
        if name == derived:
            continue
        if isinstance(value, list):
            for index, item in enumerate(value):
                if isinstance(item, dict):
                    yield from ((NumericAttribute(name, index, key), item[key]) for key in item)
                elif _is_number(item):
                    yield NumericAttribute(name, index), item
        elif isinstance(value, dict):
            yield from ((NumericAttribute(name, None, key), value[key]) for key in value)
        elif _is_number(value):
            yield NumericAttribute(name), value


def _defined_attributes(owner: Any) -> Iterator[tuple[str, Any]]:
    state = owner.__dict__
    for name, default, is_float in _declared(type(owner)):
        value = state.get("_" + name, default)
        if value is not None:
            # the toolkit leaves a default as it is: solute_dielectric can be the integer 1
            yield name, float(value) if is_float and type(value) is int else value


_DECLARED: dict[type, tuple[tuple[str, Any, bool], ...]] = {}


def _declared(cls: type) -> tuple[tuple[str, Any, bool], ...]:
    """Names, defaults and whether they are floats of the attributes a class declares, less those never numbers."""
    if cls not in _DECLARED:
        never = {"smirks", "id", "parent_id", "version", "potential", "name", "type", "match"}
        _DECLARED[cls] = tuple(
            (name, default, attribute._converter is float)
            for name, attribute in cls._get_parameter_attributes().items()  # type: ignore[attr-defined]
            if name not in never
            for default in [None if attribute.default is attribute.UNDEFINED else attribute.default]
        )
    return _DECLARED[cls]


def _is_number(value: Any) -> bool:
    return isinstance(value, float) or hasattr(value, "_magnitude")


@dataclass(frozen=True)
class Column:
    """All values of one attribute of one section.

    Attributes
    ----------
    attribute
        Where the number lives on its owner.
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

    Where parameters belong to no SMIRKS, those of a system that OpenMM made, ids name the atoms.
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
    """Which number of which force field stands where in a flat vector.

    Hashable and comparable by content, so that it can be static data of a pytree.
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

        The SMIRKS stands in where a parameter has no id, and ``#ROW`` follows an id or SMIRKS that
        several parameters of the section share.
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

    def positions(self, section: str, attribute: str) -> np.ndarray:
        """Position of an attribute in the flat vector per SMIRKS parameter, ``(n_parameters,)``, -1 where undefined."""
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


def handlers_of(force_field: Any) -> list[Any]:
    """The parameter handlers of a ``ForceField``, swapped or stock, in the order in which they were registered.

    Raises
    ------
    UnsupportedInputError
        If it is no ``ForceField``.
    """
    if not hasattr(force_field, "registered_parameter_handlers"):
        raise UnsupportedInputError(f"expected a ForceField, got {type(force_field).__name__}")
    return [force_field.get_parameter_handler(tag) for tag in force_field.registered_parameter_handlers]


def read_handlers(handlers: Iterable[Any]) -> tuple[ParameterLayout, np.ndarray]:
    """Layout and values, ``(n_values,)`` in MD units, of SMIRNOFF parameter handlers.

    Raises
    ------
    NonFiniteParameterError
        If a value is NaN or infinite.
    UnsupportedForceFieldError
        If values of one attribute have different dimensions or a unit that MD units do not cover.
    """
    sections: list[SectionLayout] = []
    values: list[float] = []
    for handler in handlers:
        found: dict[NumericAttribute, tuple[list[int] | None, list[Any]]] = {
            attribute: (None, [value]) for attribute, value in numeric_attributes(handler)
        }
        parameters = handler.parameters
        for row, parameter in enumerate(parameters):
            for attribute, value in numeric_attributes(parameter):
                rows, quantities = found.setdefault(attribute, ([], []))
                if rows is None:
                    raise ParameterMismatchError(f"{handler.TAGNAME} and its parameters both define {attribute.label}")
                rows.append(row)
                quantities.append(value)
        columns = {}
        for attribute, (rows, quantities) in found.items():
            unit = md_unit(quantities[0]) if hasattr(quantities[0], "_units") else "dimensionless"
            columns[attribute.label] = Column(attribute, unit, None if rows is None else tuple(rows), len(values))
            values.extend(map(to_md, quantities))
        sections.append(
            SectionLayout(
                tag=handler.TAGNAME,
                smirks=tuple(parameter.smirks for parameter in parameters),
                ids=tuple(parameter.id for parameter in parameters),
                columns=columns,
            )
        )
    layout = ParameterLayout(sections)
    array = np.array(values, dtype=np.float64)
    check_finite(layout, array)
    return layout, array


def write_handlers(handlers: Iterable[Any], values: Any) -> None:
    """Set the numbers of SMIRNOFF parameter handlers in place, all of them or, on an error, none.

    A value equal to the present one, in the precision of ``values``, stays as it is, with its unit and text;
    a changed one is written in the unit it had.

    Parameters
    ----------
    values
        ``(n_values,)``, MD units, in the order of :func:`read_handlers`.

    Raises
    ------
    ParameterMismatchError
        If the shape is wrong.
    NonFiniteParameterError
        If a value is NaN or infinite.
    """
    handlers = list(handlers)
    layout, present = read_handlers(handlers)
    values = np.asarray(values)
    if values.shape != (layout.size,):
        raise ParameterMismatchError(f"the vector must have shape ({layout.size},), got {values.shape}")
    check_finite(layout, values)
    changed = set(np.flatnonzero(present.astype(values.dtype) != values).tolist())
    written: list[tuple[NumericAttribute, Any, Any]] = []
    try:
        for handler in handlers:
            for column in layout.sections[handler.TAGNAME].columns.values():
                owners = [handler] if column.rows is None else [handler.parameters[row] for row in column.rows]
                for position, owner in enumerate(owners, start=column.start):
                    if position in changed:
                        like = column.attribute.get(owner)
                        written.append((column.attribute, owner, like))
                        column.attribute.set(owner, from_md(values[position].item(), like))
    except Exception:
        for attribute, owner, value in reversed(written):
            attribute.set(owner, value)
        raise


def check_finite(layout: ParameterLayout, values: np.ndarray) -> None:
    """Raise a :class:`NonFiniteParameterError` that names the components that are NaN or infinite."""
    bad = np.flatnonzero(~np.isfinite(values))
    if bad.size:
        named = ", ".join(f"{layout.labels[i]} = {values[i]}" for i in bad[:5])
        more = f" and {bad.size - 5} more" if bad.size > 5 else ""
        raise NonFiniteParameterError(f"force-field parameters must be finite: {named}{more}")
