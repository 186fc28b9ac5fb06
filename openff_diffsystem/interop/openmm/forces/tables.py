"""What OpenMM's forces hold, as arrays of the host: a system at one theta, copies written out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from openff_diffsystem.exceptions import UnsupportedForceFieldError, UnsupportedInputError
from openff_diffsystem.interop.openmm.forces.terms import Table
from openff_diffsystem.parameters.system import SystemParameters
from openff_diffsystem.potentials.nbfix import SECTION as NBFIX
from openff_diffsystem.system.forms import openmm_energies
from openff_diffsystem.system.interactions import counted_terms

if TYPE_CHECKING:
    from openff_diffsystem.system.data import SystemData


@dataclass
class Tables:
    """All terms of a system. A force whose section the system lacks is ``None``.

    Attributes
    ----------
    masses
        ``(n_particles,)``, dalton; zero for virtual sites.
    sites
        Particle and orientation atoms, ``(n_sites, 5)``, -1 where a type has fewer; type and three parameters.
    constraints, bonds, angles
        Length (nm); length and k; angle and k.
    torsions
        Proper and improper ones: periodicity, phase, k.
    rb_torsions
        c0 to c5.
    particles
        ``(n_particles, 0)`` indices; charge (e), sigma (nm), epsilon (kJ/mol), zero where ``typed`` has it.
    typed
        If some pairs of types have parameters of their own: ``(n_particles, 0)`` indices; epsilon, sigma, and type.
    exceptions
        Charge product (e2), sigma, epsilon.
    born
        ``(n_particles, 0)`` indices; charge, radius (nm), scale.
    stored
        By section whose form the system holds itself, all columns.
    """

    masses: np.ndarray
    sites: Table | None
    constraints: Table | None
    bonds: Table | None
    angles: Table | None
    torsions: Table | None
    rb_torsions: Table | None
    particles: Table | None
    typed: Table | None
    exceptions: Table | None
    born: Table | None
    stored: dict[str, Table]


def tables(system: SystemData, parameters: SystemParameters, add_constrained_forces: bool) -> Tables:
    """The terms of a system.

    Parameters
    ----------
    parameters
        What :func:`host_parameters` returned.
    add_constrained_forces
        Whether bonds and angles that constraints fix are among the terms.

    Raises
    ------
    UnsupportedInputError
        If the system holds no masses.
    UnsupportedForceFieldError
        If it has a section of a registered form.
    """
    if system.masses is None:
        raise UnsupportedInputError("the system holds no masses: it was saved without; set system.masses, in dalton")
    stored = openmm_energies(system)
    for section in system.forms:
        if section not in stored:
            raise UnsupportedForceFieldError(f"OpenMM has no force for {section}, a functional form of your own")
    values: dict[str, np.ndarray] = {s: np.asarray(parameters[s]) for s in system.sections}
    order = system.openmm_particles
    counted = counted_terms(system, add_constrained_forces)

    def places(particles: np.ndarray) -> np.ndarray:
        if order is None:
            return particles
        return np.where(particles < 0, particles, order[np.maximum(particles, 0)])

    def terms(section: str, *columns: int) -> Table | None:
        if section not in values:
            return None
        rows = counted.get(section, np.ones(len(values[section]), dtype=bool))
        chosen = values[section][rows]
        return Table(places(system.term_indices[section][rows]), tuple(chosen[:, c] for c in columns))

    def per_particle(*columns: np.ndarray) -> Table:
        if order is not None:
            columns = tuple(column[np.argsort(order)] for column in columns)
        return Table(np.empty((system.n_particles, 0), dtype=np.int32), columns)

    masses = np.concatenate([system.masses, np.zeros(system.n_particles - system.n_atoms)])
    nothing = np.zeros(system.n_particles)
    epsilon, sigma = values["vdW"].T if "vdW" in values else (nothing, nothing)
    charge = values["Electrostatics"][:, 0] if "Electrostatics" in values else nothing
    types = system.term_static["vdW"]["type"] if NBFIX in values else None
    nonbonded = "vdW" in values or "Electrostatics" in values
    exceptions = _exceptions(system, parameters, charge, sigma, epsilon)
    exceptions.particles = places(exceptions.particles)
    return Tables(
        masses=per_particle(masses).values[0],
        sites=_sites(system, values, places) if "VirtualSites" in values else None,
        constraints=terms("Constraints", 0),
        bonds=terms("Bonds", 1, 0),
        angles=terms("Angles", 1, 0),
        torsions=_torsions(system, values, places),
        rb_torsions=terms("RBTorsions", *range(6)),
        particles=per_particle(charge, sigma, nothing if types is not None else epsilon) if nonbonded else None,
        typed=None if types is None else per_particle(epsilon, sigma, types),
        exceptions=exceptions if nonbonded else None,
        born=per_particle(charge, *values["GBSA"].T) if "GBSA" in values else None,
        stored={section: Table(places(system.term_indices[section]), tuple(values[section].T)) for section in stored},
    )


def _torsions(system: SystemData, values: dict[str, np.ndarray], places: Any) -> Table | None:
    sections = [section for section in ("ProperTorsions", "ImproperTorsions") if section in values]
    if not sections:
        return None
    k, phase, idivf = np.concatenate([values[section] for section in sections]).T
    periodicity = np.concatenate([system.term_static[section]["periodicity"] for section in sections])
    particles = np.concatenate([system.term_indices[section] for section in sections])
    return Table(places(particles), (periodicity, phase, k / idivf))


def _sites(system: SystemData, values: dict[str, np.ndarray], places: Any) -> Table:
    particles = np.arange(system.n_atoms, system.n_particles)[:, None]
    orientation = system.term_indices["VirtualSites"]
    types = system.term_static["VirtualSites"]["type"]
    return Table(np.hstack([places(particles), places(orientation)]), (types, *values["VirtualSites"].T))


def _exceptions(
    system: SystemData, parameters: SystemParameters, charge: np.ndarray, sigma: np.ndarray, epsilon: np.ndarray
) -> Table:
    """Pairs that do not interact, 1-4 pairs, and pairs with parameters of their own, in that order."""

    def scale(section: str) -> float:
        return float(parameters.setting(section, "scale14")) if section in parameters.layout.sections else 1.0

    n_excluded = len(system.excluded_pairs)
    pairs = [system.excluded_pairs, system.pairs_14]
    # OpenMM's own parameters of a pair that is left out
    values = [np.tile([0.0, 1.0, 0.0], (n_excluded, 1))]
    a, b = system.pairs_14.T
    values.append(
        np.stack(
            [
                scale("Electrostatics") * charge[a] * charge[b],
                0.5 * (sigma[a] + sigma[b]),
                scale("vdW") * np.sqrt(epsilon[a] * epsilon[b]),
            ],
            axis=1,
        )
    )
    if "NonbondedExceptions" in parameters.layout.sections:
        pairs.append(system.term_indices["NonbondedExceptions"])
        values.append(np.asarray(parameters["NonbondedExceptions"]))
    return Table(np.concatenate(pairs), tuple(np.concatenate(values).T))
