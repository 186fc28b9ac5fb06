"""Neighbour lists: complete, reusable, and refused where they would compute something wrong."""

from __future__ import annotations

import copy

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from openff.toolkit import ForceField

from openff_diffsystem import DiffSystem
from openff_diffsystem.exceptions import (
    BoxError,
    InvalidInputError,
    ParameterMismatchError,
    PositionsError,
    StaleNeighborListError,
    UnsupportedForceFieldError,
)
from openff_diffsystem.potentials.periodic.cutoff_pairs import Particles, pair_energy
from openff_diffsystem.potentials.periodic.neighbors import build_neighbor_list
from openff_diffsystem.potentials.periodic.scheme import CutoffScheme
from openff_diffsystem.system.interactions import not_interacting
from tests import boxes
from tests.molecules import with_charges

SCHEME = CutoffScheme(0.9, 0.8)


@pytest.fixture(scope="module")
def water():
    box = boxes.water("tip3p.offxml", 2.2, triclinic=True)
    return box.system()


def listed(neighbors, reach: float) -> list[np.ndarray]:
    """Directed pairs that a list holds and that are within reach: particles, translation of the second, ``(n, 3)``.

    Single precision in building it may have made the list a little longer.
    """
    blocks, particles, lanes = (np.asarray(a) for a in (neighbors.blocks, neighbors.neighbors, neighbors.lanes))
    rows, columns, lane = np.nonzero((lanes[:, :, None] >> np.arange(8)) & 1)
    first = blocks[np.asarray(neighbors.row_block)[rows], lane]
    second = particles[rows, columns]
    image = np.asarray(neighbors.row_image)[rows]
    box = np.asarray(neighbors.reference_box)
    wrapped = np.asarray(neighbors.reference_positions) + np.asarray(neighbors.images) @ box
    near = np.linalg.norm(wrapped[second] + image @ box - wrapped[first], axis=1) < reach
    return [first[near], second[near], image[near]]


def listed_pairs(neighbors, reach: float) -> set[tuple[int, int]]:
    """Directed pairs of particles that a list holds and that are within reach, through whichever translation."""
    first, second, _ = listed(neighbors, reach)
    return set(zip(first.tolist(), second.tolist(), strict=True))


