"""Many molecules at once: the same energies and derivatives, few programs."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from openff.toolkit import ForceField, Topology

from openff_diffsystem import DiffSystem
from openff_diffsystem.exceptions import (
    InvalidInputError,
    ParameterMismatchError,
    PositionsError,
)
from tests.force_fields import SITE_MOLECULE, VIRTUAL_SITES
from tests.molecules import with_charges

SMILES = ["C", "CCO", "CC(=O)[O-]", "c1ccccc1C(=O)N", "C1CC1", "CC(C)Cc1ccc(cc1)C(C)C(=O)O", "O"]


@pytest.fixture(scope="module")
def systems(stock_sage):
    molecules = [with_charges(smiles) for smiles in SMILES]
    return [DiffSystem.from_smirnoff(stock_sage, m, charge_from_molecules=[m]) for m in molecules]


@pytest.fixture(scope="module")
def conformers(systems):
    """A different number of strained conformers for each molecule."""
    rng = np.random.default_rng(0)
    return [s.positions + rng.normal(scale=0.004, size=(1 + i % 3, s.n_atoms, 3)) for i, s in enumerate(systems)]


def test_same_energies(systems, conformers):
    batch = DiffSystem.concatenate(systems)
    assert batch.n_programs == 2 and len(batch) == len(SMILES)
    theta = batch.force_field_parameters
    expected = [np.asarray(s.to_jax_potential()(x, theta)) for s, x in zip(systems, conformers, strict=True)]
    for per_row in (1, 2, 8):
        packed = batch.pack(conformers, conformers_per_row=per_row)
        energies = batch.potential(packed, theta)
        np.testing.assert_allclose(energies, np.concatenate(expected), rtol=1e-12)
        for one, of_system in zip(batch.split(energies, packed), expected, strict=True):
            np.testing.assert_allclose(one, of_system, rtol=1e-12)


def test_same_derivatives(systems, conformers):
    batch = DiffSystem.concatenate(systems)
    theta = batch.force_field_parameters
    x = [jnp.asarray(one) for one in conformers]
    by_position, by_theta = jax.grad(lambda x, t: jnp.sum(batch.potential(x, t) ** 2), argnums=(0, 1))(x, theta)
    total = jnp.zeros_like(theta.vector)
    for system, one, found in zip(systems, x, by_position, strict=True):
        potential = system.to_jax_potential()
        expected, of_theta = jax.grad(lambda x, t, p=potential: jnp.sum(p(x, t) ** 2), argnums=(0, 1))(one, theta)
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9 * np.abs(expected).max())
        total += of_theta.vector
    np.testing.assert_allclose(by_theta.vector, total, rtol=1e-9, atol=1e-9 * np.abs(total).max())


def test_second_derivatives_are_finite_with_fillers(systems, conformers):
    batch = DiffSystem.concatenate(systems)
    vector = batch.force_field_parameters.vector
    gradient = jax.grad(lambda t: jnp.sum(batch.potential(conformers, t)))
    product = jax.jvp(gradient, (vector,), (jnp.ones_like(vector),))[1]
    assert np.isfinite(product).all() and np.any(product)


@pytest.mark.filterwarnings("ignore:charge_from_molecules")
def test_sites_copies_and_interleaved_molecules():
    force_field = ForceField("openff-2.2.1.offxml", VIRTUAL_SITES)
    sites, water = with_charges(SITE_MOLECULE), with_charges("O")
    topologies = [sites.to_topology(), Topology.from_molecules([water, sites, water])]
    systems = [DiffSystem.from_smirnoff(force_field, t, charge_from_molecules=[sites]) for t in topologies]
    assert len(systems[0].assignment_map.further_row) > 0
    spread = np.repeat([[0, 0, 0], [1.5, 0, 0], [3.0, 0, 0]], [3, sites.n_atoms, 3], axis=0)
    positions = [systems[0].positions, systems[1].positions + spread]
    batch = DiffSystem.concatenate(systems)
    expected = [
        float(s.to_jax_potential()(x, s.force_field_parameters)) for s, x in zip(systems, positions, strict=True)
    ]
    np.testing.assert_allclose(batch.potential(positions), expected, rtol=1e-12)


def test_programs_do_not_grow_with_molecules(systems, conformers):
    few, many = DiffSystem.concatenate(systems), DiffSystem.concatenate(systems * 20)
    assert many.n_programs == few.n_programs
    energies = many.potential(conformers * 20)
    np.testing.assert_allclose(energies[: len(energies) // 20], few.potential(conformers), rtol=1e-12)


def test_refused_input(systems, conformers):
    batch = DiffSystem.concatenate(systems)
    with pytest.raises(PositionsError, match="positions for 1 systems, the batch has 7"):
        batch.potential(conformers[:1])
    with pytest.raises(PositionsError, match="system 2"):
        batch.potential([*conformers[:2], np.zeros((3, 3)), *conformers[3:]])
    with pytest.raises(PositionsError, match="system 4 hold NaN"):
        batch.potential([*conformers[:4], np.full((9, 3), np.nan), *conformers[5:]])
    with pytest.raises(InvalidInputError, match="no system"):
        DiffSystem.concatenate([])
    other = DiffSystem.from_smirnoff(ForceField("openff-2.0.0.offxml"), with_charges("O"))
    with pytest.raises(ParameterMismatchError, match="system 7"):
        DiffSystem.concatenate([*systems, other])
    theta = systems[0].force_field_parameters
    changed = replace(systems[0], force_field_parameters=theta.to_vector()[1](1.1 * theta.vector))
    with pytest.raises(ParameterMismatchError, match="system 7 holds other numbers"):
        DiffSystem.concatenate([*systems, changed])
    with pytest.raises(InvalidInputError, match="system 0 has a box"):
        DiffSystem.concatenate([replace(systems[0], box_vectors=3.0 * np.eye(3)), *systems])
