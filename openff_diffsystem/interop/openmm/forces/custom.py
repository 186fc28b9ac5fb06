"""OpenMM's custom forces between the atoms of a molecule."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from openff_diffsystem.exceptions import ExpressionError, ParameterMismatchError, UnsupportedForceError
from openff_diffsystem.interop.openmm.forces.at_theta import AtTheta
from openff_diffsystem.interop.openmm.forces.lookup import Row, described, number, rows_of
from openff_diffsystem.interop.openmm.forces.own_forms import (
    TERM,
    add_section,
    forces_by_section,
    forces_with_terms,
    own_sections,
)
from openff_diffsystem.interop.openmm.forces.part import Change, Found
from openff_diffsystem.interop.openmm.forces.terms import ForceTerms, Table, in_their_order
from openff_diffsystem.potentials.custom import COMPOUND, VARIABLES, CustomEnergy

if TYPE_CHECKING:
    import openmm

CLASSES: tuple[str, ...] = (*VARIABLES, COMPOUND)


def read(found: Found) -> None:
    """The terms of each custom force that has some, with its parameters per term as columns.

    Raises
    ------
    UnsupportedForceError
        If an expression cannot be represented.
    """
    settings: dict[tuple[str, str], float] = {}
    for kind in CLASSES:
        for force in forces_with_terms(found, kind):
            energy = CustomEnergy(kind, force.getEnergyFunction(), _columns(force), force.getName())
            defaults = _global_parameters(force)
            section = add_section(found, force, _terms(force, energy, defaults), energy)
            settings |= {(section, name): value for name, value in defaults.items()}
    _require_one_value(settings)
    found.settings |= settings


def write(at: AtTheta, openmm_system: openmm.System) -> None:
    """The forces, as they were read, with new parameters."""
    import openmm

    _require_one_value(_settings(at))
    for section, energy in _energies(at, *CLASSES).items():
        kind, table = energy.force, at.table(section)
        leading = (table.particles.shape[1],) if kind == COMPOUND else ()
        force = getattr(openmm, kind)(*leading, energy.text)
        force.setName(energy.name)
        for name in at.parameters.layout.sections[section].columns:
            getattr(force, f"addPer{TERM[kind]}Parameter")(name)
        for name, value in at.parameters.settings(section).items():
            force.addGlobalParameter(name, float(value))
        for row in _nested(kind, table):
            getattr(force, f"add{TERM[kind]}")(*row)
        openmm_system.addForce(force)


def change(at: AtTheta, openmm_system: openmm.System) -> Iterator[Change]:
    """New parameters for terms, and new values of global parameters.

    Other forces of the System with the same global parameter get its new value as well: OpenMM has one per Context.

    Raises
    ------
    ParameterMismatchError
        If a force has another expression, or other terms or parameters.
    """
    _require_one_value(_settings(at))
    for kind in CLASSES:
        energies = _energies(at, kind)
        for section, force in forces_by_section(at, openmm_system, kind):
            name = described(force)
            settings = {key: float(value) for key, value in at.parameters.settings(section).items()}
            if force.getEnergyFunction() != energies[section].text:
                raise ParameterMismatchError(f"{name} of the OpenMM System has another expression than {section}")
            columns = at.parameters.layout.sections[section].columns
            if _columns(force) != columns or _global_parameters(force).keys() != settings.keys():
                raise ParameterMismatchError(f"{name} of the OpenMM System has other parameters than {section}")
            table = in_their_order(kind, _flat_rows(force), at.table(section), directed=kind == COMPOUND)
            yield Change(partial(_apply, openmm_system, force, table, settings), force)


def _apply(
    openmm_system: openmm.System,
    force: openmm.Force,
    table: Table,
    settings: dict[str, float],
    context: openmm.Context | None,
) -> bool:
    kind = type(force).__name__
    for i, row in enumerate(_nested(kind, table)):
        getattr(force, f"set{TERM[kind]}Parameters")(i, *row)
    for name, value in settings.items():
        for other in openmm_system.getForces():
            if hasattr(other, "setGlobalParameterDefaultValue"):
                for i in range(other.getNumGlobalParameters()):
                    if other.getGlobalParameterName(i) == name:
                        other.setGlobalParameterDefaultValue(i, value)
        if context is not None:
            context.setParameter(name, value)
    return False


def _energies(at: AtTheta, *classes: str) -> dict[str, CustomEnergy]:
    return {name: one for name, one in own_sections(at, *classes).items() if isinstance(one, CustomEnergy)}


def _settings(at: AtTheta) -> dict[tuple[str, str], float]:
    sections = _energies(at, *CLASSES)
    return {(s, name): float(value) for s in sections for name, value in at.parameters.settings(s).items()}


def _columns(force: openmm.Force) -> tuple[str, ...]:
    word = TERM[type(force).__name__]
    n = getattr(force, f"getNumPer{word}Parameters")()
    return tuple(getattr(force, f"getPer{word}ParameterName")(i) for i in range(n))


def _global_parameters(force: openmm.Force) -> dict[str, float]:
    return {
        force.getGlobalParameterName(i): force.getGlobalParameterDefaultValue(i)
        for i in range(force.getNumGlobalParameters())
    }


def _terms(force: openmm.Force, energy: CustomEnergy, settings: dict[str, float]) -> ForceTerms:
    """The terms. Refused where the expression uses anything but their geometry and parameters."""
    name, columns = described(force), energy.columns
    if energy.force == COMPOUND and force.getNumTabulatedFunctions():
        raise UnsupportedForceError(f"{name} has tabulated functions, which are not covered")
    rows = _flat_rows(force)
    width = len(rows[0]) - len(columns)
    names = [*columns, *settings, *energy.geometry(width)]
    if len(set(names)) < len(names):
        repeated = next(n for n in names if names.count(n) > 1)
        raise UnsupportedForceError(f"{name} has two meanings for the name {repeated!r}")
    try:
        unknown = energy.unknown_names(tuple(settings), width)
    except ExpressionError as error:
        raise UnsupportedForceError(f"the expression of {name} is not covered: {error}") from error
    if unknown:
        raise UnsupportedForceError(f"{name} has no parameter {unknown[0]!r}, which its expression needs")
    return ForceTerms(
        columns,
        np.array([row[:width] for row in rows], dtype=np.int64),
        np.array([[number(v) for v in row[width:]] for row in rows]).reshape(len(rows), len(columns)),
        unit="dimensionless",
    )


def _flat_rows(force: openmm.Force) -> list[Row]:
    """The particles of each term followed by its values."""
    rows = rows_of(force, TERM[type(force).__name__])
    if type(force).__name__ == COMPOUND:
        return [(*particles, *values) for particles, values in rows]
    return [(*particles, *values) for *particles, values in rows]


def _nested(kind: str, table: Table) -> Iterator[tuple[object, ...]]:
    """The arguments of OpenMM's methods for each term."""
    width = table.particles.shape[1]
    for row in table.rows():
        particles, values = row[:width], list(row[width:])
        yield (list(particles), values) if kind == COMPOUND else (*particles, values)


def _require_one_value(settings: dict[tuple[str, str], float]) -> None:
    """Raise where forces give a global parameter different values: OpenMM has one value per Context."""
    seen: dict[str, tuple[str, float]] = {}
    for (section, name), value in settings.items():
        if not math.isfinite(value):
            raise UnsupportedForceError(f"the global parameter {name!r} of {section} is NaN or infinite")
        before = seen.setdefault(name, (section, value))
        if before[1] != value:
            raise UnsupportedForceError(
                f"the global parameter {name!r} is {before[1]} in {before[0]} and {value} in {section}; OpenMM has one"
            )
