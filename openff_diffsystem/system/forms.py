"""The functional forms that a system holds, and how a file describes those of OpenMM's forces."""

from __future__ import annotations

from openff_diffsystem.forms.form import ValenceForm
from openff_diffsystem.potentials.custom import CMAP, CorrectionMaps, CustomEnergy, OpenMMEnergy
from openff_diffsystem.system.data import SystemData

_FORCE, _NAME, _EXPRESSION = "openmm_force", "name", "expression"


def openmm_energies(system: SystemData) -> dict[str, OpenMMEnergy]:
    """By section, in order, the energies of OpenMM forces that SMIRNOFF does not have."""
    return {
        section: form.energy
        for section, form in system.forms.items()
        if isinstance(form.energy, CustomEnergy | CorrectionMaps)
    }


def to_words(energy: OpenMMEnergy) -> dict[str, str]:
    """The description of an OpenMM force in a file: kind of force, name, and expression of a custom force."""
    words = {_FORCE: energy.force, _NAME: energy.name}
    return words | ({_EXPRESSION: energy.text} if isinstance(energy, CustomEnergy) else {})


def from_words(section: str, words: dict[str, str], columns: tuple[str, ...], n_atoms: int) -> ValenceForm | None:
    """The form that :func:`to_words` described; ``None`` if the words do not describe an OpenMM force."""
    if _FORCE not in words:
        return None
    if words[_FORCE] == CMAP:
        return ValenceForm(section, columns, n_atoms, CorrectionMaps(words[_NAME]))
    energy = CustomEnergy(words[_FORCE], words[_EXPRESSION], columns, words[_NAME])
    return ValenceForm(section, columns, n_atoms, energy)
