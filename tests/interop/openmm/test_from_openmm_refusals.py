"""What DiffSystem.from_openmm does not read, it refuses by name."""

from __future__ import annotations

import openmm
import pytest

from openff_diffsystem import DiffSystem
from openff_diffsystem.exceptions import UnsupportedForceError
from tests.openmm_systems import nonbonded, system_of


def _periodic_bonds():
    force = openmm.HarmonicBondForce()
    force.setUsesPeriodicBoundaryConditions(True)
    return force


def _born():
    force = openmm.GBSAOBCForce()
    for _ in range(4):
        force.addParticle(0.3, 0.15, 0.8)
    return force


def _particles_missing():
    """Of a force beside the NonbondedForce: a solvent of two, and a table of types of one."""
    solvent = openmm.GBSAOBCForce()
    for _ in range(2):
        solvent.addParticle(0.1, 0.15, 0.8)
    return solvent


def _types_missing():
    table = openmm.CustomNonbondedForce("acoef(type1, type2)/r^12 - bcoef(type1, type2)/r^6")
    for name in ("acoef", "bcoef"):
        table.addTabulatedFunction(name, openmm.Discrete2DFunction(1, 1, [1e-6]))
    table.addPerParticleParameter("type")
    table.addParticle([0])
    return table


def _global(value):
    force = openmm.CustomBondForce("lam*r")
    force.addGlobalParameter("lam", value)
    force.addBond(0, 1, [])
    return force


def _without_a_length():
    force = openmm.HarmonicBondForce()
    force.addBond(0, 1, float("nan"), 1000.0)
    return force


REFUSED = {
    "NonbondedForce.* has 0 particles, the System has 4": lambda: system_of(openmm.NonbondedForce()),
    r"length of the term of Bonds between particles \[0, 1\] is NaN": lambda: system_of(_without_a_length()),
    "GBSAOBCForce has 2 particles, the System has 4": lambda: system_of(nonbonded(), _particles_missing()),
    "CustomNonbondedForce has 1 particles, the System has 4": lambda: system_of(nonbonded(), _types_missing()),
    "the global parameter 'lam' of CustomBonds is NaN": lambda: system_of(nonbonded(), _global(float("nan"))),
    "CustomNonbondedForce": lambda: system_of(openmm.CustomNonbondedForce("1/r")),
    "combine_nonbonded_forces": lambda: system_of(nonbonded(), openmm.CustomNonbondedForce("1/r")),
    "CutoffNonPeriodic": lambda: system_of(nonbonded(setNonbondedMethod=openmm.NonbondedForce.CutoffNonPeriodic)),
    "method Ewald": lambda: system_of(nonbonded(setNonbondedMethod=openmm.NonbondedForce.Ewald)),
    "2 forces of class NonbondedForce": lambda: system_of(nonbonded(), nonbonded()),
    "GlobalParameters": lambda: system_of(nonbonded(addGlobalParameter=("lambda", 1.0))),
    "exceptions into the box": lambda: system_of(nonbonded(setExceptionsUsePeriodicBoundaryConditions=True)),
    "direct space": lambda: system_of(nonbonded(setIncludeDirectSpace=False)),
    "getPMEParameters": lambda: system_of(
        nonbonded(setNonbondedMethod=openmm.NonbondedForce.PME, setPMEParameters=(3.0, 20, 20, 20))
    ),
    "HarmonicBondForce wraps": lambda: system_of(_periodic_bonds()),
    "charges of GBSAOBCForce": lambda: system_of(nonbonded(), _born()),
    "depends on another one": lambda: system_of(
        nonbonded(),
        sites=[
            (2, openmm.TwoParticleAverageSite(0, 1, 0.5, 0.5)),
            (3, openmm.TwoParticleAverageSite(0, 2, 0.5, 0.5)),
        ],
    ),
    "local frame": lambda: system_of(
        nonbonded(),
        sites=[(3, openmm.LocalCoordinatesSite([0, 1, 2], [0.5, 0.5, 0], [-1, 1, 0], [-1, 0, 1], [0.1, 0, 0]))],
    ),
}


@pytest.mark.parametrize("message", REFUSED)
def test_refused_by_name(message):
    with pytest.raises(UnsupportedForceError, match=message):
        DiffSystem.from_openmm(REFUSED[message]())
