"""Pairs of atom types with Lennard-Jones parameters of their own, in a box: see ``potentials/nbfix.py``."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from openff_diffsystem._jax.types import AnyArray
from openff_diffsystem.potentials.nbfix import TypePairs, differences
from openff_diffsystem.potentials.pairs import CLOSEST
from openff_diffsystem.potentials.periodic.dispersion import products_of_sums, tail
from openff_diffsystem.potentials.periodic.scheme import CutoffScheme, switching

AT_ONCE = 2**20
"""Pairs evaluated at once: a membrane with cholesterol has a hundred times as many in CHARMM36."""


def nbfix_energy(
    pairs: TypePairs,
    positions: Float[Array, "particles 3"],
    lennard_jones_parameters: Float[Array, "particles 2"],
    own: Float[Array, "terms 2"],
    box_vectors: Float[Array, "3 3"],
    scheme: CutoffScheme,
) -> Float[Array, ""]:
    """The difference in energy for all pairs inside the cutoff, a scalar, kJ/mol; memory is that of ``AT_ONCE`` pairs.

    Parameters
    ----------
    positions, lennard_jones_parameters, own
        As for :func:`~openff_diffsystem.potentials.nbfix.nbfix_energies`.
    box_vectors
        ``(3, 3)``, nm, at least two cutoffs wide.
    scheme
        How interactions end.
    """

    def some(particles: Int[AnyArray, "pairs 2"], terms: Int[AnyArray, " pairs"]) -> Float[Array, ""]:
        chosen = replace(pairs, particles=particles, terms=terms)
        first, second = particles.T
        displacement = nearest_image(positions[second] - positions[first], box_vectors)
        r2 = jnp.sum(displacement**2, axis=1, keepdims=True)
        inside = r2 < scheme.cutoff**2
        r2 = jnp.where(inside, jnp.maximum(r2, CLOSEST**2), 1.0)
        energies = differences(chosen, r2, lennard_jones_parameters, own)
        if scheme.switch_distance < scheme.cutoff:
            energies *= switching(jnp.sqrt(r2), scheme)[0]
        return jnp.sum(jnp.where(inside, energies, 0.0))

    whole = len(pairs.terms) - len(pairs.terms) % AT_ONCE
    energy = some(pairs.particles[whole:], pairs.terms[whole:])
    if not whole:
        return energy
    chunks = pairs.particles[:whole].reshape(-1, AT_ONCE, 2), pairs.terms[:whole].reshape(-1, AT_ONCE)
    return energy + jnp.sum(jax.lax.map(jax.checkpoint(lambda chunk: some(*chunk)), chunks))


def nearest_image(displacement: Float[Array, "pairs 3"], box_vectors: Float[Array, "3 3"]) -> Float[Array, "pairs 3"]:
    """The shortest of all periodic images, ``(n, 3)``, nm, if one is shorter than half the width of a reduced box."""
    for vector, axis in zip(box_vectors[::-1], (2, 1, 0), strict=True):
        displacement = displacement - jnp.round(displacement[:, axis : axis + 1] / vector[axis]) * vector
    return displacement


def nbfix_correction(
    pairs: TypePairs,
    root_epsilons: Float[Array, " particles"],
    sizes: Float[Array, " particles"],
    own: Float[Array, "terms 2"],
    volume: Float[Array, ""],
    scheme: CutoffScheme,
) -> Float[Array, ""]:
    """The difference in the average over pairs beyond the cutoff, kJ/mol. Excluded pairs count, as in the average.

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
