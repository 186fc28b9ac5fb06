"""Checks of a registered pair form: can it be summed over the neighbours in a box?"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from openff_diffsystem.exceptions import UnsupportedForceFieldError
from openff_diffsystem.forms.form import PairForm
from openff_diffsystem.parameters.system import SystemParameters
from openff_diffsystem.potentials.periodic.form_tail import integrals_beyond
from openff_diffsystem.system.data import SystemData

_CHECKED, _ALTERED, _NEAR = 32, 1.1, 0.4
"""How many classes are checked; a factor for the parameters of one of two particles; a distance, nm."""

_CONVERGED = 5e-3
"""By how much integrals with 16 and 32 points may differ, relative to the integral, or to the energy at the cutoff
times the cubed cutoff if that is larger: an energy that falls steeply has almost no integral, and 16 points may miss
it. The two integrals of 1/r^3 differ by 17 percent, of 1/r^3.5 by 1.3, of 1/r^4 and faster powers by nothing, of a
Gaussian with a width of a twentieth of the cutoff by 0.1."""


def check_in_boxes(system: SystemData, form: PairForm, rows: Int[np.ndarray, " classes"]) -> None:
    """Check the energies of some pairs of particles, and their integrals beyond the cutoff.

    Parameters
    ----------
    rows
        One row of ``SystemParameters.unique`` for each class of particles, ``(n_classes,)``.

    Raises
    ------
    UnsupportedForceFieldError
        If the order of two particles matters, or the energy falls too slowly to be averaged beyond the cutoff.
    """
    values: Any = system.assignment_map(np.asarray(system.force_field_parameters.vector))  # NumPy instead of jax
    parameters = SystemParameters(values, system.system_layout)
    with jax.ensure_compile_time_eval():
        some = jnp.asarray(parameters.unique(form.section)[rows[:_CHECKED]])
        _check_symmetric(form, some, parameters)
        if system.engine_options.dispersion_correction and (form.section, "cutoff") in system.system_layout.settings:
            _check_decay(form, some, parameters)


def _check_symmetric(form: PairForm, some: Float[Array, "classes columns"], parameters: SystemParameters) -> None:
    """Neighbour lists hold each pair twice, once from each side, and derivatives are taken for one side only."""
    first, second = np.repeat(np.arange(len(some)), len(some)), np.tile(np.arange(len(some)), len(some))
    sides = [list(side.T[:, :, None]) for side in (some[first], _ALTERED * some[second])]
    settings = parameters.settings(form.section)
    r2 = jnp.full((len(first), 1), _NEAR**2, some.dtype)
    forth, back = (form.energy(r2, a, b, settings) for a, b in (sides, sides[::-1]))
    if not jnp.allclose(forth, back, rtol=1e-4, atol=0.0, equal_nan=True):
        raise UnsupportedForceFieldError(
            f"the energy of {form.section} changes when two particles change places; in a box it must not"
        )


def _check_decay(form: PairForm, some: Float[Array, "classes columns"], parameters: SystemParameters) -> None:
    """If the integral diverges, quadrature gives a number that depends on how many points it has."""
    cutoff, settings = float(parameters.setting(form.section, "cutoff")), parameters.settings(form.section)
    coarse, fine = (integrals_beyond(form, settings, some, cutoff, n) for n in (16, 32))
    side = list(some.T[:, :, None])
    at_cutoff = form.energy(jnp.full((len(some), 1), cutoff**2, some.dtype), side, side, settings)[:, 0]
    scale = jnp.maximum(jnp.abs(fine), jnp.abs(at_cutoff) * cutoff**3)
    if jnp.any(jnp.abs(coarse - fine) > _CONVERGED * scale):
        raise UnsupportedForceFieldError(
            f"the energy of {form.section} falls too slowly beyond the cutoff of {cutoff:.4g} nm for a long-range "
            "correction: it must fall faster than 1/r^3. For no correction, set dispersion_correction=False in "
            "system.engine_options"
        )
