"""OpenMM systems with valence numbers that no OFFXML file holds: forces written term by term from arrays."""

from __future__ import annotations

import numpy as np
import openmm

from openff_diffsystem import DiffSystem, SystemParameters


def with_valence(stock: openmm.System, system: DiffSystem, parameters: SystemParameters) -> openmm.System:
    """A stock system whose bonds, angles and torsions are replaced by those of ``parameters``.

    OpenMM's harmonic forces have the k of k/2 x^2, like SMIRNOFF.
    """
    kept = openmm.XmlSerializer.deserialize(openmm.XmlSerializer.serialize(stock))
    for i in reversed(range(kept.getNumForces())):
        if type(kept.getForce(i)).__name__ in ("HarmonicBondForce", "HarmonicAngleForce", "PeriodicTorsionForce"):
            kept.removeForce(i)
    bonds, angles, torsions = openmm.HarmonicBondForce(), openmm.HarmonicAngleForce(), openmm.PeriodicTorsionForce()
    for atoms, (k, length) in zip(system.indices("Bonds").tolist(), np.asarray(parameters["Bonds"]), strict=True):
        bonds.addBond(*atoms, length, k)
    for atoms, (k, angle) in zip(system.indices("Angles").tolist(), np.asarray(parameters["Angles"]), strict=True):
        angles.addAngle(*atoms, angle, k)
    for section in ("ProperTorsions", "ImproperTorsions"):
        periodicity = system.term_static[section]["periodicity"].tolist()
        rows = zip(system.indices(section).tolist(), periodicity, np.asarray(parameters[section]), strict=True)
        for atoms, n, (k, phase, idivf) in rows:
            torsions.addTorsion(*atoms, n, phase, k / idivf)
    for force in (bonds, angles, torsions):
        kept.addForce(force)
    return kept
