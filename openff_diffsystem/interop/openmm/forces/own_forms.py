"""Sections that hold a force of OpenMM as their functional form, and how to find that force in an OpenMM System."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from openff_diffsystem.exceptions import ParameterMismatchError
from openff_diffsystem.forms.form import ValenceForm
from openff_diffsystem.forms.registry import form_of
from openff_diffsystem.interop.openmm.forces.at_theta import AtTheta
from openff_diffsystem.interop.openmm.forces.lookup import between_atoms, forces_of
from openff_diffsystem.interop.openmm.forces.part import Found
from openff_diffsystem.interop.openmm.forces.terms import ForceTerms
from openff_diffsystem.potentials.custom import CMAP, COMPOUND, OpenMMEnergy
from openff_diffsystem.sections import SECTIONS
from openff_diffsystem.system.forms import openmm_energies

if TYPE_CHECKING:
    import openmm

TERM = {
    CMAP: "Torsion",
    "CustomBondForce": "Bond",
    "CustomAngleForce": "Angle",
    "CustomTorsionForce": "Torsion",
    COMPOUND: "Bond",
}
"""By class, the word for a term in the names of OpenMM's methods."""


def forces_with_terms(found: Found, kind: str) -> list[openmm.Force]:
    """The forces of a class that have terms."""
    return [force for force in between_atoms(found.openmm_system, kind) if _count(force)]


def add_section(found: Found, force: openmm.Force, terms: ForceTerms, energy: OpenMMEnergy) -> str:
    """Make a section for a force, and return its name."""
    section = _section_name(energy.force, force.getName(), found.forms)
    found.terms[section] = terms
    found.forms[section] = ValenceForm(section, terms.columns, terms.particles.shape[1], energy)
    return section


def own_sections(at: AtTheta, *classes: str) -> dict[str, OpenMMEnergy]:
    """The sections that hold forces of these classes, in order, with their energies."""
    return {section: energy for section, energy in openmm_energies(at.system).items() if energy.force in classes}


def forces_by_section(at: AtTheta, openmm_system: openmm.System, kind: str) -> Iterator[tuple[str, openmm.Force]]:
    """The sections that hold forces of a class, each with its force. Both are in the same order.

    Raises
    ------
    ParameterMismatchError
        If the System has more forces with terms, or fewer.
    """
    sections = own_sections(at, kind)
    present = [force for force in forces_of(openmm_system, kind) if _count(force)]
    if sections and len(present) != len(sections):
        raise ParameterMismatchError(
            f"the OpenMM System has {len(present)} forces of class {kind} with terms; this system has "
            f"{len(sections)}: {', '.join(sections)}"
        )
    return zip(sections, present, strict=False)


def _count(force: openmm.Force) -> int:
    return getattr(force, f"getNum{TERM[type(force).__name__]}s")()


def _section_name(kind: str, name: str, taken: Iterable[str]) -> str:
    """The name of a force where it can be used, or else the name of its class with a number."""
    taken = set(taken)
    usable = name != kind and re.fullmatch(r"[\w .-]+", name) and name not in SECTIONS and form_of(name) is None
    if usable and name not in taken:
        return name
    stem = kind.removesuffix("Force")
    plural = stem if stem.endswith("s") else stem + "s"
    candidates = (plural if i == 1 else f"{plural}{i}" for i in range(1, len(taken) + 2))
    return next(candidate for candidate in candidates if candidate not in taken)
