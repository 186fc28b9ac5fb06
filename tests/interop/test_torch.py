"""The potential for PyTorch: energies and derivatives of every kind against jax, OpenMM and torch's own checks."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from openff_diffsystem.exceptions import (
    InvalidInputError,
    ParameterMismatchError,
    PositionsError,
    PrecisionError,
    StaleNeighborListError,
    UnsupportedInputError,
)
from tests import boxes
from tests.differences import central_difference
from tests.molecules import with_charges
from tests.openmm_reference import ENERGY_TOLERANCE, Reference

torch = pytest.importorskip("torch")

ROUNDING = {torch.float32: 1e-4, torch.float64: 1e-12}
"""Of the largest component of a gradient, see tests/interop/test_vjp.py."""


def close(found, expected, tolerance: float = 1e-12) -> None:
    """Within a tolerance relative to the largest component."""
    expected = np.asarray(expected)
    np.testing.assert_allclose(
        torch.as_tensor(found).detach().numpy(), expected, rtol=0, atol=tolerance * np.abs(expected).max()
    )


def tensor(values, dtype=torch.float64) -> torch.Tensor:
    """A tensor of its own that collects gradients."""
    return torch.tensor(np.asarray(values), dtype=dtype, requires_grad=True)


@pytest.fixture(scope="module")
def potential(ethanol):
    return ethanol.to_torch_potential()


@pytest.fixture(scope="module")
def used(ethanol):
    """Some of what ethanol's energy depends on, every functional form among it: few enough to check one by one."""
    return ethanol.force_field_parameters.select(
        ["Bonds", "Angles", "ProperTorsions", "vdW"],
        ["k", "length", "angle", "k1", "phase1", "epsilon", "rmin_half"],
        smirks=["[#6X4:1]-[#6X4:2]", "[*:1]~[#6X4:2]-[*:3]", "[#6X4:1]-[#6X4:2]-[#8X2H1:3]-[#1:4]", "[#1:1]-[#8]"],
    )


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_backward_fills_gradients(ethanol, potential, dtype):
    """Against jax in double precision."""
    theta = ethanol.force_field_parameters.vector
    energy, expected = jax.value_and_grad(ethanol.to_jax_potential(), argnums=(0, 1))(ethanol.positions, theta)
    x, t = tensor(ethanol.positions, dtype), tensor(theta, dtype)
    found = potential(x, t)
    (2 * found).backward()
    assert found.dtype == x.grad.dtype == t.grad.dtype == dtype
    assert found.item() == pytest.approx(float(energy), rel=ROUNDING[dtype])
    close(x.grad, 2 * expected[0], ROUNDING[dtype])
    close(t.grad, 2 * expected[1], ROUNDING[dtype])


def test_forces_of_openmm(sage, potential):
    molecule = with_charges("CCO")
    positions = molecule.conformers[0].m_as("nanometer")
    reference = Reference(sage.create_openmm_system(molecule.to_topology(), charge_from_molecules=[molecule]))
    x = tensor(positions)
    energy = potential(x)
    energy.backward()
    assert energy.item() == pytest.approx(reference.energy(positions), **ENERGY_TOLERANCE)
    # rounding of sums in another order
    close(-x.grad, reference.forces(positions), 1e-10)


