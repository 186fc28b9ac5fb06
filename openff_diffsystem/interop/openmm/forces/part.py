"""What each file of this folder has: how a part of an OpenMM System is read, written, and changed in place."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from openff_diffsystem.forms.form import Form
from openff_diffsystem.interop.openmm.forces.at_theta import AtTheta
from openff_diffsystem.interop.openmm.forces.terms import ForceTerms
from openff_diffsystem.potentials.periodic.scheme import EngineOptions


@dataclass
class Found:
    """An OpenMM System, and what was read of it so far.

    Attributes
    ----------
    openmm_system
        The System.
    terms
        By section, with OpenMM's indices of particles.
    settings
        Section-wide numbers, by section and attribute.
    methods
        Section-wide words, by section and attribute.
    forms
        Functional forms of the sections that are not built in.
    excluded_pairs
        ``(n, 2)``: OpenMM's indices of pairs that do not interact.
    engine_options
        What is true of the whole system.
    is_site
        ``(n_particles,)``: whether a particle of OpenMM's is a virtual site.
    order
        ``(n_particles,)``: OpenMM's index of each particle of ours, atoms first.
    """

    openmm_system: Any
    terms: dict[str, ForceTerms] = field(default_factory=dict)
    settings: dict[tuple[str, str], float] = field(default_factory=dict)
    methods: dict[str, dict[str, str]] = field(default_factory=dict)
    forms: dict[str, Form] = field(default_factory=dict)
    excluded_pairs: np.ndarray = field(default_factory=lambda: np.empty((0, 2), dtype=np.int64))
    engine_options: EngineOptions = field(default_factory=EngineOptions)
    is_site: np.ndarray = field(init=False)
    order: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        n = self.openmm_system.getNumParticles()
        self.is_site = np.array([self.openmm_system.isVirtualSite(i) for i in range(n)], dtype=bool)
        self.order = np.argsort(self.is_site, kind="stable")

    @property
    def n_atoms(self) -> int:
        """The number of particles that are no virtual sites."""
        return int((~self.is_site).sum())


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
