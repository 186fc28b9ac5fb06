"""Energies and forces from OpenMM's Reference platform."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import openmm
import openmm.unit

ENERGY_TOLERANCE = {"rel": 1e-7, "abs": 1e-6}
"""kJ/mol. Both sides are in double precision; what is left is the order of summation and rounding of constants."""


def context_of(system: openmm.System, positions: np.ndarray | None = None) -> openmm.Context:
    """A context on the Reference platform; see :func:`place`."""
    platform = openmm.Platform.getPlatformByName("Reference")
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), platform)
    if positions is not None:
        place(context, positions)
    return context


def place(context: openmm.Context, positions: np.ndarray) -> None:
    """Set positions, ``(n, 3)``, nm, of the first n particles; the others have to be virtual sites, which follow."""
    padded = np.zeros((context.getSystem().getNumParticles(), 3))
    padded[: len(positions)] = positions
    context.setPositions(padded)
    context.computeVirtualSites()


def energy_of(context: openmm.Context) -> float:
    """kJ/mol."""
    return context.getState(getEnergy=True).getPotentialEnergy()._value


def forces_of(context: openmm.Context) -> np.ndarray:
    """On all particles, ``(n_particles, 3)``, kJ/mol/nm."""
    return np.asarray(context.getState(getForces=True).getForces(asNumpy=True)._value)


def evaluate(system: openmm.System, positions: np.ndarray) -> tuple[float, np.ndarray]:
    """Energy and forces of a System; positions as for :func:`place`."""
    context = context_of(system, positions)
    return energy_of(context), forces_of(context)


class Reference:
    """An OpenMM system evaluated on the Reference platform, in total and by section.

    Parameters
    ----------
    system
        What ``create_openmm_system`` returned: a single NonbondedForce.
    """

    def __init__(self, system: openmm.System) -> None:
        self._contexts = {"total": context_of(system)}
        self.system = system

    def energy(self, positions: np.ndarray, box_vectors: np.ndarray | None = None) -> float:
        """Total energy, kJ/mol, at ``(n_atoms, 3)`` in nm; virtual sites are placed by OpenMM.

        With ``box_vectors``, ``(3, 3)``, nm, in another box; the mesh remains that of the first.
        """
        if box_vectors is not None:
            self._contexts["total"].setPeriodicBoxVectors(*box_vectors)
        return energy_of(self._at("total", positions))

    def forces(self, positions: np.ndarray) -> np.ndarray:
        """Forces on the atoms, ``(n_atoms, 3)``, kJ/mol/nm; those of virtual sites are redistributed."""
        return forces_of(self._at("total", positions))[: len(positions)]

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
            self._contexts[name] = context_of(system)
        return energy_of(self._at(name, positions))

    def _at(self, name: str, positions: np.ndarray) -> openmm.Context:
        place(self._contexts[name], positions)
        return self._contexts[name]


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
