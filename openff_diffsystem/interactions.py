"""The integer arrays of a system's energy function, built once on the host."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from openff_diffsystem.chemistry.methods import ISOLATED, require
from openff_diffsystem.exceptions import UnsupportedForceFieldError
from openff_diffsystem.forms import pair_forms, valence_forms
from openff_diffsystem.potentials.isolated import Interactions
from openff_diffsystem.potentials.pairs import FULL, PADDING, SCALED_14
from openff_diffsystem.potentials.periodic import PeriodicInteractions

if TYPE_CHECKING:
    from openff_diffsystem.system import DiffSystem

_TORSIONS = ("ProperTorsions", "ImproperTorsions")


def isolated_interactions(system: DiffSystem, add_constrained_forces: bool) -> Interactions:
    """Who interacts with whom in the isolated molecules of a system, as NumPy arrays.

    Raises
    ------
    UnsupportedForceFieldError
        If the force field has a section that contributes energy and is not covered in vacuum.
    """
    require(system.methods, ISOLATED)
    return _interactions(system, add_constrained_forces, *_all_pairs(system))


def periodic_interactions(system: DiffSystem, add_constrained_forces: bool) -> PeriodicInteractions:
    """Who interacts with whom in a periodic system, besides the pairs of a neighbour list, as NumPy arrays.

    Raises
    ------
    UnsupportedForceFieldError
        If a custom section takes the place of vdW.
    """
    for form in pair_forms(system.term_indices):
        raise UnsupportedForceFieldError(f"{form.section} is a custom pair potential: it is not covered in a box")
    kinds = np.full(len(system.pairs_14), SCALED_14, dtype=np.int8)
    local = _interactions(system, add_constrained_forces, system.pairs_14, kinds)
    return PeriodicInteractions(local, not_interacting(system))


def not_interacting(system: DiffSystem) -> np.ndarray:
    """Pairs that are excluded or scaled, ``(n, 2)``, int32."""
    return np.concatenate([system.excluded_pairs, system.pairs_14]).astype(np.int32)


def _interactions(
    system: DiffSystem, add_constrained_forces: bool, pairs: np.ndarray, pair_kinds: np.ndarray
) -> Interactions:
    indices, static = system.term_indices, system.term_static
    custom = [form.section for form in valence_forms(indices)]
    kept: dict[str, np.ndarray] = {
        section: np.ones(len(indices[section]), dtype=bool)
        for section in ("Bonds", "Angles", *custom)
        if section in indices
    }
    if not add_constrained_forces:
        constrained = {tuple(sorted(pair)) for pair in indices.get("Constraints", np.empty((0, 2))).tolist()}
        for section, count in kept.items():
            if constrained:
                count[:] = [not _all_constrained(atoms, constrained) for atoms in indices[section].tolist()]
    return Interactions(
        indices={s: indices[s] for s in ("Bonds", "Angles", *_TORSIONS, *custom) if s in indices},
        periodicity={s: static[s]["periodicity"] for s in _TORSIONS if s in indices},
        kept=kept,
        site_atoms=indices.get("VirtualSites", np.empty((0, 4), dtype=np.int32)),
        site_types=static["VirtualSites"]["type"] if "VirtualSites" in static else np.empty(0, dtype=np.int32),
        pairs=pairs,
        pair_kinds=pair_kinds,
        n_atoms=system.n_atoms,
        born_model=system.methods["GBSA"]["gb_model"] if "GBSA" in system.methods else None,
        surface_area="GBSA" in system.methods and system.methods["GBSA"]["sa_model"] == "ACE",
    )


def _all_constrained(atoms: list[int], constrained: set[tuple[int, ...]]) -> bool:
    """Whether constraints fix every distance within a bond or angle, and so its energy."""
    return all((a, b) in constrained for a in atoms for b in atoms if a < b)


def _all_pairs(system: DiffSystem) -> tuple[np.ndarray, np.ndarray]:
    """Every interacting pair, ``(n_pairs, 2)``, and its kind, ``(n_pairs,)``."""
    n = system.n_particles
    kinds = np.full((n, n), FULL, dtype=np.int8)
    kinds[tuple(system.pairs_14.T)] = SCALED_14
    kinds[tuple(system.excluded_pairs.T)] = PADDING
    first, second = np.nonzero(np.triu(kinds, k=1))
    return np.stack([first, second], axis=1).astype(np.int32), kinds[first, second]
