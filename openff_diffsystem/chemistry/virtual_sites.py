"""Virtual sites of one molecule: where they are, and their charges."""

from __future__ import annotations

import numpy as np
from openff.toolkit.typing.engines.smirnoff import ParameterHandler, ParameterType

from openff_diffsystem.chemistry.molecule import PreparedMolecule
from openff_diffsystem.chemistry.terms import Terms
from openff_diffsystem.exceptions import UnsupportedForceFieldError
from openff_diffsystem.parameters.assignment import NO_SOURCE, AffineRows
from openff_diffsystem.parameters.layout import ParameterLayout
from openff_diffsystem.parameters.offxml import numeric_attributes
from openff_diffsystem.sections import NO_ATOM, SECTIONS, SITE_TYPES


def virtual_sites(molecule: PreparedMolecule, handler: ParameterHandler, layout: ParameterLayout) -> Terms:
    """Virtual sites, columns ``distance`` (nm), ``outOfPlaneAngle`` and ``inPlaneAngle`` (rad).

    ``indices`` are the orientation atoms, ``(n_sites, 4)``, the parent first, filled up with ``NO_ATOM``.
    ``static`` has the ``type`` (position in ``SITE_TYPES``) and the ``parameter`` (row of the section).

    The toolkit itself decides which atoms get sites (last match per parent and name, match modes ``once`` and
    ``all_permutations``, supported environments).
    """
    if handler.exclusion_policy != "parents":
        raise UnsupportedForceFieldError(
            f"{handler.TAGNAME} with exclusion_policy {handler.exclusion_policy!r}; only 'parents' is supported"
        )
    row_of = {id(parameter): row for row, parameter in enumerate(handler.parameters)}
    orientations: list[tuple[int, ...]] = []
    parameter_rows: list[int] = []
    found = handler._find_matches_by_parent(molecule.molecule.to_topology())
    for assigned in found.values():
        for parameter, matched in assigned:
            _check_unambiguous(handler, parameter)
            for match in matched:
                orientations.append(match.topology_atom_indices)
                parameter_rows.append(row_of[id(parameter)])

    indices = np.full((len(orientations), 4), NO_ATOM, dtype=np.int32)
    for i, atoms in enumerate(orientations):
        indices[i, : len(atoms)] = atoms
    columns = SECTIONS["VirtualSites"].columns
    rows = AffineRows.gather(*(layout.positions(handler.TAGNAME, name)[parameter_rows] for name in columns))
    types = [SITE_TYPES.index(handler.parameters[row].type) for row in parameter_rows]
    static = {
        "type": np.array(types, dtype=np.int32),
        "parameter": np.array(parameter_rows, dtype=np.int32),
    }
    return Terms(columns, indices, rows, static)


def add_charges(charges: AffineRows, sites: Terms, layout: ParameterLayout, section: str) -> AffineRows:
    """The charges of atoms and sites: each site takes the sum of its increments from its orientation atoms.

    Parameters
    ----------
    charges
        Charges of the atoms, ``(n_atoms, 1)``.
    section
        The section that has the sites' parameters.

    Returns
    -------
    AffineRows
        ``(n_atoms + n_sites, 1)``, the sites after the atoms.
    """
    n_atoms = len(charges.source)
    result = AffineRows.stack([charges, AffineRows.empty(sites.n_terms, 1)])
    for position in range(4):
        name = f"charge_increment{position + 1}"
        sources = layout.positions(section, name)[sites.static["parameter"]]
        for site in np.flatnonzero(sources != NO_SOURCE):
            result.add(n_atoms + site, 0, int(sources[site]), -1.0)
            result.add(int(sites.indices[site, position]), 0, int(sources[site]), 1.0)
    return result


def _check_unambiguous(handler: ParameterHandler, parameter: ParameterType) -> None:
    """Refuse sites to which openff-interchange would give the values of another parameter.

    It looks parameters up by SMIRKS, name and match, and takes the first one, although the last one matched.
    """

    def identity(p: ParameterType) -> tuple:
        return p.smirks, p.name, p.match

    def values(p: ParameterType) -> list:
        return [p.type, *((attribute, str(value)) for attribute, value in numeric_attributes(p))]

    for other in handler.parameters:
        if other is not parameter and identity(other) == identity(parameter) and values(other) != values(parameter):
            raise UnsupportedForceFieldError(
                f"two {handler.TAGNAME} parameters with SMIRKS {parameter.smirks!r}, name {parameter.name!r} and match "
                f"{parameter.match!r} differ in their values; openff-interchange would use the first and the "
                "specification the last. Remove one of them."
            )
