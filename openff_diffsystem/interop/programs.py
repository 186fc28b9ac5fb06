"""Energies as compiled functions of a flat list of arrays, and their derivatives as functions of the same kind.

Frameworks differentiate by asking for the transpose, the tangent or the batch of a function. Each of these is again a
program, made once and compiled once, so that any order and any nesting is possible.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
from jax.tree_util import PyTreeDef
from jaxtyping import Array, Float

from openff_diffsystem.interop.arrays import ForeignArray, JaxFloats
from openff_diffsystem.parameters.force_field import ForceFieldParameters, SelectedParameters
from openff_diffsystem.parameters.system import SystemParameters
from openff_diffsystem.potentials.periodic.neighbors import NeighborList
from openff_diffsystem.system import compiled
from openff_diffsystem.system.arguments import Configuration
from openff_diffsystem.system.model import EnergyModel, Theta

Values = tuple[JaxFloats, ...]
"""What a program returns."""

GivenTheta = ForeignArray | ForceFieldParameters | SelectedParameters | SystemParameters
"""The flat vector, force-field parameters, a selection of them, or system parameters; with arrays of any framework."""

GivenSections = Mapping[str, ForeignArray | Mapping[str, ForeignArray]]
"""Values by section, ``(n_terms, n_columns)``, or by section and column, ``(n_terms,)``."""


class Program:
    """A compiled function ``(constants, *arrays) -> tuple of arrays`` and those derived from it.

    Parameters
    ----------
    function
        Pure. ``constants`` is a pytree that is not differentiated, the arrays are floats.
    """

    def __init__(self, function: Callable[..., Values]) -> None:
        self._function = function
        self._compiled = jax.jit(function)
        self._derived: dict[Hashable, Program] = {}

    def __call__(self, constants: object, *arrays: JaxFloats) -> Values:
        return self._compiled(constants, *arrays)

    def _derive(self, key: Hashable, function: Callable[..., Values]) -> Program:
        if key not in self._derived:
            self._derived[key] = Program(function)
        return self._derived[key]

    def vjp(self, wanted: Sequence[bool]) -> Program:
        """``(constants, *arrays, *cotangents) -> cotangents of the wanted arrays``."""
        wanted = tuple(wanted)

        def pulled_back(constants: object, *arrays: JaxFloats) -> Values:
            primals, cotangents = arrays[: len(wanted)], arrays[len(wanted) :]
            function, variables = self._restricted(constants, primals, wanted)
            return jax.vjp(function, *variables)[1](tuple(cotangents))

        return self._derive(("vjp", wanted), pulled_back)

    def jvp(self, moving: Sequence[bool]) -> Program:
        """``(constants, *arrays, *tangents of the moving arrays) -> tangents``."""
        moving = tuple(moving)

        def pushed_forward(constants: object, *arrays: JaxFloats) -> Values:
            primals, tangents = arrays[: len(moving)], arrays[len(moving) :]
            function, variables = self._restricted(constants, primals, moving)
            return jax.jvp(function, variables, tuple(tangents))[1]

        return self._derive(("jvp", moving), pushed_forward)

    def vmap(self, axes: Sequence[int | None]) -> Program:
        """The same with a further axis, where ``axes`` says in the arrays, and first in the results."""
        axes = tuple(axes)

        def batched(constants: object, *arrays: JaxFloats) -> Values:
            return jax.vmap(lambda *one: self._function(constants, *one), in_axes=axes)(*arrays)

        return self._derive(("vmap", axes), batched)

    def value_and_gradients(self, wanted: Sequence[bool]) -> Program:
        """``(constants, *arrays) -> (value, *gradients of the wanted arrays)``, for a function with a scalar result."""
        wanted = tuple(wanted)

        def both(constants: object, *arrays: JaxFloats) -> Values:
            function, variables = self._restricted(constants, arrays, wanted)
            (value,), pullback = jax.vjp(function, *variables)
            return value, *pullback((jnp.ones_like(value),))

        return self._derive(("value_and_gradients", wanted), both)

    def _restricted(
        self, constants: object, arrays: Sequence[JaxFloats], wanted: tuple[bool, ...]
    ) -> tuple[Callable[..., Values], Values]:
        """The function of the wanted arrays alone, and these arrays."""

        def function(*variables: JaxFloats) -> Values:
            given = iter(variables)
            return self._function(constants, *(next(given) if w else a for a, w in zip(arrays, wanted, strict=True)))

        return function, tuple(a for a, w in zip(arrays, wanted, strict=True) if w)


class EnergyInputs(NamedTuple):
    """The arguments of an energy that have derivatives. A pytree whose leaves are arrays of any framework.

    Attributes
    ----------
    positions
        ``(n_atoms, 3)`` or ``(n_particles, 3)``, nm, or a stack of those for isolated molecules.
    theta
        The flat vector, force-field parameters, a selection, or system parameters.
    box_vectors
        ``(3, 3)``, nm, or ``None``.
    parameters
        Values that replace those of some sections, as for ``SystemParameters.replace``.
    """

    positions: Float[ForeignArray, "*conformers particles 3"]
    theta: GivenTheta
    box_vectors: Float[ForeignArray, "3 3"] | None = None
    parameters: GivenSections | None = None

    def configuration(self, neighbors: NeighborList | None) -> Configuration:
        """The positions and the box, arrays of jax by now, with a neighbour list that covers them."""
        return Configuration(cast(Array, self.positions), cast(Array | None, self.box_vectors), neighbors)


@lru_cache(maxsize=256)
def energy_program(structure: PyTreeDef, chunk_size: int) -> Program:
    """The energy, kJ/mol, of ``((model, neighbors), *leaves of EnergyInputs)``; ``structure`` is their tree."""

    def function(
        constants: tuple[EnergyModel, NeighborList | None], *leaves: JaxFloats
    ) -> tuple[Float[Array, "*conformers"]]:
        model, neighbors = constants
        inputs = jax.tree.unflatten(structure, leaves)
        return (compiled.energy(model, inputs.configuration(neighbors), replaced(model, inputs), chunk_size),)

    return Program(function)


@lru_cache(maxsize=256)
def parameters_program(structure: PyTreeDef, unique: bool) -> Program:
    """The system parameters by section of ``(model, *leaves of theta)``."""

    def function(constants: EnergyModel, *leaves: JaxFloats) -> Values:
        theta = flat(jax.tree.unflatten(structure, leaves))
        parameters = constants.parameters(theta)
        if unique:
            return tuple(parameters.unique(section) for section in parameters.layout.sections)
        return tuple(parameters.by_section().values())

    return Program(function)


def replaced(model: EnergyModel, inputs: EnergyInputs) -> Theta:
    """Theta as the compiled energies take it, with the given sections replaced, in the wider of both precisions."""
    theta = flat(inputs.theta)
    if not inputs.parameters:
        return theta
    base = model.parameters(theta)
    dtype = jnp.result_type(base.values, *jax.tree.leaves(inputs.parameters))
    return SystemParameters(base.values.astype(dtype), base.layout).replace(
        cast(Mapping[str, Array], inputs.parameters)
    )


def flat(theta: GivenTheta) -> Theta:
    """The flat vector of force-field parameters or of a selection; system parameters as they are. Leaves are jax's."""
    if isinstance(theta, SelectedParameters):
        theta = theta.merge()
    return theta.vector if isinstance(theta, ForceFieldParameters) else theta  # type: ignore[return-value]
