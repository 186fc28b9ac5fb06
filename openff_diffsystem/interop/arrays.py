"""Arrays of other frameworks, to jax and back: memory is shared where both sides can, and the dtype is kept."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from openff_diffsystem.exceptions import PrecisionError, UnsupportedInputError

if TYPE_CHECKING:
    import torch

JaxFloats = Float[Array, "..."]
"""Floating-point numbers in jax, of any shape."""


@runtime_checkable
class ForeignArray(Protocol):
    """An array of any framework."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The lengths of its axes."""

    @property
    def dtype(self) -> object:
        """The type of its numbers."""


Foreign = TypeVar("Foreign", bound=ForeignArray)
"""The arrays of one framework."""


@runtime_checkable
class ArrayBridge(Protocol[Foreign]):
    """What a framework needs so that every function of this package accepts its arrays and returns them.

    NumPy, JAX, PyTorch, and whatever supports DLPack in both directions (CuPy, for example) have one. Another framework
    gets one with :func:`register_bridge`.
    """

    def owns(self, value: object) -> bool:
        """Whether the value is an array of this framework."""
        ...

    def to_jax(self, array: Foreign) -> JaxFloats:
        """The same numbers for jax, in the same memory if possible, without a change of dtype."""
        ...

    def from_jax(self, array: JaxFloats, like: Foreign) -> Foreign:
        """The same numbers for the framework, in the same memory if possible.

        ``array`` is ready. ``like`` is the input that the result belongs to: the framework's own array.
        """
        ...


class JaxBridge:
    """Arrays of jax, tracers included."""

    def owns(self, value: object) -> bool:
        return isinstance(value, jax.Array)

    def to_jax(self, array: Array) -> JaxFloats:
        return array

    def from_jax(self, array: JaxFloats, like: Array) -> JaxFloats:
        return array


class NumpyBridge:
    """Arrays of NumPy: copied to where jax computes. Results are views and cannot be written to."""

    def owns(self, value: object) -> bool:
        return isinstance(value, np.ndarray | np.generic)

    def to_jax(self, array: np.ndarray | np.generic) -> JaxFloats:
        return jnp.asarray(array)

    def from_jax(self, array: JaxFloats, like: np.ndarray | np.generic) -> np.ndarray:
        return np.asarray(array)


class TorchBridge:
    """Tensors of PyTorch, through DLPack. Gradients of torch do not pass: that is what ``interop.torch`` is for."""

    def owns(self, value: object) -> bool:
        torch = sys.modules.get("torch")  # there is no tensor before torch is imported
        return torch is not None and isinstance(value, torch.Tensor)

    def to_jax(self, array: torch.Tensor) -> JaxFloats:
        return jnp.from_dlpack(array.detach().contiguous())

    def from_jax(self, array: JaxFloats, like: torch.Tensor) -> torch.Tensor:
        return sys.modules["torch"].from_dlpack(array)


class DLPackBridge:
    """Whatever supports DLPack, where results can be returned to the framework.

    That needs ``from_dlpack`` in the array's namespace (Python array API), or in the package that its class belongs to.
    """

    def owns(self, value: object) -> bool:
        return hasattr(value, "dtype") and hasattr(value, "__dlpack__") and self._from_dlpack(value) is not None

    def to_jax(self, array: ForeignArray) -> JaxFloats:
        return jnp.from_dlpack(array)

    def from_jax(self, array: JaxFloats, like: ForeignArray) -> ForeignArray:
        return self._from_dlpack(like)(array)  # type: ignore[misc]  # an array that is owned has the function

    def _from_dlpack(self, array: object) -> Callable[[Array], ForeignArray] | None:
        if hasattr(array, "__array_namespace__"):
            return array.__array_namespace__().from_dlpack
        package = sys.modules.get(type(array).__module__.partition(".")[0])
        return getattr(package, "from_dlpack", None)


_BRIDGES: list[ArrayBridge[Any]] = [JaxBridge(), NumpyBridge(), TorchBridge(), DLPackBridge()]


def register_bridge(bridge: object) -> None:
    """Accept arrays of another framework, through an :class:`ArrayBridge`. The latest bridge is asked first.

    Raises
    ------
    UnsupportedInputError
        If the object lacks a method of :class:`ArrayBridge`.
    """
    if not isinstance(bridge, ArrayBridge):
        raise UnsupportedInputError(f"{type(bridge).__name__} lacks a method of ArrayBridge: owns, to_jax or from_jax")
    _BRIDGES.insert(0, bridge)


def bridge_of(value: object, name: str) -> ArrayBridge[Any]:
    """The bridge of an array's framework.

    Raises
    ------
    UnsupportedInputError
        If no bridge knows the value.
    """
    for bridge in _BRIDGES:
        if bridge.owns(value):
            return bridge
    hint = ""
    if hasattr(value, "__dlpack__"):
        package = type(value).__module__.partition(".")[0]
        hint = (
            f": it supports DLPack, but {package} has no from_dlpack function, which results need on their way back; "
            "call openff_diffsystem.interop.arrays.register_bridge"
        )
    raise UnsupportedInputError(
        f"{name} must be an array of NumPy, JAX, PyTorch or another framework of the array API or DLPack, in MD units, "
        f"got {type(value).__name__}{hint}"
    )


def dtype_name(array: Any) -> str:
    """The name of an array's dtype without that of its framework, for example ``float32``."""
    return str(array.dtype).rsplit(".", maxsplit=1)[-1]


def to_jax(value: object, name: str) -> JaxFloats:
    """An array of any framework for jax.

    Parameters
    ----------
    value
        float32 or float64. Memory is shared where both sides can: the caller must not write to it while jax works.
    name
        Its name in error messages.

    Raises
    ------
    PrecisionError
        If it is float64 and jax would round it to float32.
    UnsupportedInputError
        If it is of an unknown framework, of another dtype, or on a device that jax does not see.
    """
    bridge = bridge_of(value, name)
    require_float(value, name)
    try:
        return bridge.to_jax(value)
    except (BufferError, RuntimeError, ValueError) as error:
        raise UnsupportedInputError(f"the memory of {name} cannot be shared with jax: {error}") from error


def from_jax(array: JaxFloats, like: Foreign) -> Foreign:
    """An array of jax as an array of the same framework as ``like``. Waits until the numbers are there."""
    bridge = bridge_of(like, "the array whose framework is wanted")
    if isinstance(bridge, JaxBridge):
        return array  # type: ignore[return-value]
    return bridge.from_jax(jax.block_until_ready(array), like)


def require_float(array: object, name: str) -> None:
    """Raise unless an array is float32, or float64 where jax keeps that."""
    dtype = dtype_name(array)
    if dtype not in ("float32", "float64"):
        raise UnsupportedInputError(f"{name} must be float32 or float64, got {dtype}")
    require_precision(dtype, name)


def require_precision(dtype: str, name: str) -> None:
    """Raise a :class:`PrecisionError` where jax would round to float32."""
    if dtype == "float64" and jax.dtypes.canonicalize_dtype(np.float64) != np.float64:
        raise PrecisionError(
            f"{name} is float64, which jax rounds to float32 unless told otherwise: call "
            'jax.config.update("jax_enable_x64", True) or set JAX_ENABLE_X64=1 before anything else, or pass float32'
        )
