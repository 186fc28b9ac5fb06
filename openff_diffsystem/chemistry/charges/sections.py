"""Atom charges of one molecule from one section of a force field, as rows of the assignment.

Each function returns ``None`` if the section does not cover the whole molecule. The next section in SMIRNOFF's order of
precedence is then tried.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from openff_diffsystem.chemistry.charges.models import am1bcc_method, charges_from_method
from openff_diffsystem.chemistry.matching import AtomIndices, in_any_order, tagged_matches
from openff_diffsystem.chemistry.molecule import PreparedMolecule
from openff_diffsystem.exceptions import ChargeAssignmentError, UnsupportedForceFieldError
from openff_diffsystem.parameters.assignment import NO_SOURCE, AffineRows
from openff_diffsystem.parameters.layout import ParameterLayout


def library_charges(molecule: PreparedMolecule, handler: Any, layout: ParameterLayout) -> AffineRows | None:
    """Charges looked up by SMIRKS; where patterns overlap, the later match wins atom by atom."""
    sources = np.full(molecule.n_atoms, NO_SOURCE, dtype=np.int64)
    for atoms, row in _one_per_group(tagged_matches(molecule.rdmol, handler.parameters)):
        for i, atom in enumerate(atoms):
            sources[atom] = layout.positions("LibraryCharges", f"charge{i + 1}")[row]
    return None if (sources == NO_SOURCE).any() else AffineRows.gather(sources)


def charge_increments(molecule: PreparedMolecule, handler: Any, layout: ParameterLayout) -> AffineRows:
    """Charges of the section's ``partial_charge_method`` plus increments.

    A parameter with one increment fewer than tagged atoms gives the last atom minus the sum of the others.
    """
    rows = constant(charges_from_method(molecule.molecule, handler.partial_charge_method))
    for atoms, row in _one_per_group(tagged_matches(molecule.rdmol, handler.parameters)):
        sources = [
            int(layout.positions("ChargeIncrementModel", f"charge_increment{i + 1}")[row])
            for i in range(len(handler.parameters[row].charge_increment))
        ]
        if len(atoms) - len(sources) not in (0, 1):
            raise UnsupportedForceFieldError(
                f"charge increment {handler.parameters[row].smirks!r} has {len(sources)} increments for "
                f"{len(atoms)} tagged atoms; it needs as many, or one fewer"
            )
        for i, source in enumerate(sources):
            rows.add(atoms[i], 0, source, 1.0)
            if len(sources) < len(atoms):
                rows.add(atoms[-1], 0, source, -1.0)
    return rows


def am1bcc(molecule: PreparedMolecule, handler: Any, layout: ParameterLayout) -> AffineRows:
    """AM1-BCC charges from the registered toolkits."""
    return constant(charges_from_method(molecule.molecule, am1bcc_method()))


def nagl(molecule: PreparedMolecule, handler: Any, layout: ParameterLayout) -> AffineRows:
    """Charges of the section's NAGL model."""
    return constant(
        charges_from_method(
            molecule.molecule,
            handler.model_file,
            doi=handler.digital_object_identifier,
            file_hash=handler.model_file_hash,
        )
    )


def neural(molecule: PreparedMolecule, handler: Any, layout: ParameterLayout) -> AffineRows:
    """Charges of the section's network with its present weights, as constants."""
    return constant(np.asarray(handler.parameterize(molecule.molecule)[0][:, 0], dtype=float))


CHARGE_SECTIONS: dict[str, Callable[[PreparedMolecule, Any, ParameterLayout], AffineRows | None]] = {
    "LibraryCharges": library_charges,
    "NeuralCharges": neural,
    "NAGLCharges": nagl,
    "ChargeIncrementModel": charge_increments,
    "ToolkitAM1BCC": am1bcc,
}
"""Sections that assign charges, in SMIRNOFF's order of precedence; NeuralCharges is ours."""


def atom_charges(molecule: PreparedMolecule, handlers: dict[str, Any], layout: ParameterLayout) -> AffineRows:
    """Charges of the atoms, ``(n_atoms, 1)``, from the first section that covers the whole molecule.

    Raises
    ------
    ChargeAssignmentError
        If there is no such section.
    """
    tried = [section for section in CHARGE_SECTIONS if section in handlers]
    for section in tried:
        rows = CHARGE_SECTIONS[section](molecule, handlers[section], layout)
        if rows is not None:
            return rows
    raise ChargeAssignmentError(
        f"no section assigns charges to every atom of {molecule.name}; "
        + (f"tried: {', '.join(tried)}" if tried else "the force field has no section that assigns charges")
    )


def constant(charges: np.ndarray) -> AffineRows:
    """Charges that do not depend on the force field, ``(n_atoms,)``, e."""
    rows = AffineRows.empty(len(charges), 1)
    rows.offset[:, 0] = charges
    return rows


def _one_per_group(found: Iterable[tuple[AtomIndices, int]]) -> list[tuple[AtomIndices, int]]:
    """The last match of each group of atoms, in the order in which the groups were first matched.

    That order decides which charge an atom of two overlapping groups gets; it is openff-interchange's.
    """
    last: dict[AtomIndices, tuple[AtomIndices, int]] = {}
    for atoms, row in found:
        last[in_any_order(atoms)] = (atoms, row)
    return list(last.values())
