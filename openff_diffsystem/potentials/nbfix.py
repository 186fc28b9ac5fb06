"""Pairs of atom types that have Lennard-Jones parameters of their own, not combined ones, as in CHARMM's NBFIX.

All pairs are counted with combined parameters elsewhere; here only the difference is added. Few particles have such
types, mostly ions and the oxygens to which they bind, so all their pairs are listed, at any distance.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from openff_diffsystem._jax.types import AnyArray
from openff_diffsystem.potentials.geometry import safe_sqrt
from openff_diffsystem.potentials.pairs import CLOSEST, lennard_jones

SECTION = "NBFIX"


@jax.tree_util.register_dataclass
@dataclass
class TypePairs:
    """The particles whose types have parameters of their own with another type.

    Attributes
    ----------
    particles
        ``(n_pairs, 2)``, int32: the pairs that interact.
    terms
        ``(n_pairs,)``, int32: the term of the section ``NBFIX`` that each pair has.
    types
        ``(n_terms, 2)``, int32: the types of each term.
    particle_types
        ``(n_particles,)``, int32: the type of each particle, ``n_types`` for all others.
    counts
        ``(n_types,)``, int32: particles of each type.
    """

    particles: Int[AnyArray, "pairs 2"]
    terms: Int[AnyArray, " pairs"]
    types: Int[AnyArray, "terms 2"]
    particle_types: Int[AnyArray, " particles"]
    counts: Int[AnyArray, " types"]


def nbfix_energies(
    pairs: TypePairs,
    positions: Float[Array, "particles 3"],
    lennard_jones_parameters: Float[Array, "particles 2"],
    own: Float[Array, "terms 2"],
) -> Float[Array, "pairs 1"]:
    """The difference in energy for each pair of an isolated molecule, ``(n_pairs, 1)``, kJ/mol.

    Parameters
    ----------
    positions
        ``(n_particles, 3)``, nm.
    lennard_jones_parameters
        epsilon (kJ/mol) and sigma (nm) of particles, ``(n_particles, 2)``.
    own
        epsilon and sigma of terms, ``(n_terms, 2)``.
    """
    first, second = pairs.particles.T
    r2 = jnp.sum((positions[second] - positions[first]) ** 2, axis=1, keepdims=True)
    return differences(pairs, jnp.maximum(r2, CLOSEST**2), lennard_jones_parameters, own)


def differences(
    pairs: TypePairs,
    r2: Float[Array, "pairs 1"],
    lennard_jones_parameters: Float[Array, "particles 2"],
    own: Float[Array, "terms 2"],
) -> Float[Array, "pairs 1"]:
    """The same at squared distances ``(n_pairs, 1)``, nm2: energies with own minus those with combined parameters."""
    first, second = pairs.particles.T
    # where an epsilon is zero the geometric mean has no derivative; it is defined as zero there
    epsilon, sigma = safe_sqrt(lennard_jones_parameters[:, :1]), 0.5 * lennard_jones_parameters[:, 1:]
    combined = lennard_jones(r2, [epsilon[first], epsilon[second]], [sigma[first], sigma[second]])
    epsilon, sigma = own[pairs.terms, :1], 0.5 * own[pairs.terms, 1:]
    return lennard_jones(r2, [epsilon, jnp.ones_like(epsilon)], [sigma, sigma]) - combined
