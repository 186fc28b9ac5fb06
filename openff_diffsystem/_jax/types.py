"""Annotations that say shapes, with ``jaxtyping``; the tests check them at every call.

``Float[Array, "particles 3"]`` is a jax array of floating-point numbers. Axes with one name have one length within a
call; ``...`` stands for any axes, ``""`` for none.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from jaxtyping import Array, Float

AnyArray = Array | np.ndarray
"""An array of jax, traced or not, or one of NumPy."""

Kind = TypeVar("Kind", Array, np.ndarray)
"""All arrays of a call are of one kind: NumPy arrays give NumPy arrays, jax arrays give jax arrays."""

Scalar = Float[AnyArray, ""] | float
"""A single number."""

Column = Float[Array, "terms 1"]
"""One number of each term, or of each pair."""

Vector = Sequence[Float[Array, "*terms"]]
"""x, y and z, arrays of equal shape."""

if TYPE_CHECKING:
    Leaf = Array
    HostOrDevice = Array
else:
    Leaf = object
    HostOrDevice = AnyArray
# Leaf: an array in a pytree that users transform. It is not checked when tests run: jax also builds such trees with
# None, object() or shapes in its place, and bridges put arrays of other frameworks there.
# HostOrDevice: what is computed from such an array, a NumPy array from a NumPy array and a jax array otherwise.
