"""The compiled functions of a system: one program per kind of call and set of shapes, shared by systems alike."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp

from openff_diffsystem.parameters.system import SystemParameters
from openff_diffsystem.potentials.isolated import complete_positions, term_energies, total_energy
from openff_diffsystem.potentials.periodic.energy import periodic_energy, periodic_term_energies
from openff_diffsystem.potentials.periodic.neighbors import NeighborList
from openff_diffsystem.system.model import Model, Theta


@jax.jit
def complete(model: Model, positions: jax.Array, theta: Theta) -> jax.Array:
    """Positions of all particles, ``(n_particles, 3)``, nm."""
    return complete_positions(model.local, positions, model.parameters(theta))


@jax.jit
def energy(model: Model, positions: jax.Array, theta: Theta) -> jax.Array:
    """Of isolated molecules, kJ/mol."""
    return total_energy(model.interactions, positions, model.parameters(theta))


@partial(jax.jit, static_argnames="chunk_size")
def conformer_energies(model: Model, positions: jax.Array, theta: Theta, chunk_size: int) -> jax.Array:
    """Of isolated molecules in many conformers, ``(n_conformers,)``, kJ/mol."""
    parameters = model.parameters(theta)
    return jax.lax.map(
        lambda one: total_energy(model.interactions, one, parameters),
        positions,
        batch_size=min(chunk_size, positions.shape[0]) or None,
    )


@jax.jit
def section_energies(model: Model, positions: jax.Array, theta: Theta) -> dict[str, jax.Array]:
    """Of isolated molecules by section, kJ/mol."""
    terms = term_energies(model.interactions, positions, model.parameters(theta))
    return {section: jnp.sum(energies) for section, energies in terms.items()}


@jax.jit
def energy_in_box(
    model: Model, positions: jax.Array, theta: Theta, box_vectors: jax.Array, neighbors: NeighborList
) -> jax.Array:
    """Of a periodic system, kJ/mol."""
    arguments = (positions, model.parameters(theta), box_vectors, neighbors)
    return periodic_energy(model.interactions, *arguments, from_theta=not isinstance(theta, SystemParameters))


@jax.jit
def section_energies_in_box(
    model: Model, positions: jax.Array, theta: Theta, box_vectors: jax.Array, neighbors: NeighborList
) -> dict[str, jax.Array]:
    """Of a periodic system by section, kJ/mol."""
    arguments = (positions, model.parameters(theta), box_vectors, neighbors)
    return periodic_term_energies(model.interactions, *arguments, from_theta=not isinstance(theta, SystemParameters))


# compiled as a whole: tracing a derivative anew for every call takes longer than evaluating a small system
energy_and_slopes = jax.jit(jax.value_and_grad(energy, argnums=2))
"""Of isolated molecules, with its gradient in theta."""

energy_and_slopes_in_box = jax.jit(jax.value_and_grad(energy_in_box, argnums=2))
"""Of a periodic system, with its gradient in theta."""
