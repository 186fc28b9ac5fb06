"""A table of force-field parameters, to be read by people."""

from __future__ import annotations

import html
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from openff_diffsystem.parameters.layout import ParameterLayout


class ParameterRow(NamedTuple):
    """One component of the flat vector, with its value in MD units."""

    label: str
    section: str
    id: str | None
    smirks: str | None
    attribute: str
    value: float
    unit: str


class ParameterTable:
    """Rows of parameters: a sequence that is printed as text, and shown as a table in notebooks.

    ``pandas.DataFrame(table)`` makes a data frame of it.
    """

    def __init__(self, rows: list[ParameterRow]) -> None:
        self.rows = rows

    @classmethod
    def from_vector(
        cls, layout: ParameterLayout, positions: Int[np.ndarray, " rows"], values: Float[np.ndarray, " rows"]
    ) -> ParameterTable:
        """The table of some components of a flat vector: their positions and values, ``(n,)`` each."""
        rows = []
        for position, value in zip(positions.tolist(), values, strict=True):
            c = layout.components[position]
            label = layout.labels[position]
            rows.append(ParameterRow(label, c.section, c.id, c.smirks, c.attribute, float(value), c.unit))
        return cls(rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[ParameterRow]:
        return iter(self.rows)

    def __getitem__(self, index: int) -> ParameterRow:
        return self.rows[index]

    def _cells(self) -> list[tuple[str, ...]]:
        header = ("label", "value", "unit", "smirks")
        return [header, *((r.label, f"{r.value:.6g}", r.unit, r.smirks or "") for r in self.rows)]

    def __str__(self) -> str:
        cells = self._cells()
        widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
        return "\n".join("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in cells)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        header, *body = self._cells()
        lines = ["<table><tr>", *(f"<th>{name}</th>" for name in header), "</tr>"]
        for row in body:
            lines += ["<tr>", *(f"<td>{html.escape(cell)}</td>" for cell in row), "</tr>"]
        return "".join([*lines, "</table>"])
