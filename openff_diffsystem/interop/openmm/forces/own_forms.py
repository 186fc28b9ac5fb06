"""Sections whose form a system holds itself, and the forces of an OpenMM System that they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from openff_diffsystem.exceptions import ParameterMismatchError
from openff_diffsystem.forms.form import Form, ValenceForm
from openff_diffsystem.interop.openmm.forces.cmap import maps_change, read_maps, write_maps
from openff_diffsystem.interop.openmm.forces.custom import (
    TERM,
    count_of,
    custom_change,
    read_custom,
    require_one_value,
    section_name,
    write_custom,
)
from openff_diffsystem.interop.openmm.forces.terms import ForceTerms, Table
from openff_diffsystem.parameters.system import SystemParameters
from openff_diffsystem.potentials.custom import CMAP, CorrectionMaps, CustomEnergy

if TYPE_CHECKING:
    from openff_diffsystem.system.data import SystemData
from openff_diffsystem.system.forms import openmm_energies

KINDS = (CMAP, *TERM)
"""The forces that are read into such sections, each into one of its own."""


@dataclass
class Stored:
    """Terms, global parameters and functional forms by section."""

    terms: dict[str, ForceTerms] = field(default_factory=dict)
    settings: dict[tuple[str, str], float] = field(default_factory=dict)
    forms: dict[str, Form] = field(default_factory=dict)


def read_stored(forces: dict[str, list[Any]]) -> Stored:
    """Every CMAPTorsionForce and custom force as a section of its own; those without terms are passed over.

    Raises
    ------
    UnsupportedForceError
        If one cannot be represented.
    """
    found = Stored()
    for kind in KINDS:
        for force in filter(count_of, forces[kind]):
            section = section_name(kind, force.getName(), found.terms)
            energy: CorrectionMaps | CustomEnergy
            if kind == CMAP:
                terms, energy = read_maps(force)
            else:
                custom = read_custom(force)
                terms, energy = custom.terms, custom.energy
                found.settings |= {(section, name): value for name, value in custom.settings.items()}
            found.terms[section] = terms
            found.forms[section] = ValenceForm(section, terms.columns, terms.particles.shape[1], energy)
    require_one_value(found.settings)
    return found


def write_stored(system: SystemData, parameters: SystemParameters, stored: dict[str, Table]) -> Iterator[Any]:
    """The forces of the sections, in order."""
    require_one_value(_settings(parameters, stored))
    energies = openmm_energies(system)
    for section, table in stored.items():
        energy = energies[section]
        if isinstance(energy, CorrectionMaps):
            yield write_maps(energy, table)
        else:
            yield write_custom(energy, parameters, section, table)


def stored_changes(
    system: SystemData,
    parameters: SystemParameters,
    stored: dict[str, Table],
    openmm_system: Any,
    in_their_order: Callable[..., Table],
) -> list[tuple[Any, Callable[[Any], bool]]]:
    """The forces that get new parameters, and what gives them: see :func:`custom_change`.

    Forces of a class are those of the sections of that class in order.

    Raises
    ------
    ParameterMismatchError
        If the OpenMM System has other forces.
    """
    require_one_value(_settings(parameters, stored))
    changes = []
    energies = openmm_energies(system)
    for kind in KINDS:
        sections = [section for section in stored if energies[section].force == kind]
        present = [f for f in openmm_system.getForces() if type(f).__name__ == kind and count_of(f)]
        if sections and len(present) != len(sections):
            raise ParameterMismatchError(
                f"the OpenMM System has {len(present)} forces of class {kind} with terms; this system has "
                f"{len(sections)}: {', '.join(sections)}"
            )
        for section, force in zip(sections, present, strict=False):
            order = partial(_ordered, in_their_order, stored[section])
            energy = energies[section]
            if isinstance(energy, CorrectionMaps):
                changes.append((force, maps_change(force, order)))
            else:
                changes.append((force, custom_change(energy, parameters, section, force, order, openmm_system)))
    return changes


def _ordered(in_their_order: Callable[..., Table], table: Table, kind: str, present: list[Any]) -> Table:
    return in_their_order(kind, present, table)


def _settings(parameters: SystemParameters, stored: dict[str, Table]) -> dict[tuple[str, str], float]:
    return {(s, name): float(value) for s in stored for name, value in parameters.settings(s).items()}
