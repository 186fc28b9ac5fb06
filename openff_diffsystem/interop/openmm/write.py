"""An OpenMM System of a system at any theta: the one that openff-interchange exports for the same OFFXML file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from openff_diffsystem.forms.methods import ISOLATED, require
from openff_diffsystem.interop.openmm.forces.implicit_solvent import write_born
from openff_diffsystem.interop.openmm.forces.own_forms import write_stored
from openff_diffsystem.interop.openmm.forces.tables import Tables, tables
from openff_diffsystem.interop.openmm.forces.terms import Table
from openff_diffsystem.interop.openmm.forces.typed_lennard_jones import write_typed
from openff_diffsystem.interop.openmm.forces.virtual_sites import Site, openmm_site
from openff_diffsystem.parameters.system import SystemParameters
from openff_diffsystem.potentials.nbfix import SECTION as NBFIX
from openff_diffsystem.system.cutoffs import cutoff_scheme
from openff_diffsystem.system.host import host_parameters

if TYPE_CHECKING:
    from openff_diffsystem.system.data import SystemData


def to_openmm(
    self: SystemData,
    theta: Any = None,
    *,
    add_constrained_forces: bool = False,
    ewald_tolerance: float | None = None,
) -> Any:
    """The system at some theta as an ``openmm.System``, equal to what openff-interchange exports.

    Periodic where the system has box vectors. Forces are in openff-interchange's order: one NonbondedForce, torsions,
    angles, bonds, forces that only OpenMM has, implicit solvent, CMMotionRemover. If pairs of types have Lennard-Jones
    parameters of their own (``NBFIX``), a CustomNonbondedForce has all Lennard-Jones interactions.

    Parameters
    ----------
    theta
        As for :meth:`parameterize`. Made in single precision, it is written as it was rounded.
    add_constrained_forces
        Whether to write bonds and angles that constraints fix.
    ewald_tolerance
        OpenMM's error tolerance; by default that of ``engine_options``.

    Raises
    ------
    UnsupportedForceFieldError
        If OpenMM has no standard force for what the force field asks for.
    UnsupportedInputError
        If the system holds no masses.
    """
    import openmm

    parameters = host_parameters(self, theta)
    found = tables(self, parameters, add_constrained_forces)
    result = openmm.System()
    if self.box_vectors is not None:
        result.setDefaultPeriodicBoxVectors(*self.box_vectors.tolist())
    for mass in found.masses.tolist():
        result.addParticle(mass)
    for particle, site in site_objects(found.sites):
        result.setVirtualSite(particle, site)
    if found.constraints is not None:
        _add_all(result.addConstraint, found.constraints)
    if found.particles is not None and found.exceptions is not None:
        result.addForce(_nonbonded(self, parameters, found, ewald_tolerance))
    if found.typed is not None and found.exceptions is not None:
        force = write_typed(found.typed, *types_and_own(self, parameters), found.exceptions.particles)
        configure_typed(force, self, parameters)
        result.addForce(force)
    for force, method, table in (
        (openmm.PeriodicTorsionForce, "addTorsion", found.torsions),
        (openmm.RBTorsionForce, "addTorsion", found.rb_torsions),
        (openmm.HarmonicAngleForce, "addAngle", found.angles),
        (openmm.HarmonicBondForce, "addBond", found.bonds),
    ):
        if table is not None:
            made = force()
            _add_all(getattr(made, method), table)
            result.addForce(made)
    for force in write_stored(self, parameters, found.stored):
        result.addForce(force)
    if found.born is not None:
        result.addForce(write_born(self, parameters, found.born))
    result.addForce(openmm.CMMotionRemover())
    return result


def site_objects(sites: Table | None) -> list[tuple[int, Any]]:
    """Index and ``openmm.VirtualSite`` of each site."""
    if sites is None:
        return []
    return [
        (particle, openmm_site(Site(tuple(atoms), kind, tuple(values))))
        for (particle, *atoms), kind, values in zip(
            sites.particles.tolist(),
            sites.values[0].tolist(),
            np.stack(sites.values[1:], axis=1).tolist(),
            strict=True,
        )
    ]


def _add_all(add: Any, table: Table) -> None:
    for row in table.rows():
        add(*row)


def _nonbonded(system: SystemData, parameters: SystemParameters, found: Tables, ewald_tolerance: float | None) -> Any:
    import openmm

    force = openmm.NonbondedForce()
    force.setName("Nonbonded force")
    configure_nonbonded(force, system, parameters, ewald_tolerance)
    _add_all(force.addParticle, found.particles)  # type: ignore[arg-type]
    _add_all(force.addException, found.exceptions)  # type: ignore[arg-type]
    return force


def configure_nonbonded(
    force: Any, system: SystemData, parameters: SystemParameters, ewald_tolerance: float | None
) -> None:
    """Give a NonbondedForce the method, cutoff, switch and corrections of a system."""
    options = system.engine_options
    settings = parameters.layout.settings
    cutoff, width = (
        float(parameters.setting("vdW", name)) if ("vdW", name) in settings else 0.0
        for name in ("cutoff", "switch_width")
    )
    force.setUseDispersionCorrection(options.dispersion_correction)
    if system.box_vectors is None:
        require(system.methods, ISOLATED)
        force.setNonbondedMethod(force.NoCutoff)
        if cutoff:
            force.setCutoffDistance(cutoff)
    else:
        tolerance = options.ewald_tolerance if ewald_tolerance is None else ewald_tolerance
        scheme = cutoff_scheme(system, parameters, system.box_vectors, tolerance)
        force.setCutoffDistance(scheme.cutoff)
        if scheme.alpha is None:
            force.setNonbondedMethod(force.CutoffPeriodic)
            force.setReactionFieldDielectric(scheme.dielectric)
        else:
            force.setNonbondedMethod(force.PME if scheme.dispersion_mesh is None else force.LJPME)
            force.setEwaldErrorTolerance(tolerance)
    force.setUseSwitchingFunction(width > 0)
    if width > 0:
        force.setSwitchingDistance(cutoff - width)


def types_and_own(system: SystemData, parameters: SystemParameters) -> tuple[np.ndarray, np.ndarray]:
    """The types of the terms of NBFIX, ``(n_terms, 2)``, and their epsilon and sigma."""
    return system.term_static["vdW"]["type"][system.term_indices[NBFIX]], np.asarray(parameters[NBFIX])


def configure_typed(force: Any, system: SystemData, parameters: SystemParameters) -> None:
    """Give a CustomNonbondedForce the method, cutoff, switch and correction that a NonbondedForce would have."""
    import openmm

    like = openmm.NonbondedForce()
    configure_nonbonded(like, system, parameters, None)
    periodic = system.box_vectors is not None
    force.setNonbondedMethod(force.CutoffPeriodic if periodic else force.NoCutoff)
    force.setCutoffDistance(like.getCutoffDistance())
    force.setUseSwitchingFunction(like.getUseSwitchingFunction())
    force.setSwitchingDistance(like.getSwitchingDistance())
    force.setUseLongRangeCorrection(periodic and like.getUseDispersionCorrection())
