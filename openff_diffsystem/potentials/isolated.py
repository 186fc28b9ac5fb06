"""The energy of isolated molecules, in vacuum or implicit solvent, term by term, as OpenMM computes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from openff_diffsystem._jax.static import STATIC
from openff_diffsystem._jax.types import AnyArray, Vector
from openff_diffsystem.forms.form import Form, PairForm, ValenceEnergy, ValenceForm, checked_energies
from openff_diffsystem.parameters.system import SystemParameters
from openff_diffsystem.potentials import bonded
from openff_diffsystem.potentials.generalized_born import Solvent, generalized_born
from openff_diffsystem.potentials.geometry import columns, safe_sqrt, split
from openff_diffsystem.potentials.nbfix import SECTION as NBFIX
from openff_diffsystem.potentials.nbfix import TypePairs, nbfix_energies
from openff_diffsystem.potentials.pairs import (
    PADDING,
    coulomb,
    exception_energies,
    lennard_jones,
    scales,
    squared_distances,
)
from openff_diffsystem.potentials.ryckaert_bellemans import ryckaert_bellemans
from openff_diffsystem.potentials.virtual_sites import place_sites

Sections = Mapping[str, Float[Array, "_terms _columns"]]
"""The parameters of terms by section."""

Energies = dict[str, Float[Array, "_terms 1"]]
"""The energies of terms by section, kJ/mol."""

BONDED: dict[str, ValenceEnergy] = {
    "Bonds": bonded.bond_energies,
    "Angles": bonded.angle_energies,
    "RBTorsions": ryckaert_bellemans,
}
"""Energies of terms between a few atoms, by section; torsions are evaluated together, see :func:`_torsion_energies`."""


@jax.tree_util.register_dataclass
@dataclass
class Interactions:
    """Which particles interact. The integer arrays are arguments of compiled code: only other shapes compile again.

    Systems of a batch are stacked along a first axis.

    Attributes
    ----------
    indices
        By section, ``(n_terms, n_atoms_per_term)``, int32, particle indices.
    periodicity
        By torsion section, ``(n_terms,)``, int32.
    kept
        By section, ``(n_terms,)`` bool: terms that count. Terms that constraints fix do not, unless requested.
    site_atoms, site_types
        ``(n_sites, 4)`` and ``(n_sites,)``, int32: orientation atoms and types of virtual sites.
    pairs, pair_kinds
        ``(n_pairs, 2)`` int32 and ``(n_pairs,)`` int8: nonbonded pairs, and how they interact.
    n_atoms
        Number of atoms.
    forms
        The forms of the system's sections, registered or its own, as they are when the arrays are made. Static.
    born_model, surface_area
        Generalised Born model, if the solvent is implicit, and whether it comes with a surface-area term. Static.
    nbfix
        Pairs of types with Lennard-Jones parameters of their own, in vacuum; ``None`` if there are none.
    weighted_sites
        Whether some virtual sites are weighted sums of their atoms. Static.
    """

    indices: Mapping[str, Int[AnyArray, "... _terms _atoms"]]
    periodicity: Mapping[str, Int[AnyArray, "... _terms"]]
    kept: Mapping[str, Bool[AnyArray, "... _terms"]]
    site_atoms: Int[AnyArray, "*systems sites 4"]
    site_types: Int[AnyArray, "*systems sites"]
    pairs: Int[AnyArray, "*systems pairs 2"]
    pair_kinds: Int[AnyArray, "*systems pairs"]
    n_atoms: int = field(metadata=STATIC)
    forms: tuple[Form, ...] = field(default=(), metadata=STATIC)
    born_model: str | None = field(default=None, metadata=STATIC)
    surface_area: bool = field(default=False, metadata=STATIC)
    weighted_sites: bool = field(default=False, metadata=STATIC)
    nbfix: TypePairs | None = None


def complete_positions(
    interactions: Interactions, positions: Float[Array, "_points 3"], parameters: SystemParameters
) -> Float[Array, "particles 3"]:
    """Positions of all particles, ``(n_particles, 3)``, nm, from those of the atoms. Given sites are ignored."""
    atoms = positions[: interactions.n_atoms]
    if not len(interactions.site_types):
        return atoms
    where, types = interactions.site_atoms, interactions.site_types
    sites = place_sites(atoms, where, types, parameters["VirtualSites"], weighted=interactions.weighted_sites)
    return jnp.concatenate([atoms, sites])


def term_energies(
    interactions: Interactions, positions: Float[Array, "_points 3"], parameters: SystemParameters
) -> Energies:
    """Energy of every term by section, ``(n_terms, 1)`` each, kJ/mol; vdW and Electrostatics by pair, GBSA by atom.

    Positions are gathered once for all bonded terms, and once with the particle parameters for all pairs: each
    gather is a scatter in the backward pass, and these dominate the cost of a small molecule.

    Parameters
    ----------
    positions
        ``(n_atoms, 3)`` or ``(n_particles, 3)``, nm.
    """
    positions = complete_positions(interactions, positions, parameters)
    sections = parameters.by_section()
    corners = _corners(interactions.indices, positions)
    energies: Energies = {}
    for section, function in BONDED.items():
        if section in corners:
            energies[section] = function(corners[section], sections[section], parameters.settings(section))
    for form in interactions.forms:
        if isinstance(form, ValenceForm):
            atoms = corners[form.section]
            terms = form.energy(atoms, sections[form.section], parameters.settings(form.section))
            energies[form.section] = checked_energies(form, terms, atoms[0][0].shape)
    energies = {
        section: jnp.where(interactions.kept[section][:, None], terms, 0.0) for section, terms in energies.items()
    }
    energies |= _torsion_energies(interactions.periodicity, corners, sections)
    custom = [form for form in interactions.forms if isinstance(form, PairForm)]
    if "vdW" in sections or "Electrostatics" in sections or custom:
        energies |= _pair_energies(interactions, positions, parameters, sections, custom)
    if "NonbondedExceptions" in corners:
        energies["NonbondedExceptions"] = exception_energies(
            corners["NonbondedExceptions"], sections["NonbondedExceptions"]
        )
    if interactions.nbfix is not None:
        energies[NBFIX] = nbfix_energies(interactions.nbfix, positions, sections["vdW"], sections[NBFIX])
    if interactions.born_model is not None:
        energies["GBSA"] = _solvation(interactions, positions, parameters, sections)
    return energies


def _torsion_energies(
    periodicity: Mapping[str, Int[AnyArray, " _terms"]], corners: dict[str, list[Vector]], sections: Sections
) -> Energies:
    """Proper and improper torsions together: their function is the same, and every loop that XLA starts takes time."""
    if not periodicity:
        return {}
    tags = list(periodicity)
    joined = [
        [jnp.concatenate(component) for component in zip(*vectors, strict=True)]
        for vectors in zip(*(corners[tag] for tag in tags), strict=True)
    ]
    terms = bonded.torsion_energies(
        joined,
        jnp.concatenate([sections[tag] for tag in tags]),
        jnp.concatenate([periodicity[tag] for tag in tags]),
    )
    parts = split(terms, [len(periodicity[tag]) for tag in tags], axis=0)
    return dict(zip(tags, parts, strict=True))


def _corners(
    indices: Mapping[str, Int[AnyArray, "_terms _atoms"]], positions: Float[Array, "particles 3"]
) -> dict[str, list[Vector]]:
    """The atoms of every term by section: one vector, components ``(n_terms, 1)``, per atom of a term."""
    if not indices:
        return {}
    flat = jnp.concatenate([array.T.ravel() for array in indices.values()])
    sizes = [len(array) for array in indices.values() for _ in range(array.shape[1])]
    parts = iter(split(positions[flat], sizes, axis=0))
    return {section: [columns(next(parts)) for _ in range(array.shape[1])] for section, array in indices.items()}


def _pair_energies(
    interactions: Interactions,
    positions: Float[Array, "particles 3"],
    parameters: SystemParameters,
    sections: Sections,
    custom: list[PairForm],
) -> Energies:
    particles = [positions]
    if "vdW" in sections:
        epsilon, sigma = columns(sections["vdW"])
        # where an epsilon is zero the geometric mean has no derivative; it is defined as zero there
        particles += [safe_sqrt(epsilon), 0.5 * sigma]
    particles += [sections[form.section] for form in custom]
    if "Electrostatics" in sections:
        particles.append(sections["Electrostatics"])
    gathered = jnp.concatenate(particles, axis=1)[interactions.pairs.T.ravel()]
    a, b = (columns(half) for half in split(gathered, (len(interactions.pairs),) * 2, axis=0))
    kinds = interactions.pair_kinds[:, None]
    r2 = squared_distances(a[:3], b[:3], kinds)
    energies = {}
    if "vdW" in sections:
        terms = lennard_jones(r2, [a[3], b[3]], [a[4], b[4]])
        energies["vdW"] = terms * scales(kinds, parameters.setting("vdW", "scale14"))
    for form in custom:
        settings = parameters.settings(form.section)
        mine, theirs = (side[3 : 3 + len(form.columns)] for side in (a, b))
        terms = checked_energies(form, form.energy(r2, mine, theirs, settings), r2.shape)
        # the energy of a filler may be anything, also infinite
        energies[form.section] = jnp.where(kinds == PADDING, 0.0, terms) * scales(kinds, settings["scale14"])
    if "Electrostatics" in sections:
        terms = coulomb(r2, [a[-1], b[-1]])
        energies["Electrostatics"] = terms * scales(kinds, parameters.setting("Electrostatics", "scale14"))
    return energies


def _solvation(
    interactions: Interactions,
    positions: Float[Array, "particles 3"],
    parameters: SystemParameters,
    sections: Sections,
) -> Float[Array, "atoms 1"]:
    radii, scales = sections["GBSA"].T
    solvent = Solvent(*(parameters.setting("GBSA", name) for name in Solvent._fields))
    charges = sections["Electrostatics"][:, 0]
    model: str = interactions.born_model  # type: ignore[assignment]
    return generalized_born(positions, charges, radii, scales, solvent, model, interactions.surface_area)[:, None]


def total_energy(
    interactions: Interactions, positions: Float[Array, "_points 3"], parameters: SystemParameters
) -> Float[Array, ""]:
    """The sum of :func:`term_energies`, a scalar, kJ/mol."""
    terms = term_energies(interactions, positions, parameters)
    if not terms:
        return jnp.zeros((), parameters.values.dtype)
    return jnp.sum(jnp.concatenate(list(terms.values())))
