"""Losses for the optimisers of SciPy, and for whatever else wants a value and a gradient in NumPy."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy.typing import ArrayLike, DTypeLike

from openff_diffsystem._jax.types import Scalar
from openff_diffsystem.exceptions import ParameterMismatchError
from openff_diffsystem.interop.arrays import require_precision


def value_and_grad(
    loss: Callable[[Float[Array, " parameters"]], Scalar], *, dtype: DTypeLike = np.float64, jit: bool = True
) -> Callable[[ArrayLike], tuple[float, Float[np.ndarray, " parameters"]]]:
    """A loss of a flat vector as ``scipy.optimize.minimize(fun, x0, jac=True)`` wants it.

    Parameters
    ----------
    loss
        ``loss(vector) -> scalar``, a function for jax. With ``vector, unravel = trainable.to_vector()`` it may begin
        with ``theta = unravel(vector)``.
    dtype
        The precision in which the loss is evaluated.
    jit
        Compile the loss. Not possible where it builds neighbour lists or otherwise depends on concrete numbers.

    Returns
    -------
    callable
        ``fun(x) -> (value, gradient)``: a float and ``(n,)``, float64, which the caller may write to.

    Raises
    ------
    PrecisionError
        If ``dtype`` is float64 and jax is set to single precision.
    ParameterMismatchError
        From ``fun``, if the loss is not a scalar.
    """
    precision = np.dtype(dtype)
    require_precision(precision.name, "dtype of the loss")

    def checked(vector: Float[Array, " parameters"]) -> Float[Array, ""]:
        value = jnp.asarray(loss(vector))
        if value.shape != ():
            raise ParameterMismatchError(f"a loss must be a scalar, this one has shape {value.shape}")
        return value

    both = jax.value_and_grad(checked)
    if jit:
        both = jax.jit(both)

    def fun(x: ArrayLike) -> tuple[float, Float[np.ndarray, " parameters"]]:
        # a copy: optimisers write to their vectors while jax may still hold on to them
        value, gradient = both(jnp.array(x, dtype=precision))
        return float(value), np.array(gradient, dtype=np.float64)

    return fun
