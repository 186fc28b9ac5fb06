"""Theta of a system without SMIRKS: the parameters of its own terms, named by their particles."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from jaxtyping import Float, Int, Shaped

from openff_diffsystem.exceptions import UnsupportedForceError
from openff_diffsystem.interop.openmm.forces.terms import ForceTerms, distinct_rows
from openff_diffsystem.parameters.assignment import AffineRows, Assignment
from openff_diffsystem.parameters.layout import Column, NumericAttribute, ParameterLayout, SectionLayout
from openff_diffsystem.parameters.system import SectionBlocks, SystemLayout
from openff_diffsystem.sections import NO_ATOM, SECTIONS, SITE_TYPES, WEIGHTED_SITE_TYPES, section_of

_SITE_COLUMNS = {
    **dict.fromkeys(SITE_TYPES, SECTIONS["VirtualSites"].columns),
    "TwoParticleAverage": ("weight1", "weight2", None),
    "ThreeParticleAverage": ("weight1", "weight2", "weight3"),
    "OutOfPlane": ("weight12", "weight13", "weightCross"),
}


def own_parameters(
    terms: dict[str, ForceTerms],
    settings: dict[tuple[str, str], float],
    names: list[str],
    tie_equal: bool,
    context_wide: Collection[str],
) -> tuple[ParameterLayout, Float[np.ndarray, " parameters"], Assignment, SystemLayout]:
    """Theta, and the map from theta to the system parameters: a gather, with constants where there is nothing to fit.

    Parameters
    ----------
    terms
        The terms by section.
    settings
        Section-wide numbers, by section and attribute.
    names
        Names of the particles, in the numbering of the terms.
    tie_equal
        Whether terms of a section with equal parameters share a row of theta.
    context_wide
        The sections whose settings are global parameters in OpenMM: settings of the same name are one number.
    """
    sections, values, maps = [], [], []
    blocks: dict[str, SectionBlocks] = {}
    sources: dict[tuple[str, str], int] = {}
    shared: dict[str, int] = {}
    start = n_values = 0
    for (section, name), value in settings.items():
        if not np.isfinite(value):
            raise UnsupportedForceError(f"{name} of {section} is NaN or infinite")
    for section, one in terms.items():
        refused = np.argwhere(~np.isfinite(one.values)).tolist()
        if refused:
            term, column = refused[0]
            raise UnsupportedForceError(
                f"{one.columns[column]} of the term of {section} between particles "
                f"{one.particles[term].tolist()} is NaN or infinite"
            )
        columns: dict[str, Column] = {}
        for (tag, name), value in settings.items():
            if tag != section:
                continue
            if tag in context_wide and name in shared:
                sources[tag, name] = shared[name]
            else:
                columns[name] = Column(NumericAttribute(name), one.unit or section_of(tag).unit(name), None, start)
                sources[tag, name] = start
                if tag in context_wide:
                    shared[name] = start
                values.append(np.array([value]))
                start += 1
        first, row_of_term = _rows(one, tie_equal)
        rows = AffineRows.empty(len(one.particles), len(one.columns))
        if one.shared is not None:
            # one attribute for all values of the maps: hundreds of attributes, one for each value, would be slow
            places = start + np.arange(len(first) * len(one.columns)).reshape(len(first), -1)
            rows.source[:] = places[row_of_term]
            columns["energy"] = Column(
                NumericAttribute("energy"), section_of(section).unit("energy"), tuple(range(places.size)), start
            )
            values.append(one.values[first].ravel())
            start += places.size
        for c, attributes in enumerate(_attributes(section, one)):
            chosen = attributes[first]
            for attribute in dict.fromkeys(name for name in chosen.tolist() if name):
                members = np.flatnonzero(chosen == attribute)
                columns[attribute] = Column(
                    NumericAttribute(attribute),
                    one.unit or section_of(section).unit(attribute),
                    tuple(members.tolist()),
                    start,
                )
                position = np.full(len(first), -1)
                position[members] = start + np.arange(len(members))
                has = position[row_of_term] >= 0
                rows.source[has, c] = position[row_of_term][has]
                values.append(one.values[first[members], c])
                start += len(members)
            constant = attributes == ""
            rows.offset[constant, c] = one.values[constant, c]
        labels = tuple(label for term in first.tolist() for label in _labels(names, one, term))
        sections.append(SectionLayout(section, (None,) * len(labels), labels, columns))
        maps.append(rows.flatten())
        blocks[section] = SectionBlocks(
            one.columns, n_values, ((len(one.particles), 1),), section_of(section).per_particle
        )
        n_values += one.values.size
    constants = {(s, "scale14"): 1.0 for s in ("vdW", "Electrostatics") if s in terms}
    numbers = AffineRows.empty(len(sources) + len(constants), 1)
    numbers.source[: len(sources), 0] = list(sources.values())
    numbers.offset[len(sources) :, 0] = list(constants.values())
    maps.append(numbers.flatten())
    positions = {key: n_values + i for i, key in enumerate((*sources, *constants))}
    return (
        ParameterLayout(sections),
        np.concatenate(values) if values else np.empty(0),
        Assignment.concatenate(maps),
        SystemLayout(blocks, positions, None),
    )


def _rows(one: ForceTerms, tie_equal: bool) -> tuple[Int[np.ndarray, " rows"], Int[np.ndarray, " terms"]]:
    """The first term of each row of parameters, ``(n_rows,)``, and the row of each term, ``(n_terms,)``."""
    n = len(one.particles)
    if tie_equal:
        table = np.column_stack([one.values, *one.static.values()])
    else:
        table = (np.arange(n) if one.shared is None else one.shared)[:, None]
    if not n or not table.shape[1]:
        return np.arange(n), np.arange(n)
    return distinct_rows(table)


def _attributes(section: str, one: ForceTerms) -> list[Shaped[np.ndarray, " terms"]]:
    """By column, the name of the attribute of each term, ``(n_terms,)``; empty where the value is not a parameter."""
    n = len(one.particles)
    if one.shared is not None:
        return []
    if section != "VirtualSites":
        return [np.full(n, "" if (section, name) == ("ProperTorsions", "idivf") else name) for name in one.columns]
    kinds = np.array([*SITE_TYPES, *WEIGHTED_SITE_TYPES])[one.static["type"]]
    return [np.array([_SITE_COLUMNS[kind][c] or "" for kind in kinds.tolist()]) for c in range(3)]


def _labels(names: list[str], one: ForceTerms, term: int) -> list[str]:
    """Labels of the rows of theta that belong to a term and to no earlier one."""
    if one.shared is not None:
        return [f"map{one.shared[term]}:{column}" for column in one.columns]
    label = "-".join(names[i] for i in one.particles[term].tolist() if i != NO_ATOM)
    return [f"{label}(n={one.static['periodicity'][term]})" if "periodicity" in one.static else label]
