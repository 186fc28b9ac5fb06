"""Arrays of other frameworks, to jax and back: memory is shared where both sides can, and the dtype is kept."""

from __future__ import annotations

import sys
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from openff_diffsystem.exceptions import PrecisionError, UnsupportedInputError


@runtime_checkable
class ArrayBridge(Protocol):
    """What a framework needs so that its arrays can be given to, and come back from, every function of this package.

    NumPy, JAX, PyTorch, and whatever speaks DLPack and can take it back (CuPy, for example) have one. Another framework
    gets one with :func:`register_bridge`.
    """

    def owns(self, value: Any) -> bool:
        """Whether the value is an array of this framework."""
        ...

    def to_jax(self, array: Any) -> jax.Array:
        """The same numbers for jax, in the same memory if possible, without a change of dtype."""
        ...

    def from_jax(self, array: jax.Array, like: Any) -> Any:
        """The same numbers for the framework, in the same memory if possible.

        ``array`` is ready. ``like`` is the input that the result belongs to: the framework's own array.
        """
        ...


class JaxBridge:
    """Arrays of jax, tracers included."""

    def owns(self, value: Any) -> bool:
        return isinstance(value, jax.Array)

    def to_jax(self, array: jax.Array) -> jax.Array:
        return array

    def from_jax(self, array: jax.Array, like: Any) -> jax.Array:
        return array


class NumpyBridge:
    """Arrays of NumPy: copied to where jax computes. What comes back is a view, and cannot be written to."""

    def owns(self, value: Any) -> bool:
        return isinstance(value, np.ndarray | np.generic)

    def to_jax(self, array: np.ndarray) -> jax.Array:
        return jnp.asarray(array)

    def from_jax(self, array: jax.Array, like: Any) -> np.ndarray:
        return np.asarray(array)


class TorchBridge:
    """Tensors of PyTorch, through DLPack. Gradients of torch do not pass: that is what ``interop.torch`` is for."""

    def owns(self, value: Any) -> bool:
        torch = sys.modules.get("torch")  # there is no tensor before torch is imported
        return torch is not None and isinstance(value, torch.Tensor)

    def to_jax(self, array: Any) -> jax.Array:
        return jnp.from_dlpack(array.detach().contiguous())

    def from_jax(self, array: jax.Array, like: Any) -> Any:
        return sys.modules["torch"].from_dlpack(array)


class DLPackBridge:
    """Whatever speaks DLPack, where the framework can take results back.

    That is ``from_dlpack`` of the array's namespace (Python array API), or of the package that its class belongs to.
    """

    def owns(self, value: Any) -> bool:
        return hasattr(value, "dtype") and hasattr(value, "__dlpack__") and self._from_dlpack(value) is not None

    def to_jax(self, array: Any) -> jax.Array:
        return jnp.from_dlpack(array)

    def from_jax(self, array: jax.Array, like: Any) -> Any:
        return self._from_dlpack(like)(array)

    def _from_dlpack(self, array: Any) -> Any:
        if hasattr(array, "__array_namespace__"):
            return array.__array_namespace__().from_dlpack
        package = sys.modules.get(type(array).__module__.partition(".")[0])
        return getattr(package, "from_dlpack", None)


_BRIDGES: list[ArrayBridge] = [JaxBridge(), NumpyBridge(), TorchBridge(), DLPackBridge()]


def register_bridge(bridge: ArrayBridge) -> None:
    """Let arrays of another framework in. The bridge is asked before those registered earlier.

    Raises
    ------
    UnsupportedInputError
        If the object lacks a method of :class:`ArrayBridge`.
    """
    if not isinstance(bridge, ArrayBridge):
        raise UnsupportedInputError(f"{type(bridge).__name__} lacks a method of ArrayBridge: owns, to_jax or from_jax")
    _BRIDGES.insert(0, bridge)


def bridge_of(value: Any, name: str) -> ArrayBridge:
    """The bridge of an array's framework.

    Raises
    ------
    UnsupportedInputError
        If the value is of no framework that is known.
    """
    for bridge in _BRIDGES:
        if bridge.owns(value):
            return bridge
    hint = ""
    if hasattr(value, "__dlpack__"):
        package = type(value).__module__.partition(".")[0]
        hint = (
            f": it speaks DLPack, but {package} has no from_dlpack that results could be given back with; "
            "call openff_diffsystem.interop.arrays.register_bridge"
        )
    raise UnsupportedInputError(
        f"{name} must be an array of NumPy, JAX, PyTorch or another framework of the array API or DLPack, in MD units, "
        f"got {type(value).__name__}{hint}"
    )


def dtype_name(array: Any) -> str:
    """The name of an array's dtype without that of its framework, for example ``float32``."""
    return str(array.dtype).rsplit(".", maxsplit=1)[-1]


def to_jax(value: Any, name: str) -> jax.Array:
    """An array of any framework for jax.

    Parameters
    ----------
    value
        float32 or float64. Memory is shared where both sides can: the caller must not write to it while jax works.
    name
        What errors call it.

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


def from_jax(array: jax.Array, like: Any) -> Any:
    """An array of jax for the framework of another array. Waits until the numbers are there."""
    bridge = bridge_of(like, "the array to be imitated")
    if isinstance(bridge, JaxBridge):
        return array
    return bridge.from_jax(jax.block_until_ready(array), like)


def require_float(array: Any, name: str) -> None:
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
