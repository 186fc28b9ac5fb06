"""Assemble a system: the terms of every species, numbered for the whole topology."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from openff.toolkit import Molecule

from openff_diffsystem.chemistry import nonbonded
from openff_diffsystem.chemistry.bond_orders import check_unique
from openff_diffsystem.chemistry.charges.sections import CHARGE_SECTIONS, atom_charges, constant
from openff_diffsystem.chemistry.molecule import PreparedMolecule
from openff_diffsystem.chemistry.registered_forms import form_terms
from openff_diffsystem.chemistry.sections import ASSIGNERS, Request
from openff_diffsystem.chemistry.species import Species, isomorphic_predecessors, unique_species
from openff_diffsystem.chemistry.terms import Terms
from openff_diffsystem.exceptions import (
    ChargeAssignmentError,
    InvalidInputError,
    UnsupportedForceFieldError,
)
from openff_diffsystem.forms.registry import form_of, is_per_particle, pair_forms, registered_forms
from openff_diffsystem.parameters.assignment import AffineRows, Assignment
from openff_diffsystem.parameters.layout import ParameterLayout
from openff_diffsystem.parameters.system import SectionBlocks
from openff_diffsystem.sections import SECTIONS, section_of


@dataclass(frozen=True)
class Options:
    """The keyword arguments of ``Interchange.from_smirnoff`` that affect assignment."""

    charge_from_molecules: Sequence[Molecule] | None = None
    partial_bond_orders_from_molecules: Sequence[Molecule] | None = None
    allow_nonintegral_charges: bool = False


@dataclass
class SpeciesTerms:
    """Everything that is assigned to one unique molecule."""

    species: Species
    sections: dict[str, Terms]
    pairs: nonbonded.ClosePairs
    n_sites: int


@dataclass
class Assembled:
    """A whole topology, ready for arrays.

    Attributes
    ----------
    assignment
        The map onto the values of one copy of each species, section by section, then the settings.
    blocks
        Where the terms of each section are among the values.
    settings
        Position of each section-wide number among the values.
    indices, static
        Per section, for all copies: particle indices ``(n_terms, n)`` and integers.
    excluded, scaled_14
        ``(n, 2)``, int32, particle indices of pairs that do not interact, and that interact with the 1-4 scales.
    particle_order
        Row of each particle when the species are written one after the other.
    """

    assignment: Assignment
    blocks: dict[str, SectionBlocks]
    settings: dict[tuple[str, str], int]
    indices: dict[str, np.ndarray]
    static: dict[str, dict[str, np.ndarray]]
    excluded: np.ndarray
    scaled_14: np.ndarray
    particle_order: np.ndarray
    n_atoms: int
    n_particles: int
    species: list[Species] = field(repr=False)


def assemble(
    handlers: dict[str, Any], layout: ParameterLayout, values: np.ndarray, topology: Any, options: Options
) -> Assembled:
    """Assign the parameters of a force field to a topology.

    Parameters
    ----------
    handlers
        The force field's parameter handlers by tag.
    layout, values
        Their numbers.

    Raises
    ------
    UnsupportedForceFieldError
        If a section cannot be represented.
    UnassignedParameterError, ChargeAssignmentError
        If a term or an atom gets no parameter.
    """
    own_sites = {form.sites for form in pair_forms(handlers)} & handlers.keys()
    known = {tag for tag, section in SECTIONS.items() if section.in_force_fields} | own_sites
    unsupported = [tag for tag in handlers if tag not in known and form_of(tag) is None]
    if unsupported:
        raise UnsupportedForceFieldError(
            f"cannot represent the section(s) {', '.join(unsupported)}; register a functional form of your "
            "own with openff_diffsystem.forms.register_form"
        )
    in_place_of_vdw = [form.section for form in pair_forms(handlers)]
    if in_place_of_vdw and (len(in_place_of_vdw) > 1 or handlers.keys() & {"vdW", "VirtualSites", "GBSA"}):
        raise UnsupportedForceFieldError(
            f"{' and '.join(in_place_of_vdw)} take(s) the place of vdW: there can be one such section, and no vdW, "
            "VirtualSites or GBSA with it; virtual sites that have the form's columns need their own section, whose "
            "name the form gives"
        )
    site_sections = {"VirtualSites", *own_sites}
    if "Electrostatics" not in handlers and handlers.keys() & {*CHARGE_SECTIONS, *site_sections, "GBSA"}:
        raise UnsupportedForceFieldError("the force field assigns charges but has no Electrostatics section")
    check_unique(options.partial_bond_orders_from_molecules, "partial_bond_orders_from_molecules")
    check_unique(options.charge_from_molecules, "charge_from_molecules")
    for molecule in options.charge_from_molecules or ():
        if molecule.partial_charges is None:
            raise InvalidInputError(
                f"{molecule.to_smiles(explicit_hydrogens=False)} in charge_from_molecules has no partial charges"
            )
    if options.charge_from_molecules and handlers.keys() & site_sections:
        warnings.warn(
            "charge_from_molecules together with VirtualSites: the sites take their charges from the force field, "
            "and change the charges of their orientation atoms, also those from charge_from_molecules",
            stacklevel=4,
        )
    species = unique_species(topology)
    charges = None
    if "Electrostatics" in handlers:
        charges = _charges(species, handlers, layout, options)
        if not options.allow_nonintegral_charges:
            for one, rows in zip(species, charges, strict=True):
                check_integral(one.prepared, rows.flatten()(values))
    parts = [
        _species_terms(one, handlers, layout, options, None if charges is None else charges[i])
        for i, one in enumerate(species)
    ]
    return number_particles(parts, layout)


def _charges(
    species: list[Species], handlers: dict[str, Any], layout: ParameterLayout, options: Options
) -> list[AffineRows]:
    charges: list[AffineRows] = []
    for one, earlier in zip(species, isomorphic_predecessors(species), strict=True):
        molecule = one.prepared
        preset = _preset(molecule.molecule, options.charge_from_molecules)
        if preset is not None:
            rows = constant(preset)
        elif earlier is not None:
            rows = _reorder(charges[earlier[0]], earlier[1])
        else:
            rows = atom_charges(molecule, handlers, layout)
        charges.append(rows)
    return charges


def check_integral(molecule: PreparedMolecule, charges: np.ndarray) -> None:
    """Raise unless atom charges, ``(n_atoms,)``, e, add up to the formal charge within openff-interchange's 0.01 e."""
    total, formal = float(np.sum(charges)), float(molecule.molecule.total_charge.m)
    if abs(total - formal) > 0.01:
        raise ChargeAssignmentError(
            f"{molecule.name} has a net charge of {total:.4f} e but a formal charge of {formal:.0f} e; "
            "pass allow_nonintegral_charges=True to accept that"
        )


