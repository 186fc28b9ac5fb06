"""What timemachine's handles have in common."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, ClassVar, Generic, Protocol, TypeVar, runtime_checkable

import numpy as np
from jaxtyping import Float
from rdkit import Chem

from openff_diffsystem.exceptions import ParameterMismatchError
from openff_diffsystem.interop.timemachine.files.file_format import require_finite

_SUFFIX = "Handler"

Parameterized = TypeVar("Parameterized", covariant=True)
"""What a handle parameterizes a molecule to: an array, or an array and the atoms of its terms."""


@runtime_checkable
class AnyHandle(Protocol):
    """A handle of this package or of timemachine."""

    def partial_parameterize(self, params: Any, mol: Chem.Mol) -> Any:
        """Parameters of the terms of a molecule as a function of ``params``."""


class Handle(Generic[Parameterized]):
    """Numbers with SMIRKS, and their application to one RDKit molecule.

    Attributes
    ----------
    columns
        Names of the numbers of a row. With one name ``params`` is ``(n_rows,)``, otherwise ``(n_rows, n_columns)``.
    smirks
        One pattern per row of ``params``.
    params
        A NumPy array, float64, that may be changed in place; the next call reads it. A handle of a function has a
        pytree instead.
    props
        Anything that Python writes as a literal, or ``None``.

    Raises
    ------
    ParameterMismatchError
        If ``params`` have another shape, in the constructor and at every call.
    """

    columns: ClassVar[tuple[str, ...]] = ()
    smirks: list[str]
    params: Any
    props: object

    def __init__(self, smirks: Collection[str], params: object, props: object) -> None:
        self.smirks = list(smirks)
        self.params = self._rows(params, len(self.smirks))
        self.props = props

    @classmethod
    def _rows(cls, params: object, n_rows: int) -> Float[np.ndarray, "rows ..."]:
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
        """Raise if the shape is wrong: under jax, a missing row would silently be read from the last one."""
        if tuple(shape) != cls._shape(n_rows):
            raise ParameterMismatchError(
                f"{cls.__name__}: params must have shape {cls._shape(n_rows)}, a row ({', '.join(cls.columns)}) for "
                f"each {each}; they have {tuple(shape)}"
            )

    def parameterize(self, mol: Chem.Mol) -> Parameterized:
        """:meth:`partial_parameterize` with the handle's own ``params``."""
        return self.partial_parameterize(self.params, mol)

    def partial_parameterize(self, params: object, mol: Chem.Mol) -> Parameterized:
        """Parameters of the terms of a molecule as a function of ``params``, which jax may trace."""
        return self.static_parameterize(params, self.smirks, mol)  # type: ignore[attr-defined]

    def lookup_smirks(self, query: str) -> Float[np.ndarray, "..."] | np.floating | None:
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
            If a number is NaN or infinite: the file could not be read.
        """
        for row in (rows := self._patterns()):
            require_finite(self.section(), row[0], row[1:])
        body: dict[str, Any] = {"patterns": rows}
        if self.props is not None:
            body["props"] = self.props
        return {self.section(): body}

    def _patterns(self) -> list[tuple]:
        return [(smirks, *np.atleast_1d(row).tolist()) for smirks, row in zip(self.smirks, self.params, strict=True)]
