"""An OpenMM System of a system at any theta: the one that openff-interchange exports for the same OFFXML file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from openff_diffsystem.exceptions import InvalidInputError
from openff_diffsystem.interop.openmm.forces import WRITTEN
from openff_diffsystem.interop.openmm.forces.at_theta import AtTheta
from openff_diffsystem.system.data import SystemData

if TYPE_CHECKING:
    import openmm


def to_openmm(
    system: SystemData,
    theta: object = None,
    *,
    add_constrained_forces: bool = False,
    ewald_tolerance: float | None = None,
) -> openmm.System:
    """The system at some theta as an ``openmm.System``, equal to what openff-interchange exports.

    Periodic where the system has box vectors. Forces are in openff-interchange's order: one NonbondedForce, torsions,
    angles, bonds, forces that only OpenMM has, implicit solvent, CMMotionRemover. If pairs of types have Lennard-Jones
    parameters of their own (``NBFIX``), a CustomNonbondedForce has all Lennard-Jones interactions.

    Parameters
    ----------
    theta
        As for :meth:`parameterize`. Numbers in single precision are written as they were rounded.
    add_constrained_forces
        Whether to write bonds and angles that constraints fix.
    ewald_tolerance
        OpenMM's error tolerance; by default that of ``engine_options``.

    Raises
    ------
    UnsupportedForceFieldError
        If OpenMM has no standard force for what the force field asks for.
    InvalidInputError
        If the system holds no masses.
    """
    import openmm

    if system.masses is None:
        raise InvalidInputError("the system holds no masses: it was saved without; set system.masses, in dalton")
    at = AtTheta.of(system, theta, add_constrained_forces, ewald_tolerance)
    result = openmm.System()
    if system.box_vectors is not None:
        result.setDefaultPeriodicBoxVectors(*system.box_vectors.tolist())
    masses = np.concatenate([system.masses, np.zeros(system.n_particles - system.n_atoms)])
    at.per_particle(masses).add_to(result, "Particle")
    for part in WRITTEN:
        part.write(at, result)
    result.addForce(openmm.CMMotionRemover())
    return result
