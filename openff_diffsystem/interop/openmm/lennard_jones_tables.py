"""Lennard-Jones interactions that OpenMM looks up by pairs of atom types, as it writes them for CHARMM force fields."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from openff_diffsystem.exceptions import UnsupportedForceError
from openff_diffsystem.interop.openmm.terms import described

_EXPRESSIONS: dict[str, Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]] = {
    "acoef(type1,type2)/r^12-bcoef(type1,type2)/r^6": lambda a, b: (a, b),
    "(a/r6)^2-b/r6;r6=r^6;a=acoef(type1,type2);b=bcoef(type1,type2)": lambda a, b: (a**2, b),
}
"""What ``openmm.app`` writes, without blanks, and the coefficients of r^-12 and r^-6 from both tables."""

_ROUNDING = 1e-9
"""Relative. Of twelfth powers in OpenMM's tables and here."""


def lennard_jones_of_types(force: Any, nonbonded: Any) -> np.ndarray:
    """Well depth (kJ/mol) and sigma (nm) of each particle, ``(n_particles, 2)``, from a CustomNonbondedForce.

    Parameters
    ----------
    force
        The CustomNonbondedForce.
    nonbonded
        The NonbondedForce beside it, which has the charges.

    Raises
    ------
    UnsupportedForceError
        If the force is something else, if a pair of types has parameters of its own (NBFIX), or if the two forces
        differ in their cutoffs or in the pairs that they leave out.
    """
    name = described(force)
    text = force.getEnergyFunction().replace(" ", "").rstrip(";")
    tables = {force.getTabulatedFunctionName(i): i for i in range(force.getNumTabulatedFunctions())}
    per_particle = [force.getPerParticleParameterName(i) for i in range(force.getNumPerParticleParameters())]
    if text not in _EXPRESSIONS or set(tables) != {"acoef", "bcoef"} or per_particle != ["type"]:
        raise UnsupportedForceError(
            f"{name} is not covered: its energy, {force.getEnergyFunction()!r}, is not a table of Lennard-Jones "
            "coefficients by type as openmm.app writes it for CHARMM; openff-interchange writes a single "
            "NonbondedForce with to_openmm(combine_nonbonded_forces=True)"
        )
    if force.getNumInteractionGroups() or force.getNumGlobalParameters() or force.getNumComputedValues():
        raise UnsupportedForceError(f"{name} has interaction groups, global parameters or computed values")
    _require_alike(force, nonbonded)
    types = np.array([force.getParticleParameters(i)[0] for i in range(force.getNumParticles())]).astype(np.int64)
    present, of_particle = np.unique(types, return_inverse=True)
    a, b = (_square(force, tables[key])[np.ix_(present, present)] for key in ("acoef", "bcoef"))
    a, b = _EXPRESSIONS[text](a, b)
    attracts = np.diag(b) > 0
    safe_a, safe_b = (np.where(attracts, np.diag(c), 1.0) for c in (a, b))
    sigma = np.where(attracts, (safe_a / safe_b) ** (1 / 6), 1.0)
    epsilon = np.where(attracts, safe_b**2 / (4.0 * safe_a), 0.0)
    mixed = 4.0 * np.sqrt(epsilon[:, None] * epsilon)
    mean = 0.5 * (sigma[:, None] + sigma)
    wrong = ~np.isclose(a, mixed * mean**12, rtol=_ROUNDING, atol=0.0)
    wrong |= ~np.isclose(b, mixed * mean**6, rtol=_ROUNDING, atol=0.0)
    if wrong.any():
        one, other = (int(np.flatnonzero(of_particle == i)[0]) for i in np.argwhere(wrong)[0])
        raise UnsupportedForceError(
            f"{name} has pairs of atom types with Lennard-Jones parameters of their own (NBFIX), such as those of "
            f"particles {one} and {other}; only the Lorentz-Berthelot rules are covered"
        )
    return np.stack([epsilon[of_particle], sigma[of_particle]], axis=1)


def _square(force: Any, table: int) -> np.ndarray:
    n, _, values = force.getTabulatedFunction(table).getFunctionParameters()
    return np.array(values).reshape(n, -1).T


def _require_alike(force: Any, nonbonded: Any) -> None:
    """Raise unless both forces together are what one NonbondedForce would be."""
    name = described(force)
    methods = {
        force.NoCutoff: (nonbonded.NoCutoff,),
        force.CutoffPeriodic: (nonbonded.CutoffPeriodic, nonbonded.PME),
    }
    if nonbonded.getNonbondedMethod() not in methods.get(force.getNonbondedMethod(), ()):
        raise UnsupportedForceError(f"{name} and {described(nonbonded)} end their interactions in different ways")
    if force.getNonbondedMethod() != force.NoCutoff and force.getCutoffDistance() != nonbonded.getCutoffDistance():
        raise UnsupportedForceError(f"{name} and {described(nonbonded)} have different cutoffs")
    if any(nonbonded.getParticleParameters(i)[2]._value for i in range(nonbonded.getNumParticles())):
        raise UnsupportedForceError(f"{name} and {described(nonbonded)} both have Lennard-Jones interactions")
    excluded = {frozenset(force.getExclusionParticles(i)) for i in range(force.getNumExclusions())}
    exceptions = {frozenset(nonbonded.getExceptionParameters(i)[:2]) for i in range(nonbonded.getNumExceptions())}
    if excluded != exceptions:
        raise UnsupportedForceError(
            f"{name} leaves out other pairs than those with exceptions in {described(nonbonded)}"
        )
