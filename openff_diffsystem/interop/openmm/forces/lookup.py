"""The forces of an OpenMM System: found by class, named in messages, and read term by term."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from openff_diffsystem.exceptions import ParameterMismatchError, UnsupportedForceError

if TYPE_CHECKING:
    import openmm

Row = Sequence[Any]
"""What OpenMM returns for a term: indices of particles and values, which are numbers or Quantities."""


def number(value: openmm.unit.Quantity | float) -> float:
    """A value that OpenMM returned, in MD units."""
    return float(getattr(value, "_value", value))


def described(force: openmm.Force) -> str:
    """The class of a force, and its name where that differs from the class."""
    kind = type(force).__name__
    return kind if force.getName() == kind else f"{kind} {force.getName()!r}"


def forces_of(openmm_system: openmm.System, *classes: str) -> list[openmm.Force]:
    """The forces of some classes, in order."""
    return [force for force in openmm_system.getForces() if type(force).__name__ in classes]


def between_atoms(openmm_system: openmm.System, kind: str) -> list[openmm.Force]:
    """The forces of a class that acts within molecules. Forces that wrap their terms into the box are refused."""
    forces = forces_of(openmm_system, kind)
    for force in forces:
        if force.usesPeriodicBoundaryConditions():
            raise UnsupportedForceError(
                f"{described(force)} wraps its terms into the box; call setUsesPeriodicBoundaryConditions(False) on it "
                "and keep molecules whole"
            )
    return forces


def single(openmm_system: openmm.System, *classes: str) -> openmm.Force | None:
    """The force of these classes, or ``None``. More than one is refused."""
    forces = forces_of(openmm_system, *classes)
    if len(forces) > 1:
        raise UnsupportedForceError(f"{len(forces)} forces of class {type(forces[0]).__name__}; one is covered")
    return forces[0] if forces else None


def only(openmm_system: openmm.System, kind: str) -> openmm.Force:
    """The force of a class, for new parameters. There must be exactly one."""
    forces = forces_of(openmm_system, kind)
    if len(forces) != 1:
        raise ParameterMismatchError(f"the OpenMM System has {len(forces)} forces of class {kind}; one is needed")
    return forces[0]


def rows_of(holder: openmm.Force | openmm.System, term: str) -> list[Row]:
    """What OpenMM's getter returns for each ``Bond``, ``Torsion``, ... of a force, or ``Constraint`` of a System."""
    get = getattr(holder, f"get{term}Parameters")
    return [get(i) for i in range(getattr(holder, f"getNum{term}s")())]


def require_particles(force: openmm.Force, n_particles: int) -> None:
    """Raise an :class:`UnsupportedForceError` unless a force has as many particles as the System."""
    if force.getNumParticles() != n_particles:
        raise UnsupportedForceError(
            f"{described(force)} has {force.getNumParticles()} particles, the System has {n_particles}"
        )
