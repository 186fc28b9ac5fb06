"""Implicit solvent: OpenMM's GBSAOBCForce for OBC2, and the CustomGBForces of openmm.app for HCT and OBC1."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from openff_diffsystem.exceptions import ParameterMismatchError, UnsupportedForceError, UnsupportedForceFieldError
from openff_diffsystem.forms.methods import ISOLATED, require
from openff_diffsystem.interop.openmm.forces.at_theta import AtTheta
from openff_diffsystem.interop.openmm.forces.lookup import Row, described, number, only, require_particles, single
from openff_diffsystem.interop.openmm.forces.part import Change, Found
from openff_diffsystem.interop.openmm.forces.terms import ForceTerms
from openff_diffsystem.sections import SECTIONS

if TYPE_CHECKING:
    import openmm

CLASSES: tuple[str, ...] = ("GBSAOBCForce", "CustomGBForce")

_ACE = 28.3919551
"""4 pi times the surface area penalty, kJ/mol/nm2, that OpenMM writes into its HCT and OBC1 forces."""

_PROBE = 0.14
"""nm, the solvent radius that OpenMM fixes."""

_CLASSES = {"HCT": "GBSAHCTForce", "OBC1": "GBSAOBC1Force"}
"""By model, the class of openmm.app that makes the custom force."""

_SETTINGS = ("SolventDielectric", "SoluteDielectric", "SurfaceAreaEnergy")
"""Settings of a GBSAOBCForce."""

_DIELECTRICS = re.compile(r"solventDielectric=([^;]+); *soluteDielectric=([^;]+);")

_AREA = re.compile(r"([-+.\de]+)\*\(radius\+([-+.\de]+)\)\^2\*\(radius/B\)\^6; radius=or\+0\.009")
"""The surface term that :func:`_custom` adds."""


def read(found: Found) -> None:
    """The implicit solvent of a GBSAOBCForce or a CustomGBForce.

    Raises
    ------
    UnsupportedForceError
        If it has a cutoff, other charges than the NonbondedForce, or is a CustomGBForce of another model.
    """
    force = single(found.openmm_system, *CLASSES)
    if force is None:
        return
    name = described(force)
    if force.getNonbondedMethod() != force.NoCutoff:
        raise UnsupportedForceError(f"{name} with a cutoff is not covered; covered is NoCutoff")
    require_particles(force, len(found.order))
    rows = np.array([[number(v) for v in force.getParticleParameters(i)] for i in found.order.tolist()])
    area: tuple[float, float] | None
    if type(force).__name__ == "GBSAOBCForce":
        model, area = "OBC2", (number(force.getSurfaceAreaEnergy()), _PROBE)
        solvent, solute = force.getSolventDielectric(), force.getSoluteDielectric()
    else:
        model, solvent, solute, area = _recognised(force)
        # OpenMM's columns are the radius minus its offset, and that number times the scale
        rows[:, 2] /= rows[:, 1]
        rows[:, 1] += _class(model).OFFSET
    charges = found.terms["Electrostatics"].values[:, 0] if "Electrostatics" in found.terms else ()
    if not np.array_equal(charges, rows[:, 0]):
        raise UnsupportedForceError(f"the charges of {name} are not those of the NonbondedForce")
    penalty, radius = area or (0.0, _PROBE)
    numbers = (solvent, solute, penalty, radius)
    found.terms["GBSA"] = ForceTerms(SECTIONS["GBSA"].columns, found.order[:, None], rows[:, 1:])
    found.settings |= {("GBSA", name): value for name, value in zip(SECTIONS["GBSA"].settings, numbers, strict=True)}
    found.methods["GBSA"] = {"gb_model": model, "sa_model": "ACE" if area else "None"}


def write(at: AtTheta, openmm_system: openmm.System) -> None:
    """The force of the system's implicit solvent.

    Raises
    ------
    UnsupportedForceFieldError
        If OpenMM has no force for it.
    """
    if "GBSA" not in at:
        return
    require(at.system.methods, ISOLATED)
    model, kind = (at.system.methods["GBSA"][name] for name in ("gb_model", "sa_model"))
    solvent, solute, penalty, radius = (
        float(at.parameters.setting("GBSA", name)) for name in SECTIONS["GBSA"].settings
    )
    area = (penalty, radius) if kind == "ACE" else None
    particles = at.per_particle(at.of_particles("Electrostatics", "charge"), *at.table("GBSA").values)
    if model == "OBC2":
        force = _obc2(solvent, solute, area)
        particles.add_to(force, "Particle")
    else:
        force = _custom(model, solvent, solute, area)
        for row in particles.rows():
            force.addParticle(list(row))
        force.finalize()
    force.setNonbondedMethod(force.NoCutoff)
    openmm_system.addForce(force)


def change(at: AtTheta, openmm_system: openmm.System) -> Iterator[Change]:
    """New parameters for particles; another dielectric or surface term reinitialises a Context."""
    if "GBSA" not in at:
        return
    import openmm

    fresh = openmm.System()
    write(at, fresh)
    kind = type(fresh.getForce(0)).__name__
    force = only(openmm_system, kind)
    if len(_settings(force)) != len(_settings(fresh.getForce(0))):
        raise ParameterMismatchError("the CustomGBForce of the OpenMM System has other terms than this system's")

    def apply(_: openmm.Context | None) -> bool:
        new, before = fresh.getForce(0), _settings(force)
        for i in range(new.getNumParticles()):
            row = new.getParticleParameters(i)
            force.setParticleParameters(i, *(row if kind == "GBSAOBCForce" else [row]))
        if kind == "GBSAOBCForce":
            for name in _SETTINGS:
                getattr(force, f"set{name}")(getattr(new, f"get{name}")())
        else:
            for i, term in enumerate(_settings(new)):
                force.setEnergyTermParameters(i, *term)
        return _settings(force) != before

    yield Change(apply, force)


def _settings(force: openmm.Force) -> list[Row]:
    """The settings of a force, all but its particles."""
    if type(force).__name__ == "GBSAOBCForce":
        return [(getattr(force, f"get{name}")(),) for name in _SETTINGS]
    return [force.getEnergyTermParameters(i) for i in range(force.getNumEnergyTerms())]


def _obc2(solvent: float, solute: float, area: tuple[float, float] | None) -> openmm.GBSAOBCForce:
    import openmm

    if area is not None and abs(area[1] - _PROBE) > 1e-9:
        raise UnsupportedForceFieldError(
            f"OpenMM's OBC2 force has a solvent radius of {_PROBE} nm; GBSA asks for {area[1]} nm"
        )
    force = openmm.GBSAOBCForce()
    force.setSolventDielectric(solvent)
    force.setSoluteDielectric(solute)
    force.setSurfaceAreaEnergy(area[0] if area else 0.0)
    return force


def _custom(model: str, solvent: float, solute: float, area: tuple[float, float] | None) -> openmm.CustomGBForce:
    """HCT and OBC1, which OpenMM has as custom forces whose expressions include the surface term."""
    written_in = (
        area is not None
        and np.isclose(4.0 * np.pi * area[0], _ACE, rtol=1e-8, atol=0.0)
        and np.isclose(area[1], _PROBE, rtol=1e-9, atol=0.0)
    )
    force = _class(model)(solvent, solute, "ACE" if written_in else None, None, 0)
    if area is not None and not written_in:
        force.addEnergyTerm(
            f"{4.0 * np.pi * area[0]!r}*(radius+{area[1]!r})^2*(radius/B)^6; radius=or+{force.OFFSET!r}",
            force.SingleParticle,
        )
    return force


def _recognised(force: openmm.Force) -> tuple[str, float, float, tuple[float, float] | None]:
    """Model, dielectrics of solvent and solute, surface penalty and probe radius of a force without other terms."""
    terms = [force.getEnergyTermParameters(i) for i in range(force.getNumEnergyTerms())]
    found = _DIELECTRICS.search(terms[0][0]) if terms else None
    if found is not None:
        solvent, solute = map(float, found.groups())
        own = _AREA.fullmatch(terms[-1][0])
        for model in _CLASSES:
            for written_in in (False, True):
                fresh = _class(model)(solvent, solute, "ACE" if written_in else None, None, 0)
                if own is not None and not written_in:
                    fresh.addEnergyTerm(*terms[-1])
                if _content(fresh) == _content(force):
                    area = (_ACE / (4.0 * np.pi), _PROBE) if written_in else None
                    if own is not None:
                        area = (float(own[1]) / (4.0 * np.pi), float(own[2]))
                    return model, solvent, solute, area
    raise UnsupportedForceError(
        f"{described(force)} is not an implicit solvent that is covered: those are HCT and OBC1 as openmm.app writes "
        "them without salt, and OBC2 as a GBSAOBCForce, which counts atoms inside of others; not GBn or GBn2"
    )


def _content(force: openmm.Force) -> tuple[object, ...]:
    return (
        [force.getPerParticleParameterName(i) for i in range(force.getNumPerParticleParameters())],
        [force.getComputedValueParameters(i) for i in range(force.getNumComputedValues())],
        [force.getEnergyTermParameters(i) for i in range(force.getNumEnergyTerms())],
        force.getNumGlobalParameters(),
        force.getNumTabulatedFunctions(),
        force.getNumExclusions(),
    )


def _class(model: str) -> type[openmm.CustomGBForce]:
    from openmm.app.internal import customgbforces

    return getattr(customgbforces, _CLASSES[model])
