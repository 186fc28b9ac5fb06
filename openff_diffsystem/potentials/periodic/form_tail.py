"""The energy of a registered pair form beyond the cutoff, for particles that are evenly distributed there.

OpenMM User Guide, "CustomNonbondedForce": the average over all pairs of the integral of the interaction from the cutoff
to infinity, and of what the switching function takes away. Particles with the same parameters count as one class.
"""

from __future__ import annotations

import math
from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from openff_diffsystem.forms.form import PairForm, Settings
from openff_diffsystem.potentials.periodic.form_pairs import pair_energies
from openff_diffsystem.potentials.periodic.scheme import CutoffScheme

_NODES = {np.dtype("float64"): 32, np.dtype("float32"): 16}
"""Points of Gauss and Legendre. Powers of 1/r are integrated exactly, and exponentials that fall to 1/e within a
sixth of the cutoff to 1e-14 and 1e-8; more points reach distances whose powers overflow in single precision."""


def form_tail(
    form: PairForm,
    names: tuple[str, ...],
    columns: Float[Array, "classes columns"],
    counts: Float[Array, " classes"],
    settings: Float[Array, " settings"],
    volume: Float[Array, ""],
    scheme: CutoffScheme,
    n_particles: int,
) -> Float[Array, ""]:
    """Energy of all pairs beyond the cutoff, kJ/mol, as a function of all parameters and of the volume.

    The cost is that of ``n_classes`` squared times a few dozen energies; memory is that of one class.

    Parameters
    ----------
    form, names
        As for :func:`~openff_diffsystem.potentials.form_pairs.form_energy`.
    columns
        Parameters of each class of particles, ``(n_classes, n_columns)``, MD units.
    counts
        Particles of each class, ``(n_classes,)``, of the dtype of the columns.
    settings
        ``(n_settings,)``, MD units.
    volume
        nm3.
    n_particles
        All particles, also those without such an interaction.
    """
    quadrature = _quadrature(scheme.cutoff, scheme.switch_distance, _NODES[columns.dtype])
    r2, weights = (jnp.asarray(array, columns.dtype) for array in quadrature)
    nodes = jax.vmap(partial(pair_energies, form, names), in_axes=(0, None, None, None))
    others = jax.vmap(nodes, in_axes=(None, None, 0, None))

    @jax.checkpoint
    def of_class(own: tuple[Float[Array, " columns"], Float[Array, ""]]) -> Float[Array, ""]:
        values, count = own
        integrals = jnp.sum(others(r2, values, columns, settings) * weights, axis=1)
        itself = jnp.sum(nodes(r2, values, values, settings) * weights)
        return 0.5 * count * (jnp.sum(counts * integrals) + itself)

    # pairs i <= j of n particles, each particle with itself among them, stand for n^2 / 2 pairs
    total = jnp.sum(jax.lax.map(of_class, (columns, counts)))
    return 4.0 * math.pi * n_particles / (n_particles + 1) * total / volume


def integrals_beyond(
    form: PairForm, settings: Settings, columns: Float[Array, "classes columns"], cutoff: float, n_nodes: int
) -> Float[Array, " classes"]:
    """The integral of f(r) r^2 beyond the cutoff, for each class of particles with itself, ``(n_classes,)``.

    Parameters
    ----------
    columns
        ``(n_classes, n_columns)``, MD units.
    n_nodes
        Points of the quadrature.
    """
    r2, weights = (jnp.asarray(array, columns.dtype) for array in _quadrature(cutoff, cutoff, n_nodes))
    numbers = jnp.stack(list(settings.values()))
    nodes = jax.vmap(partial(pair_energies, form, tuple(settings)), in_axes=(0, None, None, None))
    return jax.vmap(lambda one: jnp.sum(nodes(r2, one, one, numbers) * weights))(columns)


@lru_cache
def _quadrature(
    cutoff: float, switch_distance: float, n_nodes: int
) -> tuple[Float[np.ndarray, " points"], Float[np.ndarray, " points"]]:
    """Squared distances and weights: the integral of f(r) r^2 beyond the cutoff, and of what is switched off before it.

    With x = cutoff / r the integral from the cutoff on goes from 0 to 1, where 1/r^n is a polynomial.
    """
    nodes, weights = np.polynomial.legendre.leggauss(n_nodes)
    x, weights = (nodes + 1.0) / 2.0, weights / 2.0
    r, parts = cutoff / x, weights * cutoff**3 / x**4
    if switch_distance < cutoff:
        width = cutoff - switch_distance
        inside = switch_distance + x * width
        lost = x**3 * (10.0 - 15.0 * x + 6.0 * x * x)
        r, parts = np.append(r, inside), np.append(parts, weights * width * lost * inside**2)
    return r**2, parts