def _preset(molecule: Molecule, given: Sequence[Molecule] | None) -> np.ndarray | None:
    for other in given or ():
        isomorphic, atom_map = Molecule.are_isomorphic(other, molecule, return_atom_map=True)
        if isomorphic:
            charges = np.empty(molecule.n_atoms)
            charges[[atom_map[i] for i in range(molecule.n_atoms)]] = other.partial_charges.m_as("elementary_charge")
            return charges
    return None


def _reorder(rows: AffineRows, order: np.ndarray) -> AffineRows:
    new_row = {old: new for new, old in enumerate(order.tolist())}
    further = [(new_row[row], column, source, weight) for row, column, source, weight in rows.further]
    return AffineRows(rows.source[order], rows.weight[order], rows.offset[order], further)


def _species_terms(
    species: Species,
    handlers: dict[str, Any],
    layout: ParameterLayout,
    options: Options,
    charges: AffineRows | None,
) -> SpeciesTerms:
    molecule = species.prepared
    request = Request(molecule, handlers, layout, options.partial_bond_orders_from_molecules, charges)
    mine = [tag for tag in ASSIGNERS if tag in handlers and not section_of(tag).charge_source]
    sections = {tag: terms for tag in mine if (terms := request.terms(tag)) is not None}
    for section, form in registered_forms(handlers).items():
        sections[section] = form_terms(molecule, handlers, layout, form, request.sites)
    if request.sites:
        sections["VirtualSites"] = request.sites
    parents = request.sites.indices[:, 0] if request.sites else np.empty(0, dtype=np.int32)
    n_sites = request.n_particles - molecule.n_atoms
    return SpeciesTerms(species, sections, nonbonded.close_pairs(molecule, parents), n_sites)


