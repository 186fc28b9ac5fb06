"""What timemachine's handles have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from openff_diffsystem.exceptions import ParameterMismatchError
from openff_diffsystem.interop.timemachine.files.file_format import require_finite

_SUFFIX = "Handler"


class Handle:
    """Numbers with SMIRKS, and their application to one RDKit molecule.

    Attributes
    ----------
    columns
        What the numbers of a row are; where it is one, ``params`` is ``(n_rows,)``, else ``(n_rows, n_columns)``.
    smirks
        One pattern per row of ``params``.
    params
        float64, a NumPy array that may be changed in place; the next call reads it.
    props
        Anything that Python writes as a literal, or ``None``.

    Raises
    ------
    ParameterMismatchError
        If ``params`` have another shape, when made and when called.
    """

    columns: ClassVar[tuple[str, ...]] = ()
    smirks: list[str]
    params: Any
    props: Any

    def __init__(self, smirks: Any, params: Any, props: Any) -> None:
        self.smirks = list(smirks)
        self.params = self._rows(params, len(self.smirks))
        self.props = props

    @classmethod
    def _rows(cls, params: Any, n_rows: int) -> np.ndarray:
        """A copy of ``params``, float64; an empty list becomes an array without rows."""
        try:
            rows = np.array(params, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise ParameterMismatchError(f"{cls.__name__}: params are no array of numbers ({error})") from error
        rows = rows.reshape(cls._shape(0)) if rows.shape == (0,) else rows
        cls._check_shape(rows.shape, n_rows)
        return rows

    @classmethod
    def _shape(cls, n_rows: int) -> tuple[int, ...]:
        return (n_rows,) if len(cls.columns) == 1 else (n_rows, len(cls.columns))

    @classmethod
    def _check_shape(cls, shape: Sequence[int], n_rows: int, each: str = "SMIRKS") -> None:
        """Shapes are known when traced too, where a row too few would be read from the last one."""
        if tuple(shape) != cls._shape(n_rows):
            raise ParameterMismatchError(
                f"{cls.__name__}: params must have shape {cls._shape(n_rows)}, a row ({', '.join(cls.columns)}) for "
                f"each {each}, they have {tuple(shape)}"
            )

    def parameterize(self, mol: Any) -> Any:
        """:meth:`partial_parameterize` with the handle's own ``params``."""
        return self.partial_parameterize(self.params, mol)

    def partial_parameterize(self, params: Any, mol: Any) -> Any:
        """Parameters of the terms of a molecule as a function of ``params``, which may be traced."""
        return self.static_parameterize(params, self.smirks, mol)  # type: ignore[attr-defined]

    def lookup_smirks(self, query: str) -> Any:
        """The row of ``params`` of a pattern, or ``None``."""
        return self.params[self.smirks.index(query)] if query in self.smirks else None

    @classmethod
    def section(cls) -> str:
        """The name of the section in timemachine's files."""
        return cls.__name__.removesuffix(_SUFFIX)

    def serialize(self) -> dict[str, dict[str, Any]]:
        """The section of timemachine's file format: ``{name: {"patterns": rows, "props": props}}``.

        Raises
        ------
        NonFiniteParameterError
            If a number is NaN or infinite: a file that has one could not be read.
        """
        for row in (rows := self._patterns()):
            require_finite(self.section(), row[0], row[1:])
        body: dict[str, Any] = {"patterns": rows}
        if self.props is not None:
            body["props"] = self.props
        return {self.section(): body}

    def _patterns(self) -> list[tuple]:
        return [(smirks, *np.atleast_1d(row).tolist()) for smirks, row in zip(self.smirks, self.params, strict=True)]
