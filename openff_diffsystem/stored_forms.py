"""Functional forms that a system holds itself, in words: those of OpenMM's custom forces and correction maps.

They are part of ``DiffSystem.methods``, so that they are saved with a system and no process has to register them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from openff_diffsystem.expressions import Expression, expression
from openff_diffsystem.forms import Form, ValenceForm, required_forms
from openff_diffsystem.potentials.cmap import correction_maps
from openff_diffsystem.potentials.geometry import Vector, angle, columns, difference, dihedral, norm

if TYPE_CHECKING:
    from openff_diffsystem.system import DiffSystem

FORCE = "openmm_force"
"""The word, among a section's methods, that says which of OpenMM's forces its terms are of."""

CMAP = "CMAPTorsionForce"

COMPOUND = "CustomCompoundBondForce"


def _distance(a: Vector, b: Vector) -> jax.Array:
    return norm(difference(b, a))


VARIABLES: dict[str, tuple[str, int, Callable[..., jax.Array]]] = {
    "CustomBondForce": ("r", 2, _distance),
    "CustomAngleForce": ("theta", 3, angle),
    "CustomTorsionForce": ("theta", 4, dihedral),
}
"""By custom force what its expressions are functions of: name, number of particles, and the geometry."""

_OF_PARTICLES: dict[str, tuple[int, Callable[..., jax.Array]]] = {
    "distance": (2, _distance),
    "angle": (3, angle),
    "dihedral": (4, dihedral),
}


@dataclass(frozen=True)
class CustomEnergy:
    """The energy of terms of one of OpenMM's custom forces. Equal by content, so that it can be static.

    Attributes
    ----------
    force
        A class of OpenMM.
    text
        Its algebraic expression.
    columns
        Names of the parameters of a term.
    """

    force: str
    text: str
    columns: tuple[str, ...]

    @property
    def expression(self) -> Expression:
        """The expression, read."""
        functions = {name: n for name, (n, _) in _OF_PARTICLES.items()} if self.force == COMPOUND else {}
        return expression(self.text, tuple(functions.items()))

    def __call__(self, corners: Sequence[Vector], parameters: Any, settings: Mapping[str, Any]) -> Any:
        """As :class:`openff_diffsystem.forms.ValenceEnergy`; settings are the force's global parameters."""
        given = dict(settings) | dict(zip(self.columns, columns(parameters), strict=True)) if self.columns else settings
        values = {
            name: given[name] if name in given else self._geometry(name, corners) for name in self.expression.variables
        }
        return jnp.broadcast_to(self.expression(**values), corners[0][0].shape)

    def _geometry(self, name: str, corners: Sequence[Vector]) -> jax.Array:
        if self.force != COMPOUND:
            return VARIABLES[self.force][2](*corners)
        if "(" not in name:
            return corners[int(name[1:]) - 1]["xyz".index(name[0])]
        function, _, particles = name[:-1].partition("(")
        return _OF_PARTICLES[function][1](*(corners[int(p[1:]) - 1] for p in particles.split(",")))

    def unknown_names(self, settings: Sequence[str], n_particles: int) -> list[str]:
        """The names in the expression that are neither geometry nor a parameter."""
        known = {*self.columns, *settings, *self.geometry(n_particles)}
        if self.force == COMPOUND:
            allowed = {f"p{i}" for i in range(1, n_particles + 1)}
            known |= {
                name
                for name in self.expression.variables
                if "(" in name and allowed.issuperset(name[:-1].partition("(")[2].split(","))
            }
        return [name for name in self.expression.variables if name not in known]

    def geometry(self, n_particles: int) -> list[str]:
        """The names that the geometry of a term of so many particles has in the expression."""
        if self.force == COMPOUND:
            return [f"{axis}{i}" for i in range(1, n_particles + 1) for axis in "xyz"]
        return [VARIABLES[self.force][0]]


@lru_cache(maxsize=256)
def _stored_form(section: str, force: str, text: str, attributes: tuple[str, ...], n_particles: int) -> ValenceForm:
    energy = correction_maps if force == CMAP else CustomEnergy(force, text, attributes)
    return ValenceForm(section, attributes, n_particles, energy)


def stored_sections(system: DiffSystem) -> list[str]:
    """The sections whose form the system holds itself, in order."""
    return [section for section in system.sections if FORCE in system.methods.get(section, {})]


def forms_of(system: DiffSystem) -> tuple[Form, ...]:
    """The forms of all of a system's sections that have one, whether it holds them or they are registered.

    Raises
    ------
    UnregisteredFormError
        If one is neither held by the system nor registered in this process.
    """
    if not any(FORCE in words for words in system.methods.values()):
        return required_forms(system.term_indices)  # asked for at every evaluation
    forms: list[Form] = []
    for section in system.sections:
        words = system.methods.get(section, {})
        if FORCE in words:
            attributes = system.system_layout.sections[section].columns
            width = system.term_indices[section].shape[1]
            forms.append(_stored_form(section, words[FORCE], words.get("expression", ""), attributes, width))
        else:
            forms.extend(required_forms((section,)))
    return tuple(forms)
