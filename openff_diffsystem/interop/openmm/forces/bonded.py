"""What the standard forces of an OpenMM System hold: terms by section, and how interactions end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from openff_diffsystem.exceptions import UnsupportedForceError
from openff_diffsystem.interop.openmm.forces.own_forms import KINDS
from openff_diffsystem.interop.openmm.forces.terms import ForceTerms, described, number, require_particles
from openff_diffsystem.potentials.periodic.scheme import EngineOptions
from openff_diffsystem.sections import SECTIONS

_WITHOUT_ENERGY = (
    "CMMotionRemover",
    "AndersenThermostat",
    "MonteCarloBarostat",
    "MonteCarloAnisotropicBarostat",
    "MonteCarloMembraneBarostat",
    "MonteCarloFlexibleBarostat",
)
"""Forces that contribute no energy and are passed over."""

_READ = (
    "HarmonicBondForce",
    "HarmonicAngleForce",
    "PeriodicTorsionForce",
    "RBTorsionForce",
    "NonbondedForce",
    "GBSAOBCForce",
)

_READ_AS_WHOLE = (*KINDS, "CustomNonbondedForce", "CustomGBForce")

_BETWEEN_PARTICLES = ("NonbondedForce", "GBSAOBCForce", "CustomNonbondedForce", "CustomGBForce")

_MOLECULES_ARE_WHOLE = "call setUsesPeriodicBoundaryConditions(False) on it and keep molecules whole"


@dataclass
class Nonbonded:
    """What a NonbondedForce says besides its terms: numbers of a section, and how interactions end."""

    settings: dict[tuple[str, str], float]
    periodic_vdw: str
    periodic_coulomb: str
    options: EngineOptions


def sorted_forces(system: Any) -> dict[str, list[Any]]:
    """The forces by class.

    Raises
    ------
    UnsupportedForceError
        If one is of a class that is not covered.
    """
    found: dict[str, list[Any]] = {name: [] for name in (*_READ, *_READ_AS_WHOLE)}
    unknown = []
    for force in system.getForces():
        kind = type(force).__name__
        if kind in found:
            found[kind].append(force)
            if kind not in _BETWEEN_PARTICLES and force.usesPeriodicBoundaryConditions():
                raise UnsupportedForceError(f"{described(force)} wraps its terms into the box; {_MOLECULES_ARE_WHOLE}")
        elif kind not in _WITHOUT_ENERGY:
            unknown.append(force)
    if unknown:
        names = ", ".join(described(force) for force in unknown)
        covered = ", ".join((*_READ, *_READ_AS_WHOLE))
        raise UnsupportedForceError(f"not covered: {names}; covered are {covered}")
    return found


def single(forces: list[Any]) -> Any:
    """The only force of a class."""
    if len(forces) > 1:
        raise UnsupportedForceError(f"{len(forces)} forces of class {type(forces[0]).__name__}; one is covered")
    return forces[0]


def terms_of(columns: tuple[str, ...], rows: list[Any], width: int) -> ForceTerms:
    """Terms from what OpenMM's getters return: particles, then values in the order of ``columns``."""
    particles = np.array([row[:width] for row in rows], dtype=np.int64).reshape(-1, width)
    values = np.array([[number(v) for v in row[width:]] for row in rows]).reshape(-1, len(columns))
    return ForceTerms(columns, particles, values, {})


