"""timemachine's handles of bonded terms.

Each returns ``(params, idxs)``: one row per term, and the atoms of each term, int32, C-contiguous and never traced.
Terms come in the order in which they were first matched.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike
from rdkit import Chem

from openff_diffsystem._jax.types import AnyArray
from openff_diffsystem.chemistry.matching import forward_or_reversed, improper
from openff_diffsystem.exceptions import ParameterMismatchError, UnassignedParameterError
from openff_diffsystem.interop.timemachine.handles.handle import Handle
from openff_diffsystem.interop.timemachine.handles.smirks import apply, as_array, assign, cached, gather, molecule_key
from openff_diffsystem.parameters.affine import AffineMap

_CYCLES = ((0, 1, 2), (1, 2, 0), (2, 0, 1))

Terms = tuple[Float[AnyArray, "terms columns"], Int[np.ndarray, "terms atoms"]]
"""Parameters and atoms of terms."""

_Mapped = tuple[AffineMap, Int[np.ndarray, "terms atoms"]]
"""The map from ``params`` to the parameters of terms, and their atoms."""


class _BondedHandle(Handle[Terms]):
    @classmethod
    def _parameterize(
        cls,
        build: Callable[[bytes, tuple[int, ...]], _Mapped],
        params: Float[AnyArray, "rows numbers"],
        mol: Chem.Mol,
        smirks: Collection[str],
        *question: Hashable,
    ) -> Terms:
        """Parameters and atoms. The map is built once for a molecule, its SMIRKS and a question."""
        key = molecule_key(mol)
        linear, idxs = cached((*question, tuple(smirks), key), lambda: build(key, params.shape))
        return apply(linear, params), idxs.copy()


class HarmonicBondHandler(_BondedHandle):
    """Bonds: rows ``(k, length)``, kJ/mol/nm^2 and nm; energy k/2 (r - length)^2."""

    columns = ("k", "length")

    @classmethod
    def static_parameterize(cls, params: object, smirks: Collection[str], mol: Chem.Mol) -> Terms:
        """``(n_bonds, 2)`` parameters and ``(n_bonds, 2)`` atoms.

        Raises
        ------
        UnassignedParameterError
            If the matched pairs are not the bonds of the molecule.
        """

        def build(key: bytes, shape: tuple[int, ...]) -> _Mapped:
            idxs, rows = assign(mol, key, smirks, 2, forward_or_reversed)
            _check_bonds(mol, idxs)
            return gather(rows, shape), idxs

        params = as_array(params)
        cls._check_shape(params.shape, len(smirks))
        return cls._parameterize(build, params, mol, smirks, "bonds")


class HarmonicAngleHandler(_BondedHandle):
    """Angles: rows ``(k, angle)``, kJ/mol/rad^2 and rad; energy k/2 (theta - angle)^2."""

    columns = ("k", "angle")

    @classmethod
    def static_parameterize(cls, params: object, smirks: Collection[str], mol: Chem.Mol) -> Terms:
        """``(n_angles, 3)`` parameters, the third (timemachine's stabiliser) zero; ``(n_angles, 3)`` atoms."""

        def build(key: bytes, shape: tuple[int, ...]) -> _Mapped:
            idxs, rows = assign(mol, key, smirks, 3, forward_or_reversed)
            return gather(rows, shape, extra_columns=1), idxs

        params = as_array(params)
        cls._check_shape(params.shape, len(smirks))
        return cls._parameterize(build, params, mol, smirks, "angles")


class ProperTorsionHandler(_BondedHandle):
    """Proper torsions: rows ``(k, phase, periodicity)``, kJ/mol, rad and a number n.

    The energy is k (1 + cos(n phi - phase)).

    Attributes
    ----------
    counts
        ``(n_smirks,)``, int32: the number of rows of ``params`` that each pattern has.
    """

    columns = ("k", "phase", "periodicity")

    counts: Int[np.ndarray, " smirks"]

    def __init__(self, smirks: Collection[str], params: Collection[Any], props: object) -> None:
        """Take one list of terms per pattern; a single term may stand in place of a list of one."""
        if len(smirks) != len(params):
            raise ParameterMismatchError(f"ProperTorsionHandler: {len(smirks)} SMIRKS for {len(params)} lists of terms")
        self.smirks = list(smirks)
        for pattern, terms in zip(smirks, params, strict=True):
            if not isinstance(terms, Sequence) and np.ndim(terms) == 0:
                wanted = f"a list of terms ({', '.join(self.columns)})"
                raise ParameterMismatchError(f"ProperTorsionHandler: {pattern} must have {wanted}, not {terms}")
        params = [[terms] if len(terms) and np.ndim(terms[0]) == 0 else terms for terms in params]
        self.counts = np.array([len(terms) for terms in params], dtype=np.int32)
        self.params = self._rows([term for terms in params for term in terms], int(self.counts.sum()))
        self.props = props

    def partial_parameterize(self, params: object, mol: Chem.Mol) -> Terms:
        """Parameters of the terms of a molecule as a function of ``params``, which jax may trace."""
        return self.static_parameterize(params, self.smirks, self.counts, mol)

    def lookup_smirks(self, query: str) -> Float[np.ndarray, "terms 3"] | None:
        """The rows of ``params`` of a pattern, ``(n_terms, 3)``, or ``None``."""
        if query not in self.smirks:
            return None
        which = self.smirks.index(query)
        start = int(self.counts[:which].sum())
        return self.params[start : start + self.counts[which]]

    @classmethod
    def static_parameterize(cls, params: object, smirks: Collection[str], counts: ArrayLike, mol: Chem.Mol) -> Terms:
        """``(n_terms, 3)`` parameters and ``(n_terms, 4)`` atoms; the terms of one torsion are next to each other."""
        params, counts = as_array(params), np.asarray(counts, dtype=np.int64)
        if counts.shape != (len(smirks),):
            raise ParameterMismatchError(
                f"{cls.__name__}: counts must have shape {(len(smirks),)}, one per SMIRKS; they have {counts.shape}"
            )
        cls._check_shape(params.shape, int(counts.sum()), "term of the SMIRKS")

        def build(key: bytes, shape: tuple[int, ...]) -> _Mapped:
            idxs, patterns = assign(mol, key, smirks, 4, forward_or_reversed)
            ends = np.cumsum(counts)
            rows = [np.arange(ends[p] - counts[p], ends[p]) for p in patterns]
            flat = np.concatenate(rows) if rows else np.empty(0, dtype=np.int64)
            return gather(flat, shape), np.repeat(idxs, counts[patterns], axis=0)

        return cls._parameterize(build, params, mol, smirks, "propers", counts.tobytes())

    def _patterns(self) -> list[tuple]:
        terms = np.split(self.params, np.cumsum(self.counts)[:-1]) if self.smirks else []
        return [(smirks, part.tolist()) for smirks, part in zip(self.smirks, terms, strict=True)]


class ImproperTorsionHandler(_BondedHandle):
    """Improper torsions: rows ``(k/3, phase, periodicity)``; energy as for :class:`ProperTorsionHandler`.

    There are three terms per centre, one for each cyclic order of its sorted neighbours, with the central atom second.
    OpenFF measures another dihedral angle, with the central atom first. Both energies agree only where the centre is
    planar.
    """

    columns = ("k/3", "phase", "periodicity")

    @classmethod
    def static_parameterize(cls, params: object, smirks: Collection[str], mol: Chem.Mol) -> Terms:
        """``(3 n_centres, 3)`` parameters and ``(3 n_centres, 4)`` atoms."""

        def build(key: bytes, shape: tuple[int, ...]) -> _Mapped:
            idxs, rows = assign(mol, key, smirks, 4, improper)
            orders = [(c[0], 1, c[1], c[2]) for c in (tuple((0, 2, 3)[i] for i in cycle) for cycle in _CYCLES)]
            return gather(np.repeat(rows, 3), shape), np.ascontiguousarray(idxs[:, orders].reshape(-1, 4))

        params = as_array(params)
        cls._check_shape(params.shape, len(smirks))
        return cls._parameterize(build, params, mol, smirks, "impropers")


def _check_bonds(mol: Chem.Mol, idxs: Int[np.ndarray, "bonds 2"]) -> None:
    ends = ((bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()) for bond in mol.GetBonds())
    bonds = {forward_or_reversed(pair) for pair in ends}
    matched = set(map(tuple, idxs.tolist()))
    if bonds != matched:
        raise UnassignedParameterError(
            f"HarmonicBond: missing bonds (no SMIRKS matches them): {sorted(bonds - matched)}; "
            f"pairs matched that are not bonded: {sorted(matched - bonds)}"
        )
