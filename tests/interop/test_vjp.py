"""Values and pullbacks for arrays of NumPy, JAX, PyTorch and the array API, and bridges to more."""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from openff_diffsystem.exceptions import (
    BoxError,
    NonFiniteParameterError,
    ParameterMismatchError,
    PositionsError,
    PrecisionError,
    UnsupportedInputError,
)
from openff_diffsystem.interop import arrays
from tests import boxes

FRAMEWORKS = ["numpy", "jax.numpy", "torch", "array_api_strict"]

ROUNDING = {"float32": 1e-4, "float64": 1e-12}
"""Of the largest component of a gradient. Compiled together or apart, XLA orders sums in other ways; float32 rounds by
6e-8, amplified by r^-12 and stiff bonds."""


def maker(framework: str, dtype: str):
    """A function that makes arrays of a framework, whose type and dtype results are compared with."""
    module = pytest.importorskip(framework)
    return lambda values: module.asarray(np.array(values, dtype=dtype))


def assert_like(array, like, values, dtype) -> None:
    assert type(array) is type(like) or isinstance(array, type(like))
    assert array.dtype == like.dtype
    values = np.asarray(values)
    scale = np.abs(values).max(initial=1.0)
    np.testing.assert_allclose(np.from_dlpack(array), values, rtol=0, atol=ROUNDING[dtype] * scale)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_energy_in_the_framework_and_precision_of_its_arguments(ethanol, framework, dtype):
    """Against jax.grad of the potential in double precision."""
    make = maker(framework, dtype)
    vector = ethanol.force_field_parameters.vector
    expected = jax.value_and_grad(ethanol.to_jax_potential(), argnums=(0, 1))(jnp.asarray(ethanol.positions), vector)
    positions, theta = make(ethanol.positions), make(vector)
    energy, pullback = ethanol.energy_vjp(positions, theta)
    gradients = pullback(make(2.0))
    assert gradients.box_vectors is None and gradients.parameters is None
    assert_like(energy, positions, expected[0], dtype)
    assert_like(gradients.positions, positions, 2 * expected[1][0], dtype)
    assert_like(gradients.theta, theta, 2 * expected[1][1], dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_parameters_in_the_framework_and_precision_of_theta(ethanol, framework, dtype):
    """Against the matrix of the assignment."""
    make = maker(framework, dtype)
    theta = make(ethanol.force_field_parameters.vector)
    values, pullback = ethanol.vjp(theta)
    assert tuple(values) == ethanol.sections
    for section, terms in values.items():
        assert_like(terms, theta, ethanol.parameterize()[section], dtype)
        assert terms.shape[0] == len(ethanol.indices(section))
    cotangent = np.random.default_rng(0).normal(size=values["Bonds"].shape)
    expected = ethanol.assignment("Bonds").to_matrix().T @ cotangent.ravel()
    assert_like(pullback({"Bonds": make(cotangent)}), theta, expected, dtype)


@pytest.mark.parametrize("framework, dtype", [("numpy", "float64"), ("torch", "float32")])
def test_periodic_energy(framework, dtype):
    """With box gradient. In single precision as in test_periodic.py: forces within 1e-3 of their rms."""
    make = maker(framework, dtype)
    system = boxes.water("tip3p.offxml").system()
    box, theta = np.asarray(system.box_vectors), system.force_field_parameters.vector
    neighbors = system.neighbor_list()
    expected = jax.grad(system.to_jax_potential(), argnums=(0, 1, 2))(
        jnp.asarray(system.positions), theta, jnp.asarray(box), neighbors
    )
    for given in (neighbors, None):
        energy, pullback = system.energy_vjp(make(system.positions), make(theta), make(box), given)
        found = pullback(1.0)
        assert str(energy.dtype).endswith(dtype)
        for gradient, reference in zip(found[:3], expected, strict=True):
            assert str(gradient.dtype).endswith(dtype)
            rms = float(jnp.sqrt(jnp.mean(reference**2)))
            bound = (1e-3 if dtype == "float32" else 1e-10) * rms
            np.testing.assert_allclose(np.from_dlpack(gradient), reference, rtol=0, atol=bound)


def test_memory_is_shared():
    """By address, both ways: XLA takes over memory that begins at a multiple of 64 bytes, which is made so here.

    Not from NumPy: jax copies what NumPy may write to, and puts it where it computes.
    """
    torch = pytest.importorskip("torch")
    spare = np.zeros(16 + 8)
    start = -spare.__array_interface__["data"][0] % 64 // 8
    mine = spare[start : start + 16]
    address = mine.__array_interface__["data"][0]
    tensor = torch.from_numpy(mine)
    array = arrays.to_jax(tensor, "tensor")
    assert array.unsafe_buffer_pointer() == tensor.data_ptr() == address
    result = jnp.arange(16.0)
    assert arrays.from_jax(result, tensor).data_ptr() == result.unsafe_buffer_pointer()
    view = arrays.from_jax(result, mine)
    assert view.__array_interface__["data"][0] == result.unsafe_buffer_pointer()
    assert not view.flags.writeable


def test_parameters_from_elsewhere_close_the_chain(ethanol):
    """theta -> values -> energy in two steps has the gradient of one step."""
    positions, vector = np.asarray(ethanol.positions), np.asarray(ethanol.force_field_parameters.vector)
    energy, pullback = ethanol.energy_vjp(positions, vector)
    values, to_theta = ethanol.vjp(vector, unique=True)
    again, through = ethanol.energy_vjp(positions, vector, parameters=values)
    assert float(again) == pytest.approx(float(energy), rel=1e-14)
    found = through()
    assert isinstance(found.parameters["Bonds"], np.ndarray)
    expected = pullback().theta
    np.testing.assert_allclose(
        found.theta + to_theta(found.parameters), expected, rtol=0, atol=1e-12 * abs(expected).max()
    )


def test_one_column_of_a_section(ethanol):
    positions = np.asarray(ethanol.positions)
    k = np.asarray(ethanol.parameterize().unique("Bonds")[:, 0])
    step = 1e-3 * k[0]
    up, down = (
        ethanol.energy_vjp(positions, parameters={"Bonds": {"k": k + sign * step * np.eye(len(k))[0]}})[0]
        for sign in (1, -1)
    )
    gradient = ethanol.energy_vjp(positions, parameters={"Bonds": {"k": k}})[1]().parameters["Bonds"]["k"]
    # the energy is linear in k: what is left is rounding, 1e-14 of the energy over the step
    assert gradient[0] == pytest.approx((up - down) / (2 * step), rel=1e-7)


def test_selections_come_back_as_selections(ethanol):
    chosen = ethanol.force_field_parameters.select("Bonds", "k")
    positions, vector = np.asarray(ethanol.positions), np.asarray(ethanol.force_field_parameters.vector)
    gradient = ethanol.energy_vjp(positions, chosen.replace(np.asarray(chosen.vector)))[1]().theta
    assert gradient.labels == chosen.labels and isinstance(gradient.vector, np.ndarray)
    everything = ethanol.energy_vjp(positions, vector)[1]().theta
    np.testing.assert_allclose(gradient.vector, everything[chosen.selection.positions], rtol=1e-12)


def test_a_stack_of_conformers_and_writing_to_inputs(ethanol):
    """What the caller writes after the call does not reach the pullback."""
    rng = np.random.default_rng(0)
    stack = np.asarray(ethanol.positions) + 1e-3 * rng.normal(size=(3, *ethanol.positions.shape))
    theta = np.array(ethanol.force_field_parameters.vector)
    weights = rng.normal(size=3)
    singles = [ethanol.energy_vjp(one.copy(), theta) for one in stack]
    expected = sum(w * pullback().theta for w, (_, pullback) in zip(weights, singles, strict=True))
    energies, pullback = ethanol.energy_vjp(stack, theta)
    np.testing.assert_allclose(energies, [float(energy) for energy, _ in singles], rtol=1e-13)
    stack[:] = 0.0
    theta[:] = 0.0
    found = pullback(weights)
    np.testing.assert_allclose(found.theta, expected, rtol=0, atol=1e-12 * abs(expected).max())
    with pytest.raises(ParameterMismatchError, match=r"\(3,\)"):
        pullback(np.ones(2))


def test_double_precision_is_not_lost_silently(ethanol):
    theta = np.asarray(ethanol.force_field_parameters.vector)
    positions = np.asarray(ethanol.positions)
    with jax.enable_x64(False):
        with pytest.raises(PrecisionError, match=r"positions is float64.*jax_enable_x64"):
            ethanol.energy_vjp(positions, theta.astype(np.float32))
        with pytest.raises(PrecisionError, match="theta"):
            ethanol.vjp(theta)


def test_refused_arguments(ethanol):
    positions = np.asarray(ethanol.positions)
    with pytest.raises(PositionsError, match=r"\(9, 3\)"):
        ethanol.energy_vjp(positions[:-1])
    with pytest.raises(UnsupportedInputError, match=r"positions must be an array.*list"):
        ethanol.energy_vjp(positions.tolist())
    with pytest.raises(UnsupportedInputError, match="positions must be float32 or float64, got int"):
        ethanol.energy_vjp(positions.astype(int))
    with pytest.raises(UnsupportedInputError, match="mapping"):
        ethanol.energy_vjp(positions, parameters=positions)
    broken = positions.copy()
    broken[2, 1] = np.nan
    with pytest.raises(PositionsError, match=r"positions hold NaN or infinity, first at index \[2, 1\]"):
        ethanol.energy_vjp(broken)
    with pytest.raises(BoxError, match=r"box_vectors hold NaN or infinity, first at index \[0, 0\]"):
        ethanol.energy_vjp(positions, box_vectors=np.diag([np.inf, 2.0, 2.0]))
    with pytest.raises(BoxError, match=r"\(3, 3\)"):
        ethanol.energy_vjp(positions, box_vectors=np.ones(3))
    with pytest.raises(ParameterMismatchError, match="Bond"):
        ethanol.energy_vjp(positions, parameters={"Bond": positions})
    with pytest.raises(ParameterMismatchError, match="1290"):
        ethanol.energy_vjp(positions, np.zeros(3))
    vector = np.array(ethanol.force_field_parameters.vector)
    with pytest.raises(UnsupportedInputError, match="theta must be parameters or an array, got a list"):
        ethanol.vjp(vector.tolist())
    vector[3] = np.nan
    with pytest.raises(NonFiniteParameterError, match=r"theta hold NaN or infinity, first at index \[3\]"):
        ethanol.energy_vjp(positions, vector)
    with pytest.raises(NonFiniteParameterError, match=r"theta hold NaN or infinity, first at index \[3\]"):
        ethanol.vjp(vector)
    broken = np.array(ethanol.parameterize().unique("Bonds"))
    broken[1, 0] = np.inf
    with pytest.raises(
        NonFiniteParameterError, match=r"parameters/Bonds hold NaN or infinity, first at index \[1, 0\]"
    ):
        ethanol.energy_vjp(positions, parameters={"Bonds": broken})
    pullback = ethanol.vjp()[1]
    with pytest.raises(ParameterMismatchError, match="no section 'Bond'"):
        pullback({"Bond": positions})
    with pytest.raises(ParameterMismatchError, match=r"cotangent of Bonds must have shape \(8, 2\)"):
        pullback({"Bonds": positions})


class Boxed:
    """An array of a framework that knows neither DLPack nor the array API."""

    def __init__(self, numbers) -> None:
        self.numbers = np.asarray(numbers)
        self.dtype, self.shape = self.numbers.dtype, self.numbers.shape


class BoxedBridge:
    def owns(self, value) -> bool:
        return isinstance(value, Boxed)

    def to_jax(self, array):
        return jnp.asarray(array.numbers)

    def from_jax(self, array, like):
        return Boxed(array)


def test_another_framework_needs_a_bridge(ethanol, monkeypatch):
    monkeypatch.setattr(arrays, "_BRIDGES", list(arrays._BRIDGES))
    with pytest.raises(UnsupportedInputError, match="Boxed"):
        ethanol.energy_vjp(Boxed(ethanol.positions))
    arrays.register_bridge(BoxedBridge())
    energy, pullback = ethanol.energy_vjp(Boxed(ethanol.positions))
    expected, reference = ethanol.energy_vjp(np.asarray(ethanol.positions))
    assert energy.numbers == expected
    np.testing.assert_array_equal(pullback().positions.numbers, reference().positions)
    with pytest.raises(UnsupportedInputError, match="lacks a method"):
        arrays.register_bridge(Boxed([1.0]))


class Exchanged:
    """An array of a framework that speaks DLPack and does not follow the array API."""

    def __init__(self, numbers) -> None:
        self._numbers = np.asarray(numbers)
        self.dtype, self.shape = self._numbers.dtype, self._numbers.shape

    def __dlpack__(self, **keywords):
        return self._numbers.__dlpack__(**keywords)

    def __dlpack_device__(self):
        return self._numbers.__dlpack_device__()


def test_dlpack_alone_is_enough_where_results_can_be_given_back(ethanol, monkeypatch):
    package = ModuleType("exchanging")
    monkeypatch.setattr(Exchanged, "__module__", "exchanging.arrays")
    monkeypatch.setitem(sys.modules, "exchanging", package)
    positions = Exchanged(ethanol.positions)
    with pytest.raises(UnsupportedInputError, match=r"exchanging has no from_dlpack.*register_bridge"):
        ethanol.energy_vjp(positions)
    package.from_dlpack = lambda array: Exchanged(np.from_dlpack(array))
    energy, pullback = ethanol.energy_vjp(positions)
    expected, reference = ethanol.energy_vjp(np.asarray(ethanol.positions))
    assert isinstance(energy, Exchanged) and energy._numbers == expected
    np.testing.assert_array_equal(pullback().positions._numbers, reference().positions)


def test_bridges_follow_the_protocol():
    for bridge in arrays._BRIDGES:
        assert isinstance(bridge, arrays.ArrayBridge)


@pytest.mark.parametrize("module, package", [("torch", "torch"), ("jax_md", "jax_md")])
def test_missing_packages_name_the_extra(module, package, monkeypatch):
    from openff_diffsystem.exceptions import MissingStackError

    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, f"openff_diffsystem.interop.{module}", raising=False)
    with pytest.raises(MissingStackError, match=rf"openff-diffsystem\[{module.replace('_', '-')}\]"):
        import_module(f"openff_diffsystem.interop.{module}")
