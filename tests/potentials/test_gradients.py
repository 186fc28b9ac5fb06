"""Derivatives of the energy: against differences of OpenMM for every class of parameter, and of second order.

OpenMM never sees our numbers: the OFFXML value is changed, and stock openff-interchange builds the system anew.
"""

from __future__ import annotations

import copy
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from openff.toolkit import ForceField, Topology

from openff_diffsystem import DiffSystem
from tests.differences import central_difference
from tests.force_fields import BOND_ORDERS, CHARGE_INCREMENTS, SITE_MOLECULE, VIRTUAL_SITES
from tests.handlers.test_handlers import with_bond_orders
from tests.molecules import IMATINIB, in_vacuum, with_charges
from tests.openmm_reference import Reference

TOLERANCE = {"rtol": 2e-6, "atol": 2e-6}
"""Truncation and rounding of a central difference, see ``tests.differences``."""


@lru_cache
def prepared(name: str):
    """A force field, a topology, options of from_smirnoff, and strained coordinates."""
    if name == "sage":
        molecule = with_charges("CC(=O)Nc1ccccc1O")
        force_field, options = (
            ForceField("openff_unconstrained-2.2.1.offxml"),
            {"charge_from_molecules": [molecule]},
        )
        topology = molecule.to_topology()
    elif name == "sites":
        molecule = with_charges(SITE_MOLECULE)
        force_field = ForceField("openff_unconstrained-2.2.1.offxml", VIRTUAL_SITES)
        options, topology = {"charge_from_molecules": [molecule]}, molecule.to_topology()
    elif name == "library":
        water = with_charges("O")
        force_field, options, topology = (
            ForceField("tip5p.offxml"),
            {},
            Topology.from_molecules([water, water]),
        )
    elif name == "increments":
        molecule = with_charges("CCO")
        force_field, options = ForceField("openff_unconstrained-2.2.1.offxml", CHARGE_INCREMENTS), {}
        topology = molecule.to_topology()
    else:
        molecule = with_bond_orders("c1ccccc1C(=O)N")
        force_field, options = ForceField(BOND_ORDERS), {"partial_bond_orders_from_molecules": [molecule]}
        topology = molecule.to_topology()
    coordinates = np.concatenate(
        [m.conformers[0].m_as("nanometer") + [0.31 * i, 0, 0.05 * i] for i, m in enumerate(topology.molecules)]
    )
    coordinates = coordinates + np.random.default_rng(1).normal(scale=0.004, size=coordinates.shape)
    return force_field, topology, options, coordinates


