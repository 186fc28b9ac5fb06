"""Constraints: fixed distances between pairs of atoms."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from openff_diffsystem.interop.openmm.forces.at_theta import AtTheta
from openff_diffsystem.interop.openmm.forces.lookup import rows_of
from openff_diffsystem.interop.openmm.forces.part import Change, Found
from openff_diffsystem.interop.openmm.forces.terms import in_their_order, terms_of

if TYPE_CHECKING:
    import openmm

CLASSES: tuple[str, ...] = ()


def read(found: Found) -> None:
    """The constraints of a System."""
    rows = rows_of(found.openmm_system, "Constraint")
    if rows:
        found.terms["Constraints"] = terms_of("Constraints", rows)


def write(at: AtTheta, openmm_system: openmm.System) -> None:
    """Constrain the distances."""
    if "Constraints" in at:
        at.table("Constraints").add_to(openmm_system, "Constraint")


def change(at: AtTheta, openmm_system: openmm.System) -> Iterator[Change]:
    """Change the lengths that differ: a Context has to be reinitialised then."""
    if "Constraints" not in at:
        return
    present = rows_of(openmm_system, "Constraint")
    rows = in_their_order("constraints", present, at.table("Constraints")).rows()
    different = [(i, row) for i, (row, old) in enumerate(zip(rows, present, strict=True)) if row[2] != old[2]._value]

    def apply(_: openmm.Context | None) -> bool:
        for i, row in different:
            openmm_system.setConstraintParameters(i, *row)
        return bool(different)

    yield Change(apply)
