"""Which row of ``params`` each term of an RDKit molecule gets, found once per molecule and list of SMIRKS."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from cachetools import LRUCache
from rdkit import Chem

from openff_diffsystem.chemistry.matching import AtomIndices, last_match_wins

_PREPARED: LRUCache = LRUCache(maxsize=1024)
_ASSIGNED: LRUCache = LRUCache(maxsize=16384)
_NO_CONFORMERS = int(Chem.PropertyPickleOptions.NoConformers)


class Assigned(NamedTuple):
    """Terms of one molecule: atoms ``(n_terms, n_atoms_per_term)``, int32, and rows of ``params``, ``(n_terms,)``."""

    idxs: np.ndarray
    rows: np.ndarray


class _Pattern(NamedTuple):
    smirks: str


def molecule_key(mol: Any) -> bytes:
    """Equal for molecules with equal atoms and bonds in the same order, whatever their conformers and properties."""
    return mol.ToBinary(_NO_CONFORMERS)


def assign(
    mol: Any, key: bytes, smirks: Sequence[str], n_atoms: int, canonical: Callable[[AtomIndices], AtomIndices]
) -> Assigned:
    """Match a list of SMIRKS: the last one that matches a group of atoms wins.

    Groups come in the order in which they were first matched. There is no limit on the number of matches, and
    SMIRKS that name a chirality are honoured.

    Parameters
    ----------
    key
        :func:`molecule_key` of ``mol``.
    n_atoms
        Atoms per term.
    canonical
        Maps equivalent orders of the same atoms onto one.

    Raises
    ------
    UnsupportedForceFieldError
        If RDKit cannot parse a SMIRKS.
    """
    question = (key, tuple(smirks), canonical)
    found = _ASSIGNED.get(question)
    if found is None:
        assigned = last_match_wins(_prepared(mol, key), [_Pattern(one) for one in smirks], canonical)
        idxs = np.array(list(assigned), dtype=np.int32).reshape(-1, n_atoms)
        found = _ASSIGNED[question] = Assigned(idxs, np.array(list(assigned.values()), dtype=np.int64))
    return found


def _prepared(mol: Any, key: bytes) -> Any:
    """A copy in SMIRNOFF's aromaticity model (MDL), ready for substructure search."""
    if key not in _PREPARED:
        copy = Chem.Mol(mol)
        Chem.SanitizeMol(copy, Chem.SANITIZE_ALL ^ Chem.SANITIZE_SETAROMATICITY)
        Chem.SetAromaticity(copy, Chem.AromaticityModel.AROMATICITY_MDL)
        _PREPARED[key] = copy
    return _PREPARED[key]