CLASSES = {
    "sage": {"Bonds": ["k", "length"], "Angles": ["k", "angle"], "ProperTorsions": ["k1", "k2", "phase1", "idivf1"],
             "ImproperTorsions": ["k1", "phase1"], "vdW": ["epsilon", "rmin_half", "scale14"],
             "Electrostatics": ["scale14"]},
    "sites": {"VirtualSites": ["distance", "outOfPlaneAngle", "inPlaneAngle", "charge_increment1", "charge_increment2",
                               "charge_increment3", "charge_increment4", "epsilon", "sigma", "rmin_half"]},
    "library": {"LibraryCharges": ["charge1"], "VirtualSites": ["distance", "outOfPlaneAngle", "charge_increment1"],
                "vdW": ["epsilon", "sigma"]},
    "increments": {"ChargeIncrementModel": ["charge_increment1", "charge_increment2"]},
    "orders": {"Bonds": ["k_bondorder1", "k_bondorder2", "length_bondorder1", "length_bondorder2"],
               "ProperTorsions": ["k1_bondorder1", "k2_bondorder2", "phase2"]},
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:charge_from_molecules")
@pytest.mark.parametrize("name", CLASSES)
def test_every_class_against_differences_of_openmm(name):
    force_field, topology, options, coordinates = prepared(name)
    system = DiffSystem.from_smirnoff(force_field, topology, **options)
    theta = system.force_field_parameters
    gradient = np.asarray(jax.grad(system.to_jax_potential(), argnums=1)(jnp.asarray(coordinates), theta).vector)
    for section, attributes in CLASSES[name].items():
        for attribute in attributes:
            column = theta.layout.column(section, attribute)
            span = np.arange(column.slice.start, column.slice.stop)
            if attribute == "epsilon":  # OpenMM takes no negative ones, so there is no central difference at zero
                span = span[np.asarray(theta.vector)[span] > 0]
            # the components that matter most; where all are zero, whatever comes first
            strongest = span[np.argsort(-np.abs(gradient[span]), kind="stable")[:2]]
            for i in strongest:
                component = theta.layout.components[i]
                if attribute == "idivf1":
                    # the OpenMM export rounds idivf to an integer, so the difference is taken of U(k / idivf) by hand
                    k = theta["ProperTorsions"]["k1"][list(column.rows).index(component.row)]
                    slope = gradient[theta.labels.index(theta.labels[i].replace("idivf1", "k1"))]
                    expected = -slope * float(k) / float(theta.vector[i])
                else:
                    expected = central_difference(
                        force_field, component, column.attribute, topology, options, coordinates
                    )
                np.testing.assert_allclose(gradient[i], expected, **TOLERANCE, err_msg=theta.labels[i])
            if attribute not in ("epsilon", "inPlaneAngle"):
                assert gradient[strongest[0]] != 0, f"{section}/{attribute} was not exercised"


def test_hessian_vector_products(stock_sage):
    """d2U/dtheta dx and d2U/dtheta2 against central differences of the gradient."""
    molecule = with_charges("CC(=O)Nc1ccccc1O")
    system = DiffSystem.from_smirnoff(stock_sage, molecule, charge_from_molecules=[molecule])
    potential, theta = system.to_jax_potential(), system.force_field_parameters.vector
    x = jnp.asarray(system.positions)
    rng = np.random.default_rng(0)
    direction = (jnp.asarray(rng.normal(size=x.shape)), theta * jnp.asarray(rng.normal(size=theta.shape)))
    gradient = jax.jit(jax.grad(potential, argnums=(0, 1)))
    product = jax.jit(lambda *at: jax.jvp(gradient, at, direction)[1])(x, theta)
    # a step this small keeps the cubic term of r^-12 at 1 part in 1e6 of the product
    h = 1e-6
    plus, minus = (gradient(x + s * h * direction[0], theta + s * h * direction[1]) for s in (1, -1))
    for exact, a, b in zip(product, plus, minus, strict=True):
        difference = (np.asarray(a) - np.asarray(b)) / (2 * h)
        assert np.isfinite(exact).all()
        np.testing.assert_allclose(exact, difference, rtol=1e-5, atol=1e-6 * np.abs(difference).max())


def test_zero_epsilon_and_collinear_atoms():
    """First and second derivatives are finite where a naive formula is not: TIP3P hydrogens, a nitrile, an alkyne."""
    for force_field, molecule in (
        (ForceField("tip3p.offxml"), with_charges("O")),
        (ForceField("openff_unconstrained-2.2.1.offxml"), with_charges("CC#N")),
        (ForceField("openff_unconstrained-2.2.1.offxml"), with_charges("C#C")),
    ):
        system = DiffSystem.from_smirnoff(force_field, molecule, charge_from_molecules=[molecule])
        potential, theta = system.to_jax_potential(), system.force_field_parameters.vector
        x = jnp.asarray(system.positions)
        straight = (
            x if molecule.n_atoms > 4 else jnp.stack([jnp.arange(4.0) * 0.12, jnp.zeros(4), jnp.zeros(4)], axis=1)
        )
        for positions in (x, straight[: molecule.n_atoms]):
            first = jax.grad(potential, argnums=(0, 1))(positions, theta)
            second = jax.jvp(
                jax.grad(potential, argnums=(0, 1)),
                (positions, theta),
                (jnp.ones_like(positions), jnp.ones_like(theta)),
            )[1]
            for array in (*first, *second):
                assert np.isfinite(array).all()


@pytest.mark.parametrize("degrees", [179.0, 179.93, 180.0])
def test_nearly_straight_angles(degrees):
    """But-2-yne bent to an angle at which a formula with arccos or with a bare cross product loses its derivatives."""
    molecule = with_charges("CC#CC")
    system = DiffSystem.from_smirnoff(
        ForceField("openff_unconstrained-2.2.1.offxml"), molecule, charge_from_molecules=[molecule]
    )
    theta = system.force_field_parameters.vector
    bend = np.radians(180.0 - degrees)
    positions = np.array(system.positions)
    turned = bend * np.arange(3)
    directions = np.stack([np.cos(turned), np.sin(turned), np.zeros(3)], axis=1)
    positions[1:4] = positions[0] + np.cumsum(directions * [[0.146], [0.121], [0.146]], axis=0)
    x = jnp.asarray(positions)
    gradient = jax.grad(system.to_jax_potential(), argnums=(0, 1))
    along = (jnp.asarray(np.random.default_rng(0).normal(size=x.shape)), jnp.ones_like(theta))
    first, second = jax.jvp(gradient, (x, theta), along)
    for array in (*first, *second):
        assert np.isfinite(array).all()
    reference = Reference(
        ForceField("openff_unconstrained-2.2.1.offxml").create_openmm_system(
            molecule.to_topology(), charge_from_molecules=[molecule]
        )
    )
    if degrees < 180.0:
        forces = reference.forces(positions)
        assert np.abs(forces + np.asarray(first[0])).max() < 1e-5 * np.sqrt(np.mean(forces**2))


def test_lengths_scaled(stock_sage):
    """Lennard-Jones energies depend on r/sigma: scaled together, squared forces fall with the square of the scale."""
    molecule = with_charges(IMATINIB)
    system = DiffSystem.from_smirnoff(stock_sage, molecule, charge_from_molecules=[molecule])
    theta = system.force_field_parameters
    lengths = np.zeros(len(theta.vector))
    for attribute in ("rmin_half", "sigma"):
        lengths[theta.select("vdW", attribute).selection.positions] = 1.0
    positions = jnp.asarray(system.positions)

    def squared_forces(scale):
        vector = theta.vector * (1.0 + lengths * (scale - 1.0))
        forces = jax.grad(lambda x: system.energy_terms(x, vector)["vdW"])(scale * positions)
        return jnp.sum(forces**2)

    value, slope = jax.value_and_grad(squared_forces)(1.0)
    assert float(value) > 0
    assert float(slope) == pytest.approx(-2.0 * float(value), rel=1e-9)


def test_sentinel_has_exactly_zero_gradient(stock_sage):
    force_field = copy.deepcopy(stock_sage)
    sentinel = copy.deepcopy(force_field["Bonds"].parameters[0])
    sentinel.smirks, sentinel.id = "[#92:1]~[#92:2]", "sentinel"
    force_field["Bonds"].parameters.insert(0, sentinel)
    molecule = with_charges(IMATINIB)
    system = DiffSystem.from_smirnoff(force_field, molecule, charge_from_molecules=[molecule])
    theta = system.force_field_parameters
    gradient = jax.grad(system.to_jax_potential(), argnums=1)(jnp.asarray(system.positions), theta)
    chosen = theta.select("Bonds", id="sentinel").selection.positions
    assert len(chosen) == 2 and not np.any(gradient.vector[chosen])


@pytest.mark.slow
def test_sweep_finite_first_and_second_derivatives():
    """MiniDrugBank and a part of AlkEthOH: no NaN in dU/dtheta, dU/dx and a Hessian-vector product of both."""
    force_field = ForceField("openff-2.2.1.offxml")
    systems = []
    for molecule in in_vacuum():
        try:
            systems.append(DiffSystem.from_smirnoff(force_field, molecule, charge_from_molecules=[molecule]))
        except ValueError:
            continue
    batch = DiffSystem.concatenate(systems)
    packed = batch.pack([system.positions for system in systems], conformers_per_row=1)

    def total(positions, theta):
        return jnp.sum(
            batch.potential(type(packed)(positions, packed.systems, packed.order, packed.n_conformers), theta)
        )

    at = (packed.positions, batch.force_field_parameters.vector)
    gradient = jax.grad(total, argnums=(0, 1))
    first = gradient(*at)
    second = jax.jvp(gradient, at, jax.tree.map(jnp.ones_like, at))[1]
    assert all(np.isfinite(array).all() for array in jax.tree.leaves((first, second)))
    print(f"{len(systems)} molecules, first and second derivatives finite")
