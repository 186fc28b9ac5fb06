"""A constant sparse affine map as a JAX primitive: NumPy outside jit, XLA inside.

Handlers parameterize molecules one by one, and each molecule has its own array shapes. If the map were written as
ordinary jax operations, jax would compile a dozen small programs for every new molecule. These primitives compile
nothing until they are used inside ``jax.jit``. They are differentiated as linear functions are, so forward- and
reverse-mode derivatives of any order work.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array, Float, Int

from openff_diffsystem._jax.types import AnyArray, Kind
from openff_diffsystem.parameters.assignment import Assignment


class AffineMap:
    """The map of an :class:`~openff_diffsystem.parameters.assignment.Assignment` as a function jax can trace.

    Parameters
    ----------
    assignment
        ``(n_values,)`` values from ``(n_parameters,)`` parameters.
    shape
        Shape of the result, ``n_values`` elements.
    argument_shape
        Shape of the argument, ``n_parameters`` elements; an integer is the length of a vector.
    """

    def __init__(self, assignment: Assignment, shape: tuple[int, ...], argument_shape: int | tuple[int, ...]) -> None:
        self.assignment = assignment
        self.shape = shape
        self.argument_shape = (argument_shape,) if isinstance(argument_shape, int) else argument_shape
        self.n_parameters = math.prod(self.argument_shape)

    def __call__(self, theta: Float[AnyArray, "..."]) -> Float[Array, "..."]:
        """Apply the map to an array of ``argument_shape``; the dtype is kept."""
        return _affine.bind(theta, map=self)

    def on_host(self, theta: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """Apply the map to a NumPy array; the result is a NumPy array too."""
        return self._affine(theta)

    def _affine(self, theta: Float[Kind, "..."]) -> Float[Kind, "..."]:
        return self.assignment(theta.reshape(-1)).reshape(self.shape)

    def _linear(self, theta: Float[Kind, "..."]) -> Float[Kind, "..."]:
        return self.assignment.linear(theta.reshape(-1)).reshape(self.shape)

    def _adjoint(self, cotangent: Float[Kind, "..."]) -> Float[Kind, "..."]:
        cotangent = cotangent.reshape(-1)
        if isinstance(cotangent, np.ndarray) or not 0 < self._transpose.table.size <= _MAX_PADDED:
            parameters = self.assignment.adjoint(cotangent, self.n_parameters)
        else:
            parameters = self._transpose(cotangent)
        return parameters.reshape(self.argument_shape)

    @cached_property
    def _transpose(self) -> PaddedRows:
        return PaddedRows.transpose_of(self.assignment, self.n_parameters)


_MAX_PADDED = 8192
"""Largest table of :class:`PaddedRows`; beyond this, padding costs more than it saves."""


@dataclass(frozen=True, eq=False)
class PaddedRows:
    """A sparse matrix as gathers and one sum: the adjoint of small maps.

    XLA's CPU client runs a program of a few small loops in sequence, and a longer program through its thread pool,
    which costs several microseconds per loop. A scatter takes three loops, this takes one: for all sections of a
    drug-size molecule together the time fell from 69 to 28 us.

    Attributes
    ----------
    table, weight
        ``(n_used, n_longest)``: for each parameter in use, the values that depend on it, padded with weight zero.
    position
        ``(n_parameters,)``: row of ``table``, or ``n_used`` where no value depends on the parameter.
    """

    table: Int[np.ndarray, "used longest"]
    weight: Float[np.ndarray, "used longest"]
    position: Int[np.ndarray, " parameters"]

    @classmethod
    def transpose_of(cls, assignment: Assignment, n_parameters: int) -> PaddedRows:
        """The transpose of an assignment's linear part."""
        values, parameters, weights = assignment.entries()
        order = np.argsort(parameters, kind="stable")
        used, row, counts = np.unique(parameters[order], return_inverse=True, return_counts=True)
        column = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
        table = np.zeros((len(used), counts.max(initial=0)), dtype=np.int32)
        weight = np.zeros(table.shape)
        table[row, column], weight[row, column] = values[order], weights[order]
        position = np.full(n_parameters, len(used), dtype=np.int32)
        position[used] = np.arange(len(used))
        return cls(table, weight, position)

    def __call__(self, cotangent: Float[Array, " values"]) -> Float[Array, " parameters"]:
        """``(n_values,)`` to ``(n_parameters,)``, traced."""
        sums = jnp.sum(jnp.asarray(self.weight, dtype=cotangent.dtype) * cotangent[self.table], axis=1)
        return jnp.append(sums, jnp.zeros(1, sums.dtype))[self.position]


def _primitive(name: str, method: str, to_values: bool) -> Primitive:
    """A primitive that calls a method of its map: with NumPy arrays outside jit, with traced ones inside."""
    primitive = Primitive(f"diffsystem_{name}")

    @primitive.def_impl
    def _(argument: Float[AnyArray, "..."], *, map: AffineMap) -> Float[Array, "..."]:
        # device_put, since jnp.asarray compiles a program for every new shape
        return jax.device_put(getattr(map, method)(np.asarray(argument)))

    @primitive.def_abstract_eval
    def _(argument: ShapedArray, *, map: AffineMap) -> ShapedArray:
        return ShapedArray(map.shape if to_values else map.argument_shape, argument.dtype)

    def traced(argument: Float[Array, "..."], *, map: AffineMap) -> Float[Array, "..."]:
        return getattr(map, method)(argument)

    def batched(
        arguments: Sequence[Float[Array, "..."]], dimensions: Sequence[int], *, map: AffineMap
    ) -> tuple[Float[Array, "..."], int]:
        (argument,), (dimension,) = arguments, dimensions
        return jax.vmap(lambda one: traced(one, map=map), in_axes=dimension)(argument), 0

    mlir.register_lowering(primitive, mlir.lower_fun(traced, multiple_results=False))
    batching.primitive_batchers[primitive] = batched
    return primitive


_affine = _primitive("affine", "_affine", to_values=True)
_linear = _primitive("linear", "_linear", to_values=True)
_adjoint = _primitive("adjoint", "_adjoint", to_values=False)

ad.defjvp(_affine, lambda tangent, theta, *, map: _linear.bind(tangent, map=map))
ad.deflinear2(_linear, lambda cotangent, _, *, map: [_adjoint.bind(cotangent, map=map)])
ad.deflinear2(_adjoint, lambda cotangent, _, *, map: [_linear.bind(cotangent, map=map)])
