"""Pair forms in periodic systems, against OpenMM's custom forces with the same expression."""

from __future__ import annotations

import copy
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from openff.toolkit import unit

from openff_diffsystem import DiffSystem
from openff_diffsystem.exceptions import UnsupportedForceFieldError
from openff_diffsystem.forms import registry
from openff_diffsystem.system.cutoffs import cutoff_scheme
from tests.form_boxes import CASES, REACTION_FIELD, TAIL, case, custom_forms, number
from tests.molecules import with_charges
from tests.openmm_reference import energy_of, forces_of

RELATIVE = 1e-10
"""Energies differ by rounding: 1e-16 of thousands of parts, whose sums of both signs are up to 1e3 times as large."""


@pytest.mark.parametrize("name", CASES)
def test_energy_and_forces(name):
    one = case(name)
    context, bare = (one.in_openmm(one.force_field, correction=on) for on in (True, False))
    neighbors = one.system.neighbor_list()
    energy, gradient = jax.jit(jax.value_and_grad(one.system.to_jax_potential()))(
        jnp.asarray(one.positions), one.theta, None, neighbors
    )
    tail = energy_of(context) - energy_of(bare)
    assert abs(tail) > 1.0
    assert float(energy) == pytest.approx(energy_of(context), abs=TAIL * abs(tail))
    forces = forces_of(context)
    # exponentials of up to 20 amplify the rounding of distances; thousands of pairs add up to a force
    assert np.abs(forces + np.asarray(gradient)).max() < 1e-9 * np.sqrt(np.mean(forces**2))


def test_sections_and_no_correction():
    """The form's section has everything of the form; without the correction nothing is integrated numerically."""
    one = case("ethanol in water, triclinic")
    options = one.system.engine_options._replace(dispersion_correction=False)
    terms = dataclasses.replace(one.system, engine_options=options).energy_terms()
    context = one.in_openmm(one.force_field, correction=False)
    for section, groups in (("DoubleExponential", {0, 1}), ("Electrostatics", {2})):
        for i, force in enumerate(context.getSystem().getForces()):
            force.setForceGroup(i)
        context.reinitialize(preserveState=True)
        energy = context.getState(getEnergy=True, groups=groups).getPotentialEnergy()._value
        assert float(terms[section]) == pytest.approx(energy, rel=RELATIVE), section


def test_frames_files_and_system_parameters(tmp_path):
    one = case("ethanol in water, triclinic")
    moved = one.positions + 0.01 * np.random.default_rng(0).normal(size=one.positions.shape)
    frames, potential = [one.positions, moved], one.system.to_jax_potential()
    found = one.system.evaluate_frames(frames, gradients=True)
    assert found.gradients.shape == (2, len(one.theta.vector)) and np.isfinite(found.gradients).all()
    one.system.save(tmp_path / "system.npz")
    read = DiffSystem.load(tmp_path / "system.npz")
    for frame, energy in zip(frames, found.energies, strict=True):
        # particles that are taken for a class, and each by itself
        for theta in (one.theta, one.system.parameterize()):
            assert float(potential(frame, theta)) == pytest.approx(energy, rel=1e-12)
        assert float(read.to_jax_potential()(frame, read.force_field_parameters)) == pytest.approx(energy, rel=1e-12)


def lopsided(r2, a, b, settings):
    return custom_forms.double_exponential(r2, a, b, settings) * a[0]


def slow(r2, a, b, settings):
    return a[1] * b[1] * r2**-1.5


FAST = {
    "1/r^4": lambda r2, a, b, settings: a[1] * b[1] / r2**2,
    "a narrow Gaussian": lambda r2, a, b, settings: a[1] * b[1] * jnp.exp(-r2 / 0.1**2),
}


def test_energies_that_cannot_be_averaged(monkeypatch):
    """The integral of 1/r^3 beyond the cutoff is infinite, that of what falls faster is not."""
    one = case("ethanol in water, triclinic")
    form = registry.form_of("DoubleExponential")
    monkeypatch.setitem(registry._REGISTERED, "DoubleExponential", dataclasses.replace(form, energy=slow))
    with pytest.raises(UnsupportedForceFieldError, match="DoubleExponential falls too slowly beyond the cutoff"):
        one.build(one.force_field).neighbor_list()
    system = one.build(one.force_field)
    system.engine_options = system.engine_options._replace(dispersion_correction=False)
    system.neighbor_list()
    for energy in FAST.values():
        monkeypatch.setitem(registry._REGISTERED, "DoubleExponential", dataclasses.replace(form, energy=energy))
        one.build(one.force_field).neighbor_list()


def test_refusals(monkeypatch):
    one = case("ethanol in water, triclinic")
    neighbors = one.system.neighbor_list()
    with pytest.raises(UnsupportedForceFieldError, match="DoubleExponential"):
        one.system.to_openmm()
    with pytest.raises(UnsupportedForceFieldError, match="DoubleExponential"):
        one.system.to_interchange()
    theta = one.theta.vector
    cutoff = number(one, "cutoff")
    with pytest.raises(Exception, match="cutoff of DoubleExponential in theta"):
        one.system.to_jax_potential()(one.positions, theta.at[cutoff].add(0.1), None, neighbors)
    changes = (
        ("periodic_method", "Ewald3D", "DoubleExponential with periodic_method='Ewald3D'"),
        ("switch_width", 2.0 * unit.nanometer, "switch width of DoubleExponential"),
    )
    for name, value, message in changes:
        other = copy.deepcopy(one.force_field)
        setattr(other["DoubleExponential"], name, value)
        with pytest.raises(UnsupportedForceFieldError, match=message):
            one.build(other).neighbor_list()
    other = copy.deepcopy(one.force_field)
    other["Electrostatics"].periodic_potential = REACTION_FIELD
    other["Electrostatics"].cutoff = 0.6 * unit.nanometer
    with pytest.raises(UnsupportedForceFieldError, match="reaction field DoubleExponential must end"):
        one.build(other).neighbor_list()
    other = copy.deepcopy(one.force_field)
    other["DoubleExponential"].nonperiodic_method = "cutoff"
    with pytest.raises(UnsupportedForceFieldError, match="nonperiodic_method"):
        DiffSystem.from_smirnoff(other, with_charges("CCO")).to_jax_potential()
    without = dataclasses.replace(one.system, system_layout=copy.copy(one.system.system_layout))
    without.system_layout.settings = {
        key: i for key, i in without.system_layout.settings.items() if key != ("DoubleExponential", "cutoff")
    }
    with pytest.raises(UnsupportedForceFieldError, match="no attribute 'cutoff'"):
        cutoff_scheme(without, without.parameterize(), one.box, 1e-4)
    form = registry.form_of("DoubleExponential")
    monkeypatch.setitem(registry._REGISTERED, "DoubleExponential", dataclasses.replace(form, energy=lopsided))
    with pytest.raises(UnsupportedForceFieldError, match="change places"):
        one.build(one.force_field).neighbor_list()
