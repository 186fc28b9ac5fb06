"""Terms of registered functional forms in one molecule."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Int
from openff.toolkit.typing.engines.smirnoff import ParameterHandler

from openff_diffsystem.chemistry.matching import AtomIndices, forward_or_reversed, tagged_matches
from openff_diffsystem.chemistry.molecule import PreparedMolecule
from openff_diffsystem.chemistry.nonbonded import assigned_to_every_atom
from openff_diffsystem.chemistry.terms import Terms, index_array
from openff_diffsystem.exceptions import UnsupportedForceFieldError
from openff_diffsystem.forms.form import Form, PairForm
from openff_diffsystem.parameters.assignment import NO_SOURCE, AffineRows
from openff_diffsystem.parameters.layout import ParameterLayout


def form_terms(
    molecule: PreparedMolecule,
    handlers: Mapping[str, ParameterHandler],
    layout: ParameterLayout,
    form: Form,
    sites: Terms | None = None,
) -> Terms:
    """The terms of a registered form: every match, or every atom and virtual site for a pair form.

    Raises
    ------
    UnassignedParameterError
        If a pair form has no parameter for an atom.
    UnsupportedForceFieldError
        If a SMIRKS tags another number of atoms, or a parameter lacks one of the form's attributes.
    """
    handler = handlers[form.section]
    if isinstance(form, PairForm):
        if (form.section, "scale14") not in {
            (section.tag, column.name) for section in layout.sections.values() for column in section.columns.values()
        }:
            raise UnsupportedForceFieldError(f"{form.section} has no scale14")
        rows = [_gather(handler, layout, form, assigned_to_every_atom(molecule, handler))]
        if sites is not None and form.sites is not None:
            rows.append(_gather(handlers[form.sites], layout, form, sites.static["parameter"]))
        n_particles = sum(len(part.source) for part in rows)
        return Terms(tuple(form.columns), index_array(list(range(n_particles)), 1), AffineRows.stack(rows))
    assigned = _as_tagged(molecule, handler)
    for atoms, row in assigned.items():
        if len(atoms) != form.n_atoms:
            raise UnsupportedForceFieldError(
                f"{form.section} has terms of {form.n_atoms} atoms, but {handler.parameters[row].smirks!r} tags "
                f"{len(atoms)}"
            )
    parameter_rows = np.array(list(assigned.values()), dtype=np.int64)
    return Terms(
        tuple(form.columns), index_array(list(assigned), form.n_atoms), _gather(handler, layout, form, parameter_rows)
    )


def _as_tagged(molecule: PreparedMolecule, handler: ParameterHandler) -> dict[AtomIndices, int]:
    """The parameter of each group of atoms. Atoms are in the order of the tags, to which columns may refer.

    A pattern that matches in both directions gives the order that begins with the smaller index.
    """
    found: dict[AtomIndices, tuple[AtomIndices, int]] = {}
    for atoms, row in tagged_matches(molecule.rdmol, handler.parameters):
        canonical = forward_or_reversed(atoms)
        if canonical not in found or found[canonical][1] != row or atoms == canonical:
            found[canonical] = (atoms, row)
    return dict(found.values())


def _gather(
    handler: ParameterHandler, layout: ParameterLayout, form: Form, parameter_rows: Int[np.ndarray, " terms"]
) -> AffineRows:
    sources = [layout.positions(handler.TAGNAME, name)[parameter_rows] for name in form.columns]
    for name, source in zip(form.columns, sources, strict=True):
        missing = parameter_rows[source == NO_SOURCE]
        if len(missing):
            smirks = handler.parameters[int(missing[0])].smirks
            raise UnsupportedForceFieldError(f"{handler.TAGNAME} parameter {smirks!r} has no attribute {name!r}")
    return AffineRows.gather(*sources)
