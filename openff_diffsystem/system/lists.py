"""Neighbour lists of a system in a box: build one, and keep the latest one as long as it covers the configuration."""

from __future__ import annotations

from dataclasses import replace

import jax
import numpy as np
from jaxtyping import Array, Float

from openff_diffsystem.exceptions import BoxError, InvalidInputError, StaleNeighborListError
from openff_diffsystem.potentials.periodic.neighbors import NeighborList, build_neighbor_list, check_box, check_finite
from openff_diffsystem.system import compiled
from openff_diffsystem.system.arguments import Configuration, as_configuration, as_positions, check_shapes
from openff_diffsystem.system.cutoffs import cutoff_scheme, uses_mesh_for_dispersion, uses_reaction_field
from openff_diffsystem.system.data import SystemData
from openff_diffsystem.system.interactions import not_interacting
from openff_diffsystem.system.model import Theta, energy_model

_SHARE = 0.99
"""Part of the skin that may be used up when a list is kept. The device checks the list again, and may round more."""


def particle_positions(
    system: SystemData, positions: object = None, theta: object = None
) -> Float[Array, "particles 3"]:
    """Positions of all particles, ``(n_particles, 3)``, nm: atoms as given, virtual sites computed from them."""
    given = as_positions(system.own_positions(positions))
    check_shapes(system, given.shape)
    return compiled.complete(energy_model(system, periodic=True), given, system.as_theta(theta))


def neighbor_list(
    system: SystemData,
    positions: object = None,
    box_vectors: object = None,
    theta: object = None,
    *,
    skin: float = 0.1,
    ewald_tolerance: float | None = None,
    like: NeighborList | None = None,
) -> NeighborList:
    """The neighbour list of a configuration, for the potential of a periodic system.

    Parameters
    ----------
    positions
        ``(n_atoms, 3)`` or ``(n_particles, 3)``, nm; by default the system's own.
    box_vectors
        ``(3, 3)``, nm, in OpenMM's reduced form; by default the system's own.
    theta
        As for :meth:`parameterize`; positions of virtual sites depend on it.
    skin
        How much further than the cutoff the list reaches, nm. It is valid until something moves by half of that.
    ewald_tolerance
        OpenMM's error tolerance, which determines the splitting parameter and the mesh; by default that of
        ``engine_options``.
    like
        A list with the mesh and, if possible, the shape that the new one gets, so that compiled code can be used again.

    Raises
    ------
    BoxError
        If there is no box, or it is not in reduced form, or it is narrower than twice the cutoff or cutoff plus skin.
    PositionsError
        If a position is NaN or infinite.
    UnsupportedForceFieldError
        If the force field asks for a method that is not covered.
    """
    if box_vectors is None and system.box_vectors is None:
        raise BoxError("the system has no box; pass box_vectors")
    configuration = as_configuration(system, system.own_positions(positions), box_vectors)
    box = np.asarray(configuration.box_vectors)
    tolerance = system.engine_options.ewald_tolerance if ewald_tolerance is None else ewald_tolerance
    scheme = cutoff_scheme(system, theta, box, tolerance) if like is None else like.scheme
    return build_neighbor_list(
        np.asarray(particle_positions(system, configuration.positions, theta)),
        box,
        not_interacting(system),
        scheme,
        skin,
        None if like is None else len(like.row_block),
    )


class NeighborLists:
    """The neighbour list of the latest configuration, used again as long as it covers the next one.

    Parameters
    ----------
    skin
        As for :func:`neighbor_list`.
    one_scheme
        Whether all lists have the cutoffs and the mesh of the first one, as in a simulation. Otherwise they follow
        theta and the box; the mesh stays the same while the box grows or shrinks by a few percent.
    """

    def __init__(self, system: SystemData, skin: float = 0.1, *, one_scheme: bool = False) -> None:
        self._system = system
        self._skin = skin
        self._one_scheme = one_scheme
        self._latest: NeighborList | None = None

    def covering(self, configuration: Configuration, theta: Theta) -> NeighborList | None:
        """A list that covers a configuration: the one in it, or the latest if that still covers it, or a new one.

        While jax traces the call, this is the list in the configuration, unchecked: compiled code checks it when it
        runs. Without a box it is ``None``. Positions in NumPy are checked on the host, because the device would first
        finish the work that it has.

        Raises
        ------
        StaleNeighborListError
            If the list in the configuration does not cover it.
        InvalidInputError
            If that list belongs to another system or to other methods, or if there is none while jax traces the call.
        BoxError, PositionsError
            As from :func:`neighbor_list`.
        """
        given = configuration.neighbors
        if not configuration.is_periodic:
            return None
        if given is not None:
            self._require_own(given)
        if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves((configuration, theta))):
            if given is None:
                raise InvalidInputError(
                    "inside jax.jit, jax.grad and the like the potential of a periodic system needs a neighbour list: "
                    "pass neighbors=system.neighbor_list(positions, box_vectors)"
                )
            return given
        if given is not None:
            used, skin = self._reach_used(given, configuration, theta), float(given.skin)
            if not used <= skin:
                check_finite(configuration.positions)
                raise StaleNeighborListError(
                    f"particles and box moved by {used:.3g} nm since the neighbour list was built, its skin is "
                    f"{skin:.3g} nm; build a new one with system.neighbor_list"
                )
            return given
        latest = self._latest
        if latest is not None and not self._one_scheme:
            box, tolerance = np.asarray(configuration.box_vectors), self._system.engine_options.ewald_tolerance
            latest = latest if latest.scheme.fits(cutoff_scheme(self._system, theta, box, tolerance)) else None
        if latest is None or not self._reach_used(latest, configuration, theta) <= _SHARE * self._skin:
            at = configuration.positions, configuration.box_vectors, theta
            self._latest = neighbor_list(self._system, *at, skin=self._skin, like=latest)
        return self._latest

    def _reach_used(self, neighbors: NeighborList, configuration: Configuration, theta: Theta) -> float:
        """How much of the skin of a list is used up, nm, after a check of the box."""
        box = np.asarray(configuration.box_vectors)
        check_box(box, neighbors.scheme.cutoff)
        if isinstance(configuration.positions, jax.Array):
            at = replace(configuration, neighbors=neighbors)
            return float(compiled.reach_used(energy_model(self._system, periodic=True), at, theta))
        particles = configuration.positions
        if len(particles) != self._system.n_particles:
            particles = np.asarray(particle_positions(self._system, particles, theta))
        return float(neighbors.on_host.reach_used(particles, box))

    def _require_own(self, neighbors: NeighborList) -> None:
        """Raise if a list belongs to another system, or to the same system with other methods."""
        system, scheme, n_particles = self._system, neighbors.scheme, neighbors.images.shape[0]
        if n_particles != system.n_particles:
            raise InvalidInputError(
                f"the neighbour list is of {n_particles} particles, the system has {system.n_particles}"
            )
        if (scheme.alpha is None) != uses_reaction_field(system):
            raise InvalidInputError("the neighbour list was built for another periodic_potential of Electrostatics")
        if (scheme.dispersion_mesh is not None) != uses_mesh_for_dispersion(system):
            raise InvalidInputError("the neighbour list was built for another periodic_method of vdW")
