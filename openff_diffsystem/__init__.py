"""Differentiable SMIRNOFF force fields for the OpenFF Toolkit.

The public API is what ``__all__`` names. Names are imported when they are first used: the toolkit imports this
package whenever it loads plugins, and that must not import jax.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from openff_diffsystem.diffsystem import DiffSystem
    from openff_diffsystem.parameters.force_field import ForceFieldParameters, SelectedParameters
    from openff_diffsystem.parameters.system import SystemParameters
    from openff_diffsystem.system.batch import SystemBatch

__version__ = version("openff-diffsystem")

_WHERE = {
    "DiffSystem": "openff_diffsystem.diffsystem",
    "ForceFieldParameters": "openff_diffsystem.parameters.force_field",
    "SelectedParameters": "openff_diffsystem.parameters.force_field",
    "SystemBatch": "openff_diffsystem.system.batch",
    "SystemParameters": "openff_diffsystem.parameters.system",
}

__all__ = ["DiffSystem", "ForceFieldParameters", "SelectedParameters", "SystemBatch", "SystemParameters"]


def __getattr__(name: str) -> object:
    if name not in _WHERE:
        raise AttributeError(f"module 'openff_diffsystem' has no attribute {name!r}")
    _require_openff()
    return getattr(import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _require_openff() -> None:
    for module in ("openff.toolkit", "openff.interchange"):
        try:
            found = find_spec(module) is not None
        except ModuleNotFoundError:
            found = False
        if not found:
            from openff_diffsystem.exceptions import MissingStackError

            raise MissingStackError(
                f"{module} is not installed. With conda: "
                "'conda install -c conda-forge openff-toolkit openff-interchange'; "
                "with pip: 'pip install openff-diffsystem[pip]'."
            )
