"""One evaluation of an energy: its arguments, of any framework, checked, and the constants that go with them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import PyTreeDef

from openff_diffsystem._jax.fork import require_own_process
from openff_diffsystem.exceptions import (
    BoxError,
    InvalidInputError,
    NonFiniteParameterError,
    ParameterMismatchError,
    PositionsError,
    UnsupportedInputError,
)
from openff_diffsystem.interop.arrays import ForeignArray, JaxFloats, dtype_name, to_jax
from openff_diffsystem.interop.programs import EnergyInputs, GivenTheta, Program, energy_program, replaced
from openff_diffsystem.parameters.force_field import SelectedParameters
from openff_diffsystem.potentials.periodic.neighbors import NeighborList
from openff_diffsystem.system.arguments import check_shapes
from openff_diffsystem.system.data import SystemData
from openff_diffsystem.system.jax_potential import Potential
from openff_diffsystem.system.model import EnergyModel

_NOT_FINITE: dict[str, type[Exception]] = {"positions": PositionsError, "box_vectors": BoxError}
"""The errors for NaN and infinity, by argument; for theta and parameters it is NonFiniteParameterError."""


@dataclass
class EnergyCall:
    """The arguments of one evaluation, and the program that evaluates it.

    Attributes
    ----------
    potential
        Builds and keeps the neighbour list where none is given.
    inputs
        The arguments that have derivatives, complete.
    neighbors
        The list that was given.
    leaves, structure
        The arrays of ``inputs``, of any framework, and their tree.
    """

    potential: Potential
    inputs: EnergyInputs
    neighbors: NeighborList | None = None
    leaves: list[Any] = field(init=False)
    structure: PyTreeDef = field(init=False)
    _constants: tuple[EnergyModel, NeighborList | None] | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.leaves, self.structure = jax.tree.flatten(self.inputs)

    @property
    def program(self) -> Program:
        """The energy as a function of the leaves."""
        return energy_program(self.structure, self.potential.chunk_size)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the leaves in error messages."""
        return _leaf_names(self.structure)

    @property
    def is_scalar(self) -> bool:
        """Whether there is one configuration."""
        return len(self.inputs.positions.shape) == 2

    def converted(self, convert: Callable[[object, str], ForeignArray]) -> EnergyCall:
        """The same evaluation with other leaves: ``convert(leaf, name)``."""
        leaves = [convert(leaf, name) for leaf, name in zip(self.leaves, self.names, strict=True)]
        return EnergyCall(self.potential, jax.tree.unflatten(self.structure, leaves), self.neighbors)

    def to_jax(self) -> list[JaxFloats]:
        """The leaves as arrays of jax."""
        return [to_jax(leaf, name) for leaf, name in zip(self.leaves, self.names, strict=True)]

    def constants(self, arrays: Sequence[JaxFloats]) -> tuple[EnergyModel, NeighborList | None]:
        """The first argument of the program, made once, when the numbers are known.

        Raises
        ------
        PositionsError, BoxError, NonFiniteParameterError
            If an array holds a NaN. Arrays of jax are not checked: that would mean to wait for their numbers.
        InvalidInputError
            If a neighbour list has to be built for a batch of configurations.
        StaleNeighborListError
            If the one given does not cover the configuration.
        """
        if self._constants is None:
            for name, leaf, array in zip(self.names, self.leaves, arrays, strict=True):
                require_finite(name, leaf, array, _NOT_FINITE.get(name, NonFiniteParameterError))
            model = self.potential.model(self.inputs.box_vectors is not None)
            self._constants = (model, self._neighbors(model, arrays))
        return self._constants

    def _neighbors(self, model: EnergyModel, arrays: Sequence[JaxFloats]) -> NeighborList | None:
        if self.inputs.box_vectors is None:
            return None
        if any(tuple(a.shape) != tuple(leaf.shape) for a, leaf in zip(arrays, self.leaves, strict=True)):
            if self.neighbors is None:
                raise InvalidInputError(
                    "a batch of configurations of a periodic system needs a neighbour list that covers them all: "
                    "pass neighbors=system.neighbor_list(positions, box_vectors)"
                )
            return self.neighbors
        inputs = jax.tree.unflatten(self.structure, arrays)
        return self.potential.lists.covering(inputs.configuration(self.neighbors), replaced(model, inputs))


def require_finite(name: str, leaf: object, array: JaxFloats, error: type[Exception]) -> None:
    """Raise where a leaf holds a NaN or infinity; ``array`` has its numbers. Arrays of jax pass unchecked."""
    if isinstance(leaf, jax.Array):
        return
    bad = np.argwhere(~np.isfinite(np.asarray(array)))
    if len(bad):
        raise error(f"{name} hold NaN or infinity, first at index {bad[0].tolist()}")


def complete_inputs(
    system: SystemData, positions: object, theta: object, box_vectors: object, parameters: object
) -> EnergyInputs:
    """The arguments of an energy. For those that are ``None`` the system's own, in the precision of the others.

    Raises
    ------
    PositionsError, BoxError, ParameterMismatchError
        If a shape is wrong, or theta belongs to another force field or system.
    UnsupportedInputError
        If an argument is not an array.
    ForkedProcessError
        In a process that was forked from one in which a system was made or read.
    """
    require_own_process()
    given = [leaf for leaf in jax.tree.leaves((positions, theta, box_vectors, parameters)) if hasattr(leaf, "dtype")]
    dtype = dtype_name(given[0]) if given else None
    if positions is None:
        if system.positions is None:
            raise PositionsError("the system holds no positions; pass some")
        positions = jnp.asarray(system.positions, dtype)
    if theta is None:
        theta = jnp.asarray(system.force_field_parameters.vector, dtype)
    if box_vectors is None and system.box_vectors is not None:
        box_vectors = jnp.asarray(system.box_vectors, dtype)
    where, box = _array("positions", positions), None if box_vectors is None else _array("box_vectors", box_vectors)
    check_shapes(system, tuple(where.shape), None if box is None else tuple(box.shape))
    if parameters is not None and not isinstance(parameters, Mapping):
        raise UnsupportedInputError(f"parameters must be a mapping by section, got {type(parameters).__name__}")
    return EnergyInputs(where, checked_theta(system, theta), box, parameters or None)


def _array(name: str, value: Any) -> ForeignArray:
    if not hasattr(value, "shape"):
        raise UnsupportedInputError(f"{name} must be an array, in nm, got {type(value).__name__}")
    return value


def checked_theta(system: SystemData, theta: Any) -> GivenTheta:
    """Theta unchanged, with arrays of any framework, if it belongs to this system. Frozen values become arrays of jax.

    Raises
    ------
    ParameterMismatchError
        If it belongs to another force field or system, or has the wrong shape.
    UnsupportedInputError
        If it is a list.
    """
    if isinstance(theta, SelectedParameters):
        if theta.selection.layout != system.parameter_layout:
            raise ParameterMismatchError("these parameters are selected from another force field")
        theta.replace(theta.vector)  # checks the shape
        theta = dataclasses.replace(theta, frozen=jnp.asarray(theta.frozen))
    else:
        if isinstance(theta, list | tuple):
            raise UnsupportedInputError(f"theta must be parameters or an array, got a {type(theta).__name__}")
        system.as_theta(theta)
    return theta


@lru_cache(maxsize=256)
def _leaf_names(structure: PyTreeDef) -> tuple[str, ...]:
    numbered = jax.tree.unflatten(structure, range(structure.num_leaves))
    return tuple(
        jax.tree_util.keystr(path, simple=True, separator="/")
        for path, _ in jax.tree_util.tree_flatten_with_path(numbered)[0]
    )