def number_particles(parts: list[SpeciesTerms], layout: ParameterLayout) -> Assembled:
    """Number particles over the topology and lay out values: section by section, species by species, then settings."""
    particles = _particle_numbers(parts)
    n_atoms = sum(p.species.prepared.n_atoms * len(p.species.starts) for p in parts)
    n_particles = sum(numbers.size for numbers in particles)

    def over_copies(local: list[np.ndarray]) -> np.ndarray:
        width = local[0].shape[1]
        spread = [
            np.where(one < 0, -1, numbers[:, np.maximum(one, 0)]).reshape(-1, width)
            for one, numbers in zip(local, particles, strict=True)
        ]
        return np.ascontiguousarray(np.concatenate(spread).astype(np.int32))

    assignments, blocks, indices, static, start = [], {}, {}, {}, 0
    for section in parts[0].sections:
        terms = [part.sections[section] for part in parts]
        columns = terms[0].columns
        assignments.append(AffineRows.stack([t.rows for t in terms]).flatten())
        copies = [len(part.species.starts) for part in parts]
        counts = tuple((t.n_terms, c) for t, c in zip(terms, copies, strict=True))
        blocks[section] = SectionBlocks(columns, start, counts, is_per_particle(section))
        start += len(assignments[-1].source)
        indices[section] = over_copies([t.indices for t in terms])
        static[section] = {
            name: np.concatenate([np.tile(t.static[name], c) for t, c in zip(terms, copies, strict=True)])
            for name in terms[0].static
        }
    settings: dict[tuple[str, str], int] = {}
    sources: list[int] = []
    for tag, described in layout.sections.items():
        for column in described.columns.values():
            if column.rows is None:
                settings[tag, column.name] = start + len(sources)
                sources.append(column.start)
    assignments.append(AffineRows.gather(np.array(sources, dtype=np.int64)).flatten())

    return Assembled(
        assignment=Assignment.concatenate(assignments),
        blocks=blocks,
        settings=settings,
        indices=indices,
        static=static,
        excluded=over_copies([part.pairs.excluded for part in parts]),
        scaled_14=over_copies([part.pairs.scaled_14 for part in parts]),
        particle_order=np.argsort(np.concatenate([numbers.ravel() for numbers in particles]), kind="stable"),
        n_atoms=n_atoms,
        n_particles=n_particles,
        species=[part.species for part in parts],
    )


def _particle_numbers(parts: list[SpeciesTerms]) -> list[np.ndarray]:
    """Topology index of each particle of each copy, ``(n_copies, n_particles)`` per species.

    Virtual sites follow all atoms, molecule by molecule, as in openff-interchange's OpenMM export.
    """
    n_molecules = sum(len(part.species.molecules) for part in parts)
    n_sites = np.zeros(n_molecules, dtype=np.int64)
    n_atoms = 0
    for part in parts:
        n_sites[part.species.molecules] = part.n_sites
        n_atoms += part.species.prepared.n_atoms * len(part.species.starts)
    first_site = n_atoms + np.cumsum(n_sites) - n_sites
    return [
        np.concatenate(
            [
                part.species.starts[:, None] + np.arange(part.species.prepared.n_atoms),
                first_site[part.species.molecules][:, None] + np.arange(part.n_sites),
            ],
            axis=1,
        )
        for part in parts
    ]
