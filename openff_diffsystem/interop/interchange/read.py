"""A system from an existing Interchange: its assignments are read, no chemistry is done again.

The force-field parameters are the potentials of the Interchange, one row per SMIRKS that applies somewhere,
or, where the force field is given, the rows of that force field.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from openff.toolkit import ForceField

from openff_diffsystem.chemistry.assemble import Assembled, SpeciesTerms, number_particles
from openff_diffsystem.chemistry.molecule import BondGraph
from openff_diffsystem.chemistry.origin import InterchangeOrigin
from openff_diffsystem.chemistry.species import Species
from openff_diffsystem.forms.methods import Methods, word_of
from openff_diffsystem.interop.interchange.sources import Sources
from openff_diffsystem.interop.interchange.terms import read_pairs, read_terms
from openff_diffsystem.parameters.assignment import NO_SOURCE, AffineRows
from openff_diffsystem.parameters.force_field import ForceFieldParameters
from openff_diffsystem.parameters.layout import ParameterLayout
from openff_diffsystem.parameters.offxml import handlers_of, read_handlers
from openff_diffsystem.sections import SECTIONS
from openff_diffsystem.system.construction import from_assembled
from openff_diffsystem.system.data import System

if TYPE_CHECKING:
    from openff.interchange import Interchange


def assemble_interchange(
    interchange: Interchange, force_field: ForceField | None = None
) -> tuple[ParameterLayout, Float[np.ndarray, " parameters"], Assembled]:
    """Layout and values of the force-field parameters, and the assembled system, of an existing Interchange.

    Arguments and errors are those of :func:`from_interchange`.
    """
    if force_field is None:
        sources = Sources()
        terms, n_sites = read_terms(interchange, sources)
        layout, values, final = sources.finish([*interchange.collections, "LibraryCharges", "ChargeIncrementModel"])
        for one in terms.values():
            _renumber(one.rows, final)
    else:
        layout, values = read_handlers(handlers_of(force_field))
        terms, n_sites = read_terms(interchange, Sources((force_field, layout)))
    pairs = read_pairs(interchange, terms)
    whole = BondGraph(interchange.topology.n_atoms, ())
    species = Species(whole, molecules=np.zeros(1, dtype=np.int64), starts=np.zeros(1, dtype=np.int64))
    return layout, values, number_particles([SpeciesTerms(species, terms, pairs, n_sites)], layout)


def _renumber(rows: AffineRows, final: dict[int, int]) -> None:
    used = rows.source != NO_SOURCE
    rows.source[used] = [final[position] for position in rows.source[used].tolist()]
    rows.further = [(row, column, final[source], weight) for row, column, source, weight in rows.further]


_INTERCHANGE_NAMES = {"combining_rules": "mixing_rule"}

_IMPLIED = {("vdW", "potential"): "Lennard-Jones-12-6"}
"""Words that collections of openff-interchange do not have, because they know only one potential."""

_INTERCHANGE_WORDS = {"pme": "Ewald3D", "lorentz-berthelot": "Lorentz-Berthelot"}


def methods_of_interchange(interchange: Interchange) -> Methods:
    """The functional forms and methods that the collections of an Interchange name."""
    methods: Methods = {}
    for section, record in SECTIONS.items():
        if not record.words or section not in interchange.collections:
            continue
        collection = interchange.collections[section]
        methods[section] = {}
        for name in record.words:
            value = _IMPLIED.get((section, name)) or getattr(collection, _INTERCHANGE_NAMES.get(name, name))
            methods[section][name] = word_of(_INTERCHANGE_WORDS.get(value, value))
    return methods


def from_interchange(cls: type[System], interchange: Interchange, force_field: ForceField | None = None) -> System:
    """A system with the assignments of an existing ``Interchange``; no chemistry is done again.

    Parameters
    ----------
    interchange
        An ``Interchange`` made with ``Interchange.from_smirnoff``.
    force_field
        The ``ForceField`` it was made with. If it is given, theta is all of that force field and can be written back
        to it; otherwise theta holds the parameters that the Interchange uses, one row per SMIRKS.

    Raises
    ------
    UnsupportedForceFieldError
        If the Interchange holds something that cannot be represented.
    ParameterMismatchError
        If the force field lacks a parameter that the Interchange uses.
    """
    layout, values, assembled = assemble_interchange(interchange, force_field)
    return from_assembled(
        cls,
        ForceFieldParameters(jnp.asarray(values), layout),
        assembled,
        box=interchange.box,
        positions=interchange.positions,
        methods=methods_of_interchange(interchange),
        forms={},
        molecules=tuple((m.to_smiles(mapped=True), 1) for m in interchange.topology.molecules),
        masses=np.array([atom.mass.m_as("dalton") for atom in interchange.topology.atoms]),
        origin=InterchangeOrigin(interchange),
    )
