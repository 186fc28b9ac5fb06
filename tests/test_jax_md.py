"""jax-md's integrators on our potential."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from openff_diffsystem import DiffSystem
from openff_diffsystem.exceptions import ParameterMismatchError, UnsupportedForceFieldError, UnsupportedInputError
from tests import boxes
from tests.molecules import with_charges

pytest.importorskip("jax_md")

from jax_md import quantity, simulate

from openff_diffsystem.interop.jax_md import BOLTZMANN, atomic_masses, to_jax_md


def energies_along(system, dt: float, time: float, **keywords) -> np.ndarray:
    """Total energy at every step of a trajectory of some ps at constant energy from 300 K, kJ/mol."""
    md = to_jax_md(system)
    start, step = simulate.nve(md.energy_fn, md.shift_fn, dt=dt)
    state = start(jax.random.PRNGKey(0), jnp.asarray(system.positions), 300 * BOLTZMANN, mass=md.masses, **keywords)

    def one(state, _):
        state = step(state, **keywords)
        kinetic = quantity.kinetic_energy(momentum=state.momentum, mass=state.mass)
        return state, kinetic + md.energy_fn(state.position, **keywords)

    return np.asarray(jax.lax.scan(one, state, None, length=round(time / dt))[1])


def test_energy_is_conserved(ethanol):
    """To second order in the time step, as velocity Verlet must for forces that are the gradient of its energy.

    Verlet conserves a neighbour of the energy; for an oscillator of frequency w the energy itself goes up and down by
    a fraction (w dt)^2 / 4 of what is in it. The O-H stretch has w = 0.7/fs: 3 % with steps of 0.5 fs, of the
    kT and the strain of a conformer that is no minimum. Halved steps must quarter it; forces that were off by
    1 % would make a drift that does not depend on the step.
    """
    wide, narrow = (np.ptp(energies_along(ethanol, dt, 0.1)) for dt in (5e-4, 2.5e-4))
    assert 3.5 < wide / narrow < 4.5


def test_energy_is_conserved_in_a_box(sage):
    """One ethanol among its periodic images: as above, as long as one neighbour list lasts."""
    molecule = with_charges("CCO")
    system = DiffSystem.from_smirnoff(sage, molecule, box=2.0 * np.eye(3), charge_from_molecules=[molecule])
    neighbors = system.neighbor_list(skin=0.3)
    wide, narrow = (np.ptp(energies_along(system, dt, 0.02, neighbors=neighbors)) for dt in (5e-4, 2.5e-4))
    assert 3.5 < wide / narrow < 4.5


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


def test_masses_in_the_order_of_the_topology(sage):
    """Of copies, in turn with another molecule."""
    from openff.toolkit import ForceField, Topology

    water, ethanol = with_charges("O"), with_charges("CCO")
    topology = Topology.from_molecules([water, ethanol, water])
    expected = [atom.mass.m_as("dalton") for atom in topology.atoms]
    for force_field in (sage, ForceField("openff-2.2.1.offxml", "tip4p_fb.offxml", load_plugins=True)):
        system = DiffSystem.from_smirnoff(force_field, topology, charge_from_molecules=[ethanol])
        np.testing.assert_array_equal(atomic_masses(system), expected)


def test_rigid_water_is_refused():
    with pytest.raises(UnsupportedForceFieldError, match=r"constraint keeps atoms 0 and \d together"):
        to_jax_md(boxes.water("tip3p.offxml").system())
