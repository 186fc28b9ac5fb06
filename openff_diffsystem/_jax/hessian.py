"""Energies that are computed together with their gradient, and whose Hessian is known to be symmetric.

Reverse mode through a sum over neighbours scatters to the neighbours. A Hessian is its own transpose, so a product
with it can always be computed in forward mode, which only gathers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jax.tree_util import PyTreeDef
from jaxtyping import Array, Float, Shaped

from openff_diffsystem._jax.summation import inner

Variables = Sequence[Float[Array, "..."]]
"""The variables with respect to which an energy is differentiated, or its gradient with respect to them."""

ValueAndGradient = Callable[..., tuple[Float[Array, ""], Variables]]


def energy_of(value_and_gradient: ValueAndGradient) -> Callable[..., Float[Array, ""]]:
    """Turn a function that returns an energy and its gradient into a differentiable energy.

    Parameters
    ----------
    value_and_gradient
        ``(variables, *constants) -> (energy, gradient)``: variables and gradient are tuples of float arrays with equal
        shapes, constants pytrees of arrays. Must allow forward-mode differentiation.

    Returns
    -------
    callable
        ``(variables, *constants) -> energy``, differentiable in the variables in every mode and to any order.
    """

    @jax.custom_jvp
    def both(variables: tuple, constants: tuple) -> tuple[Float[Array, ""], tuple]:
        energy, gradient = value_and_gradient(variables, *constants)
        return energy, tuple(gradient)

    @both.defjvp
    def _(primals: tuple, tangents: tuple) -> tuple:
        (variables, constants), (direction, _) = primals, tangents
        energy, gradient = both(variables, constants)
        return (energy, gradient), (
            _dot(gradient, direction),
            _hessian_product(hessian, variables, constants, direction),
        )

    @jax.custom_jvp
    def energy_only(variables: tuple, constants: tuple) -> Float[Array, ""]:
        return both(variables, constants)[0]

    @energy_only.defjvp
    def _(primals: tuple, tangents: tuple) -> tuple:
        energy, gradient = both(*primals)
        return energy, _dot(gradient, tangents[0])

    def hessian(variables: tuple, constants: tuple, direction: tuple) -> tuple:
        return jax.jvp(lambda v: tuple(value_and_gradient(v, *constants)[1]), (variables,), (direction,))[1]

    return lambda variables, *constants: energy_only(tuple(variables), constants)


def _dot(a: Variables, b: Variables) -> Float[Array, ""]:
    return sum((inner(x, y) for x, y in zip(a, b, strict=True)), start=jnp.zeros((), a[0].dtype))


def _hessian_product(function: Callable, variables: tuple, constants: tuple, direction: tuple) -> tuple:
    fixed, structure = jax.tree.flatten((variables, constants))
    return tuple(_product.bind(*fixed, *direction, function=function, structure=structure, n_fixed=len(fixed)))


_product = Primitive("diffsystem_hessian_product")
_product.multiple_results = True


def _evaluate(*leaves: Shaped[Array, "..."], function: Callable, structure: PyTreeDef, n_fixed: int) -> tuple:
    variables, constants = jax.tree.unflatten(structure, leaves[:n_fixed])
    return tuple(function(variables, constants, tuple(leaves[n_fixed:])))


def _jvp(primals: Sequence, tangents: Sequence, **parameters: Any) -> tuple:
    out = _product.bind(*primals, **parameters)
    n_fixed = parameters["n_fixed"]
    if all(type(t) is ad.Zero for t in tangents[:n_fixed]):
        along = [ad.instantiate_zeros(t) for t in tangents[n_fixed:]]
        return out, _product.bind(*primals[:n_fixed], *along, **parameters)
    # third derivatives: through the code
    differentiable = [i for i, t in enumerate(tangents) if jnp.issubdtype(primals[i].dtype, jnp.floating)]

    def of_floats(floats: list) -> tuple:
        leaves = list(primals)
        for i, value in zip(differentiable, floats, strict=True):
            leaves[i] = value
        return _evaluate(*leaves, **parameters)

    point = [primals[i] for i in differentiable]
    along = [ad.instantiate_zeros(tangents[i]) for i in differentiable]
    return out, jax.jvp(of_floats, (point,), (along,))[1]


def _transpose(cotangents: Sequence, *leaves: Any, **parameters: Any) -> list:
    n_fixed = parameters["n_fixed"]
    directions = [ad.instantiate_zeros(c) for c in cotangents]
    return [None] * n_fixed + list(_product.bind(*leaves[:n_fixed], *directions, **parameters))


def _batch(leaves: Sequence, axes: Sequence, **parameters: Any) -> tuple:
    out = jax.vmap(lambda *one: _evaluate(*one, **parameters), in_axes=tuple(axes))(*leaves)
    return out, (0,) * len(out)


_product.def_impl(lambda *leaves, **parameters: list(_evaluate(*leaves, **parameters)))
_product.def_abstract_eval(lambda *avals, n_fixed, **_: list(avals[n_fixed:]))
ad.primitive_jvps[_product] = _jvp
ad.primitive_transposes[_product] = _transpose
batching.primitive_batchers[_product] = _batch
mlir.register_lowering(_product, mlir.lower_fun(_evaluate, multiple_results=True))
