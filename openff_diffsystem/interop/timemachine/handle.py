"""What timemachine's handles have in common."""

from __future__ import annotations

from typing import Any

import numpy as np

from openff_diffsystem.exceptions import ParameterMismatchError

_SUFFIX = "Handler"


class Handle:
    """Numbers with SMIRKS, and their application to one RDKit molecule.

    Attributes
    ----------
    smirks
        One pattern per row of ``params``.
    params
        float64, a NumPy array that may be changed in place; the next call reads it.
    props
        Anything that Python writes as a literal, or ``None``.
    """

    smirks: list[str]
    params: Any
    props: Any

    def __init__(self, smirks: Any, params: Any, props: Any) -> None:
        self.smirks = list(smirks)
        self.params = np.array(params, dtype=np.float64)
        self.props = props
        if len(self.smirks) != len(self.params):
            raise ParameterMismatchError(
                f"{type(self).__name__}: {len(self.smirks)} SMIRKS for {len(self.params)} rows of params"
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
        """The section of timemachine's file format: ``{name: {"patterns": rows, "props": props}}``."""
        rows = [(smirks, *np.atleast_1d(row).tolist()) for smirks, row in zip(self.smirks, self.params, strict=True)]
        body: dict[str, Any] = {"patterns": rows}
        if self.props is not None:
            body["props"] = self.props
        return {self.section(): body}
