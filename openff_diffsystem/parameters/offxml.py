"""Read the numbers of SMIRNOFF parameter handlers into a flat vector, and write them back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeGuard

import numpy as np
from jaxtyping import Float
from openff.toolkit import ForceField
from openff.toolkit.typing.engines.smirnoff.parameters import ParameterHandler
from openff.units import Quantity

from openff_diffsystem._jax.types import Leaf
from openff_diffsystem.exceptions import ParameterMismatchError, UnsupportedInputError
from openff_diffsystem.parameters.layout import Column, NumericAttribute, ParameterLayout, SectionLayout, check_finite
from openff_diffsystem.units import from_md, md_unit, to_md


def numeric_attributes(owner: object) -> Iterator[tuple[NumericAttribute, Quantity | float]]:
    """Every differentiable number of a ``ParameterType`` or handler, with its value.

    A number is differentiable if it is a ``Quantity`` or a float. Integers (periodicities, numbers of conformers)
    are not. Of ``sigma`` and ``rmin_half`` of ``vdW``, only the one that the file gives is listed.
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


def _defined_attributes(owner: object) -> Iterator[tuple[str, object]]:
    state = owner.__dict__
    for name, default, is_float in _declared(type(owner)):
        value = state.get("_" + name, default)
        if value is not None:
            # the toolkit leaves a default as it is: solute_dielectric can be the integer 1
            yield name, float(value) if is_float and type(value) is int else value


_DECLARED: dict[type, tuple[tuple[str, object, bool], ...]] = {}


def _declared(cls: type) -> tuple[tuple[str, object, bool], ...]:
    """Name, default, and whether it is a float, of each attribute that a class declares and that can be a number."""
    if cls not in _DECLARED:
        never = {"smirks", "id", "parent_id", "version", "potential", "name", "type", "match"}
        _DECLARED[cls] = tuple(
            (name, default, attribute._converter is float)
            for name, attribute in cls._get_parameter_attributes().items()  # type: ignore[attr-defined]
            if name not in never
            for default in [None if attribute.default is attribute.UNDEFINED else attribute.default]
        )
    return _DECLARED[cls]


def _is_number(value: object) -> TypeGuard[Quantity | float]:
    return isinstance(value, float) or hasattr(value, "_magnitude")


def handlers_of(force_field: object) -> list[ParameterHandler]:
    """The parameter handlers of a ``ForceField``, swapped or stock, in the order in which they were registered.

    Raises
    ------
    UnsupportedInputError
        If it is not a ``ForceField``.
    """
    if not isinstance(force_field, ForceField):
        raise UnsupportedInputError(f"expected a ForceField, got {type(force_field).__name__}")
    return [force_field.get_parameter_handler(tag) for tag in force_field.registered_parameter_handlers]


def read_handlers(handlers: Iterable[ParameterHandler]) -> tuple[ParameterLayout, Float[np.ndarray, " values"]]:
    """Layout and values, ``(n_values,)`` in MD units, of SMIRNOFF parameter handlers.

    Raises
    ------
    NonFiniteParameterError
        If a value is NaN or infinite.
    UnsupportedForceFieldError
        If values of one attribute have different dimensions, or a unit cannot be converted to MD units.
    """
    sections: list[SectionLayout] = []
    values: list[float] = []
    for handler in handlers:
        found: dict[NumericAttribute, tuple[list[int] | None, list[Quantity | float]]] = {
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


def write_handlers(handlers: Iterable[ParameterHandler], values: Leaf) -> None:
    """Set the numbers of SMIRNOFF parameter handlers in place, all of them or, on an error, none.

    A value that equals the present one, in the precision of ``values``, keeps its unit and its text; a changed
    value is written in the unit of the present one.

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
    vector = np.asarray(values)
    if vector.shape != (layout.size,):
        raise ParameterMismatchError(f"the vector must have shape ({layout.size},), got {vector.shape}")
    check_finite(layout, vector)
    changed = set(np.flatnonzero(present.astype(vector.dtype) != vector).tolist())
    written: list[tuple[NumericAttribute, object, Quantity | float]] = []
    try:
        for handler in handlers:
            for column in layout.sections[handler.TAGNAME].columns.values():
                owners = [handler] if column.rows is None else [handler.parameters[row] for row in column.rows]
                for position, owner in enumerate(owners, start=column.start):
                    if position in changed:
                        like = column.attribute.get(owner)
                        written.append((column.attribute, owner, like))
                        column.attribute.set(owner, from_md(vector[position].item(), like))
    except Exception:
        for attribute, owner, value in reversed(written):
            attribute.set(owner, value)
        raise
