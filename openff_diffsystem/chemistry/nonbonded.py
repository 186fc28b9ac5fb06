"""van der Waals and generalised Born parameters of atoms, and how close pairs interact."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from openff_diffsystem.chemistry.matching import last_match_wins
from openff_diffsystem.chemistry.molecule import BondGraph, PreparedMolecule
from openff_diffsystem.chemistry.terms import Terms, index_array
from openff_diffsystem.exceptions import UnassignedParameterError
from openff_diffsystem.parameters.assignment import NO_SOURCE, AffineRows
from openff_diffsystem.parameters.layout import ParameterLayout
from openff_diffsystem.sections import SECTIONS

SIGMA_PER_RMIN_HALF = 2.0 / 2.0 ** (1.0 / 6.0)
"""sigma = 2 rmin_half / 2^(1/6): the zero and the minimum of the 12-6 potential."""


def vdw(molecule: PreparedMolecule, handler: Any, layout: ParameterLayout) -> AffineRows:
    """Lennard-Jones parameters per atom: ``epsilon`` (kJ/mol) and ``sigma`` (nm)."""
    return lennard_jones(layout, "vdW", assigned_to_every_atom(molecule, handler))


def gbsa(molecule: PreparedMolecule, handler: Any, layout: ParameterLayout) -> Terms:
    """Generalised Born parameters per atom, columns ``radius`` (nm) and ``scale``."""
    rows = assigned_to_every_atom(molecule, handler)
    columns = SECTIONS["GBSA"].columns
    return Terms(
        columns,
        index_array(list(range(molecule.n_atoms)), 1),
        AffineRows.gather(*(layout.positions("GBSA", name)[rows] for name in columns)),
    )


def lennard_jones(layout: ParameterLayout, section: str, parameter_rows: np.ndarray) -> AffineRows:
    """Rows of epsilon and sigma for particles with the given parameters, ``sigma`` or ``rmin_half`` as written."""
    sigma, rmin_half = (layout.positions(section, name)[parameter_rows] for name in ("sigma", "rmin_half"))
    rows = AffineRows.gather(
        layout.positions(section, "epsilon")[parameter_rows], np.where(sigma == NO_SOURCE, rmin_half, sigma)
    )
    rows.weight[:, 1] = np.where(sigma == NO_SOURCE, SIGMA_PER_RMIN_HALF, 1.0)
    return rows


def assigned_to_every_atom(molecule: PreparedMolecule, handler: Any) -> np.ndarray:
    """The parameter of each atom, ``(n_atoms,)``, as positions in the section.

    Raises
    ------
    UnassignedParameterError
        If an atom has no parameter. The message names the atoms.
    """
    assigned = last_match_wins(molecule.rdmol, handler.parameters, tuple)
    missing = [i for i in range(molecule.n_atoms) if (i,) not in assigned]
    if missing:
        named = ", ".join(molecule.describe((i,)) for i in missing[:5])
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        raise UnassignedParameterError(f"{handler.TAGNAME} has no parameter for {named}{more} of {molecule.name}")
    return np.array([assigned[(i,)] for i in range(molecule.n_atoms)], dtype=np.int64)


@dataclass(frozen=True)
class ClosePairs:
    """Pairs of particles of one molecule that do not interact, or interact with the 1-4 scales.

    Attributes
    ----------
    excluded, scaled_14
        ``(n, 2)``, int32, the smaller index first.
    """

    excluded: np.ndarray
    scaled_14: np.ndarray


def close_pairs(molecule: BondGraph, parents: np.ndarray) -> ClosePairs:
    """Exclusions and 1-4 pairs of a molecule and its virtual sites.

    Virtual sites inherit the pairs of their parent atom (SMIRNOFF's exclusion policy "parents"). They interact neither
    with it nor with other sites of the same parent.

    Parameters
    ----------
    parents
        ``(n_sites,)``: the parent atom of each site. Sites are numbered from ``n_atoms``.
    """
    excluded, scaled = molecule.excluded_pairs, molecule.pairs_14
    if not len(parents):
        return ClosePairs(excluded, scaled)
    family: dict[int, list[int]] = {i: [i] for i in range(molecule.n_atoms)}
    for site, parent in enumerate(parents.tolist(), start=molecule.n_atoms):
        family[parent].append(site)
    siblings = [(a, b) for members in family.values() for i, a in enumerate(members) for b in members[i + 1 :]]
    return ClosePairs(
        excluded=_sorted_pairs(siblings + _between_families(excluded, family)),
        scaled_14=_sorted_pairs(_between_families(scaled, family)),
    )


def _between_families(pairs: np.ndarray, family: dict[int, list[int]]) -> list[tuple[int, int]]:
    return [pair for a, b in pairs.tolist() for pair in product(family[a], family[b])]


def _sorted_pairs(pairs: list[tuple[int, int]]) -> np.ndarray:
    return np.array(sorted((min(p), max(p)) for p in pairs), dtype=np.int32).reshape(-1, 2)
