"""Differences of OpenMM energies. OpenMM never sees our numbers: an OFFXML value is changed, and stock builds anew."""

from __future__ import annotations

import copy

from openff_diffsystem.units import from_md, to_md
from tests.openmm_reference import Reference

STEP = 1e-4
"""Relative change of a value. A central difference then has a truncation error of about 1e-8 of the derivative's
scale, and a rounding error of 1e-16 / 1e-4 of the energy's: together less than 2e-6 up to 1e4 kJ/mol."""


def central_difference(
    force_field, component, position, topology, options, coordinates, relative_step: float = STEP, measure=None
) -> float:
    """dU/dtheta of one component from OpenMM, in MD units; or that of ``measure(reference)`` in place of the energy."""
    energies, values = [], []
    for sign in (1, -1):
        changed = copy.deepcopy(force_field)
        handler = changed[component.section]
        owner = handler if component.row is None else handler.parameters[component.row]
        present = position.get(owner)
        value = to_md(present)
        step = relative_step * (abs(value) or 1.0)
        position.set(owner, from_md(value + sign * step, present))
        values.append(to_md(position.get(owner)))
        system = changed.create_openmm_system(topology, **options)
        reference = Reference(system)
        energies.append(measure(reference) if measure else reference.energy(coordinates))
    return (energies[0] - energies[1]) / (values[0] - values[1])
