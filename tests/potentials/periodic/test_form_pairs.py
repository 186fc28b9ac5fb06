"""Pairs of a form within the cutoff, and what is beyond: orders and modes of derivatives, padding, both precisions."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from openff_diffsystem.forms.registry import form_of
from openff_diffsystem.potentials.periodic.form_pairs import FormParticles, form_energy
from openff_diffsystem.potentials.periodic.form_tail import form_tail
from openff_diffsystem.potentials.periodic.neighbors import NeighborList, build_neighbor_list
from openff_diffsystem.potentials.periodic.scheme import CutoffScheme
from openff_diffsystem.system.interactions import not_interacting
from tests.form_boxes import case

SECTION = "DoubleExponential"


class Piece(NamedTuple):
    """The energy of the form alone, and ``(at, along, neighbors)`` to its gradient and its product with the Hessian."""

    energy: Callable
    derivatives: Callable
    at: FormParticles
    direction: FormParticles
    neighbors: NeighborList


@pytest.fixture(scope="module")
def piece() -> Piece:
    one = case("ethanol in water, triclinic")
    neighbors = one.system.neighbor_list()
    parameters, form = one.system.parameterize(), form_of(SECTION)
    settings = parameters.settings(SECTION)
    names = tuple(settings)
    box = jnp.asarray(one.box)
    at = FormParticles(
        jnp.asarray(one.positions) + neighbors.images @ box,
        parameters[SECTION],
        jnp.stack(list(settings.values())),
        box,
    )
    rng = np.random.default_rng(3)
    direction = FormParticles(*(jnp.asarray(rng.normal(size=a.shape)) * jnp.abs(a) * 0.01 for a in at))

    def energy(x, neighbors):
        volume, counts = jnp.abs(jnp.linalg.det(x.box_vectors)), jnp.ones(30, x.columns.dtype)
        tail = form_tail(form, names, x.columns[:30], counts, x.settings, volume, neighbors.scheme, len(x.positions))
        return form_energy(form, names, x, neighbors) + tail

    @jax.jit
    def derivatives(at, along, neighbors):
        return jax.jvp(lambda x: jax.value_and_grad(energy)(x, neighbors), (at,), (along,))

    return Piece(energy, derivatives, at, direction, neighbors)


def test_reverse_over_reverse(piece):
    """The gradient of a loss on forces, as in force matching, against the product with the Hessian."""
    gradient = partial(jax.grad(piece.energy), neighbors=piece.neighbors)
    slopes = jax.jit(jax.grad(lambda x: 0.5 * jnp.sum(gradient(x).positions ** 2)))(piece.at)
    (_, forces), (_, products) = piece.derivatives(piece.at, piece.direction, piece.neighbors)
    for found, along in zip(slopes, piece.direction, strict=True):
        assert np.isfinite(found).all() and np.any(found) and along.shape == found.shape
    found = sum(float(jnp.vdot(a, b)) for a, b in zip(slopes, piece.direction, strict=True))
    assert found == pytest.approx(float(jnp.vdot(forces.positions, products.positions)), rel=1e-10)


def test_fillers_change_nothing(piece):
    """Rows without particles, and rows and blocks that are not full, in first and second derivatives."""
    one, given = case("ethanol in water, triclinic"), piece.neighbors
    n_rows = len(given.row_block) + 512
    longer = build_neighbor_list(one.positions, one.box, not_interacting(one.system), given.scheme, n_rows=n_rows)
    assert len(longer.row_block) == n_rows and one.system.n_particles % 8
    expected, found = (jax.tree.leaves(piece.derivatives(piece.at, piece.direction, n)) for n in (given, longer))
    for a, b in zip(expected, found, strict=True):
        assert np.isfinite(a).all()
        np.testing.assert_allclose(b, a, rtol=0, atol=1e-12 * float(jnp.abs(a).max()))


def test_single_precision(piece):
    """Positions have seven digits, and repulsion falls by a factor of e over a twentieth of the distance."""
    double = (piece.at, piece.direction, piece.neighbors)
    single = jax.tree.map(lambda a: a.astype(jnp.float32) if a.dtype == jnp.float64 else a, double)
    expected, found = (jax.tree.leaves(piece.derivatives(*arguments)) for arguments in (double, single))
    for a, b in zip(expected, found, strict=True):
        assert b.dtype == jnp.float32
        np.testing.assert_allclose(b, a, rtol=0, atol=2e-5 * float(jnp.abs(a).max()))


def test_classes_are_a_sum_over_particles():
    """Two classes of three and five particles, as such and written out, to the second derivative."""
    form, names = form_of(SECTION), ("alpha", "beta")
    settings = jnp.array([18.7, 3.3])
    scheme = CutoffScheme(0.9, 0.8)
    columns, counts = jnp.array([[0.35, 0.6], [0.26, 0.1]]), jnp.array([3.0, 5.0])
    tail = partial(form_tail, form, names, volume=jnp.asarray(8.0), scheme=scheme, n_particles=8)

    def of_classes(columns, settings):
        return tail(columns, counts, settings)

    def of_particles(columns, settings):
        return tail(jnp.repeat(columns, jnp.array([3, 5]), axis=0, total_repeat_length=8), jnp.ones(8), settings)

    along = (jnp.array([[0.1, -0.2], [0.3, 0.4]]), jnp.array([-1.0, 0.5]))

    def derivatives(energy):
        gradient = jax.value_and_grad(energy, (0, 1))
        return jax.tree.leaves(jax.jit(lambda *at: jax.jvp(gradient, at, along))(columns, settings))

    for a, b in zip(derivatives(of_particles), derivatives(of_classes), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-12, atol=1e-12 * float(jnp.abs(a).max()))
