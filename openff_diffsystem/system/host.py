"""System parameters on the host, in double precision, for exports: nothing is compiled."""

from __future__ import annotations

from typing import Any

import numpy as np

from openff_diffsystem.exceptions import NonFiniteParameterError
from openff_diffsystem.parameters.system import SystemParameters
from openff_diffsystem.system.data import SystemData


def host_parameters(system: SystemData, theta: object) -> SystemParameters:
    """System parameters as NumPy arrays in double precision; nothing is compiled.

    Raises
    ------
    NonFiniteParameterError
        If a parameter is NaN or infinite.
    """
    given = system.as_theta(theta)
    if isinstance(given, SystemParameters):
        values: Any = np.asarray(given.values, dtype=float)  # NumPy instead of jax
    else:
        values = system.assignment_map(np.asarray(given, dtype=float))
    parameters = SystemParameters(values, system.system_layout)
    if not np.isfinite(values).all():
        raise NonFiniteParameterError(f"{_first_not_finite(system, parameters)} is NaN or infinite")
    return parameters


def _first_not_finite(system: SystemData, parameters: SystemParameters) -> str:
    for section, where in system.system_layout.sections.items():
        bad = np.argwhere(~np.isfinite(np.asarray(parameters[section])))
        if len(bad):
            term, column = bad[0].tolist()
            particles = system.term_indices[section][term]
            if system.openmm_particles is not None:
                particles = np.where(particles < 0, particles, system.openmm_particles[np.maximum(particles, 0)])
            return f"{where.columns[column]} of the term of {section} between particles {particles.tolist()}"
    settings = system.system_layout.settings
    return next(f"{name} of {tag}" for tag, name in settings if not np.isfinite(parameters.setting(tag, name)))
