"""Losses for the optimisers of SciPy, and for whatever else wants a value and a gradient in NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from openff_diffsystem.exceptions import ParameterMismatchError
from openff_diffsystem.interop.arrays import require_precision


def value_and_grad(
    loss: Callable[[jax.Array], Any], *, dtype: Any = np.float64, jit: bool = True
) -> Callable[[Any], tuple[float, np.ndarray]]:
    """A loss of a flat vector as ``scipy.optimize.minimize(fun, x0, jac=True)`` wants it.

    Parameters
    ----------
    loss
        ``loss(vector) -> scalar``, a function for jax. With ``vector, unravel = trainable.to_vector()`` it may begin
        with ``theta = unravel(vector)``.
    dtype
        The precision that the loss is evaluated in.
    jit
        Compile the loss. Not possible where it builds neighbour lists or otherwise looks at numbers.

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
    dtype = np.dtype(dtype)
    require_precision(dtype.name, "dtype of the loss")

    def checked(vector: jax.Array) -> jax.Array:
        value = jnp.asarray(loss(vector))
        if value.shape != ():
            raise ParameterMismatchError(f"a loss must be a scalar, this one has shape {value.shape}")
        return value

    both = jax.value_and_grad(checked)
    if jit:
        both = jax.jit(both)

    def fun(x: Any) -> tuple[float, np.ndarray]:
        # a copy: optimisers write to their vectors while jax may still hold on to them
        value, gradient = both(jnp.array(x, dtype=dtype))
        return float(value), np.array(gradient, dtype=np.float64)

    return fun
