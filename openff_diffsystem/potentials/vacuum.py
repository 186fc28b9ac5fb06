"""The energy of isolated molecules, term by term, as OpenMM computes it without cutoff."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from openff_diffsystem.potentials import bonded, pairs
from openff_diffsystem.potentials.virtual_sites import place_sites
from openff_diffsystem.system_parameters import SystemParameters


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["indices", "periodicity", "kept", "site_atoms", "site_types", "pairs", "pair_kinds"],
    meta_fields=["n_atoms"],
)
@dataclass
class Interactions:
    """Who interacts with whom: integer arrays, passed to compiled code as arguments so that shapes alone decide compilation.

    Attributes
    ----------
    indices
        By section, ``(n_terms, n_atoms_per_term)``, int32, particle indices.
    periodicity
        By torsion section, ``(n_terms,)``, int32.
    kept
        By section, ``(n_terms,)`` bool: terms that count. Bonds and angles fixed by constraints do not, unless asked for.
    site_atoms, site_types
        ``(n_sites, 4)`` and ``(n_sites,)``, int32: orientation atoms and types of virtual sites.
    pairs, pair_kinds
        ``(n_pairs, 2)`` int32 and ``(n_pairs,)`` int8: nonbonded pairs, and how they interact.
    n_atoms
        Number of atoms.
    """

    indices: dict[str, Any]
    periodicity: dict[str, Any]
    kept: dict[str, Any]
    site_atoms: Any
    site_types: Any
    pairs: Any
    pair_kinds: Any
    n_atoms: int


def complete_positions(interactions: Interactions, positions: jax.Array, parameters: SystemParameters) -> jax.Array:
    """Positions of all particles, ``(n_particles, 3)``, nm, from those of the atoms; given sites are placed anew."""
    atoms = positions[: interactions.n_atoms]
    if not len(interactions.site_types):
        return atoms
    sites = place_sites(atoms, interactions.site_atoms, interactions.site_types, parameters["VirtualSites"])
    return jnp.concatenate([atoms, sites])


def term_energies(
    interactions: Interactions, positions: jax.Array, parameters: SystemParameters
) -> dict[str, jax.Array]:
    """Energy of every term by section, ``(n_terms,)`` each, kJ/mol; vdW and Electrostatics by pair.

    Parameters
    ----------
    positions
        ``(n_atoms, 3)`` or ``(n_particles, 3)``, nm.
    """
    positions = complete_positions(interactions, positions, parameters)
    energies: dict[str, jax.Array] = {}
    for section, function in (("Bonds", bonded.harmonic_bonds), ("Angles", bonded.harmonic_angles)):
        if section in interactions.indices:
            terms = function(positions, interactions.indices[section], parameters[section])
            energies[section] = jnp.where(interactions.kept[section], terms, 0.0)
    for section, periodicity in interactions.periodicity.items():
        energies[section] = bonded.periodic_torsions(
            positions, interactions.indices[section], parameters[section], periodicity
        )
    sections = parameters.layout.sections
    if "vdW" in sections or "Electrostatics" in sections:
        r2 = pairs.squared_distances(positions, interactions.pairs, interactions.pair_kinds)
    if "vdW" in sections:
        terms = pairs.lennard_jones(r2, interactions.pairs, parameters["vdW"])
        energies["vdW"] = terms * pairs.scales(interactions.pair_kinds, parameters.setting("vdW", "scale14"))
    if "Electrostatics" in sections:
        charges = parameters["Electrostatics"][:, 0]
        terms = pairs.coulomb(r2, interactions.pairs, charges)
        energies["Electrostatics"] = terms * pairs.scales(
            interactions.pair_kinds, parameters.setting("Electrostatics", "scale14")
        )
    return energies


def total_energy(interactions: Interactions, positions: jax.Array, parameters: SystemParameters) -> jax.Array:
    """The sum of :func:`term_energies`, a scalar, kJ/mol."""
    terms = term_energies(interactions, positions, parameters)
    return sum((jnp.sum(energies) for energies in terms.values()), start=jnp.zeros((), parameters.values.dtype))
