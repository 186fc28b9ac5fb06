"""Neighbour lists of a system in a box."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from openff_diffsystem.exceptions import BoxError
from openff_diffsystem.potentials.periodic.neighbors import NeighborList, build_neighbor_list
from openff_diffsystem.system import compiled
from openff_diffsystem.system.arguments import as_box_vectors, as_positions
from openff_diffsystem.system.cutoffs import cutoff_scheme
from openff_diffsystem.system.data import SystemData
from openff_diffsystem.system.interactions import not_interacting
from openff_diffsystem.system.model import model


def particle_positions(system: SystemData, positions: Any = None, theta: Any = None) -> jax.Array:
    """Positions of all particles, ``(n_particles, 3)``, nm: atoms as given, virtual sites in their frames."""
    given = as_positions(system.own_positions(positions), system.n_atoms, system.n_positions)
    return compiled.complete(model(system, True), given, system.as_theta(theta))


def neighbor_list(
    system: SystemData,
    positions: Any = None,
    box_vectors: Any = None,
    theta: Any = None,
    *,
    skin: float = 0.1,
    ewald_tolerance: float | None = None,
    like: NeighborList | None = None,
) -> NeighborList:
    """Who is near whom in a configuration, for the potential of a periodic system.

    Parameters
    ----------
    positions
        ``(n_atoms, 3)`` or ``(n_particles, 3)``, nm; by default the system's own.
    box_vectors
        ``(3, 3)``, nm, in OpenMM's reduced form; by default the system's own.
    theta
        Where virtual sites are depends on it; as for :meth:`parameterize`.
    skin
        How much further than the cutoff the list reaches, nm. It is valid until something moves by half of that.
    ewald_tolerance
        OpenMM's error tolerance, which decides splitting parameter and mesh; by default that of
        ``engine_options``.
    like
        A list whose mesh, and if possible shape, the new one takes over, so that compiled code can be used again.

    Raises
    ------
    BoxError
        If there is no box, or it is not in reduced form, narrower than twice the cutoff, or than cutoff and skin.
    PositionsError
        If a position is NaN or infinite.
    UnsupportedForceFieldError
        If the force field asks for a method that is not covered.
    """
    box = as_box_vectors(system.box_vectors if box_vectors is None else box_vectors)
    if box is None:
        raise BoxError("the system has no box; pass box_vectors")
    tolerance = system.engine_options.ewald_tolerance if ewald_tolerance is None else ewald_tolerance
    scheme = cutoff_scheme(system, theta, np.asarray(box), tolerance) if like is None else like.scheme
    return build_neighbor_list(
        np.asarray(particle_positions(system, positions, theta)),
        np.asarray(box),
        not_interacting(system),
        scheme,
        skin,
        None if like is None else len(like.row_block),
    )
