"""Pairs of atom types whose Lennard-Jones parameters are not combined but their own, as CHARMM's NBFIX gives them.

All pairs are counted with combined parameters elsewhere; what is added here is the difference. Few particles are of
such types, ions and the oxygens they bind to, so that their pairs are listed one by one, whatever their distance.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from openff_diffsystem.cutoffs import CutoffScheme
from openff_diffsystem.potentials.cutoff_pairs import switching
from openff_diffsystem.potentials.dispersion import products_of_sums, tail
from openff_diffsystem.potentials.geometry import safe_sqrt
from openff_diffsystem.potentials.pairs import CLOSEST, lennard_jones

SECTION = "NBFIX"

AT_ONCE = 2**20
"""Pairs evaluated at once: a membrane with cholesterol has a hundred times as many in CHARMM36."""


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["particles", "terms", "types", "particle_types", "counts"],
    meta_fields=[],
)
@dataclass
class TypePairs:
    """Which particles are of types that have parameters of their own with another type.

    Attributes
    ----------
    particles
        ``(n_pairs, 2)``, int32: the pairs that interact.
    terms
        ``(n_pairs,)``, int32: the term of the section ``NBFIX`` that each is.
    types
        ``(n_terms, 2)``, int32: the types of each term.
    particle_types
        ``(n_particles,)``, int32: the type of each particle, ``n_types`` for all others.
    counts
        ``(n_types,)``, int32: particles of each type.
    """

    particles: Any
    terms: Any
    types: Any
    particle_types: Any
    counts: Any


def nbfix_energies(
    pairs: TypePairs,
    positions: jax.Array,
    lennard_jones_parameters: jax.Array,
    own: jax.Array,
    box_vectors: jax.Array | None = None,
    scheme: CutoffScheme | None = None,
) -> jax.Array:
    """What the energy of each pair differs by from that of combined parameters, ``(n_pairs, 1)``, kJ/mol.

    Parameters
    ----------
    positions
        ``(n_particles, 3)``, nm.
    lennard_jones_parameters
        epsilon (kJ/mol) and sigma (nm) of particles, ``(n_particles, 2)``.
    own
        Those of terms, ``(n_terms, 2)``.
    box_vectors, scheme
        ``(3, 3)``, nm, at least two cutoffs wide; and how interactions end. ``None`` for isolated molecules.
    """
    first, second = pairs.particles.T
    displacement = positions[second] - positions[first]
    if box_vectors is not None:
        displacement = nearest_image(displacement, box_vectors)
    r2 = jnp.sum(displacement**2, axis=1, keepdims=True)
    inside = jnp.ones_like(r2, dtype=bool) if scheme is None else r2 < scheme.cutoff**2
    r2 = jnp.where(inside, jnp.maximum(r2, CLOSEST**2), 1.0)
    # where an epsilon is zero the geometric mean has no derivative; it is defined as zero there
    epsilon, sigma = safe_sqrt(lennard_jones_parameters[:, :1]), 0.5 * lennard_jones_parameters[:, 1:]
    combined = lennard_jones(r2, [epsilon[first], epsilon[second]], [sigma[first], sigma[second]])
    epsilon, sigma = own[pairs.terms, :1], 0.5 * own[pairs.terms, 1:]
    energies = lennard_jones(r2, [epsilon, jnp.ones_like(epsilon)], [sigma, sigma]) - combined
    if scheme is not None and scheme.switch_distance < scheme.cutoff:
        energies *= switching(jnp.sqrt(r2), scheme)[0]
    return jnp.where(inside, energies, 0.0)


def nbfix_energy(
    pairs: TypePairs,
    positions: jax.Array,
    lennard_jones_parameters: jax.Array,
    own: jax.Array,
    box_vectors: jax.Array,
    scheme: CutoffScheme,
) -> jax.Array:
    """The sum of :func:`nbfix_energies`, a scalar, kJ/mol; memory is that of ``AT_ONCE`` pairs."""

    def some(particles: jax.Array, terms: jax.Array) -> jax.Array:
        chosen = replace(pairs, particles=particles, terms=terms)
        return jnp.sum(nbfix_energies(chosen, positions, lennard_jones_parameters, own, box_vectors, scheme))

    whole = len(pairs.terms) - len(pairs.terms) % AT_ONCE
    energy = some(pairs.particles[whole:], pairs.terms[whole:])
    if not whole:
        return energy
    chunks = pairs.particles[:whole].reshape(-1, AT_ONCE, 2), pairs.terms[:whole].reshape(-1, AT_ONCE)
    return energy + jnp.sum(jax.lax.map(jax.checkpoint(lambda chunk: some(*chunk)), chunks))


def nearest_image(displacement: jax.Array, box_vectors: jax.Array) -> jax.Array:
    """The shortest of all periodic images, ``(n, 3)``, nm, if one is shorter than half the width of a reduced box."""
    for vector, axis in zip(box_vectors[::-1], (2, 1, 0), strict=True):
        displacement = displacement - jnp.round(displacement[:, axis : axis + 1] / vector[axis]) * vector
    return displacement


def nbfix_correction(
    pairs: TypePairs,
    root_epsilons: jax.Array,
    sizes: jax.Array,
    own: jax.Array,
    volume: jax.Array,
    scheme: CutoffScheme,
) -> jax.Array:
    """What the average over pairs beyond the cutoff differs by, kJ/mol; excluded pairs count, as in all of it.

    Parameters
    ----------
    root_epsilons, sizes
        sqrt(epsilon), (kJ/mol)^(1/2), and sigma/2, nm, of particles, ``(n_particles,)``.
    own
        epsilon (kJ/mol) and sigma (nm) of terms, ``(n_terms, 2)``.
    volume
        nm3.
    """
    n, n_types = len(sizes), len(pairs.counts)
    counts = jnp.prod(pairs.counts[pairs.types].astype(sizes.dtype), axis=1)
    epsilon, sigma = own.T
    difference = jnp.zeros((), sizes.dtype)
    for power, sign in ((12, 1.0), (6, -1.0)):
        sums = [
            jax.ops.segment_sum(root_epsilons * sizes**k, pairs.particle_types, n_types + 1) for k in range(power + 1)
        ]
        combined = products_of_sums(*([one[types] for one in sums] for types in pairs.types.T))
        strength = counts * epsilon * sigma**power - combined
        difference += sign * tail(power, scheme.cutoff, scheme.switch_distance) * jnp.sum(strength)
    return 16.0 * jnp.pi * n / (n + 1) * difference / volume
