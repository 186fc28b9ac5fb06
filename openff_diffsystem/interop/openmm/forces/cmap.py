"""CMAPTorsionForce: a system has a map for each term, OpenMM has a list of maps."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int

from openff_diffsystem.exceptions import UnsupportedForceError
from openff_diffsystem.interop.openmm.forces.at_theta import AtTheta
from openff_diffsystem.interop.openmm.forces.lookup import described, number, rows_of
from openff_diffsystem.interop.openmm.forces.own_forms import (
    add_section,
    forces_by_section,
    forces_with_terms,
    own_sections,
)
from openff_diffsystem.interop.openmm.forces.part import Change, Found
from openff_diffsystem.interop.openmm.forces.terms import ForceTerms, Table, distinct_rows, in_their_order
from openff_diffsystem.potentials.custom import CMAP, CorrectionMaps

if TYPE_CHECKING:
    import openmm

CLASSES: tuple[str, ...] = (CMAP,)


def read(found: Found) -> None:
    """The terms of each CMAPTorsionForce that has some, one map per term.

    Columns are ``e0_0, e1_0, ...``: the value at each pair of angles, where the first angle varies fastest. In
    theta they are one attribute, ``energy``, with a row for each value of each map.

    Raises
    ------
    UnsupportedForceError
        If its maps have different sizes.
    """
    for force in forces_with_terms(found, CMAP):
        add_section(found, force, _terms(force), CorrectionMaps(force.getName()))


def write(at: AtTheta, openmm_system: openmm.System) -> None:
    """A force for each section; equal maps are written once."""
    import openmm

    for section, energy in own_sections(at, CMAP).items():
        force = openmm.CMAPTorsionForce()
        force.setName(energy.name)
        table = at.table(section)
        values = _values(table)
        first, of_term = distinct_rows(values)
        maps = values[first]
        for one in maps:
            force.addMap(_size(one), one.tolist())
        for particles, i in zip(table.particles.tolist(), of_term.tolist(), strict=True):
            force.addTorsion(i, *particles)
        openmm_system.addForce(force)


def change(at: AtTheta, openmm_system: openmm.System) -> Iterator[Change]:
    """New maps. Where terms that shared one no longer do, a Context has to be reinitialised."""
    for section, force in forces_by_section(at, openmm_system, CMAP):
        present = rows_of(force, "Torsion")
        table = in_their_order(CMAP, [row[1:] for row in present], at.table(section), directed=True)
        yield Change(partial(_apply, force, np.array([row[0] for row in present], dtype=np.int64), table), force)


def _apply(force: openmm.Force, map_of_term: Int[np.ndarray, " terms"], table: Table, _: openmm.Context | None) -> bool:
    reinitialise = False
    values = _values(table)
    for i in np.unique(map_of_term).tolist():
        members = np.flatnonzero(map_of_term == i)
        first, of_term = distinct_rows(values[members])
        maps = values[members[first]]
        size = _size(maps[0])
        reinitialise |= force.getMapParameters(i)[0] != size or len(maps) > 1
        # terms that shared a map and no longer do get maps of their own
        places = [i, *(force.addMap(size, one.tolist()) for one in maps[1:])]
        force.setMapParameters(i, size, maps[0].tolist())
        for member, of in zip(members.tolist(), of_term.tolist(), strict=True):
            force.setTorsionParameters(member, places[of], *table.particles[member].tolist())
    return reinitialise


def _values(table: Table) -> Float[np.ndarray, "terms values"]:
    """The map of each term, ``(n_terms, n_values)``."""
    return np.stack(table.values, axis=1)


def _size(one: Float[np.ndarray, " values"]) -> int:
    return round(len(one) ** 0.5)


def _terms(force: openmm.Force) -> ForceTerms:
    rows = rows_of(force, "Torsion")
    map_of_term = np.array([row[0] for row in rows], dtype=np.int64)
    maps = {i: force.getMapParameters(i) for i in np.unique(map_of_term).tolist()}
    sizes = sorted({size for size, _ in maps.values()})
    if len(sizes) > 1:
        raise UnsupportedForceError(f"{described(force)} has maps of {len(sizes)} sizes, {sizes}; one is covered")
    values = {i: [number(e) for e in energies] for i, (_, energies) in maps.items()}
    columns = tuple(f"e{i}_{j}" for j in range(sizes[0]) for i in range(sizes[0]))
    return ForceTerms(
        columns,
        np.array([row[1:] for row in rows], dtype=np.int64),
        np.array([values[i] for i in map_of_term.tolist()]),
        shared=map_of_term,
    )
