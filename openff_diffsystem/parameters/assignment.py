"""The assignment: the constant sparse affine map from force-field to system parameters.

A system parameter is a force-field parameter (a bond's ``k``), a constant (an AM1-BCC charge), or a
weighted sum of both (bond-order interpolation, charge increments). Almost every one has a single source,
so the map is one gather plus a short list of further entries, and its adjoint is one scatter.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from openff_diffsystem._jax.types import AnyArray, Kind

NO_SOURCE = -1
"""In a table of sources: this value does not come from a force-field parameter."""


@dataclass
class AffineRows:
    """Rows of the map under construction, ``values[i] = weight[i] theta[source[i]] + offset[i] + further entries``.

    Attributes
    ----------
    source
        ``(n_rows, n_columns)``, int: position in the force-field vector, or ``NO_SOURCE``.
    weight, offset
        ``(n_rows, n_columns)``, float; offsets in MD units.
    further
        ``(row, column, source, weight)`` for values with more than one source.
    """

    source: Int[np.ndarray, "rows columns"]
    weight: Float[np.ndarray, "rows columns"]
    offset: Float[np.ndarray, "rows columns"]
    further: list[tuple[int, int, int, float]] = field(default_factory=list)

    @classmethod
    def empty(cls, n_rows: int, n_columns: int) -> AffineRows:
        """Rows that are all zero."""
        return cls(
            source=np.full((n_rows, n_columns), NO_SOURCE, dtype=np.int64),
            weight=np.ones((n_rows, n_columns)),
            offset=np.zeros((n_rows, n_columns)),
        )

    @classmethod
    def gather(cls, *columns: Int[np.ndarray, " rows"]) -> AffineRows:
        """Rows whose columns each have one source with weight one; ``columns`` hold ``(n_rows,)`` positions."""
        source = np.stack(columns, axis=1).astype(np.int64)
        return cls(source, np.ones(source.shape), np.zeros(source.shape))

    def add(self, row: int | np.integer, column: int, source: int, weight: float) -> None:
        """Add ``weight * theta[source]`` to one value."""
        if self.source[row, column] == NO_SOURCE:
            self.source[row, column], self.weight[row, column] = source, weight
        else:
            self.further.append((int(row), column, source, weight))

    @classmethod
    def stack(cls, parts: list[AffineRows]) -> AffineRows:
        """The rows of several blocks with the same columns, one below the other."""
        further, n_rows = [], 0
        for part in parts:
            further += [(row + n_rows, column, source, weight) for row, column, source, weight in part.further]
            n_rows += len(part.source)
        return cls(
            np.concatenate([part.source for part in parts]),
            np.concatenate([part.weight for part in parts]),
            np.concatenate([part.offset for part in parts]),
            further,
        )

    def flatten(self) -> Assignment:
        """The map onto the values in row-major order."""
        n_columns = self.source.shape[1]
        missing = self.source.ravel() == NO_SOURCE
        rows, columns, sources, weights = zip(*self.further, strict=True) if self.further else ((), (), (), ())
        return Assignment(
            source=np.where(missing, 0, self.source.ravel()).astype(np.int32),
            weight=np.where(missing, 0.0, self.weight.ravel()),
            offset=self.offset.ravel(),
            further_row=(np.array(rows, dtype=np.int32) * n_columns + np.array(columns, dtype=np.int32)),
            further_source=np.array(sources, dtype=np.int32),
            further_weight=np.array(weights, dtype=float),
        )


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Assignment:
    """``weight * theta[source] + offset``, plus ``further_weight * theta[further_source]`` at each ``further_row``.

    A pytree of six arrays; those of a batch are stacked along a first axis.

    Attributes
    ----------
    source, weight, offset
        ``(n_values,)``. A value without a source has weight zero. Offsets are in MD units.
    further_row, further_source, further_weight
        ``(n_further,)``, the entries of values that have more than one source.
    """

    source: Int[AnyArray, "*systems values"]
    weight: Float[AnyArray, "*systems values"]
    offset: Float[AnyArray, "*systems values"]
    further_row: Int[AnyArray, "*systems further"]
    further_source: Int[AnyArray, "*systems further"]
    further_weight: Float[AnyArray, "*systems further"]

    @classmethod
    def concatenate(cls, parts: list[Assignment]) -> Assignment:
        """The map onto the values of all parts, one after the other."""
        starts = np.cumsum([0, *(len(part.source) for part in parts)])[:-1]
        return cls(
            source=np.concatenate([p.source for p in parts]).astype(np.int32),
            weight=np.concatenate([p.weight for p in parts]),
            offset=np.concatenate([p.offset for p in parts]),
            further_row=np.concatenate([p.further_row + start for p, start in zip(parts, starts, strict=True)]).astype(
                np.int32
            ),
            further_source=np.concatenate([p.further_source for p in parts]).astype(np.int32),
            further_weight=np.concatenate([p.further_weight for p in parts]),
        )

    def with_further(self, length: int) -> Assignment:
        """The same map with so many further entries, the last of which add nothing."""
        missing = (0, length - len(self.further_row))
        return replace(
            self,
            further_row=np.pad(self.further_row, missing),
            further_source=np.pad(self.further_source, missing),
            further_weight=np.pad(self.further_weight, missing),
        )

    def __call__(self, theta: Float[Kind, " parameters"]) -> Float[Kind, " values"]:
        """Apply the map to ``theta``, ``(n_parameters,)``, a NumPy or JAX array; the result is of the same kind.

        The dtype of ``theta`` is kept.
        """
        values = self.linear(theta)
        return values if self._no_offset else values + _like(self.offset, theta)

    def linear(self, theta: Float[Kind, " parameters"]) -> Float[Kind, " values"]:
        """The map without its constant part, ``(n_parameters,)`` to ``(n_values,)``."""
        if not theta.shape[0]:
            return _like(np.zeros(len(self.offset)), theta)
        values = theta[self.source]
        if not self._plain:
            values = _like(self.weight, theta) * values
        if len(self.further_row):
            values = _add_at(values, self.further_row, _like(self.further_weight, theta) * theta[self.further_source])
        return values

    def adjoint(self, cotangent: Float[Kind, " values"], n_parameters: int) -> Float[Kind, " parameters"]:
        """The transpose of :meth:`linear`, ``(n_values,)`` to ``(n_parameters,)``."""
        gradient = _like(np.zeros(n_parameters), cotangent)
        if not n_parameters:
            return gradient
        weighted = cotangent if self._plain else _like(self.weight, cotangent) * cotangent
        gradient = _add_at(gradient, self.source, weighted)
        if len(self.further_row):
            terms = _like(self.further_weight, cotangent) * cotangent[self.further_row]
            gradient = _add_at(gradient, self.further_source, terms)
        return gradient

    # Operations that do nothing are left out where the arrays are known: compiled code pays for each.
    @cached_property
    def _plain(self) -> bool:
        return isinstance(self.weight, np.ndarray) and bool((self.weight == 1).all())

    @cached_property
    def _no_offset(self) -> bool:
        return isinstance(self.offset, np.ndarray) and not self.offset.any()

    def entries(
        self,
    ) -> tuple[Int[np.ndarray, " nonzero"], Int[np.ndarray, " nonzero"], Float[np.ndarray, " nonzero"]]:
        """Row, column and weight of every non-zero of the matrix, ``(n_nonzero,)`` each."""
        rows = np.flatnonzero(self.weight)
        return (
            np.concatenate([rows, self.further_row]).astype(np.int32),
            np.concatenate([self.source[rows], self.further_source]),
            np.concatenate([self.weight[rows], self.further_weight]),
        )


def _like(constant: Float[AnyArray, " n"], array: Float[Kind, "..."]) -> Float[Kind, " n"]:
    """A constant as the kind of array and in the dtype of another."""
    if isinstance(array, np.ndarray):
        return np.asarray(constant, dtype=array.dtype)
    return jnp.asarray(constant, dtype=array.dtype)


def _add_at(array: Float[Kind, " n"], positions: Int[AnyArray, " m"], values: Float[Kind, " m"]) -> Float[Kind, " n"]:
    if isinstance(array, np.ndarray):
        sums = np.bincount(positions, weights=values, minlength=len(array))
        return array + sums.astype(array.dtype)
    return array.at[positions].add(values)
