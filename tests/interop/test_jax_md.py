"""jax-md's integrators on our potential."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import openmm
import pytest

from openff_diffsystem import DiffSystem
from openff_diffsystem.exceptions import (
    InvalidInputError,
    ParameterMismatchError,
    UnsupportedForceFieldError,
    UnsupportedInputError,
)
from tests import boxes
from tests.molecules import with_charges

pytest.importorskip("jax_md")

from jax_md import quantity, simulate

from openff_diffsystem.interop.jax_md import BOLTZMANN, to_jax_md

BOUND = 0.03 * 6 * 300 * BOLTZMANN
"""kJ/mol; why is said in the first test."""


def fluctuations(system, time: float, **keywords) -> list[float]:
    """How far the total energy goes up and down, kJ/mol, in some ps from 300 K with steps of 0.5 and of 0.25 fs."""
    md = to_jax_md(system)
    start, step = simulate.nve(md.energy_fn, md.shift_fn)

    @jax.jit
    def total(state) -> jax.Array:
        kinetic = quantity.kinetic_energy(momentum=state.momentum, mass=state.mass)
        return kinetic + md.energy_fn(state.position, **keywords)

    found = []
    for dt in (5e-4, 2.5e-4):
        state = start(jax.random.PRNGKey(0), jnp.asarray(system.positions), 300 * BOLTZMANN, mass=md.masses, **keywords)
        energies = [total(state)]
        for _ in range(round(time / dt)):
            state = step(state, dt=dt, **keywords)
            energies.append(total(state))
        found.append(float(np.ptp(energies)))
    return found


def test_energy_is_conserved(ethanol):
    """To second order in the time step, as velocity Verlet must for forces that are the gradient of its energy.

    Verlet conserves a neighbour of the energy. For an oscillator of frequency w the energy itself goes up and down by
    a fraction (w dt)^2 / 4 of what is in it: for stretches of hydrogen, 0.7 / fs at most, 3 % with steps of 0.5 fs. Six
    of these hold kT each, 15 kJ/mol: hence the bound. Halved steps must quarter it; forces that were not the gradient
    would make a drift that does not depend on the step.
    """
    wide, narrow = fluctuations(ethanol, 0.1)
    assert wide < BOUND and 3.5 < wide / narrow < 4.5


def test_energy_is_conserved_in_a_box(sage):
    """One ethanol among its periodic images: as above, as long as one neighbour list lasts."""
    molecule = with_charges("CCO")
    system = DiffSystem.from_smirnoff(sage, molecule, box=2.0 * np.eye(3), charge_from_molecules=[molecule])
    neighbors = system.neighbor_list(skin=0.3)
    wide, narrow = fluctuations(system, 0.02, neighbors=neighbors)
    assert wide < BOUND and 3.5 < wide / narrow < 4.5


def test_lists_made_anew_on_the_way(sage):
    """Short lists, renewed in blocks of steps by one compiled program, lead where a list that lasts leads.

    To 1e-9 nm: sums over pairs are taken in other orders, which differ in the last bit.
    """
    molecule = with_charges("CCO")
    system = DiffSystem.from_smirnoff(sage, molecule, box=2.0 * np.eye(3), charge_from_molecules=[molecule])
    md = to_jax_md(system)
    start, step = simulate.nve(md.energy_fn, md.shift_fn, dt=5e-4)
    lasting = system.neighbor_list(skin=0.3)
    one = start(
        jax.random.PRNGKey(0), jnp.asarray(system.positions), 300 * BOLTZMANN, mass=md.masses, neighbors=lasting
    )
    first = neighbors = system.neighbor_list(skin=0.02)
    other = one
    for i in range(40):
        one = step(one, neighbors=lasting)
        if i % 4 == 0:
            neighbors = system.neighbor_list(other.position, skin=0.02, like=neighbors)
        other = step(other, neighbors=neighbors)
    assert neighbors.neighbors.shape == first.neighbors.shape
    assert first.reach_used(other.position, first.reference_box) > first.skin
    np.testing.assert_allclose(other.position, one.position, rtol=0, atol=1e-9)


def test_energy_is_conserved_in_single_precision(ethanol, tmp_path):
    """jax's default, as in the first test: rounding, 6e-8 of about 100 kJ/mol, is far below the fluctuations."""
    ethanol.save(tmp_path / "ethanol.npz")
    with jax.enable_x64(False):
        system = DiffSystem.load(tmp_path / "ethanol.npz")
        md = to_jax_md(system)
        assert md.masses.dtype == md.energy_fn(jnp.asarray(system.positions)).dtype == jnp.float32
        wide, narrow = fluctuations(system, 0.02)
    assert wide < BOUND and 3.5 < wide / narrow < 4.5


def test_what_is_handed_over(ethanol):
    """Constrained bonds count, theta and its gradient pass through, masses are those of the elements."""
    md = to_jax_md(ethanol)
    x = jnp.asarray(ethanol.positions)
    potential = ethanol.to_jax_potential(add_constrained_forces=True)
    theta = ethanol.force_field_parameters.vector
    assert md.energy_fn(x) == potential(x, theta) != ethanol.to_jax_potential()(x, theta)
    np.testing.assert_allclose(
        jax.grad(lambda t: md.energy_fn(x, theta=t))(theta), jax.grad(potential, argnums=1)(x, theta), rtol=1e-12
    )
    # IUPAC's, as openff-units has them
    np.testing.assert_allclose(md.masses, [12.011, 12.011, 15.999, *[1.008] * 6], atol=2e-3)
    np.testing.assert_array_equal(to_jax_md(ethanol, masses=np.full(9, 4.0)).masses, 4.0)
    with pytest.raises(UnsupportedInputError, match="constant volume"):
        md.energy_fn(x, box=np.eye(3))
    with pytest.raises(ParameterMismatchError, match=r"\(9,\)"):
        to_jax_md(ethanol, masses=[1.0])


def test_masses_are_those_of_the_system():
    """Of an OpenMM System: repartitioned, so not those of the elements. Sites have none, and are not integrated."""
    openmm_system = openmm.System()
    force = openmm.NonbondedForce()
    for mass in (14.0, 0.0, 4.0, 3.0):
        openmm_system.addParticle(mass)
        force.addParticle(0.0, 0.3, 0.1)
    openmm_system.setVirtualSite(1, openmm.TwoParticleAverageSite(0, 2, 0.5, 0.5))
    openmm_system.addForce(force)
    np.testing.assert_array_equal(to_jax_md(DiffSystem.from_openmm(openmm_system)).masses, [14.0, 4.0, 3.0])
    openmm_system.setParticleMass(2, 0.0)
    with pytest.raises(InvalidInputError, match=r"atom 1 has a mass of 0\.0"):
        to_jax_md(DiffSystem.from_openmm(openmm_system))


def test_rigid_water_is_refused():
    with pytest.raises(UnsupportedForceFieldError, match=r"constraint keeps atoms 0 and \d together"):
        to_jax_md(boxes.water("tip3p.offxml").system())


def test_rigid_water_is_refused_where_the_force_field_has_its_bonds(sage):
    """Sage has bonds and angles for water besides the constraints, which are not the model."""
    water = with_charges("O")
    system = DiffSystem.from_smirnoff(sage, water)
    with pytest.raises(UnsupportedForceFieldError, match="constraints make atoms 0, 1, 2 rigid"):
        to_jax_md(system)
