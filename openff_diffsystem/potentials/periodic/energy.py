"""The energy of a periodic system, as OpenMM computes it for a SMIRNOFF force field."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from openff_diffsystem._jax.types import AnyArray
from openff_diffsystem.forms.form import PairForm
from openff_diffsystem.parameters.system import SystemParameters
from openff_diffsystem.potentials.geometry import safe_sqrt
from openff_diffsystem.potentials.isolated import Interactions, complete_positions, term_energies
from openff_diffsystem.potentials.nbfix import SECTION as NBFIX
from openff_diffsystem.potentials.nbfix import TypePairs
from openff_diffsystem.potentials.periodic.cutoff_pairs import Particles, pair_energy
from openff_diffsystem.potentials.periodic.dispersion import long_range_correction
from openff_diffsystem.potentials.periodic.dispersion_pme import (
    dispersion_coefficients,
    reciprocal_dispersion,
    screened_dispersion,
)
from openff_diffsystem.potentials.periodic.form_pairs import FormParticles, form_energy
from openff_diffsystem.potentials.periodic.form_tail import form_tail
from openff_diffsystem.potentials.periodic.nbfix import nbfix_correction, nbfix_energy
from openff_diffsystem.potentials.periodic.neighbors import NeighborList, box_conditions
from openff_diffsystem.potentials.periodic.pme import held_energy, reciprocal_energy


@jax.tree_util.register_dataclass
@dataclass
class PeriodicInteractions:
    """Which particles of a periodic system interact, besides the pairs of a neighbour list.

    Attributes
    ----------
    local
        Bonded terms, virtual sites and scaled 1-4 pairs; molecules are whole, so these do not depend on the box.
    not_screened
        ``(n, 2)``, int32: pairs that the neighbour list leaves out, but reciprocal space counts.
    form_classes
        By section of a registered pair form, classes of particles that have equal parameters for every theta: a row
        of ``SystemParameters.unique`` for each class, ``(n_classes,)``, int32, and the number of its particles,
        ``(n_classes,)``.
    nbfix
        Pairs of types with Lennard-Jones parameters of their own; ``None`` if there are none.
    """

    local: Interactions
    not_screened: Int[AnyArray, "pairs 2"]
    form_classes: Mapping[str, tuple[Int[AnyArray, " classes"], Float[AnyArray, " classes"]]]
    nbfix: TypePairs | None = None


def periodic_term_energies(
    interactions: PeriodicInteractions,
    positions: Float[Array, "_points 3"],
    parameters: SystemParameters,
    box_vectors: Float[Array, "3 3"],
    neighbors: NeighborList,
    from_theta: bool = False,
) -> dict[str, Float[Array, ""]]:
    """Energies by section, scalars, kJ/mol; 1-4 pairs and the long-range parts count in vdW and Electrostatics.

    Parameters
    ----------
    positions
        ``(n_atoms, 3)`` or ``(n_particles, 3)``, nm.
    box_vectors
        ``(3, 3)``, nm.
    from_theta
        Whether the parameters were assigned from a theta, so that particles of a class have equal ones.
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
    for section, energy in _form_energies(interactions, particles, parameters, neighbors, from_theta).items():
        energies[section] += energy
    if interactions.nbfix is not None:
        energies[NBFIX] = _own_of_types(interactions.nbfix, particles, parameters, neighbors)
    return energies


def periodic_energy(
    interactions: PeriodicInteractions,
    positions: Float[Array, "_points 3"],
    parameters: SystemParameters,
    box_vectors: Float[Array, "3 3"],
    neighbors: NeighborList,
    from_theta: bool = False,
) -> Float[Array, ""]:
    """The sum of :func:`periodic_term_energies`, a scalar, kJ/mol, from one pass over the pairs."""
    positions = _listed(interactions, positions, parameters, box_vectors, neighbors)
    terms = term_energies(interactions.local, positions, parameters)
    particles = _particles(positions, parameters, box_vectors, neighbors)
    energy = pair_energy(particles, neighbors) + sum(jnp.sum(values) for values in terms.values())
    if "vdW" in parameters.layout.sections:
        energy += _long_range_vdw(interactions, particles, neighbors)
    if "Electrostatics" in parameters.layout.sections:
        energy += _long_range_electrostatics(interactions, particles, neighbors)
    if interactions.nbfix is not None:
        energy += _own_of_types(interactions.nbfix, particles, parameters, neighbors)
    return energy + sum(_form_energies(interactions, particles, parameters, neighbors, from_theta).values())


