"""What a registered pair form must be like to be summed over the neighbours in a box."""

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
"""How many classes are looked at; what the parameters of one side are multiplied by; a distance, nm."""

_CONVERGED = 5e-3
"""Of the integral, or of the energy at the cutoff times its cube: what falls steeply there has next to no integral, and
few points see none of it. Those of 1/r^3 differ by 17 percent, of 1/r^3.5 by 1.3, of 1/r^4 and faster powers by
nothing, of a Gaussian that is a twentieth of the cutoff wide by 0.1."""


def check_in_boxes(system: SystemData, form: PairForm, rows: Int[np.ndarray, " classes"]) -> None:
    """Look at the energies of some pairs of particles, and at their integrals beyond the cutoff.

    Parameters
    ----------
    rows
        Of ``SystemParameters.unique``, one for each class of particles.

    Raises
    ------
    UnsupportedForceFieldError
        If the order of two particles matters, or the energy falls too slowly to be averaged beyond the cutoff.
    """
    values: Any = system.assignment_map(np.asarray(system.force_field_parameters.vector))
    parameters = SystemParameters(values, system.system_layout)
    with jax.ensure_compile_time_eval():
        some = jnp.asarray(parameters.unique(form.section)[rows[:_CHECKED]])
        _check_symmetric(form, some, parameters)
        if system.engine_options.dispersion_correction and (form.section, "cutoff") in system.system_layout.settings:
            _check_decay(form, some, parameters)


def _check_symmetric(form: PairForm, some: Float[Array, "classes columns"], parameters: SystemParameters) -> None:
    """Neighbour lists hold pairs from both sides, and only one of them is derived."""
    first, second = np.repeat(np.arange(len(some)), len(some)), np.tile(np.arange(len(some)), len(some))
    sides = [list(side.T[:, :, None]) for side in (some[first], _ALTERED * some[second])]
    settings = parameters.settings(form.section)
    r2 = jnp.full((len(first), 1), _NEAR**2, some.dtype)
    forth, back = (form.energy(r2, a, b, settings) for a, b in (sides, sides[::-1]))
    if not jnp.allclose(forth, back, rtol=1e-4, atol=0.0, equal_nan=True):
        raise UnsupportedForceFieldError(
            f"the energy of {form.section} changes where two particles change places; in a box it must not"
        )


def _check_decay(form: PairForm, some: Float[Array, "classes columns"], parameters: SystemParameters) -> None:
    """Where an integral diverges, quadrature gives a number that depends on its points."""
    cutoff, settings = float(parameters.setting(form.section, "cutoff")), parameters.settings(form.section)
    coarse, fine = (integrals_beyond(form, settings, some, cutoff, n) for n in (16, 32))
    side = list(some.T[:, :, None])
    at_cutoff = form.energy(jnp.full((len(some), 1), cutoff**2, some.dtype), side, side, settings)[:, 0]
    scale = jnp.maximum(jnp.abs(fine), jnp.abs(at_cutoff) * cutoff**3)
    if jnp.any(jnp.abs(coarse - fine) > _CONVERGED * scale):
        raise UnsupportedForceFieldError(
            f"the energy of {form.section} falls too slowly beyond the cutoff of {cutoff:.4g} nm to be averaged there, "
            "which takes more than 1/r^3; without it: system.engine_options with dispersion_correction=False"
        )
