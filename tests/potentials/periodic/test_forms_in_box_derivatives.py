"""Derivatives of pair forms in periodic systems, against differences of OpenMM's energies and forces."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from openff.toolkit import ForceField

from openff_diffsystem.potentials.periodic.neighbors import NeighborList
from tests.differences import slope_with_tail
from tests.form_boxes import SECTION, Case, case, number
from tests.openmm_reference import energy_of, forces_of


class Compiled(NamedTuple):
    """A case with its list, and compiled functions that all tests share: ``(positions, theta, box, neighbors)``."""

    one: Case
    at: tuple[jax.Array, jax.Array, jax.Array]
    neighbors: NeighborList
    energy_and_gradient: Callable
    hessian_product: Callable


@pytest.fixture(scope="module")
def ethanol() -> Compiled:
    one = case("ethanol in water, triclinic")
    potential = one.system.to_jax_potential()
    at = (jnp.asarray(one.positions), one.theta.vector, jnp.asarray(one.box))
    gradient = jax.value_and_grad(potential, argnums=(0, 1, 2))

    def product(at, along, neighbors):
        return jax.jvp(lambda *x: gradient(*x, neighbors)[1], at, along)

    return Compiled(one, at, one.system.neighbor_list(), jax.jit(gradient), jax.jit(product))


def changed(one: Case, vector: np.ndarray) -> ForceField:
    """The force field with other numbers, through OFFXML's own attributes."""
    theta = copy.deepcopy(one.theta)
    theta.vector = jnp.asarray(vector)
    return theta.to_force_field(one.force_field)


NUMBERS = ("d1/r_min", "d3/r_min", "d3/epsilon", "alpha", "beta", "scale14")


@pytest.mark.parametrize("label", NUMBERS)
def test_parameters(ethanol, label):
    one, vector = ethanol.one, np.asarray(ethanol.one.theta.vector)
    i = number(one, label)

    def context_of(factor, correction):
        other = vector.copy()
        other[i] *= factor
        return one.in_openmm(changed(one, other), correction=correction)

    slope, uncertainty = slope_with_tail(context_of, vector[i])
    gradient = ethanol.energy_and_gradient(*ethanol.at, ethanol.neighbors)[1][1]
    assert abs(slope) > 100 * uncertainty
    assert float(gradient[i]) == pytest.approx(slope, abs=uncertainty)


def test_box(ethanol):
    """A strain that the atoms follow: as in ``test_periodic``, so small that almost no pair crosses the cutoff, where
    Coulomb energies end with a step; the median of several, of which rounding leaves 3e-5.
    """
    one = ethanol.one
    strain = np.array([[0.7, 0, 0], [0.2, -0.4, 0], [0.1, 0.3, 0.5]])
    along_x, along_box = one.positions @ strain, one.box @ strain
    gradient = ethanol.energy_and_gradient(*ethanol.at, ethanol.neighbors)[1]
    parts = np.vdot(gradient[0], along_x), np.vdot(gradient[2], along_box)
    context = one.in_openmm(one.force_field)

    def energy(step):
        context.setPeriodicBoxVectors(*(one.box + step * along_box))
        context.setPositions(one.positions + step * along_x)
        return energy_of(context)

    differences = [(energy(step) - energy(-step)) / (2 * step) for step in (3e-8, 6e-8, 1e-7, 2e-7, 3e-7)]
    assert sum(parts) == pytest.approx(np.median(differences), abs=3e-5 * max(np.abs(parts)))


@pytest.fixture(scope="module")
def direction(ethanol):
    """Of positions, of the form's numbers, and of the box."""
    rng = np.random.default_rng(1)
    along = np.zeros_like(np.asarray(ethanol.at[1]))
    for label in NUMBERS:
        i = number(ethanol.one, label)
        along[i] = rng.normal() * float(ethanol.at[1][i])
    return (
        jnp.asarray(rng.normal(size=ethanol.at[0].shape)),
        jnp.asarray(along),
        jnp.asarray(np.tril(rng.normal(size=(3, 3)))),
    )


@pytest.mark.parametrize("argument", (0, 1))
def test_second_derivatives_against_forces_of_openmm(ethanol, direction, argument):
    """Truncation is 1e-14 of third derivatives; of forces 1e-16 / 1e-7 is lost. The integral beyond has no forces."""
    one, step = ethanol.one, (1e-7, 1e-6)[argument]
    along = [jnp.zeros_like(a) for a in ethanol.at]
    along[argument] = direction[argument]
    found = ethanol.hessian_product(ethanol.at, tuple(along), ethanol.neighbors)[1][0]
    forces = []
    for sign in (1, -1):
        context = one.in_openmm(changed(one, np.asarray(ethanol.at[1] + sign * step * along[1])))
        context.setPositions(np.asarray(ethanol.at[0] + sign * step * along[0]))
        forces.append(forces_of(context))
    difference = -(forces[0] - forces[1]) / (2 * step)
    np.testing.assert_allclose(found, difference, atol=1e-6 * np.abs(difference).max())


def test_second_derivatives_in_all_arguments(ethanol, direction):
    """The Hessian with everything moving, against differences of gradients, which the tests above compare to OpenMM."""
    step = 1e-7
    found = ethanol.hessian_product(ethanol.at, direction, ethanol.neighbors)[1]
    up, down = (
        ethanol.energy_and_gradient(
            *(a + sign * step * v for a, v in zip(ethanol.at, direction, strict=True)), ethanol.neighbors
        )[1]
        for sign in (1, -1)
    )
    for product, above, below in zip(found, up, down, strict=True):
        assert np.isfinite(product).all()
        np.testing.assert_allclose(product, (above - below) / (2 * step), atol=2e-6 * float(jnp.abs(product).max()))


def test_parameters_from_elsewhere(ethanol):
    """Every atom of a unique molecule has its own numbers: no two may be taken for equal."""
    one = ethanol.one
    rng = np.random.default_rng(2)
    given = one.system.parameterize()
    unique = given.unique(SECTION) * jnp.asarray(rng.uniform(0.9, 1.1, size=given.unique(SECTION).shape))
    parameters = given.replace({SECTION: unique})
    positions, _, box = ethanol.at
    neighbors = ethanol.neighbors

    @jax.jit
    @jax.value_and_grad
    def energy(values):
        return one.system.to_jax_potential()(positions, given.replace({SECTION: values}), box, neighbors)

    value, slopes = energy(unique)
    columns = np.asarray(parameters[SECTION])
    with_tail, without = (energy_of(one.in_openmm(one.force_field, columns, on)) for on in (True, False))
    # OpenMM integrates beyond the cutoff to 1e-5
    assert float(value) == pytest.approx(with_tail, abs=1e-5 * abs(with_tail - without))
    # of the methyl carbon, of which there is one
    for column in range(2):

        def context_of(factor, correction, column=column):
            other = columns.copy()
            other[0, column] *= factor
            return one.in_openmm(one.force_field, other, correction)

        slope, uncertainty = slope_with_tail(context_of, columns[0, column])
        assert abs(slope) > 100 * uncertainty
        assert float(slopes[0, column]) == pytest.approx(slope, abs=uncertainty)
