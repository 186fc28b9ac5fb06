"""New parameters for an OpenMM System or Context that exists already."""

from __future__ import annotations

from typing import TYPE_CHECKING

from openff_diffsystem.exceptions import ParameterMismatchError, UnsupportedForceError, UnsupportedInputError
from openff_diffsystem.interop.openmm.forces import WRITTEN
from openff_diffsystem.interop.openmm.forces.at_theta import AtTheta
from openff_diffsystem.interop.openmm.forces.lookup import rows_of
from openff_diffsystem.interop.openmm.forces.typed_lennard_jones import is_typed
from openff_diffsystem.potentials.nbfix import SECTION as NBFIX
from openff_diffsystem.system.data import SystemData

if TYPE_CHECKING:
    import openmm


def update_openmm(
    system: SystemData,
    target: openmm.System | openmm.Context,
    theta: object = None,
    *,
    add_constrained_forces: bool = False,
    ewald_tolerance: float | None = None,
) -> None:
    """Give an ``openmm.System`` or ``openmm.Context`` of this system the parameters of theta, in place.

    The System may come from :meth:`to_openmm` or from openff-interchange: terms are found by their particles. A Context
    gets new parameters of terms while it runs. It is reinitialised if theta changes constraints, virtual sites, cutoffs
    or dielectrics; positions, velocities and time stay.
    Forces of other classes than those of this system, restraints for example, stay unchanged, except for global
    parameters that they share with custom forces of this system.

    Parameters
    ----------
    target
        ``openmm.System`` or ``openmm.Context``.
    theta
        As for :meth:`parameterize`.
    add_constrained_forces, ewald_tolerance
        The same as for :meth:`to_openmm`.

    Raises
    ------
    ParameterMismatchError
        If the forces of a class, or their terms, are not those of this system.
    NonFiniteParameterError
        If a parameter is NaN or infinite.
    UnsupportedForceError
        If a custom force holds nonbonded interactions of this system, as ``Interchange.to_openmm`` writes with
        ``combine_nonbonded_forces=False``.
    UnsupportedInputError
        If the target is neither a System nor a Context.

    Notes
    -----
    If an error is raised, nothing has been changed.
    """
    import openmm

    if isinstance(target, openmm.Context):
        context, openmm_system = target, target.getSystem()
    elif isinstance(target, openmm.System):
        context, openmm_system = None, target
    else:
        raise UnsupportedInputError(f"expected an openmm.System or openmm.Context, got {type(target).__name__}")
    if openmm_system.getNumParticles() != system.n_particles:
        raise ParameterMismatchError(
            f"the OpenMM System has {openmm_system.getNumParticles()} particles, this system has {system.n_particles}"
        )
    _require_one_nonbonded_force(system, openmm_system)
    at = AtTheta.of(system, theta, add_constrained_forces, ewald_tolerance)
    # every check comes before the first change
    changes = [change for part in WRITTEN for change in part.change(at, openmm_system)]
    reinitialise = any([change.apply(context) for change in changes])
    if context is not None:
        _hand_over(context, [change.force for change in changes if change.force is not None], reinitialise)


def _require_one_nonbonded_force(system: SystemData, openmm_system: openmm.System) -> None:
    """Raise where custom forces hold nonbonded interactions: with the NonbondedForce they would count twice."""
    scaled = {tuple(sorted(pair)) for pair in system.pairs_14.tolist()}
    for force in openmm_system.getForces():
        name = type(force).__name__
        holds = name == "CustomNonbondedForce" and not (NBFIX in system.sections and is_typed(force))
        if name == "CustomBondForce" and scaled:
            holds = scaled <= {tuple(sorted(row[:2])) for row in rows_of(force, "Bond")}
        if holds:
            raise UnsupportedForceError(
                f"the {name} {force.getName()!r} of the OpenMM System holds nonbonded interactions, and cannot be "
                "updated: make the System with system.to_openmm or Interchange.to_openmm(combine_nonbonded_forces=True)"
            )


def _hand_over(context: openmm.Context, forces: list[openmm.Force], reinitialise: bool) -> None:
    import openmm

    if not reinitialise:
        try:
            for force in forces:
                force.updateParametersInContext(context)
        except openmm.OpenMMException:
            # for example, a context cannot turn an exclusion into an exception with an interaction
            reinitialise = True
    if reinitialise:
        context.reinitialize(preserveState=True)
        context.computeVirtualSites()
