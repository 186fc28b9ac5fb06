"""CMAPTorsionForce read, written and given new maps: a system has the map of each term, OpenMM a list of maps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from openff_diffsystem.exceptions import UnsupportedForceError
from openff_diffsystem.interop.openmm.forces.terms import ForceTerms, Table, described
from openff_diffsystem.potentials.custom import CMAP, CorrectionMaps


def read_maps(force: Any) -> tuple[ForceTerms, CorrectionMaps]:
    """The terms of a CMAPTorsionForce that has some, a map each, and their energy.

    Columns are ``e0_0, e1_0, ...``: the value at each pair of angles, the first angle running fastest. In theta they
    are one attribute, ``energy``, with a row per value of each map.

    Raises
    ------
    UnsupportedForceError
        If its maps are of several sizes.
    """
    rows = [force.getTorsionParameters(i) for i in range(force.getNumTorsions())]
    number_of_map = np.array([row[0] for row in rows], dtype=np.int64)
    maps = {i: force.getMapParameters(i) for i in np.unique(number_of_map).tolist()}
    sizes = sorted({size for size, _ in maps.values()})
    if len(sizes) > 1:
        raise UnsupportedForceError(f"{described(force)} has maps of {len(sizes)} sizes, {sizes}; one is covered")
    values = {i: [getattr(e, "_value", e) for e in energies] for i, (_, energies) in maps.items()}
    columns = tuple(f"e{i}_{j}" for j in range(sizes[0]) for i in range(sizes[0]))
    terms = ForceTerms(
        columns,
        np.array([row[1:] for row in rows], dtype=np.int64),
        np.array([values[i] for i in number_of_map.tolist()], dtype=float),
        {},
        shared=number_of_map,
    )
    return terms, CorrectionMaps(force.getName())


def write_maps(energy: CorrectionMaps, table: Table) -> Any:
    """The force; equal maps are written once."""
    import openmm

    force = openmm.CMAPTorsionForce()
    force.setName(energy.name)
    values = np.stack(table.values, axis=1)
    maps, of_term = _distinct(values)
    size = round(values.shape[1] ** 0.5)
    for one in maps:
        force.addMap(size, one.tolist())
    for row, i in zip(table.particles.tolist(), of_term.tolist(), strict=True):
        force.addTorsion(i, *row)
    return force


def maps_change(force: Any, in_their_order: Callable[..., Table]) -> Callable[[Any], bool]:
    """Give a force new maps: what does so, for a Context or ``None``, and returns whether to begin anew.

    Raises
    ------
    ParameterMismatchError
        If the force has other terms.
    """
    present = [force.getTorsionParameters(i) for i in range(force.getNumTorsions())]
    table = in_their_order(CMAP, [row[1:] for row in present])
    values = np.stack(table.values, axis=1)
    size = round(values.shape[1] ** 0.5)
    theirs = np.array([row[0] for row in present], dtype=np.int64)

    def apply(context: Any) -> bool:
        anew = False
        for i in np.unique(theirs).tolist():
            members = np.flatnonzero(theirs == i)
            maps, of_term = _distinct(values[members])
            anew |= force.getMapParameters(i)[0] != size or len(maps) > 1
            # terms that had a map in common and have not any more get maps of their own
            places = [i, *(force.addMap(size, one.tolist()) for one in maps[1:])]
            force.setMapParameters(i, size, maps[0].tolist())
            for member, of in zip(members.tolist(), of_term.tolist(), strict=True):
                force.setTorsionParameters(member, places[of], *table.particles[member].tolist())
        return anew

    return apply


def _distinct(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The different rows in order of appearance, and which of them each row is."""
    _, first, inverse = np.unique(values, axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first)
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    return values[first[order]], place[inverse.reshape(-1)]