@pytest.mark.parametrize("n", [1, 7, 300])
def test_every_pair_is_listed_from_both_sides(n):
    rng = np.random.default_rng(n)
    box = 2.0 * boxes.TRICLINIC
    positions = rng.uniform(-3, 3, size=(n, 3))
    left_out = np.array([[i, i + 1] for i in range(0, n - 1, 5)], dtype=int).reshape(-1, 2)
    found = listed_pairs(build_neighbor_list(positions, box, left_out, SCHEME, skin=0.05), 0.95)
    images = np.stack(np.meshgrid(*[np.arange(-1, 2)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    fractional = positions @ np.linalg.inv(box)
    fractional -= np.floor(fractional)
    separation = (fractional[None, :, None] - fractional[:, None, None] + images) @ box
    near = (np.linalg.norm(separation, axis=-1).min(axis=2) < 0.95) & ~np.eye(n, dtype=bool)
    near[left_out[:, 0], left_out[:, 1]] = near[left_out[:, 1], left_out[:, 0]] = False
    assert found == set(zip(*(index.tolist() for index in np.nonzero(near)), strict=True))


@pytest.mark.parametrize("n", [2, 60])
def test_narrow_box_has_neighbors_through_several_translations(n):
    """With its skin the list reaches further than half the box: each translation counts, and is there once."""
    rng = np.random.default_rng(n)
    box = 1.8 * boxes.TRICLINIC
    wrapped = rng.uniform(size=(n, 3)) @ box
    none = np.empty((0, 2), dtype=int)
    first, second, image = listed(build_neighbor_list(wrapped, box, none, SCHEME, skin=0.3), 1.2)
    images = np.stack(np.meshgrid(*[np.arange(-1, 2)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    separation = wrapped[None, :, None] - wrapped[:, None, None] + images @ box
    expected = np.argwhere(np.linalg.norm(separation, axis=-1) < 1.2)
    expected = expected[expected[:, 0] != expected[:, 1]]
    assert n == 2 or len(np.unique(expected[:, :2], axis=0)) < len(expected)
    found = np.column_stack([first, second, (image + 1) @ [9, 3, 1]])
    np.testing.assert_array_equal(found[np.lexsort(found.T[::-1])], expected)


def test_reused_list_gives_the_energy_of_a_new_one(water):
    potential, theta = water.to_jax_potential(), water.force_field_parameters
    neighbors = water.neighbor_list(skin=0.2)
    rng = np.random.default_rng(0)
    step = rng.normal(size=water.positions.shape)
    moved = water.positions + 0.09 * step / np.linalg.norm(step, axis=1).max()
    assert float(potential(moved, theta, None, neighbors)) == pytest.approx(float(potential(moved, theta)), rel=1e-12)
    # a box that breathes takes its particles along
    scaled = 1.01 * moved, 1.01 * water.box_vectors
    reused = potential(*(scaled[0], theta, scaled[1]), water.neighbor_list(moved, skin=0.4))
    fresh = water.neighbor_list(scaled[0], scaled[1], like=neighbors)
    assert float(reused) == pytest.approx(float(potential(scaled[0], theta, scaled[1], fresh)), rel=1e-12)


def test_padding_has_no_derivative(water):
    """Rows and neighbours that only fill up shapes: masked the naive way they turn dU/d(epsilon) into NaN."""
    potential, theta = water.to_jax_potential(), water.force_field_parameters.vector
    neighbors = water.neighbor_list()
    assert (np.asarray(neighbors.neighbors) == water.n_particles).any()
    longer = build_neighbor_list(
        water.positions, water.box_vectors, not_interacting(water), neighbors.scheme, n_rows=2 * len(neighbors.lanes)
    )
    x, box = jnp.asarray(water.positions), jnp.asarray(water.box_vectors)
    found = []
    for each in (neighbors, longer):
        gradient = jax.grad(lambda x, t, b, each=each: potential(x, t, b, each), argnums=(0, 1, 2))
        found.append(jax.jvp(gradient, (x, theta, box), (0.01 * x**2, 0.01 * theta, 0.01 * box)))
    for one, other in zip(*map(jax.tree.leaves, found), strict=True):
        assert np.isfinite(one).all()
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-9 * float(jnp.abs(one).max()))


def test_positions_outside_the_box(water):
    """Every molecule may be in another image."""
    potential, theta = water.to_jax_potential(), water.force_field_parameters
    rng = np.random.default_rng(0)
    images = np.repeat(rng.integers(-3, 4, size=(len(water.positions) // 3, 3)), 3, axis=0)
    moved = water.positions + images @ water.box_vectors
    assert float(potential(moved, theta)) == pytest.approx(float(potential(water.positions, theta)), rel=1e-10)


def test_stale_list_is_refused(water):
    potential, theta = water.to_jax_potential(), water.force_field_parameters
    neighbors = water.neighbor_list(skin=0.1)
    moved = water.positions.copy()
    moved[5] += [0.0, 0.08, 0.0]
    with pytest.raises(StaleNeighborListError, match=r"0\.16 nm"):
        potential(moved, theta, None, neighbors)
    with pytest.raises(Exception, match="moved too far"):
        jax.block_until_ready(jax.jit(potential)(jnp.asarray(moved), theta, None, neighbors))
    with pytest.raises(Exception, match="moved too far"):
        jax.block_until_ready(jax.grad(potential)(jnp.asarray(moved), theta, 1.03 * water.box_vectors, neighbors))


def test_list_of_other_cutoffs_is_refused(water):
    theta = water.force_field_parameters
    longer = theta.vector.at[theta.layout.section_position("vdW", "cutoff")].set(1.0)
    with pytest.raises(Exception, match="cutoff of vdW"):
        jax.block_until_ready(water.to_jax_potential()(water.positions, longer, None, water.neighbor_list()))
    energies = [float(water.to_jax_potential()(water.positions, one)) for one in (theta, longer)]
    assert energies[0] != pytest.approx(energies[1], rel=1e-6)


def test_cutoff_and_box_may_change_between_calls(water):
    """Without a list of the caller's, the result does not depend on what was evaluated before."""
    theta = water.force_field_parameters
    longer = theta.vector.at[theta.layout.section_position("vdW", "cutoff")].set(1.0)
    potential = water.to_jax_potential()
    for vector, scale in ((theta.vector, 1.0), (longer, 1.0), (theta.vector, 1.3), (theta.vector, 1.0)):
        at = scale * water.positions, vector, scale * water.box_vectors
        assert float(potential(*at)) == pytest.approx(float(water.to_jax_potential()(*at)), rel=1e-12)


def test_list_of_another_system_is_refused(water):
    theta, neighbors = water.force_field_parameters, water.neighbor_list()
    potential = copy.deepcopy(water).to_jax_potential()
    potential._system.methods["vdW"]["periodic_method"] = "Ewald3D"
    with pytest.raises(InvalidInputError, match="periodic_method of vdW"):
        potential(water.positions, theta, None, neighbors)
    potential._system.methods["Electrostatics"]["periodic_potential"] = "reaction-field"
    with pytest.raises(InvalidInputError, match="periodic_potential of Electrostatics"):
        jax.jit(potential)(jnp.asarray(water.positions), theta, None, neighbors)
    smaller = boxes.water("tip3p.offxml").system()
    with pytest.raises(InvalidInputError, match=f"of {water.n_particles} particles"):
        smaller.to_jax_potential()(smaller.positions, theta, None, neighbors)


def test_box_is_checked_with_a_list_at_hand():
    """A box that shrinks below twice the cutoff, by less than the skin covers."""
    system = boxes.water("tip3p.offxml", 1.8).system()
    theta, neighbors = system.force_field_parameters, system.neighbor_list()
    potential, narrow = system.to_jax_potential(), jnp.asarray(0.995 * system.box_vectors)
    with pytest.raises(BoxError, match="less than twice the cutoff"):
        potential(system.positions, theta, narrow, neighbors)
    with pytest.raises(Exception, match="narrower than twice the cutoff"):
        jax.block_until_ready(jax.jit(potential)(jnp.asarray(system.positions), theta, narrow, neighbors))
    with pytest.raises(BoxError, match="less than twice the cutoff"):
        system.evaluate_frames([system.positions] * 2, theta, [system.box_vectors, narrow])


def test_skin_is_not_wider_than_the_box(water):
    with pytest.raises(BoxError, match=r"cutoff and skin, 0\.9 nm and 1\.6 nm"):
        water.neighbor_list(skin=1.6)
    with pytest.raises(BoxError, match="no box"):
        DiffSystem.from_smirnoff(ForceField("tip3p.offxml"), with_charges("O")).neighbor_list()


def test_traced_without_a_list(water):
    potential = water.to_jax_potential()
    with pytest.raises(InvalidInputError, match="neighbor_list"):
        jax.grad(potential)(jnp.asarray(water.positions), water.force_field_parameters)


def test_bad_boxes(water):
    potential, theta = water.to_jax_potential(), water.force_field_parameters
    with pytest.raises(BoxError, match=r"1\.7 nm wide, less than twice the cutoff of 0\.9 nm"):
        potential(water.positions, theta, 1.7 * np.eye(3))
    with pytest.raises(BoxError, match="reduced form"):
        potential(water.positions, theta, np.array([[2.0, 0, 0], [1.5, 2.0, 0], [0, 0, 2.0]]))
    with pytest.raises(BoxError, match="lower triangular"):
        potential(water.positions, theta, np.array([[2.0, 0.1, 0], [0, 2.0, 0], [0, 0, 2.0]]))
    with pytest.raises(BoxError, match=r"\(3, 3\)"):
        potential(water.positions, theta, jnp.ones(3))
    with pytest.raises(BoxError, match="NaN"):
        potential(water.positions, theta, np.nan * np.eye(3))


def test_bad_positions(water):
    positions = jnp.asarray(water.positions).at[7, 1].set(jnp.nan)
    for neighbors in (None, water.neighbor_list()):
        with pytest.raises(PositionsError, match="particle 7"):
            water.to_jax_potential()(positions, water.force_field_parameters, None, neighbors)
    with pytest.raises(PositionsError, match="one configuration"):
        water.to_jax_potential()(jnp.stack([positions] * 2), water.force_field_parameters)
    with pytest.raises(Exception, match="NaN"):
        jax.block_until_ready(
            jax.jit(water.to_jax_potential())(positions, water.force_field_parameters, None, water.neighbor_list())
        )


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_overlapping_atoms_are_finite(water, dtype):
    """Two molecules in one place: large energies, no infinity, in first and second derivatives neither."""
    positions = water.positions.copy()
    positions[3:6] = positions[:3]
    neighbors = jax.tree.map(
        lambda a: a.astype(dtype) if jnp.issubdtype(a.dtype, jnp.floating) else a, water.neighbor_list(positions)
    )
    at = jnp.asarray(positions, dtype), water.force_field_parameters.vector.astype(dtype)
    gradient = jax.grad(water.to_jax_potential(), argnums=(0, 1))
    box = jnp.asarray(water.box_vectors, dtype)
    first, second = jax.jvp(lambda x, t: gradient(x, t, box, neighbors), at, jax.tree.map(jnp.ones_like, at))
    for array in jax.tree.leaves((first, second)):
        assert np.isfinite(array).all()


def test_overlapping_neighbors_of_a_molecule_are_finite(stock_sage):
    """1-4 pairs have no neighbour list."""
    molecule = with_charges("CCO")
    for box in (None, 2.5 * np.eye(3)):
        system = DiffSystem.from_smirnoff(stock_sage, molecule, charge_from_molecules=[molecule], box=box)
        a, b = system.pairs_14[0]
        positions = jnp.asarray(system.positions).at[a].set(system.positions[b])
        neighbors = None if box is None else system.neighbor_list(positions)
        energy, gradients = jax.value_and_grad(system.to_jax_potential(), argnums=(0, 1))(
            positions, system.force_field_parameters.vector, None, neighbors
        )
        assert all(np.isfinite(array).all() for array in (energy, *gradients))


def test_forces_of_particles_too_close_are_those_of_the_energy():
    """Below the closest distance that is told apart the energy is constant, and so its gradient zero."""
    none = np.empty((0, 2), dtype=int)
    energies = []
    for distance in (0.004, 0.006):
        x = np.array([[1.0, 1.0, 1.0], [1.0, 1.0, 1.0 + distance]])
        neighbors = build_neighbor_list(x, 2.0 * np.eye(3), none, SCHEME)
        rest = [jnp.asarray(a) for a in ([0.4, -0.4], [0.5, 0.5], [0.15, 0.1], [0.0, 0.0])]
        particles = Particles(jnp.asarray(x), *rest, 2.0 * jnp.eye(3))
        energy, gradient = jax.value_and_grad(pair_energy)(particles, neighbors)
        energies.append(float(energy))
        assert not np.any(gradient.positions)
    assert energies[0] == energies[1]


def test_sigma_of_zero(water):
    """ff14SB has hydrogens without a size. Their epsilon is zero: no derivative of the others may notice."""
    theta, neighbors = water.force_field_parameters, water.neighbor_list()
    sigma = theta.select("vdW", "sigma", smirks="[#1:1]-[#8X2H2+0]-[#1]").selection.positions
    assert len(sigma) == 1
    potential, x = water.to_jax_potential(), jnp.asarray(water.positions)
    found = []
    for vector in (theta.vector, theta.vector.at[sigma].set(0.0)):
        gradient = jax.grad(lambda x, t: potential(x, t, None, neighbors), argnums=(0, 1))
        found.append(jax.jvp(gradient, (x, vector), (0.01 * x, 0.01 * theta.vector)))
    for one, other in zip(*map(jax.tree.leaves, found), strict=True):
        assert np.isfinite(other).all()
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-9 * float(jnp.abs(one).max()))


def test_mixed_precision_is_promoted(water):
    """A trajectory in single precision with a theta in double precision."""
    positions = jnp.asarray(water.positions, jnp.float32)
    theta, neighbors = water.force_field_parameters, water.neighbor_list(positions)
    potential = water.to_jax_potential()
    energy, gradient = jax.value_and_grad(potential)(positions, theta, None, neighbors)
    assert energy.dtype == jnp.float64 and gradient.dtype == jnp.float32
    assert float(energy) == pytest.approx(float(potential(np.asarray(positions, float), theta)), rel=1e-12)


@pytest.mark.parametrize(
    "section, name, value",
    [
        ("vdW", "periodic_method", "no-cutoff"),
        ("vdW", "combining_rules", "geometric"),
        ("vdW", "potential", "Buckingham-exp-6"),
        ("Electrostatics", "periodic_potential", "cutoff"),
    ],
)
def test_methods_that_are_not_covered(section, name, value):
    system = boxes.water("tip3p.offxml").system()
    system.methods[section][name] = value
    with pytest.raises(UnsupportedForceFieldError, match=f"{section} with {name}='{value}'"):
        system.neighbor_list()


def test_mesh_for_dispersion_with_a_reaction_field():
    """Openff-interchange refuses this combination too."""
    system = boxes.water("tip3p.offxml").system()
    system.methods["vdW"]["periodic_method"] = "Ewald3D"
    system.methods["Electrostatics"]["periodic_potential"] = "reaction-field"
    with pytest.raises(UnsupportedForceFieldError, match="asks for Ewald3D"):
        system.neighbor_list()


def test_shapes_must_fit(water):
    with pytest.raises(ParameterMismatchError):
        water.to_jax_potential()(water.positions, np.ones(3))
