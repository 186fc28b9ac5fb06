"""Virtual sites: OpenMM's objects, and their types and parameters."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from openff_diffsystem.exceptions import ParameterMismatchError, UnsupportedForceError
from openff_diffsystem.interop.openmm.forces.at_theta import AtTheta
from openff_diffsystem.interop.openmm.forces.part import Change, Found
from openff_diffsystem.interop.openmm.forces.terms import ForceTerms
from openff_diffsystem.potentials.virtual_sites import local_frame
from openff_diffsystem.sections import NO_ATOM, SECTIONS, SITE_TYPES, WEIGHTED_SITE_TYPES

if TYPE_CHECKING:
    import openmm

CLASSES: tuple[str, ...] = ()

_N_ATOMS = {"BondCharge": 2, "MonovalentLonePair": 3, "DivalentLonePair": 3, "TrivalentLonePair": 4}


class _Site(NamedTuple):
    """One virtual site: ``type`` counts through ``SITE_TYPES`` and then ``WEIGHTED_SITE_TYPES``."""

    atoms: tuple[int, ...]
    type: int
    parameters: tuple[float, float, float]


def read(found: Found) -> None:
    """The virtual sites of a System.

    Raises
    ------
    UnsupportedForceError
        If one cannot be represented, or depends on another one.
    """
    particles = found.order[found.n_atoms :].tolist()
    if not particles:
        return
    sites = [_read_site(i, found.openmm_system.getVirtualSite(i)) for i in particles]
    orientation = np.full((len(sites), SECTIONS["VirtualSites"].n_atoms), NO_ATOM, dtype=np.int64)
    for row, (particle, site) in enumerate(zip(particles, sites, strict=True)):
        nested = [atom for atom in site.atoms if found.is_site[atom]]
        if nested:
            raise UnsupportedForceError(f"virtual site {particle} depends on another one, {nested[0]}")
        orientation[row, : len(site.atoms)] = site.atoms
    values = np.array([site.parameters for site in sites])
    types = np.array([site.type for site in sites], dtype=np.int32)
    found.terms["VirtualSites"] = ForceTerms(SECTIONS["VirtualSites"].columns, orientation, values, {"type": types})


def write(at: AtTheta, openmm_system: openmm.System) -> None:
    """Make particles virtual sites."""
    for particle, site in _objects(at):
        openmm_system.setVirtualSite(particle, site)


def change(at: AtTheta, openmm_system: openmm.System) -> Iterator[Change]:
    """Move the sites that differ: a Context has to be reinitialised then."""
    sites = _objects(at)
    missing = [particle for particle, _ in sites if not openmm_system.isVirtualSite(particle)]
    if missing:
        raise ParameterMismatchError(f"particle {missing[0]} of the OpenMM System is no virtual site")
    different = [
        (particle, site)
        for particle, site in sites
        if _read_site(particle, openmm_system.getVirtualSite(particle)) != _read_site(particle, site)
    ]

    def apply(_: openmm.Context | None) -> bool:
        for particle, site in different:
            openmm_system.setVirtualSite(particle, site)
        return bool(different)

    yield Change(apply)


def _objects(at: AtTheta) -> list[tuple[int, openmm.VirtualSite]]:
    """OpenMM's index and an ``openmm.VirtualSite`` of each site."""
    if "VirtualSites" not in at:
        return []
    particles = at.in_openmm(np.arange(at.system.n_atoms, at.system.n_particles))
    table = at.table("VirtualSites")
    types = at.system.term_static["VirtualSites"]["type"]
    parameters = np.stack(table.values, axis=1)
    sites = zip(table.particles.tolist(), types.tolist(), parameters.tolist(), strict=True)
    return [(i, _openmm_site(_Site(*site))) for i, site in zip(particles.tolist(), sites, strict=True)]


def _openmm_site(site: _Site) -> openmm.VirtualSite:
    """The site as an ``openmm.VirtualSite``."""
    import openmm

    atoms = [atom for atom in site.atoms if atom != NO_ATOM]
    if site.type >= len(SITE_TYPES):
        kind = WEIGHTED_SITE_TYPES[site.type - len(SITE_TYPES)]
        weights = site.parameters[: 2 if kind == "TwoParticleAverage" else 3]
        return getattr(openmm, f"{kind}Site")(*atoms, *weights)
    x, y, sign = local_frame(site.type)
    n = len(atoms)
    distance, out_of_plane, in_plane = site.parameters
    flat = np.cos(out_of_plane)
    place = distance * np.array([sign * np.cos(in_plane) * flat, np.sin(in_plane) * flat, np.sin(out_of_plane)])
    origin = [1.0] + [0.0] * (n - 1)
    return openmm.LocalCoordinatesSite(atoms, origin, x[:n].tolist(), y[:n].tolist(), place.tolist())


def _read_site(particle: int, site: openmm.VirtualSite) -> _Site:
    """The type and the parameters of an ``openmm.VirtualSite``.

    Raises
    ------
    UnsupportedForceError
        If it is of a type, or in a frame, that cannot be represented.
    """
    name = type(site).__name__
    atoms = tuple(site.getParticle(i) for i in range(site.getNumParticles()))
    if name == "LocalCoordinatesSite":
        return _in_frame(particle, atoms, site)
    kind = name.removesuffix("Site")
    if kind not in WEIGHTED_SITE_TYPES:
        raise UnsupportedForceError(f"virtual site {particle} is a {name}; this type is not covered")
    if kind == "OutOfPlane":
        weights = site.getWeight12(), site.getWeight13(), site.getWeightCross()
    else:
        weights = tuple(site.getWeight(i) for i in range(len(atoms))) + (0.0,) * (3 - len(atoms))
    return _Site(atoms, len(SITE_TYPES) + WEIGHTED_SITE_TYPES.index(kind), weights)


def _in_frame(particle: int, atoms: tuple[int, ...], site: openmm.VirtualSite) -> _Site:
    n = len(atoms)
    found = [np.array(weights) for weights in (site.getOriginWeights(), site.getXWeights(), site.getYWeights())]
    for type_, kind in enumerate(SITE_TYPES):
        x, y, sign = local_frame(type_)
        if n == _N_ATOMS[kind] and all(
            np.allclose(given, wanted[:n], atol=1e-9) for given, wanted in zip(found, (np.eye(4)[0], x, y), strict=True)
        ):
            a, b, c = site.getLocalPosition()._value
            distance = float(np.sqrt(a * a + b * b + c * c))
            out_of_plane = float(np.arcsin(c / distance)) if distance else 0.0
            in_plane = float(np.arctan2(b, sign * a)) if a or b else 0.0
            return _Site(atoms, type_, (distance, out_of_plane, in_plane))
    raise UnsupportedForceError(
        f"virtual site {particle} has a local frame that is none of {', '.join(SITE_TYPES)}: origin, x and y weights "
        f"{', '.join(str(weights.tolist()) for weights in found)}"
    )
