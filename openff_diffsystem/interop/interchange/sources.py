"""Theta of an Interchange: the numbers of its potentials that become parameters."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from openff.toolkit import ForceField, Quantity

from openff_diffsystem.exceptions import ParameterMismatchError
from openff_diffsystem.parameters.layout import Column, NumericAttribute, ParameterLayout, SectionLayout
from openff_diffsystem.units import md_unit, to_md


class Sources:
    """Finds the position of a number of a potential in the flat vector, and records the number.

    Positions are those in the layout of a force field, where both are given. Otherwise the layout consists of the
    numbers that were asked for, in order.
    """

    def __init__(self, given: tuple[ForceField, ParameterLayout] | None = None) -> None:
        self._given = given
        self._rows: dict[str, list[str]] = {}
        self._found: dict[tuple[str, str], dict[int | None, tuple[int, Quantity | float]]] = {}
        self._count = 0

    def position(self, section: str, name: str | None, attribute: str, value: Quantity | float) -> int:
        """Position of ``attribute`` of the parameter with SMIRKS ``name``; where that is ``None``, of the section."""
        if self._given is not None:
            return _in_force_field(*self._given, section, name, attribute)
        row = None
        if name is not None:
            names = self._rows.setdefault(section, [])
            if name not in names:
                names.append(name)
            row = names.index(name)
        column = self._found.setdefault((section, attribute), {})
        if row not in column:
            column[row] = (self._count, value)
            self._count += 1
        return column[row][0]

    def finish(self, sections: list[str]) -> tuple[ParameterLayout, Float[np.ndarray, " parameters"], dict[int, int]]:
        """Layout and values of everything asked for, and the final position of each preliminary one."""
        described: list[SectionLayout] = []
        values: list[float] = []
        final: dict[int, int] = {}
        for section in sections:
            columns = {}
            for (tag, attribute), rows in self._found.items():
                if tag != section:
                    continue
                ordered = sorted(rows, key=lambda row: -1 if row is None else row)
                example = rows[ordered[0]][1]
                unit = md_unit(example) if hasattr(example, "_units") else "dimensionless"
                described_rows = None if ordered == [None] else tuple(row for row in ordered if row is not None)
                columns[attribute] = Column(NumericAttribute(attribute), unit, described_rows, len(values))
                for row in ordered:
                    final[rows[row][0]] = len(values)
                    values.append(to_md(rows[row][1]))
            names = tuple(self._rows.get(section, ()))
            described.append(SectionLayout(section, names, (None,) * len(names), columns))
        return ParameterLayout(described), np.array(values), final


def _in_force_field(
    force_field: ForceField, layout: ParameterLayout, section: str, name: str | None, attribute: str
) -> int:
    if name is None:
        return layout.section_position(section, attribute)
    if section not in layout.sections:
        raise ParameterMismatchError(f"the force field has no section {section}")
    parameters = force_field.get_parameter_handler(section).parameters
    keys = [f"{p.smirks} {p.name} {p.match}" if section == "VirtualSites" else p.smirks for p in parameters]
    if name not in keys:
        raise ParameterMismatchError(f"the force field has no {section} parameter {name!r}")
    # of several parameters with the same SMIRKS the last one applies
    row = len(keys) - 1 - keys[::-1].index(name)
    return int(layout.positions(section, attribute)[row])
