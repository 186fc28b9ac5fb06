"""The energy of a periodic system, as OpenMM computes it for a SMIRNOFF force field."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from openff_diffsystem.neighbors import NeighborList, serves_box
from openff_diffsystem.potentials.cutoff_pairs import Particles, pair_energy
from openff_diffsystem.potentials.dispersion import long_range_correction
from openff_diffsystem.potentials.dispersion_pme import (
    dispersion_coefficients,
    reciprocal_dispersion,
    screened_dispersion,
)
from openff_diffsystem.potentials.geometry import safe_sqrt
from openff_diffsystem.potentials.isolated import Interactions, complete_positions, term_energies
from openff_diffsystem.potentials.pme import held_energy, reciprocal_energy
from openff_diffsystem.system_parameters import SystemParameters


@partial(jax.tree_util.register_dataclass, data_fields=["local", "not_screened"], meta_fields=[])
@dataclass
class PeriodicInteractions:
    """Who interacts with whom in a periodic system, besides the pairs of a neighbour list.

    Attributes
    ----------
    local
        Bonded terms, virtual sites and scaled 1-4 pairs; molecules are whole, so these know no box.
    not_screened
        ``(n, 2)``, int32: pairs that the neighbour list leaves out, but that reciprocal space does not.
    """

    local: Interactions
    not_screened: Any


def periodic_term_energies(
    interactions: PeriodicInteractions,
    positions: jax.Array,
    parameters: SystemParameters,
    box_vectors: jax.Array,
    neighbors: NeighborList,
) -> dict[str, jax.Array]:
    """Energies by section, scalars, kJ/mol; 1-4 pairs and the long-range parts count in vdW and Electrostatics.

    Parameters
    ----------
    positions
        ``(n_atoms, 3)`` or ``(n_particles, 3)``, nm.
    box_vectors
        ``(3, 3)``, nm.
    """
    positions = _listed(interactions, positions, parameters, box_vectors, neighbors)
    terms = term_energies(interactions.local, positions, parameters)
    energies = {section: jnp.sum(values) for section, values in terms.items()}
    particles = _particles(positions, parameters, box_vectors, neighbors)
    nothing = jnp.zeros_like(particles.charges)
    if "vdW" in parameters.layout.sections:
        energies["vdW"] += pair_energy(particles._replace(charges=nothing), neighbors)
        energies["vdW"] += _long_range_vdw(interactions, particles, neighbors)
    if "Electrostatics" in parameters.layout.sections:
        energies["Electrostatics"] += pair_energy(
            particles._replace(root_epsilons=nothing, dispersion=nothing), neighbors
        )
        energies["Electrostatics"] += _long_range_electrostatics(interactions, particles, neighbors)
    return energies


def periodic_energy(
    interactions: PeriodicInteractions,
    positions: jax.Array,
    parameters: SystemParameters,
    box_vectors: jax.Array,
    neighbors: NeighborList,
) -> jax.Array:
    """The sum of :func:`periodic_term_energies`, a scalar, kJ/mol, from one pass over the pairs."""
    positions = _listed(interactions, positions, parameters, box_vectors, neighbors)
    terms = term_energies(interactions.local, positions, parameters)
    particles = _particles(positions, parameters, box_vectors, neighbors)
    energy = pair_energy(particles, neighbors) + sum(jnp.sum(values) for values in terms.values())
    if "vdW" in parameters.layout.sections:
        energy += _long_range_vdw(interactions, particles, neighbors)
    if "Electrostatics" in parameters.layout.sections:
        energy += _long_range_electrostatics(interactions, particles, neighbors)
    return energy


def _listed(
    interactions: PeriodicInteractions,
    positions: jax.Array,
    parameters: SystemParameters,
    box_vectors: jax.Array,
    neighbors: NeighborList,
) -> jax.Array:
    """Positions of all particles; an error where the neighbour list serves other cutoffs or no longer covers them."""
    dtype = jnp.result_type(positions, parameters.values, box_vectors)
    positions = complete_positions(interactions.local, positions.astype(dtype), parameters)
    scheme = neighbors.scheme
    positions = eqx.error_if(
        positions,
        ~serves_box(box_vectors, scheme.cutoff),
        "the box is narrower than twice the cutoff, or not in reduced form",
    )
    for cutoff, name in ((scheme.cutoff, "cutoff"), (scheme.switch_width, "switch_width")):
        if ("vdW", name) in parameters.layout.settings and scheme.dispersion_mesh is None:
            other = jnp.abs(parameters.setting("vdW", name) - cutoff) > 1e-5
            positions = eqx.error_if(
                positions, other, f"the {name} of vdW in theta is not the one that the neighbour list was built with"
            )
    stale = ~(neighbors.reach_used(positions, box_vectors) <= neighbors.skin)
    return eqx.error_if(
        positions,
        stale,
        "particles or box have moved too far since the neighbour list was built, or are NaN; "
        "build a new one with system.neighbor_list",
    )


def _particles(
    positions: jax.Array, parameters: SystemParameters, box_vectors: jax.Array, neighbors: NeighborList
) -> Particles:
    sections = parameters.layout.sections
    nothing, one = jnp.zeros(len(positions), positions.dtype), jnp.ones(len(positions), positions.dtype)
    epsilon, sigma = parameters["vdW"].T if "vdW" in sections else (nothing, one)
    charges = parameters["Electrostatics"][:, 0] if "Electrostatics" in sections else nothing
    wrapped = positions + neighbors.images.astype(positions.dtype) @ box_vectors
    # where an epsilon is zero the geometric mean has no derivative; it is defined as zero there
    root_epsilons, sizes = safe_sqrt(epsilon), 0.5 * sigma
    dispersion = dispersion_coefficients(root_epsilons, sizes)
    particles = (wrapped, charges, root_epsilons, sizes, dispersion, box_vectors)
    return Particles(*(array.astype(positions.dtype) for array in particles))


def _long_range_vdw(interactions: PeriodicInteractions, particles: Particles, neighbors: NeighborList) -> jax.Array:
    """Lennard-Jones interactions beyond the cutoff: on a mesh, or averaged."""
    scheme, box_vectors = neighbors.scheme, particles.box_vectors
    if scheme.alpha is None or scheme.dispersion_mesh is None:
        if not scheme.dispersion_correction:
            return jnp.zeros((), particles.sizes.dtype)
        volume = jnp.abs(jnp.linalg.det(box_vectors))
        return long_range_correction(
            particles.root_epsilons, particles.sizes, volume, scheme.cutoff, scheme.switch_distance
        )
    coefficients = particles.dispersion
    energy = reciprocal_dispersion(particles.positions, coefficients, box_vectors, scheme.alpha, scheme.dispersion_mesh)
    pairs = interactions.not_screened
    held = screened_dispersion(_squared_distances(pairs, particles, neighbors), scheme.alpha)
    return energy + jnp.sum(coefficients[pairs[:, 0]] * coefficients[pairs[:, 1]] * held)


def _long_range_electrostatics(
    interactions: PeriodicInteractions, particles: Particles, neighbors: NeighborList
) -> jax.Array:
    alpha, mesh = neighbors.scheme.alpha, neighbors.scheme.mesh
    if alpha is None or mesh is None:
        return jnp.zeros((), particles.charges.dtype)
    energy = reciprocal_energy(particles.positions, particles.charges, particles.box_vectors, alpha, mesh)
    pairs = interactions.not_screened
    return energy - held_energy(particles.charges, pairs, _squared_distances(pairs, particles, neighbors), alpha)


def _squared_distances(pairs: jax.Array, particles: Particles, neighbors: NeighborList) -> jax.Array:
    """Of pairs within molecules, which are whole where they came from, ``(n_pairs,)``, nm2."""
    unwrapped = particles.positions - neighbors.images.astype(particles.positions.dtype) @ particles.box_vectors
    return jnp.sum((unwrapped[pairs[:, 1]] - unwrapped[pairs[:, 0]]) ** 2, axis=1)
