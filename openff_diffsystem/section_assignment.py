"""The assignment of one section, as indices and weights and as the parameter matrix."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

from openff_diffsystem.assignment import Assignment
from openff_diffsystem.system_parameters import SectionBlocks


@dataclass(frozen=True)
class SectionAssignment:
    """The assignment of one section: system parameters of its unique molecules as sums over theta.

    Row ``i * n_columns + c`` is column ``c`` of term ``i``, unique molecules one after the other.
    """

    assignment: Assignment
    blocks: SectionBlocks
    n_parameters: int

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the attributes of a term."""
        return self.blocks.columns

    @property
    def indices(self) -> tuple[np.ndarray, np.ndarray]:
        """Row and column of each non-zero of the matrix, ``(n_nonzero,)``, int32."""
        row, column, _ = self._entries()
        return row, column

    @property
    def weights(self) -> np.ndarray:
        """The non-zeros of the matrix, ``(n_nonzero,)``."""
        return self._entries()[2]

    @property
    def offset(self) -> np.ndarray:
        """The constant part, ``(n_rows,)``, MD units."""
        return self.assignment.offset[self._values]

    def to_matrix(self) -> csr_array:
        """The parameter matrix, ``(n_rows, n_values)``, sparse: system parameters are ``matrix @ theta + offset``."""
        row, column, weight = self._entries()
        return csr_array((weight, (row, column)), shape=(self.blocks.n_values, self.n_parameters))

    def _entries(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        row, column, weight = self.assignment.entries()
        mine = (row >= self._values.start) & (row < self._values.stop)
        return row[mine] - self._values.start, column[mine], weight[mine]

    @property
    def _values(self) -> slice:
        return slice(self.blocks.start, self.blocks.start + self.blocks.n_values)
