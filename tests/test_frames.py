"""Trajectories, against the potential frame by frame."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from openff_diffsystem import DiffSystem
from openff_diffsystem.exceptions import PositionsError, UnsupportedInputError
from tests import boxes
from tests.molecules import with_charges


@pytest.fixture(scope="module")
def trajectory():
    box = boxes.water("tip3p.offxml")
    rng = np.random.default_rng(0)
    frames = box.positions + 0.002 * rng.normal(size=(6, *box.positions.shape))
    vectors = box.box_vectors * np.linspace(0.995, 1.005, 6)[:, None, None]
    return box.system(), frames, vectors


@pytest.mark.parametrize("chunk_size", [1, 4, 20])
def test_periodic_frames(trajectory, chunk_size):
    system, frames, vectors = trajectory
    theta, potential = system.force_field_parameters, system.to_jax_potential()
    found = system.evaluate_frames(frames, theta, vectors, gradients=True, chunk_size=chunk_size)
    assert found.energies.shape == (6,) and found.gradients.shape == (6, len(theta.vector))
    for i, (frame, box) in enumerate(zip(frames, vectors, strict=True)):
        # the mesh is that of the first frame, as in a simulation
        neighbors = system.neighbor_list(frame, box, like=system.neighbor_list(frames[0], vectors[0]))
        energy, gradient = jax.value_and_grad(potential, argnums=1)(frame, theta, box, neighbors)
        assert found.energies[i] == pytest.approx(float(energy), rel=1e-12)
        np.testing.assert_allclose(found.gradients[i], gradient.vector, rtol=1e-9, atol=1e-6)


def test_isolated_molecules(stock_sage):
    molecule = with_charges("CCO")
    system = DiffSystem.from_smirnoff(stock_sage, molecule, charge_from_molecules=[molecule])
    frames = np.stack([system.positions, 1.01 * system.positions])
    expected = system.to_jax_potential()(frames, system.force_field_parameters)
    found = system.evaluate_frames(iter(frames))
    np.testing.assert_allclose(found.energies, expected, rtol=1e-12)
    assert found.gradients is None


def test_bad_frames(trajectory):
    system, frames, vectors = trajectory
    with pytest.raises(UnsupportedInputError, match="no box for frame 2"):
        system.evaluate_frames(frames, box_vectors=vectors[:2])
    with pytest.raises(UnsupportedInputError, match="no frames"):
        system.evaluate_frames([])
    broken = frames.copy()
    broken[1, 3] = np.nan
    with pytest.raises(PositionsError, match="frame 1"):
        system.evaluate_frames(broken)
