"""The affine primitive against the dense matrix it stands for, in every transformation and both precisions."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from openff_diffsystem.parameters.affine import AffineMap
from openff_diffsystem.parameters.assignment import AffineRows


@pytest.fixture
def example():
    """A map with plain, scaled, constant and many-source values, and its matrix and offset."""
    rows = AffineRows.gather(np.array([3, 0, 3]), np.array([1, -1, 2]))
    rows.weight[0, 1] = 0.25
    rows.offset[1, 1] = 7.0
    rows.add(2, 0, 4, -1.5)
    rows.add(2, 0, 0, 2.0)
    rows.add(1, 1, 4, 0.5)
    assignment = rows.flatten()
    matrix = np.zeros((6, 5))
    for i, j, weight in zip(*assignment.entries(), strict=True):
        matrix[i, j] += weight
    return AffineMap(assignment, (3, 2), 5), matrix, assignment.offset


def test_matrix_is_what_was_meant(example):
    _, matrix, offset = example
    expected = np.zeros((6, 5))
    expected[[0, 1, 2, 4, 5], [3, 1, 0, 3, 2]] = [1, 0.25, 1, 1, 1]
    expected[4, [4, 0]] = [-1.5, 2.0]
    expected[3, 4] = 0.5
    np.testing.assert_array_equal(matrix, expected)
    np.testing.assert_array_equal(offset, [0, 0, 0, 7, 0, 0])


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_transformations(example, dtype):
    function, matrix, offset = example
    rng = np.random.default_rng(0)
    theta, tangent = (jnp.asarray(rng.normal(size=5), dtype) for _ in range(2))
    cotangent = jnp.asarray(rng.normal(size=(3, 2)), dtype)
    rtol = 1e-6 if dtype == jnp.float32 else 1e-14
    close = {"rtol": rtol, "atol": rtol}
    expected = (matrix @ np.asarray(theta, float) + offset).reshape(3, 2)
    for apply in (function, jax.jit(function)):
        assert apply(theta).dtype == dtype
        np.testing.assert_allclose(apply(theta), expected, **close)
        np.testing.assert_allclose(
            jax.jvp(apply, (theta,), (tangent,))[1].ravel(), matrix @ np.asarray(tangent, float), **close
        )
        np.testing.assert_allclose(
            jax.vjp(apply, theta)[1](cotangent)[0], matrix.T @ np.asarray(cotangent, float).ravel(), **close
        )
    stacked = jnp.stack([theta, 2 * theta])
    np.testing.assert_allclose(jax.vmap(function)(stacked)[1], (2 * matrix @ theta + offset).reshape(3, 2), **close)
    hessian = jax.hessian(lambda t: jnp.sum(function(t) ** 2))(theta)
    np.testing.assert_allclose(hessian, 2 * matrix.T @ matrix, **close)
    np.testing.assert_allclose(jax.jacrev(function)(theta).reshape(6, 5), matrix, **close)
    np.testing.assert_allclose(jax.jacfwd(function)(theta).reshape(6, 5), matrix, **close)


@pytest.mark.parametrize("n_rows", [1, 100, 20_000])
def test_adjoint_of_small_and_of_large_maps(n_rows):
    """Compiled, small maps are summed from a padded table and large ones scattered; uneven rows, unused parameters."""
    rng = np.random.default_rng(1)
    rows = AffineRows.gather(rng.choice([0, 2, 2, 2, 3], size=n_rows), np.full(n_rows, 6))
    rows.weight[:] = rng.normal(size=rows.weight.shape)
    for row in range(0, n_rows, 7):
        rows.add(row, 1, 4, 0.5)
    function = AffineMap(rows.flatten(), (n_rows, 2), 8)
    cotangent = rng.normal(size=(n_rows, 2))
    expected = np.zeros(8)
    np.add.at(expected, rows.source, rows.weight * cotangent)
    expected[4] += 0.5 * cotangent[::7, 1].sum()
    pullback = jax.jit(lambda c: jax.vjp(function, jnp.zeros(8))[1](c)[0])
    np.testing.assert_allclose(pullback(cotangent), expected, rtol=1e-12, atol=1e-12)


def test_no_parameters():
    rows = AffineRows.empty(4, 1)
    rows.offset[:, 0] = [1, 2, 3, 4]
    function = AffineMap(rows.flatten(), (4, 1), 0)
    out, pullback = jax.vjp(function, jnp.zeros(0))
    np.testing.assert_array_equal(out[:, 0], [1, 2, 3, 4])
    assert pullback(out)[0].shape == (0,)
    assert jax.jit(function)(jnp.zeros(0)).shape == (4, 1)
