"""The result of assignment: the terms of one section in one molecule."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from openff_diffsystem.parameters.assignment import AffineRows


@dataclass
class Terms:
    """The terms of one section in one molecule.

    Attributes
    ----------
    columns
        Names of the attributes of a term, for example ``("k", "length")``.
    indices
        ``(n_terms, n_atoms_per_term)``, int32, C-contiguous. Atoms count from zero; virtual sites follow the atoms.
    rows
        How the attributes follow from the force-field parameters, ``(n_terms, n_columns)``.
    static
        Integers that are not differentiated, by name, ``(n_terms, ...)``, for example the periodicities.
    """

    columns: tuple[str, ...]
    indices: np.ndarray
    rows: AffineRows
    static: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def n_terms(self) -> int:
        return len(self.indices)


def index_array(indices: list, n_atoms: int) -> np.ndarray:
    """Atom indices as ``(n_terms, n_atoms)`` int32, also when there are none."""
    return np.ascontiguousarray(np.array(indices, dtype=np.int32).reshape(-1, n_atoms))