def test_gradcheck_of_torch(ethanol, potential, used):
    """First and second derivatives, component by component, against torch's differences, in double precision.

    Parameters are varied relative to their size, positions by nm: with steps of 1e-6 the differences round to 1e-16 of
    100 kJ/mol (or of 1e4 kJ/mol/nm) over 1e-6, 1e-8 (or 1e-6), and are truncated to 1e-7 of a derivative.
    """
    base = torch.tensor(np.asarray(used.vector))

    def energy(x, change):
        return potential(x, used.replace(base * (1 + change)))

    at = tensor(ethanol.positions), torch.zeros(len(base), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(energy, at, eps=1e-6, atol=1e-6, rtol=1e-5)
    assert torch.autograd.gradgradcheck(energy, at, eps=1e-6, atol=1e-4, rtol=1e-5)


def test_gradcheck_in_forward_mode(ethanol, potential):
    """Random directions suffice, the reverse mode was checked by component; for the tolerances see there."""
    assert torch.autograd.gradcheck(
        potential, (tensor(ethanol.positions),), eps=1e-6, atol=1e-6, rtol=1e-5, fast_mode=True, check_forward_ad=True
    )


def test_force_matching(ethanol, potential, used):
    """The gradient of a loss of forces, a mixed second derivative, equal to that of jax."""
    theta = ethanol.force_field_parameters.vector
    target = np.random.default_rng(0).normal(scale=100.0, size=ethanol.positions.shape)
    reference = ethanol.to_jax_potential()
    expected = jax.grad(lambda t: jnp.mean((jax.grad(reference)(jnp.asarray(ethanol.positions), t) + target) ** 2))(
        theta
    )
    x, t = tensor(ethanol.positions), tensor(theta)
    (slope,) = torch.autograd.grad(potential(x, t), x, create_graph=True)
    torch.mean((slope + torch.tensor(target)) ** 2).backward()
    close(t.grad, expected, 1e-11)


def test_transforms(ethanol, potential):
    """torch.func, alone and nested, against jax, a loop, or differences of gradients."""
    from torch.func import grad, hessian, jacrev, jvp, vjp, vmap

    x, t = torch.tensor(ethanol.positions), potential.initial_theta()
    expected = jax.grad(ethanol.to_jax_potential(), argnums=(0, 1))(ethanol.positions, t.numpy())
    close(grad(potential)(x, t), expected[0])
    for found, reference in zip(vjp(potential, x, t)[1](torch.tensor(1.0, dtype=x.dtype)), expected, strict=True):
        close(found, reference)
    direction = torch.tensor(np.random.default_rng(0).normal(size=x.shape))
    pushed = jvp(lambda y: potential(y, t), (x,), (direction,))[1]
    assert pushed.item() == pytest.approx(np.vdot(expected[0], direction.numpy()), rel=1e-12)
    stack = torch.stack([x, 1.001 * x, 0.999 * x])
    one_by_one = torch.stack([potential(one, t) for one in stack])
    close(vmap(potential, (0, None))(stack, t), one_by_one)
    close(potential(stack, t), one_by_one)
    close(vmap(grad(potential), (0, None))(stack, t)[0], expected[0])
    close(jacrev(potential, argnums=1)(stack, t)[0], expected[1])
    # a step of 1e-6 nm truncates at 1e-12 of r^-12's fourth derivative, and rounds at 1e-16 / 1e-6 of the force
    change = (grad(potential)(x + 1e-6 * direction, t) - grad(potential)(x - 1e-6 * direction, t)) / 2e-6
    close(torch.einsum("iajb,jb->ia", hessian(potential)(x, t), direction), change, 1e-7)


def test_parameters_of_the_system(ethanol, potential):
    """theta -> terms -> energy in two steps has the gradient of one."""
    x, t = torch.tensor(ethanol.positions), tensor(ethanol.force_field_parameters.vector)
    terms = potential.parameterize(t)
    close(terms["Bonds"], ethanol.parameterize().unique("Bonds"))
    close(potential(x, t.detach(), parameters=terms), potential(x, t).detach())
    (whole,) = torch.autograd.grad(potential(x, t), t)
    (by_terms,) = torch.autograd.grad(potential(x, t.detach(), parameters=terms), t, retain_graph=True)
    # scale14 and the like are no terms
    settings = [label.split("/")[1] == "" for label in ethanol.force_field_parameters.labels]
    close(by_terms[~torch.tensor(settings)], whole[~torch.tensor(settings)])
    (k_only,) = torch.autograd.grad(potential(x, t.detach(), parameters={"Bonds": {"k": terms["Bonds"][:, 0]}}), t)
    chosen = torch.tensor(
        [label.startswith("Bonds/") and label.endswith("/k") for label in ethanol.force_field_parameters.labels]
    )
    close(k_only[chosen], whole[chosen])
    assert not k_only[~chosen].any()


@pytest.fixture(scope="module")
def water():
    box = boxes.water("tip3p.offxml")
    return box, box.system()


def test_periodic_box(water):
    """Forces against OpenMM, derivatives in theta and the box against jax."""
    box, system = water
    potential, neighbors = system.to_torch_potential(), system.neighbor_list()
    reference = Reference(box.load().create_openmm_system(box.topology))
    theta = system.force_field_parameters.vector
    expected = jax.grad(system.to_jax_potential(), argnums=(1, 2))(
        jnp.asarray(box.positions), theta, jnp.asarray(box.box_vectors), neighbors
    )
    for given in (neighbors, None):
        x, t, vectors = tensor(box.positions), tensor(theta), tensor(box.box_vectors)
        energy = potential(x, t, vectors, given)
        energy.backward()
        # rounding of OpenMM's long-range correction, see tests/potentials/periodic/test_periodic.py
        assert energy.item() == pytest.approx(reference.energy(box.positions), rel=1e-8)
        close(-x.grad, reference.forces(box.positions), 1e-9)
        close(t.grad, expected[0], 1e-10)
        close(vectors.grad, expected[1], 1e-10)


def test_neighbour_lists_follow(water):
    """The list that is kept is made anew when particles have moved, also if the tensor was written to in place."""
    box, system = water
    potential = system.to_torch_potential()
    x = torch.tensor(box.positions)
    potential(x)
    x[:3] += 0.3  # a water moves into others
    fresh = system.to_jax_potential()(x.numpy(), system.force_field_parameters)
    assert potential(x).item() == pytest.approx(float(fresh), rel=1e-12)
    with pytest.raises(StaleNeighborListError, match="moved by"):
        potential(x, neighbors=system.neighbor_list())
    with pytest.raises(InvalidInputError, match="neighbour list that covers them all"):
        torch.func.vmap(potential)(torch.stack([x, x]))


def test_force_matching_in_a_box(water):
    """The derivative of summed squared forces in theta, against differences of OpenMM's forces.

    With a relative step of 1e-4, sigma^24 truncates at 23 22 / 6 1e-8 = 8e-7, and forces round at 1e-12 / 1e-4.
    """
    box, system = water
    # off the lattice, where forces between oxygens cancel
    positions = box.positions + np.random.default_rng(0).normal(scale=0.01, size=box.positions.shape)
    x, t, vectors = tensor(positions), tensor(system.force_field_parameters.vector), tensor(box.box_vectors)
    energy = system.to_torch_potential()(x, t, vectors, system.neighbor_list(positions, like=system.neighbor_list()))
    (slope,) = torch.autograd.grad(energy, x, create_graph=True)
    torch.sum(slope**2).backward()

    def of_forces(reference: Reference) -> float:
        return np.sum(reference.forces(positions) ** 2)

    layout = system.parameter_layout
    for section, attribute in (("vdW", "sigma"), ("LibraryCharges", "charge1")):
        column = layout.column(section, attribute)
        i = max(range(column.slice.start, column.slice.stop), key=lambda i: abs(t.grad[i].item()))
        expected = central_difference(
            box.load(), layout.components[i], column.attribute, box.topology, {}, positions, measure=of_forces
        )
        assert t.grad[i].item() == pytest.approx(expected, rel=2e-6)


def test_refused_arguments(ethanol, potential):
    x = torch.tensor(ethanol.positions)
    with pytest.raises(PositionsError, match=r"\(9, 3\)"):
        potential(x[:-1])
    with pytest.raises(PositionsError, match=r"positions hold NaN or infinity, first at index \[2, 1\]"):
        broken = x.clone()
        broken[2, 1] = np.nan
        potential(broken)
    with pytest.raises(ParameterMismatchError, match="1290"):
        potential(x, torch.zeros(3))
    with pytest.raises(UnsupportedInputError, match="positions must be float32 or float64, got int64"):
        potential(x.long())
    with pytest.raises(UnsupportedInputError, match="float16"):
        potential(x.half())
    with pytest.raises(UnsupportedInputError, match="memory of positions cannot be shared"):
        potential(torch.empty_like(x, device="meta"))
    with pytest.raises(UnsupportedInputError, match="list"):
        potential(ethanol.positions.tolist())
    with jax.enable_x64(False), pytest.raises(PrecisionError, match="positions is float64"):
        potential(x)


def test_memory_layout_does_not_matter(ethanol, potential):
    """Transposed, strided and expanded tensors are those numbers, too."""
    x = torch.tensor(ethanol.positions)
    expected = potential(x).item()
    strided = torch.zeros(2 * len(x), 3, dtype=x.dtype)
    strided[::2] = x
    assert potential(strided[::2]).item() == expected
    assert potential(x.T.contiguous().T).item() == expected
    np.testing.assert_allclose(potential(x.expand(2, -1, -1)).numpy(), expected, rtol=1e-13)