def _listed(
    interactions: PeriodicInteractions,
    positions: Float[Array, "_points 3"],
    parameters: SystemParameters,
    box_vectors: Float[Array, "3 3"],
    neighbors: NeighborList,
) -> Float[Array, "particles 3"]:
    """Positions of all particles. An error if the neighbour list has other cutoffs or does not cover the positions."""
    dtype = jnp.result_type(positions, parameters.values, box_vectors)
    positions = complete_positions(interactions.local, positions.astype(dtype), parameters)
    scheme = neighbors.scheme
    triangular, reduced, wide = box_conditions(box_vectors, scheme.cutoff)
    positions = eqx.error_if(
        positions,
        ~(triangular & reduced & wide),
        "the box is narrower than twice the cutoff, or not in reduced form",
    )
    forms = [form.section for form in interactions.local.forms if isinstance(form, PairForm)]
    fixed = {"cutoff": scheme.cutoff, "switch_width": scheme.switch_width}
    for section, name in product(["vdW", *forms], fixed):
        if (section, name) in parameters.layout.settings and scheme.dispersion_mesh is None:
            other = jnp.abs(parameters.setting(section, name) - fixed[name]) > 1e-5
            message = f"the {name} of {section} in theta is not the one that the neighbour list was built with"
            positions = eqx.error_if(positions, other, message)
    stale = ~(neighbors.reach_used(positions, box_vectors) <= neighbors.skin)
    return eqx.error_if(
        positions,
        stale,
        "particles or box have moved too far since the neighbour list was built, or are NaN; "
        "build a new one with system.neighbor_list",
    )


def _particles(
    positions: Float[Array, "particles 3"],
    parameters: SystemParameters,
    box_vectors: Float[Array, "3 3"],
    neighbors: NeighborList,
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


def _form_energies(
    interactions: PeriodicInteractions,
    particles: Particles,
    parameters: SystemParameters,
    neighbors: NeighborList,
    from_theta: bool,
) -> dict[str, Float[Array, ""]]:
    """Registered pair forms by section: pairs of the list, and the average beyond the cutoff."""
    energies, dtype = {}, particles.positions.dtype
    for form in interactions.local.forms:
        if not isinstance(form, PairForm):
            continue
        section, scheme = form.section, neighbors.scheme
        named = parameters.settings(section)
        names, settings = tuple(named), jnp.stack(list(named.values())).astype(dtype)
        of_form = FormParticles(particles.positions, parameters[section].astype(dtype), settings, particles.box_vectors)
        energies[section] = form_energy(form, names, of_form, neighbors)
        if scheme.dispersion_correction:
            columns, counts = parameters.unique(section), jnp.asarray(parameters.layout.sections[section].copies)
            if from_theta:
                rows, sizes = interactions.form_classes[section]
                columns, counts = columns[rows], jnp.asarray(sizes)
            classes = (columns.astype(dtype), counts.astype(dtype))
            volume = jnp.abs(jnp.linalg.det(particles.box_vectors))
            n_particles = len(particles.positions)
            energies[section] += form_tail(form, names, *classes, settings, volume, scheme, n_particles)
    return energies


def _own_of_types(
    nbfix: TypePairs, particles: Particles, parameters: SystemParameters, neighbors: NeighborList
) -> Float[Array, ""]:
    """The difference in energy for pairs of types with parameters of their own, within the cutoff and beyond."""
    scheme, box, dtype = neighbors.scheme, particles.box_vectors, particles.positions.dtype
    combined, own = parameters["vdW"].astype(dtype), parameters[NBFIX].astype(dtype)
    energy = nbfix_energy(nbfix, particles.positions, combined, own, box, scheme)
    if not scheme.dispersion_correction:
        return energy
    volume = jnp.abs(jnp.linalg.det(box))
    return energy + nbfix_correction(nbfix, particles.root_epsilons, particles.sizes, own, volume, scheme)


def _long_range_vdw(
    interactions: PeriodicInteractions, particles: Particles, neighbors: NeighborList
) -> Float[Array, ""]:
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
) -> Float[Array, ""]:
    alpha, mesh = neighbors.scheme.alpha, neighbors.scheme.mesh
    if alpha is None or mesh is None:
        return jnp.zeros((), particles.charges.dtype)
    energy = reciprocal_energy(particles.positions, particles.charges, particles.box_vectors, alpha, mesh)
    pairs = interactions.not_screened
    return energy - held_energy(particles.charges, pairs, _squared_distances(pairs, particles, neighbors), alpha)


def _squared_distances(
    pairs: Int[AnyArray, "pairs 2"], particles: Particles, neighbors: NeighborList
) -> Float[Array, " pairs"]:
    """Squared distances of pairs within molecules, ``(n_pairs,)``, nm2. Without the images, molecules are whole."""
    unwrapped = particles.positions - neighbors.images.astype(particles.positions.dtype) @ particles.box_vectors
    return jnp.sum((unwrapped[pairs[:, 1]] - unwrapped[pairs[:, 0]]) ** 2, axis=1)
