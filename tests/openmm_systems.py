"""Small OpenMM Systems made by hand."""

from __future__ import annotations

import openmm


def system_of(*forces, n=4, sites=()):
    """Of ``n`` particles, of which ``(index, site)`` are virtual sites."""
    system = openmm.System()
    for _ in range(n):
        system.addParticle(1.0)
    for force in forces:
        system.addForce(force)
    for i, site in sites:
        system.setParticleMass(i, 0.0)
        system.setVirtualSite(i, site)
    return system


def nonbonded(n=4, **settings):
    """Equal particles; settings are methods of the force and what they are given."""
    force = openmm.NonbondedForce()
    for _ in range(n):
        force.addParticle(0.1, 0.3, 0.2)
    for name, value in settings.items():
        getattr(force, name)(*(value if isinstance(value, tuple) else (value,)))
    return force
