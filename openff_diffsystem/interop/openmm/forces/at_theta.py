"""A system at one theta, as OpenMM's forces are written from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from openff_diffsystem.exceptions import UnsupportedForceFieldError
from openff_diffsystem.interop.openmm.forces.terms import Table
from openff_diffsystem.parameters.system import SystemParameters
from openff_diffsystem.system.forms import openmm_energies
from openff_diffsystem.system.host import host_parameters
from openff_diffsystem.system.interactions import counted_terms

if TYPE_CHECKING:
    from openff_diffsystem.system.data import SystemData


@dataclass(frozen=True)
class AtTheta:
    """A system at one theta, on the host; particles are given in OpenMM's numbering.

    Attributes
    ----------
    system
        The system.
    parameters
        Its parameters, as NumPy arrays in double precision.
    counted
        By section which terms are written, ``(n_terms,)`` bool; all where it says nothing.
    ewald_tolerance
        OpenMM's error tolerance.
    """

    system: SystemData
    parameters: SystemParameters
    counted: dict[str, np.ndarray]
    ewald_tolerance: float

    @classmethod
    def of(cls, system: SystemData, theta: Any, add_constrained_forces: bool, ewald_tolerance: float | None) -> AtTheta:
        """The system at a theta, with the arguments of :func:`to_openmm`.

        Raises
        ------
        NonFiniteParameterError
            If a parameter is NaN or infinite.
        UnsupportedForceFieldError
            If it has a section of a registered form.
        """
        parameters = host_parameters(system, theta)
        covered = openmm_energies(system)
        refused = [section for section in system.forms if section not in covered]
        if refused:
            raise UnsupportedForceFieldError(f"OpenMM has no force for {refused[0]}, a functional form of your own")
        if ewald_tolerance is None:
            ewald_tolerance = system.engine_options.ewald_tolerance
        return cls(system, parameters, counted_terms(system, add_constrained_forces), ewald_tolerance)

    def __contains__(self, section: str) -> bool:
        return section in self.system.sections

    def in_openmm(self, particles: np.ndarray) -> np.ndarray:
        """OpenMM's indices of particles; where there is none, -1, it stays."""
        order = self.system.openmm_particles
        return particles if order is None else np.where(particles < 0, particles, order[np.maximum(particles, 0)])

    def terms(self, section: str) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """The terms that are written: particles, ``(n_terms, n_atoms_per_term)``, and numbers by name."""
        rows = self.counted.get(section, slice(None))
        columns = self.parameters.layout.sections[section].columns
        values = dict(zip(columns, np.asarray(self.parameters[section]).T, strict=True))
        values |= self.system.term_static.get(section, {})
        particles = self.in_openmm(self.system.term_indices[section][rows])
        return particles, {name: column[rows] for name, column in values.items()}

    def table(self, section: str) -> Table:
        """The terms that are written, with the section's columns in its order."""
        particles, columns = self.terms(section)
        return Table(particles, tuple(columns[name] for name in self.parameters.layout.sections[section].columns))

    def setting(self, section: str, name: str, otherwise: float) -> float:
        """A section-wide number, where the system has it."""
        present = (section, name) in self.parameters.layout.settings
        return float(self.parameters.setting(section, name)) if present else otherwise

    def of_particles(self, section: str, column: str) -> np.ndarray:
        """A column of a section that has a term for each particle; zero where there is no such section."""
        return self.terms(section)[1][column] if section in self else np.zeros(self.system.n_particles)

    def per_particle(self, *columns: np.ndarray) -> Table:
        """The columns, ``(n_particles,)`` each, in OpenMM's order of the particles."""
        if self.system.openmm_particles is not None:
            columns = tuple(column[np.argsort(self.system.openmm_particles)] for column in columns)
        return Table(np.empty((self.system.n_particles, 0), dtype=np.int32), columns)
