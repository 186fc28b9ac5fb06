"""What each file of this folder has: how a part of an OpenMM System is read, written, and changed in place."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from openff_diffsystem.interop.openmm.forces.at_theta import AtTheta
from openff_diffsystem.interop.openmm.forces.found import Found


@dataclass(frozen=True)
class Change:
    """New parameters that were checked and wait to be applied.

    Attributes
    ----------
    apply
        Takes a Context or ``None``; returns whether a Context has to be reinitialised.
    force
        The force that gets them, if it is one.
    """

    apply: Callable[[Any], bool]
    force: Any = None


class Part(Protocol):
    """A module for a force, for constraints, or for virtual sites. It does nothing where there are none."""

    CLASSES: tuple[str, ...]
    """The classes of OpenMM that it reads."""

    def read(self, found: Found) -> None:
        """Add to what was found in an OpenMM System; :class:`UnsupportedForceError` if it cannot be represented."""

    def write(self, at: AtTheta, openmm_system: Any) -> None:
        """Add to an OpenMM System that has all particles."""

    def change(self, at: AtTheta, openmm_system: Any) -> Iterator[Change]:
        """Compare with an OpenMM System that has the part already, and raise where they do not match.

        Nothing is changed before a :class:`Change` is applied, and that raises no more.
        """
        ...
