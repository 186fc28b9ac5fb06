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
    """Everything that the energy of a system depends on besides theta and the configuration. A pytree.

    Attributes
    ----------
    assignment
        The map from theta to the system's values.
    interactions
        Which particles interact, in isolated molecules or in a periodic system; ``None`` for functions of theta alone.
    layout
        What each system parameter is. Static.
    """

    assignment: Assignment
    interactions: Interactions | PeriodicInteractions | None
    layout: SystemLayout = field(metadata=STATIC)

    def parameters(self, theta: Theta) -> SystemParameters:
        """The system parameters of a theta. System parameters, for example from a network, are returned as they are."""
        if isinstance(theta, SystemParameters):
            return theta
        return SystemParameters(self.assignment(theta), self.layout)


def energy_model(system: SystemData, periodic: bool, add_constrained_forces: bool = False) -> EnergyModel:
    """The arrays of a system's energy on the device. They are made once, and kept in ``system.energy_models``.

    Raises
    ------
    UnsupportedForceFieldError
        If the force field asks for a method that is not covered, for isolated molecules or in a box.
    ForkedProcessError
        In a process that was forked after its parent had made or read a system.
    """
    require_own_process()
    key = periodic, add_constrained_forces
    if key not in system.energy_models:
        build = periodic_interactions if periodic else isolated_interactions
        host = build(system, add_constrained_forces)
        # even if this is first called while jax traces, the arrays that are kept must not be tracers
        with jax.ensure_compile_time_eval():
            system.energy_models[key] = EnergyModel(
                system.device_assignment, jax.tree.map(jnp.asarray, host), system.system_layout
            )
    return system.energy_models[key]


def assignment_model(system: SystemData) -> EnergyModel:
    """The model without interactions, for compiled functions of theta alone."""
    return EnergyModel(system.device_assignment, None, system.system_layout)
