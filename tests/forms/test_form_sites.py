"""Virtual sites with parameters of a pair form, in boxes and in isolated molecules."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from openff.toolkit import ForceField, Molecule, unit

from openff_diffsystem import DiffSystem
from openff_diffsystem.exceptions import DuplicateFormError, UnsupportedForceFieldError
from openff_diffsystem.forms import registry
from tests.boxes import centered, solvate
from tests.form_boxes import TAIL, Case
from tests.molecules import with_charges
from tests.openmm_reference import context_of, energy_of, forces_of


def test_virtual_sites():
    """Sites with parameters of the form, which count in the correction, and in forces on their atoms."""
    one = Case(solute="", sites=True)
    context = one.in_openmm(one.force_field)
    positions = jnp.asarray(one.positions)
    gradients = jax.jit(jax.value_and_grad(one.system.to_jax_potential(), argnums=(0, 1)))
    energy, (gradient, slopes) = gradients(positions, one.theta, None, one.system.neighbor_list())
    tail = energy_of(context) - energy_of(one.in_openmm(one.force_field, correction=False))
    assert float(energy) == pytest.approx(energy_of(context), abs=TAIL * abs(tail))
    # what the sites do is on their atoms
    np.testing.assert_allclose(gradient.sum(axis=0), -forces_of(context).sum(axis=0), atol=1e-7)
    site = [i for i, label in enumerate(one.theta.labels) if label.startswith("DoubleExponentialVirtualSites")]
    moving = {one.theta.labels[i].rsplit("/", 1)[-1] for i in site if slopes.vector[i] != 0}
    assert {"r_min", "epsilon", "distance", "charge_increment2"} <= moving


@pytest.mark.filterwarnings("ignore:charge_from_molecules", "ignore:Preset charges")
def test_smirnoff_plugins():
    """The double exponential force field that smirnoff-plugins comes with, its own handlers, and its own OpenMM export.

    Its oxygens sit on virtual sites.
    """
    plugins = pytest.importorskip("smirnoff_plugins")
    force_field = ForceField(str(Path(plugins.__file__).parent / "_tests/data/de-vs-1.0.1.offxml"), load_plugins=True)
    handler = force_field["DoubleExponential"]
    # Interchange takes them with a unit, the toolkit reads them without
    handler.alpha, handler.beta = (float(x) * unit.dimensionless for x in (handler.alpha, handler.beta))
    molecule, box = with_charges("CCO"), 1.9 * np.eye(3)
    topology, positions = solvate([centered(molecule, box)], box)
    preset = {"charge_from_molecules": [molecule]}
    exported = force_field.create_interchange(topology, **preset).to_openmm(combine_nonbonded_forces=False)
    context = context_of(exported, positions)
    system = DiffSystem.from_smirnoff(force_field, topology, positions=positions, **preset)
    energy, gradient = jax.jit(jax.value_and_grad(system.to_jax_potential()))(
        jnp.asarray(positions), system.force_field_parameters, None, system.neighbor_list()
    )
    # what is beyond the cutoff is less than 100 kJ/mol
    assert float(energy) == pytest.approx(energy_of(context), abs=TAIL * 100)
    forces = forces_of(context)[: len(positions)]
    assert np.abs(forces + np.asarray(gradient)).max() < 1e-9 * np.sqrt(np.mean(forces**2))


def test_sites_that_the_form_does_not_know_are_refused(monkeypatch):
    form = dataclasses.replace(registry.form_of("DoubleExponential"), sites=None)
    monkeypatch.setitem(registry._REGISTERED, "DoubleExponential", form)
    with pytest.raises(UnsupportedForceFieldError, match="DoubleExponentialVirtualSites"):
        Case(solute="", sites=True)
    with pytest.raises(DuplicateFormError, match="VirtualSites"):
        registry.register_form(dataclasses.replace(form, sites="VirtualSites"))


def test_isolated_molecules_and_batches():
    """Two waters: the energy is that of the expression, summed in NumPy over the pairs between them."""
    one = Case(solute="", sites=True)
    pair = Molecule.from_smiles("O")
    apart = one.positions[:6]
    system = DiffSystem.from_smirnoff(one.force_field, [pair, pair], positions=apart)
    assert system.n_particles == 8
    x, (r_min, epsilon) = (
        np.asarray(system.particle_positions()),
        np.asarray(system.parameterize()["DoubleExponential"]).T,
    )
    expected = 0.0
    for i in (0, 1, 2, 6):
        for j in (3, 4, 5, 7):
            reduced = np.linalg.norm(x[i] - x[j]) / (0.5 * (r_min[i] + r_min[j]))
            shape = 3.3 * np.exp(18.7 * (1 - reduced)) - 18.7 * np.exp(3.3 * (1 - reduced))
            expected += np.sqrt(epsilon[i] * epsilon[j]) * shape / 15.4
    assert float(system.energy_terms()["DoubleExponential"]) == pytest.approx(expected, rel=1e-12)
    batch = DiffSystem.concatenate([system, DiffSystem.from_smirnoff(one.force_field, with_charges("CCO"))])
    energies = batch.potential([apart, with_charges("CCO").conformers[0].m_as("nanometer")])
    theta = system.force_field_parameters
    assert float(energies[0]) == pytest.approx(float(system.to_jax_potential()(apart, theta)), rel=1e-12)
