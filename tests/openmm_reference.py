"""Energies and forces from OpenMM's Reference platform, for systems that stock openff-interchange exports."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import openmm
import openmm.unit

ENERGY_TOLERANCE = {"rel": 1e-7, "abs": 1e-6}
"""kJ/mol. Both sides are in double precision; what is left is the order of summation and rounding of constants."""


class Reference:
    """An OpenMM system evaluated on the Reference platform, in total and by section.

    Parameters
    ----------
    system
        What ``create_openmm_system`` returned: a single NonbondedForce.
    """

    def __init__(self, system: openmm.System) -> None:
        self._contexts = {"total": _context(system)}
        self.system = system

    def energy(self, positions: np.ndarray, box_vectors: np.ndarray | None = None) -> float:
        """Total energy, kJ/mol, at ``(n_atoms, 3)`` in nm; virtual sites are placed by OpenMM.

        With ``box_vectors``, ``(3, 3)``, nm, in another box; the mesh remains that of the first.
        """
        if box_vectors is not None:
            self._contexts["total"].setPeriodicBoxVectors(*box_vectors)
        return self._state("total", positions).getPotentialEnergy()._value

    def forces(self, positions: np.ndarray) -> np.ndarray:
        """Forces on the atoms, ``(n_atoms, 3)``, kJ/mol/nm; those of virtual sites are redistributed."""
        forces = self._state("total", positions).getForces(asNumpy=True)._value
        return np.asarray(forces)[: len(positions)]

    def sections(self, positions: np.ndarray) -> dict[str, float]:
        """Energies by section, kJ/mol; proper and improper torsions together as ``Torsions``."""
        names = {
            "HarmonicBondForce": "Bonds",
            "HarmonicAngleForce": "Angles",
            "PeriodicTorsionForce": "Torsions",
        }
        found = {}
        for force in self.system.getForces():
            name = names.get(type(force).__name__)
            if name:
                found[name] = self._energy_of(name, positions, lambda f, force=force: type(f) is type(force))
        found["vdW"] = self._energy_of("vdW", positions, _is_nonbonded, without="charge")
        found["Electrostatics"] = self._energy_of("Electrostatics", positions, _is_nonbonded, without="epsilon")
        return found

    def _energy_of(self, name: str, positions: np.ndarray, keep: Any, without: str = "") -> float:
        if name not in self._contexts:
            system = copy.deepcopy(self.system)
            for i in reversed(range(system.getNumForces())):
                if not keep(system.getForce(i)):
                    system.removeForce(i)
            for force in system.getForces():
                if without:
                    _remove(force, without)
            self._contexts[name] = _context(system)
        return self._state(name, positions).getPotentialEnergy()._value

    def _state(self, name: str, positions: np.ndarray) -> openmm.State:
        context = self._contexts[name]
        padded = np.zeros((self.system.getNumParticles(), 3))
        padded[: len(positions)] = positions
        context.setPositions(padded)
        context.computeVirtualSites()
        return context.getState(getEnergy=True, getForces=True)


def _context(system: openmm.System) -> openmm.Context:
    platform = openmm.Platform.getPlatformByName("Reference")
    return openmm.Context(system, openmm.VerletIntegrator(0.001), platform)


def _is_nonbonded(force: openmm.Force) -> bool:
    return isinstance(force, openmm.NonbondedForce)


def _remove(force: openmm.NonbondedForce, what: str) -> None:
    """Set the charges or the epsilons of a NonbondedForce to zero, exceptions included."""
    for i in range(force.getNumParticles()):
        charge, sigma, epsilon = force.getParticleParameters(i)
        force.setParticleParameters(i, 0 if what == "charge" else charge, sigma, 0 if what == "epsilon" else epsilon)
    for i in range(force.getNumExceptions()):
        a, b, charge, sigma, epsilon = force.getExceptionParameters(i)
        force.setExceptionParameters(
            i, a, b, 0 if what == "charge" else charge, sigma, 0 if what == "epsilon" else epsilon
        )
