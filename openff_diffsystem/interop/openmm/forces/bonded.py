"""The standard forces within molecules: harmonic bonds and angles, periodic and Ryckaert-Bellemans torsions."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from openff_diffsystem.interop.openmm.forces.at_theta import AtTheta
from openff_diffsystem.interop.openmm.forces.lookup import between_atoms, only, rows_of
from openff_diffsystem.interop.openmm.forces.part import Change, Found
from openff_diffsystem.interop.openmm.forces.terms import Table, in_their_order, terms_of
from openff_diffsystem.sections import SECTIONS

if TYPE_CHECKING:
    import openmm


class _Kind(NamedTuple):
    """One of these forces.

    Attributes
    ----------
    name
        The class of OpenMM.
    term
        The word for a term in the names of OpenMM's methods.
    sections
        The sections whose terms it contains. All terms are read into the first.
    values
        The values of a term in OpenMM's order, under the names that the section has for them.
    """

    name: str
    term: str
    sections: tuple[str, ...]
    values: tuple[str, ...]


_KINDS = (
    _Kind("HarmonicBondForce", "Bond", ("Bonds",), ("length", "k")),
    _Kind("HarmonicAngleForce", "Angle", ("Angles",), ("angle", "k")),
    _Kind("PeriodicTorsionForce", "Torsion", ("ProperTorsions", "ImproperTorsions"), ("periodicity", "phase", "k")),
    _Kind("RBTorsionForce", "Torsion", ("RBTorsions",), SECTIONS["RBTorsions"].columns),
)

CLASSES: tuple[str, ...] = tuple(kind.name for kind in _KINDS)


def read(found: Found) -> None:
    """The terms of bonded forces; several forces of one class are one section."""
    for kind in _KINDS:
        forces = between_atoms(found.openmm_system, kind.name)
        if forces:
            rows = [row for force in forces for row in rows_of(force, kind.term)]
            found.terms[kind.sections[0]] = terms_of(kind.sections[0], rows, kind.values)


def write(at: AtTheta, openmm_system: openmm.System) -> None:
    """One force of each class for which the system has terms."""
    import openmm

    for kind, table in _tables(at):
        force = getattr(openmm, kind.name)()
        table.add_to(force, kind.term)
        openmm_system.addForce(force)


def change(at: AtTheta, openmm_system: openmm.System) -> Iterator[Change]:
    """New parameters for the terms, found by their atoms."""
    for kind, table in _tables(at):
        force = only(openmm_system, kind.name)
        present = rows_of(force, kind.term)
        ordered = in_their_order(kind.name, present, table, periodicity="periodicity" in kind.values)
        yield Change(partial(_apply, force, kind.term, ordered), force)


def _apply(force: openmm.Force, term: str, table: Table, _: openmm.Context | None) -> bool:
    table.set_in(force, term)
    return False


def _tables(at: AtTheta) -> Iterator[tuple[_Kind, Table]]:
    """The forces that the system has, torsions first as openff-interchange writes them."""
    for kind in sorted(_KINDS, key=lambda kind: -SECTIONS[kind.sections[0]].n_atoms):
        terms = [at.terms(section) for section in kind.sections if section in at]
        for _, columns in terms:
            if "idivf" in columns:
                columns["k"] = columns["k"] / columns["idivf"]
        if terms:
            values = tuple(np.concatenate([columns[name] for _, columns in terms]) for name in kind.values)
            yield kind, Table(np.concatenate([particles for particles, _ in terms]), values)
