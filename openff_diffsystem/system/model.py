"""What compiled energy functions take besides theta and the configuration."""

from __future__ import annotations

from dataclasses import dataclass, field

import jax
import jax.numpy as jnp

from openff_diffsystem._jax.fork import require_own_process
from openff_diffsystem._jax.static import STATIC
from openff_diffsystem._jax.types import Leaf
from openff_diffsystem.parameters.assignment import Assignment
from openff_diffsystem.parameters.system import SystemLayout, SystemParameters
from openff_diffsystem.potentials.isolated import Interactions
from openff_diffsystem.potentials.periodic.energy import PeriodicInteractions
from openff_diffsystem.system.data import SystemData
from openff_diffsystem.system.interactions import isolated_interactions, periodic_interactions

Theta = Leaf | SystemParameters
"""The flat vector of force-field parameters, or system parameters themselves."""


@jax.tree_util.register_dataclass
@dataclass
class EnergyModel:
    """Everything that a system's energy depends on besides theta and the configuration. A pytree.

    Attributes
    ----------
    assignment
        The map from theta to the system's values.
    interactions
        Who interacts with whom, in isolated molecules or in a periodic system.
    layout
        Which system parameter stands where. Static.
    """

    assignment: Assignment
    interactions: Interactions | PeriodicInteractions | None
    layout: SystemLayout = field(metadata=STATIC)

    def parameters(self, theta: Theta) -> SystemParameters:
        """The assignment applied; parameters that came from elsewhere, from a network for example, pass through."""
        if isinstance(theta, SystemParameters):
            return theta
        return SystemParameters(self.assignment(theta), self.layout)


def energy_model(system: SystemData, periodic: bool, add_constrained_forces: bool = False) -> EnergyModel:
    """The arrays of a system's energy on the device, made once.

    Raises
    ------
    UnsupportedForceFieldError
        If isolated molecules are asked for and the force field has a method that is not covered there.
    ForkedProcessError
        In a process that was forked from one in which a system was made or read.
    """
    require_own_process()
    key = periodic, add_constrained_forces
    if key not in system.energy_models:
        build = periodic_interactions if periodic else isolated_interactions
        host = build(system, add_constrained_forces)
        # concrete also when first needed inside a trace, so that what is cached is never a tracer
        with jax.ensure_compile_time_eval():
            system.energy_models[key] = EnergyModel(
                system.device_assignment, jax.tree.map(jnp.asarray, host), system.system_layout
            )
    return system.energy_models[key]


def assignment_model(system: SystemData) -> EnergyModel:
    """The assignment on the device, without interactions: what compiled functions of theta alone take."""
    return EnergyModel(system.device_assignment, None, system.system_layout)
