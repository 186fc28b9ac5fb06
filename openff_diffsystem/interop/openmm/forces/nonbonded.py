"""NonbondedForce: particles, pairs with parameters of their own, and how interactions end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from openff_diffsystem.exceptions import UnsupportedForceError
from openff_diffsystem.forms.methods import ISOLATED, require
from openff_diffsystem.interop.openmm.forces.at_theta import AtTheta
from openff_diffsystem.interop.openmm.forces.lookup import (
    described,
    number,
    only,
    require_particles,
    rows_of,
    single,
)
from openff_diffsystem.interop.openmm.forces.part import Change, Found
from openff_diffsystem.interop.openmm.forces.terms import Table, in_their_order, terms_of
from openff_diffsystem.potentials.nbfix import SECTION as NBFIX
from openff_diffsystem.potentials.periodic.scheme import EngineOptions
from openff_diffsystem.system.cutoffs import cutoff_scheme
from openff_diffsystem.system.interactions import not_interacting

if TYPE_CHECKING:
    import openmm

CLASSES: tuple[str, ...] = ("NonbondedForce",)

_METHODS = {
    "NoCutoff": ("cutoff", "Ewald3D-ConductingBoundary"),
    "CutoffPeriodic": ("cutoff", "reaction-field"),
    "PME": ("cutoff", "Ewald3D-ConductingBoundary"),
    "LJPME": ("Ewald3D", "Ewald3D-ConductingBoundary"),
}
"""By method of OpenMM, for those that are covered: how Lennard-Jones and Coulomb interactions end in a box."""

_SETTINGS = (
    "NonbondedMethod",
    "CutoffDistance",
    "UseSwitchingFunction",
    "SwitchingDistance",
    "EwaldErrorTolerance",
    "UseDispersionCorrection",
    "UseLongRangeCorrection",
    "ReactionFieldDielectric",
)
"""Settings of a NonbondedForce or a CustomNonbondedForce."""


def read(found: Found) -> None:
    """Particles, exceptions, method and cutoff.

    Raises
    ------
    UnsupportedForceError
        If it has a setting or a method that cannot be represented.
    """
    force = single(found.openmm_system, "NonbondedForce")
    if force is None:
        return
    _read_method(force, found)
    require_particles(force, len(found.order))
    rows = [(i, *force.getParticleParameters(i)) for i in found.order.tolist()]
    for section in ("vdW", "Electrostatics"):
        found.terms[section] = terms_of(section, rows, ("charge", "sigma", "epsilon"))
    exceptions = terms_of("NonbondedExceptions", rows_of(force, "Exception"))
    charge_product, _, epsilon = exceptions.values.T
    silent = (charge_product == 0) & (epsilon == 0)
    found.excluded_pairs = exceptions.particles[silent]
    if not silent.all():
        exceptions.particles, exceptions.values = exceptions.particles[~silent], exceptions.values[~silent]
        found.terms["NonbondedExceptions"] = exceptions


def _read_method(force: openmm.Force, found: Found) -> None:
    name = described(force)
    for count in ("GlobalParameters", "ParticleParameterOffsets", "ExceptionParameterOffsets"):
        if getattr(force, f"getNum{count}")():
            raise UnsupportedForceError(f"{name} has {count}, which are not covered")
    if force.getExceptionsUsePeriodicBoundaryConditions():
        raise UnsupportedForceError(
            f"{name} wraps its exceptions into the box; call setExceptionsUsePeriodicBoundaryConditions(False) on it "
            "and keep molecules whole"
        )
    if not force.getIncludeDirectSpace():
        raise UnsupportedForceError(f"{name} leaves direct space out")
    words = (*_METHODS, "CutoffNonPeriodic", "Ewald")
    method = next(word for word in words if getattr(force, word) == force.getNonbondedMethod())
    if method not in _METHODS:
        raise UnsupportedForceError(
            f"{name} with method {method} is not covered; covered are NoCutoff, CutoffPeriodic, PME and LJPME"
        )
    periodic_vdw, periodic_coulomb = _METHODS[method]
    found.methods["vdW"] = {
        "potential": "Lennard-Jones-12-6",
        "combining_rules": "Lorentz-Berthelot",
        "periodic_method": periodic_vdw,
        "nonperiodic_method": "no-cutoff",
    }
    found.methods["Electrostatics"] = {
        "periodic_potential": periodic_coulomb,
        "nonperiodic_potential": "Coulomb",
        "exception_potential": "Coulomb",
    }
    if method == "NoCutoff":
        return
    for get in ("getPMEParameters", "getLJPMEParameters"):
        if number(getattr(force, get)()[0]):
            raise UnsupportedForceError(
                f"{name} sets its Ewald parameters itself ({get}); set them to 0 and use setEwaldErrorTolerance"
            )
    cutoff = number(force.getCutoffDistance())
    found.settings |= {("vdW", "cutoff"): cutoff, ("Electrostatics", "cutoff"): cutoff}
    if force.getUseSwitchingFunction() and method != "LJPME":
        found.settings["vdW", "switch_width"] = cutoff - number(force.getSwitchingDistance())
    found.engine_options = EngineOptions(
        ewald_tolerance=force.getEwaldErrorTolerance(),
        reaction_field_dielectric=force.getReactionFieldDielectric(),
        dispersion_correction=force.getUseDispersionCorrection(),
        mesh_cutoff=cutoff,
    )


def write(at: AtTheta, openmm_system: openmm.System) -> None:
    """The force, if the system has nonbonded interactions.

    Raises
    ------
    UnsupportedForceFieldError
        If OpenMM has no standard force for what the force field asks for.
    """
    if not _is_in(at):
        return
    force = with_settings(at)
    force.setName("Nonbonded force")
    _particles(at).add_to(force, "Particle")
    _exceptions(at).add_to(force, "Exception")
    openmm_system.addForce(force)


def change(at: AtTheta, openmm_system: openmm.System) -> Iterator[Change]:
    """New parameters for particles and exceptions; other settings reinitialise a Context."""
    if not _is_in(at):
        return
    with_settings(at)  # raises where they are not covered
    force = only(openmm_system, "NonbondedForce")
    particles = _particles(at)
    exceptions = in_their_order("NonbondedForce", rows_of(force, "Exception"), _exceptions(at))

    def apply(_: openmm.Context | None) -> bool:
        particles.set_in(force, "Particle")
        exceptions.set_in(force, "Exception")
        return settings_changed(force, lambda: _configure(force, at))

    yield Change(apply, force)


def with_settings(at: AtTheta) -> openmm.NonbondedForce:
    """A NonbondedForce without particles: method, cutoff, switch and corrections of a system."""
    import openmm

    force = openmm.NonbondedForce()
    _configure(force, at)
    return force


def settings_changed(force: openmm.Force, configure: Callable[[], None]) -> bool:
    """Whether a call of ``configure`` changes the method, cutoff, switch or corrections of a force."""

    def settings() -> list[object]:
        return [getattr(force, f"get{name}")() for name in _SETTINGS if hasattr(force, f"get{name}")]

    before = settings()
    configure()
    return settings() != before


def _configure(force: openmm.Force, at: AtTheta) -> None:
    system, parameters = at.system, at.parameters
    cutoff, width = (at.setting("vdW", name, 0.0) for name in ("cutoff", "switch_width"))
    force.setUseDispersionCorrection(system.engine_options.dispersion_correction)
    if system.box_vectors is None:
        require(system.methods, ISOLATED)
        force.setNonbondedMethod(force.NoCutoff)
        if cutoff:
            force.setCutoffDistance(cutoff)
    else:
        scheme = cutoff_scheme(system, parameters, system.box_vectors, at.ewald_tolerance)
        force.setCutoffDistance(scheme.cutoff)
        if scheme.alpha is None:
            force.setNonbondedMethod(force.CutoffPeriodic)
            force.setReactionFieldDielectric(scheme.dielectric)
        else:
            force.setNonbondedMethod(force.PME if scheme.dispersion_mesh is None else force.LJPME)
            force.setEwaldErrorTolerance(at.ewald_tolerance)
    force.setUseSwitchingFunction(width > 0)
    if width > 0:
        force.setSwitchingDistance(cutoff - width)


def _is_in(at: AtTheta) -> bool:
    return "vdW" in at or "Electrostatics" in at


def _columns(
    at: AtTheta,
) -> tuple[Float[np.ndarray, " particles"], Float[np.ndarray, " particles"], Float[np.ndarray, " particles"]]:
    """Charge (e), sigma (nm) and epsilon (kJ/mol) of the particles."""
    sigma, epsilon = (at.of_particles("vdW", name) for name in ("sigma", "epsilon"))
    return at.of_particles("Electrostatics", "charge"), sigma, epsilon


def _particles(at: AtTheta) -> Table:
    """All particles. Their epsilon is zero where a CustomNonbondedForce has the Lennard-Jones interactions."""
    charge, sigma, epsilon = _columns(at)
    return at.per_particle(charge, sigma, np.zeros_like(epsilon) if NBFIX in at else epsilon)


def _exceptions(at: AtTheta) -> Table:
    """Pairs that do not interact, 1-4 pairs, and pairs with parameters of their own, in that order."""
    charge, sigma, epsilon = _columns(at)
    a, b = at.system.pairs_14.T
    scaled = [
        at.setting("Electrostatics", "scale14", 1.0) * charge[a] * charge[b],
        0.5 * (sigma[a] + sigma[b]),
        at.setting("vdW", "scale14", 1.0) * np.sqrt(epsilon[a] * epsilon[b]),
    ]
    # excluded pairs get the parameters that OpenMM itself gives them
    values = [np.tile([0.0, 1.0, 0.0], (len(at.system.excluded_pairs), 1)), np.stack(scaled, axis=1)]
    if "NonbondedExceptions" in at:
        values.append(np.asarray(at.parameters["NonbondedExceptions"]))
    return Table(at.in_openmm(not_interacting(at.system)), tuple(np.concatenate(values).T))
