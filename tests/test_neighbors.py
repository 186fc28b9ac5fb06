"""Neighbour lists: complete, reusable, and refused where they would compute something wrong."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from openff_diffsystem.cutoffs import CutoffScheme
from openff_diffsystem.exceptions import (
    BoxError,
    ParameterMismatchError,
    PositionsError,
    StaleNeighborListError,
    UnsupportedForceFieldError,
    UnsupportedInputError,
)
from openff_diffsystem.interactions import not_interacting
from openff_diffsystem.neighbors import build_neighbor_list
from tests import boxes

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


def test_traced_without_a_list(water):
    potential = water.to_jax_potential()
    with pytest.raises(UnsupportedInputError, match="neighbor_list"):
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


def test_bad_positions(water):
    positions = jnp.asarray(water.positions).at[7, 1].set(jnp.nan)
    with pytest.raises(PositionsError, match="particle 7"):
        water.to_jax_potential()(positions, water.force_field_parameters)
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
