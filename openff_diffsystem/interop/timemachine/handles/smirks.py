"""The row of ``params`` of each term of an RDKit molecule, and the map from rows to terms. Both are kept in caches."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable
from typing import Any, NamedTuple, TypeVar

import jax.numpy as jnp
import numpy as np
from cachetools import LRUCache
from jaxtyping import Float, Int
from rdkit import Chem

from openff_diffsystem._jax.types import AnyArray
from openff_diffsystem.chemistry.matching import AtomIndices, last_match_wins, parsed
from openff_diffsystem.exceptions import UnsupportedForceFieldError
from openff_diffsystem.parameters.affine import AffineMap
from openff_diffsystem.parameters.assignment import NO_SOURCE, AffineRows

_PREPARED: LRUCache = LRUCache(maxsize=1024)
_FOUND: LRUCache = LRUCache(maxsize=32768)
"""Assignments, maps and charges by molecule, SMIRKS and everything else that they depend on."""
_NO_CONFORMERS = int(Chem.PropertyPickleOptions.NoConformers)

Answer = TypeVar("Answer")


class Assigned(NamedTuple):
    """Terms of one molecule: atoms ``(n_terms, n_atoms_per_term)``, int32, and rows of ``params``, ``(n_terms,)``."""

    idxs: Int[np.ndarray, "terms atoms"]
    rows: Int[np.ndarray, " terms"]


class Pattern(NamedTuple):
    """A SMIRKS, for functions that take parameters with SMIRKS."""

    smirks: str


def molecule_key(mol: Chem.Mol) -> bytes:
    """Equal for molecules with equal atoms and bonds in the same order; conformers and properties do not count."""
    return mol.ToBinary(_NO_CONFORMERS)


def assign(
    mol: Chem.Mol, key: bytes, smirks: Collection[str], n_atoms: int, canonical: Callable[[AtomIndices], AtomIndices]
) -> Assigned:
    """Match a list of SMIRKS: the last one that matches a group of atoms wins.

    Groups of atoms come in the order in which they were first matched. There is no limit on the number of matches, and
    chirality in SMIRKS counts.

    Parameters
    ----------
    key
        :func:`molecule_key` of ``mol``.
    n_atoms
        Atoms per term.
    canonical
        Gives one order for all equivalent orders of the same atoms.

    Raises
    ------
    UnsupportedForceFieldError
        If RDKit cannot parse a SMIRKS, or the SMIRKS does not tag ``n_atoms`` atoms.
    """

    def search() -> Assigned:
        for one in smirks:
            if (tags := len(parsed(one).tags)) != n_atoms:
                raise UnsupportedForceFieldError(f"the SMIRKS {one!r} tags {tags} atoms, a term has {n_atoms}")
        assigned = last_match_wins(_prepared(mol, key), [Pattern(one) for one in smirks], canonical)
        idxs = np.array(list(assigned), dtype=np.int32).reshape(-1, n_atoms)
        return Assigned(idxs, np.array(list(assigned.values()), dtype=np.int64))

    return cached(("assigned", key, tuple(smirks), n_atoms, canonical), search)


def _prepared(mol: Chem.Mol, key: bytes) -> Chem.Mol:
    """A copy in SMIRNOFF's aromaticity model (MDL), ready for substructure search."""
    if key not in _PREPARED:
        copy = Chem.Mol(mol)
        Chem.SanitizeMol(copy, Chem.SANITIZE_ALL ^ Chem.SANITIZE_SETAROMATICITY)
        Chem.SetAromaticity(copy, Chem.AromaticityModel.AROMATICITY_MDL)
        _PREPARED[key] = copy
    return _PREPARED[key]


def gather(
    rows: Int[np.ndarray, " terms"],
    shape: tuple[int, ...],
    extra_columns: int = 0,
    weights: tuple[float, ...] | None = None,
) -> AffineMap:
    """The map to ``params[rows]``, with columns of zeros appended, and each column multiplied by its weight.

    Parameters
    ----------
    rows
        ``(n_terms,)``.
    shape
        Of ``params``: ``(n_rows,)`` or ``(n_rows, n_columns)``.
    """
    columns = 1 if len(shape) == 1 else shape[1]
    table = AffineRows.empty(len(rows), columns + extra_columns)
    table.source[:, :columns] = rows[:, None] * columns + np.arange(columns)
    table.source[:, columns:] = NO_SOURCE
    if weights is not None:
        table.weight[:, :columns] = weights
    result = (len(rows),) if len(shape) == 1 else (len(rows), columns + extra_columns)
    return AffineMap(table.flatten(), result, shape)


def cached(question: Hashable, build: Callable[[], Answer]) -> Answer:
    """What ``build`` returned for the same question before; it is called for a new one. Errors are not kept."""
    known = _FOUND.get(question)
    if known is None:
        known = _FOUND[question] = build()
    return known


def apply(linear: AffineMap, params: Float[AnyArray, "..."]) -> Float[AnyArray, "..."]:
    """Apply a map to NumPy or jax arrays, traced or not; the result is of the same kind."""
    return linear.on_host(params) if isinstance(params, np.ndarray) else linear(params)


def as_array(params: Any) -> Float[AnyArray, "..."]:
    """``params`` as an array of floating-point numbers: as they are, or converted from a list or from integers."""
    if not hasattr(params, "shape"):
        return np.asarray(params, dtype=np.float64)
    if jnp.issubdtype(params.dtype, jnp.inexact):
        return params
    return params.astype(np.float64 if isinstance(params, np.ndarray) else jnp.result_type(float))


def forget() -> None:
    """Empty the caches: the next molecule is matched again."""
    _PREPARED.clear()
    _FOUND.clear()