def bonded_terms(forces: dict[str, list[Any]]) -> dict[str, ForceTerms]:
    """The terms of bonded forces by section; several forces of one class are one section."""

    def rows(kind: str, count: str, get: str) -> list[Any]:
        return [getattr(force, get)(i) for force in forces[kind] for i in range(getattr(force, count)())]

    terms = {}
    if forces["HarmonicBondForce"]:
        found = rows("HarmonicBondForce", "getNumBonds", "getBondParameters")
        terms["Bonds"] = terms_of(("k", "length"), [(*r[:2], r[3], r[2]) for r in found], 2)
    if forces["HarmonicAngleForce"]:
        found = rows("HarmonicAngleForce", "getNumAngles", "getAngleParameters")
        terms["Angles"] = terms_of(("k", "angle"), [(*r[:3], r[4], r[3]) for r in found], 3)
    if forces["PeriodicTorsionForce"]:
        found = rows("PeriodicTorsionForce", "getNumTorsions", "getTorsionParameters")
        terms["ProperTorsions"] = terms_of(("k", "phase", "idivf"), [(*r[:4], r[6], r[5], 1.0) for r in found], 4)
        terms["ProperTorsions"].static["periodicity"] = np.array([r[4] for r in found], dtype=np.int32)
    if forces["RBTorsionForce"]:
        found = rows("RBTorsionForce", "getNumTorsions", "getTorsionParameters")
        terms["RBTorsions"] = terms_of(SECTIONS["RBTorsions"].columns, found, 4)
    return terms


def nonbonded_settings(force: Any) -> Nonbonded:
    """Method, cutoff and options of a NonbondedForce.

    Raises
    ------
    UnsupportedForceError
        If it has a setting or a method that cannot be represented.
    """
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
    words = {
        force.NoCutoff: ("cutoff", "Ewald3D-ConductingBoundary"),
        force.CutoffPeriodic: ("cutoff", "reaction-field"),
        force.PME: ("cutoff", "Ewald3D-ConductingBoundary"),
        force.LJPME: ("Ewald3D", "Ewald3D-ConductingBoundary"),
    }
    method = force.getNonbondedMethod()
    if method not in words:
        kind = {force.CutoffNonPeriodic: "CutoffNonPeriodic", force.Ewald: "Ewald"}.get(method, method)
        raise UnsupportedForceError(
            f"{name} with method {kind} is not covered; covered are NoCutoff, CutoffPeriodic, PME and LJPME"
        )
    if method == force.NoCutoff:
        return Nonbonded({}, *words[method], EngineOptions())
    for get in ("getPMEParameters", "getLJPMEParameters"):
        if number(getattr(force, get)()[0]):
            raise UnsupportedForceError(
                f"{name} sets its Ewald parameters itself ({get}); set them to 0 and use setEwaldErrorTolerance"
            )
    cutoff = number(force.getCutoffDistance())
    switched = force.getUseSwitchingFunction() and method != force.LJPME
    settings = {("vdW", "cutoff"): cutoff, ("Electrostatics", "cutoff"): cutoff}
    if switched:
        settings["vdW", "switch_width"] = cutoff - number(force.getSwitchingDistance())
    options = EngineOptions(
        ewald_tolerance=force.getEwaldErrorTolerance(),
        reaction_field_dielectric=force.getReactionFieldDielectric(),
        dispersion_correction=force.getUseDispersionCorrection(),
        mesh_cutoff=cutoff,
    )
    return Nonbonded(settings, *words[method], options)


def add_nonbonded(terms: dict[str, ForceTerms], force: Any, order: np.ndarray) -> np.ndarray:
    """Add particles and exceptions; the pairs that do not interact at all, ``(n, 2)``."""
    require_particles(force, len(order))
    everyone = [force.getParticleParameters(i) for i in order.tolist()]
    particles = order[:, None]
    charges = np.array([[number(charge)] for charge, _, _ in everyone]).reshape(-1, 1)
    shapes = np.array([[number(epsilon), number(sigma)] for _, sigma, epsilon in everyone]).reshape(-1, 2)
    terms["vdW"] = ForceTerms(("epsilon", "sigma"), particles, shapes, {})
    terms["Electrostatics"] = ForceTerms(("charge",), particles, charges, {})
    rows = [force.getExceptionParameters(i) for i in range(force.getNumExceptions())]
    exceptions = terms_of(("charge_product", "sigma", "epsilon"), rows, 2)
    silent = (exceptions.values[:, 0] == 0) & (exceptions.values[:, 2] == 0)
    if not silent.all():
        terms["NonbondedExceptions"] = ForceTerms(
            exceptions.columns, exceptions.particles[~silent], exceptions.values[~silent], {}
        )
    return exceptions.particles[silent]
