"""Differences of OpenMM energies. OpenMM never sees our numbers: an OFFXML value is changed, and stock builds again."""

from __future__ import annotations

import copy

import numpy as np

from openff_diffsystem.units import from_md, to_md
from tests.openmm_reference import Reference, energy_of

STEP = 1e-4
"""Relative change of a value. A central difference then has a truncation error of about 1e-8 of the derivative's
scale, and a rounding error of 1e-16 / 1e-4 of the energy's: together less than 2e-6 up to 1e4 kJ/mol."""


def central_difference(
    force_field, component, position, topology, options, coordinates, relative_step: float = STEP, measure=None
) -> float:
    """dU/dtheta of one component from OpenMM, in MD units; or that of ``measure(reference)`` in place of the energy."""
    energies, values = [], []
    for sign in (1, -1):
        # openff-interchange appends an implied last increment to the parameter itself, where it would not change again
        changed = copy.deepcopy(force_field) if component.section == "ChargeIncrementModel" else force_field
        handler = changed[component.section]
        owner = handler if component.row is None else handler.parameters[component.row]
        original = position.get(owner)
        value = to_md(original)
        try:
            position.set(owner, from_md(value + sign * relative_step * (abs(value) or 1.0), original))
            values.append(to_md(position.get(owner)))
            reference = Reference(changed.create_openmm_system(topology, **options))
            energies.append(measure(reference) if measure else reference.energy(coordinates))
        finally:
            position.set(owner, original)
    return (energies[0] - energies[1]) / (values[0] - values[1])


NEAR_STEP, FAR_STEP = 1e-5, 1e-3
"""Relative changes of a number, for pairs and for what is beyond the cutoff. Third derivatives, which exponents of 20
make a thousand times as large as first ones, change 1e-7 of one slope, and 1e-5 of the other, where they are less."""

NOISE = 3e-6
"""kJ/mol: between numbers that hardly differ, OpenMM's integral beyond the cutoff jumps by 1e-6."""


def slope_with_tail(context_of, value: float) -> tuple[float, float]:
    """A central difference and its uncertainty; ``context_of(factor, correction)`` has a number multiplied.

    Pairs within the cutoff and what is beyond are differentiated apart, because OpenMM has the second to 1e-5 only.
    """

    def energies(step, correction):
        return np.array([energy_of(context_of(1 + sign * step, correction)) for sign in (1, -1)])

    near = energies(NEAR_STEP, False)
    far = energies(FAR_STEP, True) - energies(FAR_STEP, False)
    far_slope = (far[0] - far[1]) / (2 * FAR_STEP * value)
    slope = (near[0] - near[1]) / (2 * NEAR_STEP * value) + far_slope
    noise = NOISE if abs(far[0] - far[1]) > NOISE else 0.0
    return slope, 1e-7 * abs(slope) + 2e-5 * abs(far_slope) + noise / (FAR_STEP * value) + 1e-12 / (NEAR_STEP * value)
