"""Implicit solvent: OpenMM's GBSAOBCForce for OBC2, and the CustomGBForces of openmm.app for HCT and OBC1."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from openff_diffsystem.exceptions import UnsupportedForceError, UnsupportedForceFieldError
from openff_diffsystem.forms.methods import ISOLATED, require
from openff_diffsystem.interop.openmm.forces.terms import ForceTerms, Table, described, number, require_particles
from openff_diffsystem.parameters.system import SystemParameters

if TYPE_CHECKING:
    from openff_diffsystem.system.data import SystemData

_ACE = 28.3919551
"""4 pi times the surface area penalty, kJ/mol/nm2, that OpenMM writes into its HCT and OBC1 forces."""

_PROBE = 0.14
"""nm, the solvent radius that OpenMM fixes."""

_CLASSES = {"HCT": "GBSAHCTForce", "OBC1": "GBSAOBC1Force"}
"""By model the class of openmm.app that makes the custom force."""

_DIELECTRICS = re.compile(r"solventDielectric=([^;]+); *soluteDielectric=([^;]+);")

_AREA = re.compile(r"([-+.\de]+)\*\(radius\+([-+.\de]+)\)\^2\*\(radius/B\)\^6; radius=or\+0\.009")
"""The surface term that :func:`_custom` adds."""


class Born(NamedTuple):
    """What is read of an implicit solvent: terms, section-wide numbers, and words among the methods."""

    terms: ForceTerms
    settings: dict[tuple[str, str], float]
    words: dict[str, str]


def read_born(force: Any, charges: np.ndarray, order: np.ndarray) -> Born:
    """The implicit solvent that a GBSAOBCForce or a CustomGBForce is.

    Parameters
    ----------
    charges
        Of the NonbondedForce, in the order of the system, ``(n_particles,)``; empty without one.
    order
        OpenMM's index of each particle.

    Raises
    ------
    UnsupportedForceError
        If it has a cutoff, other charges, or is a CustomGBForce of another model.
    """
    name = described(force)
    if force.getNonbondedMethod() != force.NoCutoff:
        raise UnsupportedForceError(f"{name} with a cutoff is not covered; covered is NoCutoff")
    require_particles(force, len(order))
    rows = np.array([[number(v) for v in force.getParticleParameters(i)] for i in order.tolist()])
    area: tuple[float, float] | None
    if type(force).__name__ == "GBSAOBCForce":
        model, area = "OBC2", (number(force.getSurfaceAreaEnergy()), _PROBE)
        solvent, solute = force.getSolventDielectric(), force.getSoluteDielectric()
    else:
        model, solvent, solute, area = _recognised(force)
        # OpenMM has the radius without its offset, and that times the scale
        rows[:, 2] /= rows[:, 1]
        rows[:, 1] += _offset(model)
    if not np.array_equal(charges, rows[:, 0]):
        raise UnsupportedForceError(f"the charges of {name} are not those of the NonbondedForce")
    numbers = {
        "solvent_dielectric": solvent,
        "solute_dielectric": solute,
        "surface_area_penalty": area[0] if area else 0.0,
        "solvent_radius": area[1] if area else _PROBE,
    }
    return Born(
        ForceTerms(("radius", "scale"), order[:, None], rows[:, 1:], {}),
        {("GBSA", key): value for key, value in numbers.items()},
        {"gb_model": model, "sa_model": "ACE" if area else "None"},
    )


def _recognised(force: Any) -> tuple[str, float, float, tuple[float, float] | None]:
    """Model, dielectrics of solvent and solute, penalty and probe of the surface, of a force that has nothing else."""
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


def _content(force: Any) -> tuple:
    return (
        [force.getPerParticleParameterName(i) for i in range(force.getNumPerParticleParameters())],
        [force.getComputedValueParameters(i) for i in range(force.getNumComputedValues())],
        [force.getEnergyTermParameters(i) for i in range(force.getNumEnergyTerms())],
        force.getNumGlobalParameters(),
        force.getNumTabulatedFunctions(),
        force.getNumExclusions(),
    )


def _class(model: str) -> Any:
    from openmm.app.internal import customgbforces

    return getattr(customgbforces, _CLASSES[model])


def _offset(model: str) -> float:
    return _class(model).OFFSET


def write_born(system: SystemData, parameters: SystemParameters, born: Table) -> Any:
    """The force of a system's implicit solvent.

    Raises
    ------
    UnsupportedForceFieldError
        If OpenMM has no force for it.
    """
    import openmm

    require(system.methods, ISOLATED)
    model, kind = (system.methods["GBSA"][name] for name in ("gb_model", "sa_model"))
    solvent, solute, penalty, radius = (
        float(parameters.setting("GBSA", name))
        for name in ("solvent_dielectric", "solute_dielectric", "surface_area_penalty", "solvent_radius")
    )
    if model != "OBC2":
        return _custom(model, born, solvent, solute, (penalty, radius) if kind == "ACE" else None)
    if kind == "ACE" and abs(radius - _PROBE) > 1e-9:
        raise UnsupportedForceFieldError(
            f"OpenMM's OBC2 force has a solvent radius of {_PROBE} nm; GBSA asks for {radius} nm"
        )
    force = openmm.GBSAOBCForce()
    force.setSolventDielectric(solvent)
    force.setSoluteDielectric(solute)
    force.setSurfaceAreaEnergy(penalty if kind == "ACE" else 0.0)
    force.setNonbondedMethod(force.NoCutoff)
    for row in born.rows():
        force.addParticle(*row)
    return force


def _custom(model: str, born: Table, solvent: float, solute: float, area: tuple[float, float] | None) -> Any:
    """HCT and OBC1, which OpenMM has as custom forces with the surface term written in."""
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
    force.setNonbondedMethod(force.NoCutoff)
    for row in born.rows():
        force.addParticle(list(row))
    force.finalize()
    return force
