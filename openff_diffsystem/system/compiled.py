"""The compiled functions of a system. Systems whose arrays have the same shapes share their programs."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from openff_diffsystem._jax.types import Scalar
from openff_diffsystem.parameters.system import SystemParameters
from openff_diffsystem.potentials.isolated import Interactions, complete_positions, term_energies, total_energy
from openff_diffsystem.potentials.periodic.energy import periodic_energy, periodic_term_energies
from openff_diffsystem.system.arguments import Configuration
from openff_diffsystem.system.model import EnergyModel, Theta

Energy = Float[Array, "*conformers"]
"""A scalar, or one number for each conformer, kJ/mol."""

Result = TypeVar("Result")


def energy(model: EnergyModel, configuration: Configuration, theta: Theta, chunk_size: int = 1) -> Energy:
    """The potential energy, kJ/mol: a scalar, or for a stack ``(n_conformers,)``, ``chunk_size`` of them at once."""
    return _energy(model, configuration, theta, _at_once(configuration, chunk_size))


def section_energies(
    model: EnergyModel, configuration: Configuration, theta: Theta, chunk_size: int = 1
) -> dict[str, Energy]:
    """The energies of the sections, in the shape of :func:`energy`."""
    return _section_energies(model, configuration, theta, _at_once(configuration, chunk_size))


# compiled as a whole: tracing a derivative again at every call takes longer than evaluating a small system
energy_and_slopes = jax.jit(jax.value_and_grad(energy, argnums=2))
"""The energy of one configuration, and its gradient with respect to theta."""


@jax.jit
def complete(model: EnergyModel, positions: Float[Array, "points 3"], theta: Theta) -> Float[Array, "particles 3"]:
    """Positions of all particles, ``(n_particles, 3)``, nm, from the model of a box."""
    local = model.interactions.local  # type: ignore[union-attr]
    return complete_positions(local, positions, model.parameters(theta))


@jax.jit
def reach_used(model: EnergyModel, configuration: Configuration, theta: Theta) -> Scalar:
    """How much of the skin of its neighbour list a configuration has used up, nm."""
    particles = complete(model, configuration.positions, theta)
    return configuration.neighbors.reach_used(particles, configuration.box_vectors)  # type: ignore[union-attr, arg-type]


def _at_once(configuration: Configuration, chunk_size: int) -> int | None:
    """How many conformers are evaluated at once; ``None`` for one configuration, so that any chunk size shares it."""
    shape = configuration.positions.shape
    return min(chunk_size, shape[0]) or None if len(shape) == 3 else None


def _evaluate(
    isolated: Callable[..., Result],
    periodic: Callable[..., Result],
    model: EnergyModel,
    configuration: Configuration,
    theta: Theta,
    at_once: int | None,
) -> Result:
    """Call the function for isolated molecules or the one for a box, with one configuration or each of a stack."""
    parameters, positions = model.parameters(theta), configuration.positions
    if configuration.is_periodic:
        box, neighbors = configuration.box_vectors, configuration.neighbors
        from_theta = not isinstance(theta, SystemParameters)
        return periodic(model.interactions, positions, parameters, box, neighbors, from_theta=from_theta)
    if positions.ndim == 2:
        return isolated(model.interactions, positions, parameters)
    return jax.lax.map(lambda one: isolated(model.interactions, one, parameters), positions, batch_size=at_once)


def _isolated_sections(
    interactions: Interactions, positions: Float[Array, "points 3"], parameters: SystemParameters
) -> dict[str, Float[Array, ""]]:
    return {tag: jnp.sum(terms) for tag, terms in term_energies(interactions, positions, parameters).items()}


_energy = jax.jit(partial(_evaluate, total_energy, periodic_energy), static_argnums=3)
_section_energies = jax.jit(partial(_evaluate, _isolated_sections, periodic_term_energies), static_argnums=3)
