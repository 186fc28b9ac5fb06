"""The integer arrays of a system's energy function, built once on the host."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float, Int, Int8

from openff_diffsystem.forms.form import PairForm, ValenceForm
from openff_diffsystem.forms.methods import ISOLATED, PAIR_FORM_WORDS, covered_of, require
from openff_diffsystem.potentials.isolated import BONDED, Interactions
from openff_diffsystem.potentials.nbfix import SECTION as NBFIX
from openff_diffsystem.potentials.nbfix import TypePairs
from openff_diffsystem.potentials.pairs import FULL, PADDING, SCALED_14
from openff_diffsystem.potentials.periodic.energy import PeriodicInteractions
from openff_diffsystem.sections import SECTIONS, SITE_TYPES
from openff_diffsystem.system.data import SystemData
from openff_diffsystem.system.form_checks import check_in_boxes

_TORSIONS = tuple(section.tag for section in SECTIONS.values() if "periodicity" in section.static)


def isolated_interactions(system: SystemData, add_constrained_forces: bool) -> Interactions:
    """Which particles interact in the isolated molecules of a system, as NumPy arrays.

    Raises
    ------
    UnsupportedForceFieldError
        If the force field asks for a method that is not covered for isolated molecules.
    """
    require(system.methods, ISOLATED)
    for form in _pair_forms(system):
        require(system.methods, covered_of(form.section, PAIR_FORM_WORDS, "isolated"))
    interactions = _interactions(system, add_constrained_forces, *_all_pairs(system))
    return replace(interactions, nbfix=_type_pairs(system))


def periodic_interactions(system: SystemData, add_constrained_forces: bool) -> PeriodicInteractions:
    """Which particles interact in a periodic system, besides the pairs of a neighbour list, as NumPy arrays.

    Raises
    ------
    UnsupportedForceFieldError
        If the energy of a registered pair form depends on the order of the particles, or falls too slowly
        beyond the cutoff.
    """
    kinds = np.full(len(system.pairs_14), SCALED_14, dtype=np.int8)
    local = _interactions(system, add_constrained_forces, system.pairs_14, kinds)
    forms = _pair_forms(system)
    classes = {form.section: _form_classes(system, form.section) for form in forms}
    for form in forms:
        check_in_boxes(system, form, classes[form.section][0])
    return PeriodicInteractions(local, not_interacting(system), classes, _type_pairs(system))


def not_interacting(system: SystemData) -> Int[np.ndarray, "pairs 2"]:
    """Pairs that are excluded, scaled, or have parameters of their own, ``(n, 2)``, int32."""
    return np.concatenate([system.excluded_pairs, system.pairs_14, _exceptions(system)]).astype(np.int32)


def _pair_forms(system: SystemData) -> list[PairForm]:
    return [form for form in system.forms.values() if isinstance(form, PairForm)]


def _form_classes(
    system: SystemData, section: str
) -> tuple[Int[np.ndarray, " classes"], Float[np.ndarray, " classes"]]:
    """Classes of particles with equal parameters for any theta: a row of each, and its number of particles."""
    where, assignment = system.system_layout.sections[section], system.assignment_map
    values = slice(where.start, where.start + where.n_values)
    shape = (-1, len(where.columns))
    # a value with several sources counts as different from all others
    alone = np.full(where.n_values, -1)
    further = np.unique(assignment.further_row)
    further = further[(further >= values.start) & (further < values.stop)] - where.start
    alone[further] = further
    identity = [assignment.source[values], assignment.weight[values], assignment.offset[values], alone]
    keys = np.concatenate([array.reshape(shape) for array in identity], axis=1)
    _, rows, classes = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    return rows.astype(np.int32), np.bincount(classes.ravel(), weights=where.copies)


def counted_terms(system: SystemData, add_constrained_forces: bool) -> dict[str, Bool[np.ndarray, " _terms"]]:
    """By section, which bonds, angles and terms of forms between atoms count, ``(n_terms,)``, bool.

    Terms in which constraints fix every distance do not count, unless they are asked for.
    """
    indices, n = system.term_indices, system.n_particles
    custom = [form.section for form in system.forms.values() if isinstance(form, ValenceForm)]
    counted: dict[str, np.ndarray] = {
        section: np.ones(len(indices[section]), dtype=bool) for section in (*BONDED, *custom) if section in indices
    }
    always = add_constrained_forces or system.engine_options.constrained_forces
    if always or not len(indices.get("Constraints", ())):
        return counted

    def numbers(a: Int[np.ndarray, " terms"], b: Int[np.ndarray, " terms"]) -> Int[np.ndarray, " terms"]:
        return np.minimum(a, b).astype(np.int64) * n + np.maximum(a, b)

    constrained = numbers(*indices["Constraints"].T)
    for section in counted:
        atoms = indices[section].T
        pairs = [numbers(a, b) for i, a in enumerate(atoms) for b in atoms[i + 1 :]]
        if pairs:
            counted[section] = ~np.all(np.isin(pairs, constrained), axis=0)
    return counted


def _exceptions(system: SystemData) -> Int[np.ndarray, "pairs 2"]:
    return system.term_indices.get("NonbondedExceptions", np.empty((0, 2), dtype=np.int32))


def _type_pairs(system: SystemData) -> TypePairs | None:
    """The pairs of particles of the types that NBFIX names. A term of NBFIX holds the first particle of each type."""
    if not len(system.term_indices.get(NBFIX, ())):
        return None
    all_types = system.term_static["vdW"]["type"]
    present, types = np.unique(all_types[system.term_indices[NBFIX]], return_inverse=True)
    types = types.reshape(-1, 2)
    members = [np.flatnonzero(all_types == one) for one in present]
    pairs = [
        np.stack([np.repeat(members[a], len(members[b])), np.tile(members[b], len(members[a]))], axis=1)
        for a, b in types.tolist()
    ]
    terms = np.repeat(np.arange(len(pairs)), [len(some) for some in pairs])
    particles = np.concatenate(pairs)
    n = system.n_particles
    listed, left_out = (np.sort(some, axis=1) @ np.array([n, 1]) for some in (particles, not_interacting(system)))
    kept = ~np.isin(listed, left_out)
    particle_types = np.full(n, len(present))
    for i, some in enumerate(members):
        particle_types[some] = i
    counts = np.array([len(some) for some in members])
    return TypePairs(
        *(array.astype(np.int32) for array in (particles[kept], terms[kept], types, particle_types, counts))
    )


def _interactions(
    system: SystemData,
    add_constrained_forces: bool,
    pairs: Int[np.ndarray, "pairs 2"],
    pair_kinds: Int8[np.ndarray, " pairs"],
) -> Interactions:
    indices, static = system.term_indices, system.term_static
    forms = tuple(system.forms.values())
    custom = [form.section for form in forms if isinstance(form, ValenceForm)]
    site_types = static["VirtualSites"]["type"] if "VirtualSites" in static else np.empty(0, dtype=np.int32)
    listed = (*BONDED, *_TORSIONS, *custom, "NonbondedExceptions")
    return Interactions(
        indices={s: indices[s] for s in listed if s in indices},
        periodicity={s: static[s]["periodicity"] for s in _TORSIONS if s in indices},
        kept=counted_terms(system, add_constrained_forces),
        site_atoms=indices.get("VirtualSites", np.empty((0, 4), dtype=np.int32)),
        site_types=site_types,
        pairs=pairs,
        pair_kinds=pair_kinds,
        n_atoms=system.n_atoms,
        forms=forms,
        born_model=system.methods["GBSA"]["gb_model"] if "GBSA" in system.methods else None,
        surface_area="GBSA" in system.methods and system.methods["GBSA"]["sa_model"] == "ACE",
        weighted_sites=bool(np.any(site_types >= len(SITE_TYPES))),
    )


def _all_pairs(system: SystemData) -> tuple[Int[np.ndarray, "pairs 2"], Int8[np.ndarray, " pairs"]]:
    """Every interacting pair, ``(n_pairs, 2)``, and its kind, ``(n_pairs,)``."""
    n = system.n_particles
    kinds = np.full((n, n), FULL, dtype=np.int8)
    kinds[tuple(system.pairs_14.T)] = SCALED_14
    for pairs in (system.excluded_pairs, _exceptions(system)):
        kinds[tuple(np.sort(pairs, axis=1).T)] = PADDING
    first, second = np.nonzero(np.triu(kinds, k=1))
    return np.stack([first, second], axis=1).astype(np.int32), kinds[first, second]
