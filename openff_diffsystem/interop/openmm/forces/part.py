"""What each file of this folder contains: how a part of an OpenMM System is read, written, and changed in place."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np
from jaxtyping import Bool, Int

from openff_diffsystem.forms.form import Form
from openff_diffsystem.interop.openmm.forces.at_theta import AtTheta
from openff_diffsystem.interop.openmm.forces.terms import ForceTerms
from openff_diffsystem.potentials.periodic.scheme import EngineOptions

if TYPE_CHECKING:
    import openmm


@dataclass
class Found:
    """An OpenMM System, and what was read from it so far.

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
        Settings of the whole system.
    is_site
        ``(n_particles,)``: whether a particle is a virtual site, in OpenMM's order.
    order
        ``(n_particles,)``: OpenMM's index of each of our particles, atoms first.
    """

    openmm_system: openmm.System
    terms: dict[str, ForceTerms] = field(default_factory=dict)
    settings: dict[tuple[str, str], float] = field(default_factory=dict)
    methods: dict[str, dict[str, str]] = field(default_factory=dict)
    forms: dict[str, Form] = field(default_factory=dict)
    excluded_pairs: Int[np.ndarray, "pairs 2"] = field(default_factory=lambda: np.empty((0, 2), dtype=np.int64))
    engine_options: EngineOptions = field(default_factory=EngineOptions)
    is_site: Bool[np.ndarray, " particles"] = field(init=False)
    order: Int[np.ndarray, " particles"] = field(init=False)

    def __post_init__(self) -> None:
        n = self.openmm_system.getNumParticles()
        self.is_site = np.array([self.openmm_system.isVirtualSite(i) for i in range(n)], dtype=bool)
        self.order = np.argsort(self.is_site, kind="stable")

    @property
    def n_atoms(self) -> int:
        """The number of particles that are not virtual sites."""
        return int((~self.is_site).sum())


@dataclass(frozen=True)
class Change:
    """New parameters, checked and ready to be applied.

    Attributes
    ----------
    apply
        Takes a Context or ``None``; returns whether a Context has to be reinitialised.
    force
        The force that gets them; ``None`` where it is the System itself.
    """

    apply: Callable[[openmm.Context | None], bool]
    force: openmm.Force | None = None


class Part(Protocol):
    """A module for a force, for constraints, or for virtual sites. It does nothing where there are none."""

    CLASSES: tuple[str, ...]
    """The classes of OpenMM that it reads."""

    def read(self, found: Found) -> None:
        """Add to what was found in an OpenMM System; :class:`UnsupportedForceError` if it cannot be represented."""

    def write(self, at: AtTheta, openmm_system: openmm.System) -> None:
        """Add to an OpenMM System that has all particles."""

    def change(self, at: AtTheta, openmm_system: openmm.System) -> Iterator[Change]:
        """Compare with an OpenMM System that has the part already, and raise where they do not match.

        Nothing is changed before a :class:`Change` is applied, and applying it raises no errors.
        """
        ...
