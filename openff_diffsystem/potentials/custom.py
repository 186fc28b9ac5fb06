"""Functional forms of OpenMM's forces that SMIRNOFF lacks: custom forces with their expressions, and correction maps.

A system read from OpenMM holds them, and they are saved with it, so that no process has to register them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float

from openff_diffsystem._jax.types import Vector
from openff_diffsystem.forms.form import Settings
from openff_diffsystem.potentials.cmap import correction_maps
from openff_diffsystem.potentials.expressions import Expression, expression
from openff_diffsystem.potentials.geometry import angle, columns, difference, dihedral, norm

CMAP = "CMAPTorsionForce"

COMPOUND = "CustomCompoundBondForce"


def _distance(a: Vector, b: Vector) -> Float[Array, "*terms"]:
    return norm(difference(b, a))


VARIABLES: dict[str, tuple[str, int, Callable[..., Array]]] = {
    "CustomBondForce": ("r", 2, _distance),
    "CustomAngleForce": ("theta", 3, angle),
    "CustomTorsionForce": ("theta", 4, dihedral),
}
"""The variable in the expressions of each custom force: its name, number of particles, and function of positions."""

_OF_PARTICLES: dict[str, tuple[int, Callable[..., Array]]] = {
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
    name
        The name that the force has in an OpenMM System.
    """

    force: str
    text: str
    columns: tuple[str, ...]
    name: str = field(default="", compare=False)

    @property
    def expression(self) -> Expression:
        """The parsed expression."""
        functions = {name: n for name, (n, _) in _OF_PARTICLES.items()} if self.force == COMPOUND else {}
        return expression(self.text, tuple(functions.items()))

    def __call__(
        self, corners: Sequence[Vector], parameters: Float[Array, "terms columns"], settings: Settings
    ) -> Float[Array, "terms 1"]:
        """As :class:`openff_diffsystem.forms.ValenceEnergy`; settings are the force's global parameters."""
        given = dict(settings) | dict(zip(self.columns, columns(parameters), strict=True)) if self.columns else settings
        values = {
            name: given[name] if name in given else self._geometry(name, corners) for name in self.expression.variables
        }
        return jnp.broadcast_to(self.expression(**values), corners[0][0].shape)

    def _geometry(self, name: str, corners: Sequence[Vector]) -> Float[Array, "terms 1"]:
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
        """The names of geometric variables in the expression of a term of ``n_particles`` particles."""
        if self.force == COMPOUND:
            return [f"{axis}{i}" for i in range(1, n_particles + 1) for axis in "xyz"]
        return [VARIABLES[self.force][0]]


@dataclass(frozen=True)
class CorrectionMaps:
    """The energy of terms of a CMAPTorsionForce; ``name`` is that of the force in an OpenMM System."""

    name: str = field(default=CMAP, compare=False)
    force: ClassVar[str] = CMAP

    def __call__(
        self, corners: Sequence[Vector], parameters: Float[Array, "terms columns"], settings: Settings
    ) -> Float[Array, "terms 1"]:
        """As :class:`openff_diffsystem.forms.ValenceEnergy`."""
        return correction_maps(corners, parameters, settings)


OpenMMEnergy = CustomEnergy | CorrectionMaps
