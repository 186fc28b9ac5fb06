"""OpenMM's custom forces between the atoms of a molecule: read, written, and given new parameters."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from openff_diffsystem.exceptions import (
    ExpressionError,
    ParameterMismatchError,
    UnsupportedForceError,
)
from openff_diffsystem.forms.registry import form_of
from openff_diffsystem.interop.openmm.forces.terms import ForceTerms, Table, described, number
from openff_diffsystem.parameters.system import SystemParameters
from openff_diffsystem.potentials.custom import COMPOUND, CustomEnergy
from openff_diffsystem.sections import SECTIONS

TERM = {
    "CustomBondForce": "Bond",
    "CustomAngleForce": "Angle",
    "CustomTorsionForce": "Torsion",
    COMPOUND: "Bond",
}
"""By class what OpenMM calls a term in the names of its methods."""


@dataclass
class Custom:
    """What a custom force says.

    Attributes
    ----------
    terms
        With the per-term parameters as columns.
    settings
        Global parameters.
    energy
        Its expression.
    """

    terms: ForceTerms
    settings: dict[str, float]
    energy: CustomEnergy


def count_of(force: Any) -> int:
    """The number of terms of a custom force or a CMAPTorsionForce."""
    return getattr(force, f"getNum{TERM.get(type(force).__name__, 'Torsion')}s")()


def read_custom(force: Any) -> Custom:
    """A custom force with at least one term.

    Raises
    ------
    UnsupportedForceError
        If its expression cannot be represented.
    """
    kind, name = type(force).__name__, described(force)
    word = TERM[kind]
    if kind == COMPOUND and force.getNumTabulatedFunctions():
        raise UnsupportedForceError(f"{name} has tabulated functions, which are not covered")
    columns = tuple(
        getattr(force, f"getPer{word}ParameterName")(i) for i in range(getattr(force, f"getNumPer{word}Parameters")())
    )
    settings = {
        force.getGlobalParameterName(i): float(force.getGlobalParameterDefaultValue(i))
        for i in range(force.getNumGlobalParameters())
    }
    energy = CustomEnergy(kind, force.getEnergyFunction(), columns, force.getName())
    rows = [_flat(row) for row in _rows(force)]
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
    return Custom(
        ForceTerms(
            columns,
            np.array([row[:width] for row in rows], dtype=np.int64).reshape(len(rows), width),
            np.array([[number(v) for v in row[width:]] for row in rows]).reshape(len(rows), len(columns)),
            {},
            unit="dimensionless",
        ),
        settings,
        energy,
    )


def section_name(kind: str, name: str, taken: Iterable[str]) -> str:
    """A section for a force: its own name where it has one that can be used, or else that of its class, numbered."""
    taken = set(taken)
    usable = name != kind and re.fullmatch(r"[\w .-]+", name) and name not in SECTIONS and form_of(name) is None
    if usable and name not in taken:
        return name
    stem = kind.removesuffix("Force")
    plural = stem if stem.endswith("s") else stem + "s"
    candidates = (plural if i == 1 else f"{plural}{i}" for i in range(1, len(taken) + 2))
    return next(candidate for candidate in candidates if candidate not in taken)


def write_custom(energy: CustomEnergy, parameters: SystemParameters, section: str, table: Table) -> Any:
    """The force, as it was read, with new parameters."""
    import openmm

    kind = energy.force
    leading = (table.particles.shape[1],) if kind == COMPOUND else ()
    force = getattr(openmm, kind)(*leading, energy.text)
    force.setName(energy.name)
    for name in parameters.layout.sections[section].columns:
        getattr(force, f"addPer{TERM[kind]}Parameter")(name)
    for name, value in parameters.settings(section).items():
        force.addGlobalParameter(name, float(value))
    for row in table.rows():
        getattr(force, f"add{TERM[kind]}")(*_nested(kind, row, table.particles.shape[1]))
    return force


def custom_change(
    energy: CustomEnergy,
    parameters: SystemParameters,
    section: str,
    force: Any,
    in_their_order: Callable[..., Table],
    openmm_system: Any,
) -> Callable[[Any], bool]:
    """Give a force new parameters: what does so, for a Context or ``None``, and returns whether to begin anew.

    Other forces of the System that share a global parameter get its new value as well: OpenMM has one per Context.

    Raises
    ------
    ParameterMismatchError
        If the force has another expression, or other terms or parameters.
    """
    kind, name = energy.force, described(force)
    settings = {key: float(value) for key, value in parameters.settings(section).items()}
    present = {force.getGlobalParameterName(i) for i in range(force.getNumGlobalParameters())}
    columns = tuple(
        getattr(force, f"getPer{TERM[kind]}ParameterName")(i)
        for i in range(getattr(force, f"getNumPer{TERM[kind]}Parameters")())
    )
    if force.getEnergyFunction() != energy.text:
        raise ParameterMismatchError(f"{name} of the OpenMM System has another expression than {section}")
    if columns != parameters.layout.sections[section].columns or present != set(settings):
        raise ParameterMismatchError(f"{name} of the OpenMM System has other parameters than {section}")
    table = in_their_order(kind, [_flat(row) for row in _rows(force)])

    def apply(context: Any) -> bool:
        for i, row in enumerate(table.rows()):
            getattr(force, f"set{TERM[kind]}Parameters")(i, *_nested(kind, row, table.particles.shape[1]))
        for key, value in settings.items():
            _set_everywhere(openmm_system, key, value)
            if context is not None:
                context.setParameter(key, value)
        return False

    return apply


def _set_everywhere(openmm_system: Any, name: str, value: float) -> None:
    for force in openmm_system.getForces():
        if not hasattr(force, "setGlobalParameterDefaultValue"):
            continue
        for i in range(force.getNumGlobalParameters()):
            if force.getGlobalParameterName(i) == name:
                force.setGlobalParameterDefaultValue(i, value)


def require_one_value(settings: dict[tuple[str, str], float]) -> None:
    """Raise where forces that share a global parameter have two values of it: OpenMM has one per Context."""
    seen: dict[str, tuple[str, float]] = {}
    for (section, name), value in settings.items():
        if not math.isfinite(value):
            raise UnsupportedForceError(f"the global parameter {name!r} of {section} is NaN or infinite")
        before = seen.setdefault(name, (section, value))
        if before[1] != value:
            raise UnsupportedForceError(
                f"the global parameter {name!r} is {before[1]} in {before[0]} and {value} in {section}; OpenMM has one"
            )


def _rows(force: Any) -> list[Any]:
    get = getattr(force, f"get{TERM[type(force).__name__]}Parameters")
    return [get(i) for i in range(count_of(force))]


def _flat(row: Any) -> tuple:
    """Particles and values of a term one after the other."""
    *particles, values = row
    if len(particles) == 1:  # of a compound bond
        particles = particles[0]
    return (*particles, *values)


def _nested(kind: str, row: tuple, width: int) -> tuple:
    """What OpenMM's methods take for a term."""
    particles, values = row[:width], list(row[width:])
    return (list(particles), values) if kind == COMPOUND else (*particles, values)
