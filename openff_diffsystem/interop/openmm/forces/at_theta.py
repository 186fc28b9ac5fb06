"""A system at one theta: what OpenMM's forces are written from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Real

from openff_diffsystem.exceptions import UnsupportedForceFieldError
from openff_diffsystem.interop.openmm.forces.terms import Table
from openff_diffsystem.parameters.system import SystemParameters
from openff_diffsystem.system.data import SystemData
from openff_diffsystem.system.forms import openmm_energies
from openff_diffsystem.system.host import host_parameters
from openff_diffsystem.system.interactions import counted_terms


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
        By section, which terms are written, ``(n_terms,)`` bool; all terms in sections that are not listed.
    ewald_tolerance
        OpenMM's error tolerance.
    """

    system: SystemData
    parameters: SystemParameters
    counted: dict[str, Bool[np.ndarray, " _terms"]]
    ewald_tolerance: float

    @classmethod
    def of(
        cls, system: SystemData, theta: object, add_constrained_forces: bool, ewald_tolerance: float | None
    ) -> AtTheta:
        """The system at a theta, with the arguments of :func:`to_openmm`.

        Raises
        ------
        NonFiniteParameterError
            If a parameter is NaN or infinite.
        UnsupportedForceFieldError
            If the system has a section of a registered form.
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

    def in_openmm(self, particles: Int[np.ndarray, "*terms"]) -> Int[np.ndarray, "*terms"]:
        """OpenMM's indices of particles; -1, which stands for no particle, stays."""
        order = self.system.openmm_particles
        return particles if order is None else np.where(particles < 0, particles, order[np.maximum(particles, 0)])

    def terms(self, section: str) -> tuple[Int[np.ndarray, "terms particles"], dict[str, Real[np.ndarray, " terms"]]]:
        """The terms that are written: particles, ``(n_terms, n_atoms_per_term)``, and numbers by name."""
        rows = self.counted.get(section, slice(None))
        columns = self.parameters.layout.sections[section].columns
        values = dict(zip(columns, np.asarray(self.parameters[section]).T, strict=True))
        values |= self.system.term_static.get(section, {})
        particles = self.in_openmm(self.system.term_indices[section][rows])
        return particles, {name: column[rows] for name, column in values.items()}

    def table(self, section: str) -> Table:
        """The terms that are written, with the columns of the section in order."""
        particles, columns = self.terms(section)
        return Table(particles, tuple(columns[name] for name in self.parameters.layout.sections[section].columns))

    def setting(self, section: str, name: str, otherwise: float) -> float:
        """A section-wide number; ``otherwise`` where the system has none."""
        present = (section, name) in self.parameters.layout.settings
        return float(self.parameters.setting(section, name)) if present else otherwise

    def of_particles(self, section: str, column: str) -> Float[np.ndarray, " particles"]:
        """A column of a section that has a term for each particle; zero where there is no such section."""
        return self.terms(section)[1][column] if section in self else np.zeros(self.system.n_particles)

    def per_particle(self, *columns: Real[np.ndarray, " particles"]) -> Table:
        """The columns, ``(n_particles,)`` each, in OpenMM's order of the particles."""
        if self.system.openmm_particles is not None:
            columns = tuple(column[np.argsort(self.system.openmm_particles)] for column in columns)
        return Table(np.empty((self.system.n_particles, 0), dtype=np.int32), columns)
