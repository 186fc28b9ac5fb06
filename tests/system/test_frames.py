"""Trajectories, against the potential frame by frame."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from openff_diffsystem import DiffSystem
from openff_diffsystem.exceptions import InvalidInputError, PositionsError
from openff_diffsystem.system import lists
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


def test_system_parameters_in_place_of_theta(trajectory):
    """Energies are those of theta; the pullback of the assignment takes the gradient back to theta."""
    system, frames, vectors = trajectory
    theta = system.force_field_parameters
    expected = system.evaluate_frames(frames[:2], theta, vectors[:2], gradients=True)
    parameters, pullback = jax.vjp(lambda vector: system.parameterize(vector).values, theta.vector)
    found = system.evaluate_frames(frames[:2], system.parameterize(theta), vectors[:2], gradients=True)
    np.testing.assert_allclose(found.energies, expected.energies, rtol=1e-12)
    assert found.gradients.shape == (2, len(parameters))
    for there, here in zip(expected.gradients, found.gradients, strict=True):
        np.testing.assert_allclose(pullback(here)[0], there, rtol=1e-9, atol=1e-6)


def test_progress_bar(trajectory, capsys):
    system, frames, vectors = trajectory
    system.evaluate_frames(frames, box_vectors=vectors, progress=True)
    assert "6/6" in capsys.readouterr().err


def test_bad_frames(trajectory):
    system, frames, vectors = trajectory
    with pytest.raises(InvalidInputError, match="no box for frame 2"):
        system.evaluate_frames(iter(frames), box_vectors=vectors[:2])
    for three in (frames[:3], iter(frames[:3])):
        with pytest.raises(InvalidInputError, match="6 boxes for 3 frames"):
            system.evaluate_frames(three, box_vectors=list(vectors))
    with pytest.raises(InvalidInputError, match="no frames"):
        system.evaluate_frames([])
    broken = frames.copy()
    broken[1, 3] = np.nan
    with pytest.raises(PositionsError, match="frame 1"):
        system.evaluate_frames(broken)


@pytest.fixture
def n_built(monkeypatch):
    """How many neighbour lists were built so far."""
    built = []
    build = lists.build_neighbor_list
    monkeypatch.setattr(lists, "build_neighbor_list", lambda *args, **kwargs: built.append(1) or build(*args, **kwargs))
    return lambda: len(built)


def test_list_serves_until_it_no_longer_covers_a_frame(trajectory, n_built):
    system, frames, _ = trajectory
    start, box = frames[0], system.box_vectors
    near, far = start.copy(), start.copy()
    near[7] += 0.049 / np.sqrt(3)  # the skin is 0.1 nm, and two particles can move
    far[7] += 0.051 / np.sqrt(3)
    found = system.evaluate_frames([start, near, far, far + 0.01], gradients=True)
    assert n_built() == 2
    apart = [system.evaluate_frames([frame], gradients=True) for frame in (start, near, far, far + 0.01)]
    np.testing.assert_allclose(found.energies, [one.energies[0] for one in apart], rtol=1e-12)
    np.testing.assert_allclose(found.gradients, [one.gradients[0] for one in apart], rtol=1e-9, atol=1e-6)
    before = n_built()
    system.evaluate_frames([start, start, start], box_vectors=[box, box + 0.01 * np.eye(3), box + 0.05 * np.eye(3)])
    assert n_built() == before + 2, "the box moves too: by three hundredths of a nanometer, and by fifteen"


def test_virtual_sites_move_with_their_frame_of_reference():
    box = boxes.water("tip4p_fb.offxml")
    system = box.system()
    frames = box.positions + 0.002 * np.random.default_rng(1).normal(size=(3, *box.positions.shape))
    found = system.evaluate_frames(frames)
    for energy, frame in zip(found.energies, frames, strict=True):
        expected = system.to_jax_potential()(frame, system.force_field_parameters)
        assert energy == pytest.approx(float(expected), rel=1e-12)


def test_precision_is_that_of_theta(trajectory):
    system, frames, vectors = trajectory
    theta = system.force_field_parameters.vector
    double = system.evaluate_frames(frames, theta, vectors, gradients=True)
    single = system.evaluate_frames(frames, theta.astype(np.float32), vectors, gradients=True)
    assert double.energies.dtype == double.gradients.dtype == np.float64
    assert single.energies.dtype == single.gradients.dtype == np.float32
    # the largest part of the sum, the self-energy of the charges, is a hundred times the energy
    np.testing.assert_allclose(single.energies, double.energies, rtol=1e-4)
    largest = np.abs(double.gradients).max(axis=0)
    np.testing.assert_allclose(single.gradients, double.gradients, rtol=1e-3, atol=1e-3 * largest.max())


def test_selected_parameters(trajectory):
    """A selection stands for all parameters, as everywhere; gradients are those of all."""
    system, frames, vectors = trajectory
    theta = system.force_field_parameters
    found = system.evaluate_frames(frames[:2], theta.select("vdW", "epsilon"), vectors[:2], gradients=True)
    assert found.gradients.shape == (2, len(theta.vector))
