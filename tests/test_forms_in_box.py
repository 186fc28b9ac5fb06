"""Pair forms in periodic systems, against OpenMM's custom forces with the same expression."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.form_boxes import CASES, case, energy_of, forces_of

RELATIVE = 1e-10
"""Energies differ by rounding: 1e-16 of parts that are thousands of times as large."""

TAIL = 1e-5
"""OpenMM integrates beyond the cutoff until the result changes by no more than that, relative."""


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
