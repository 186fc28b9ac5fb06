"""The forces of an OpenMM System: found by class, named in messages, and read term by term."""

from __future__ import annotations

from typing import Any

from openff_diffsystem.exceptions import ParameterMismatchError, UnsupportedForceError


def number(value: Any) -> float:
    """A value, in MD units, that OpenMM returned."""
    return float(getattr(value, "_value", value))


def described(force: Any) -> str:
    """Class of a force, and its name where it has one of its own."""
    kind = type(force).__name__
    return kind if force.getName() == kind else f"{kind} {force.getName()!r}"


def forces_of(openmm_system: Any, *classes: str) -> list[Any]:
    """The forces of some classes, in order."""
    return [force for force in openmm_system.getForces() if type(force).__name__ in classes]


def between_atoms(openmm_system: Any, kind: str) -> list[Any]:
    """The forces of a class that acts within molecules; refused where they wrap their terms into the box."""
    forces = forces_of(openmm_system, kind)
    for force in forces:
        if force.usesPeriodicBoundaryConditions():
            raise UnsupportedForceError(
                f"{described(force)} wraps its terms into the box; call setUsesPeriodicBoundaryConditions(False) on it "
                "and keep molecules whole"
            )
    return forces


def single(openmm_system: Any, *classes: str) -> Any:
    """The force that is read of some classes, or ``None``; several are refused."""
    forces = forces_of(openmm_system, *classes)
    if len(forces) > 1:
        raise UnsupportedForceError(f"{len(forces)} forces of class {type(forces[0]).__name__}; one is covered")
    return forces[0] if forces else None


def only(openmm_system: Any, kind: str) -> Any:
    """The force of a class that gets new parameters: there must be one."""
    forces = forces_of(openmm_system, kind)
    if len(forces) != 1:
        raise ParameterMismatchError(f"the OpenMM System has {len(forces)} forces of class {kind}; one is needed")
    return forces[0]


def rows_of(holder: Any, term: str) -> list[Any]:
    """What OpenMM's getter returns for each ``Bond``, ``Torsion``, ... of a force, or ``Constraint`` of a System."""
    get = getattr(holder, f"get{term}Parameters")
    return [get(i) for i in range(getattr(holder, f"getNum{term}s")())]


def require_particles(force: Any, n_particles: int) -> None:
    """Raise an :class:`UnsupportedForceError` unless a force has as many particles as the System."""
    if force.getNumParticles() != n_particles:
        raise UnsupportedForceError(
            f"{described(force)} has {force.getNumParticles()} particles, the System has {n_particles}"
        )
