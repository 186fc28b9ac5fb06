"""The potential energy of a system as a function for jax."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from openff_diffsystem import compiled
from openff_diffsystem.configuration import as_box_vectors, as_positions
from openff_diffsystem.cutoffs import cutoff_scheme, uses_mesh_for_dispersion, uses_reaction_field
from openff_diffsystem.exceptions import PositionsError, StaleNeighborListError, UnsupportedInputError
from openff_diffsystem.neighbors import NeighborList, check_box, check_finite
from openff_diffsystem.processes import require_own_process

if TYPE_CHECKING:
    from openff_diffsystem.system import DiffSystem


class Potential:
    """``potential(positions, theta, box_vectors=None, neighbors=None)``; see ``DiffSystem.to_jax_potential``.

    Called with plain arrays in a box, it keeps the neighbour list of the last call and uses it as long as it serves.
    The mesh of that list stays while the box grows or shrinks by a few percent, as in a simulation.
    """

    def __init__(self, system: DiffSystem, chunk_size: int, add_constrained_forces: bool) -> None:
        self._system = system
        self._chunk_size = chunk_size
        self._add_constrained_forces = add_constrained_forces
        self._latest: NeighborList | None = None

    def __call__(self, positions: Any, theta: Any, box_vectors: Any = None, neighbors: Any = None) -> jax.Array:
        """Energy, kJ/mol."""
        positions, vector, box = self._arguments(positions, theta, box_vectors)
        if box is not None:
            return compiled.energy_in_box(*self._in_box(positions, vector, box, neighbors))
        model = self._system.model(False, self._add_constrained_forces)
        if positions.ndim == 2:
            return compiled.energy(model, positions, vector)
        return compiled.conformer_energies(model, positions, vector, self._chunk_size)

    def by_section(
        self, positions: Any, theta: Any, box_vectors: Any = None, neighbors: Any = None
    ) -> dict[str, jax.Array]:
        """Energies of the sections, kJ/mol."""
        positions, vector, box = self._arguments(positions, theta, box_vectors)
        if box is not None:
            return compiled.section_energies_in_box(*self._in_box(positions, vector, box, neighbors))
        return compiled.section_energies(self._system.model(False, self._add_constrained_forces), positions, vector)

    def _arguments(self, positions: Any, theta: Any, box_vectors: Any) -> tuple[jax.Array, compiled.Theta, Any]:
        require_own_process()
        system = self._system
        return (
            as_positions(positions, system.n_atoms, system.n_positions),
            system.as_theta(theta),
            as_box_vectors(system.box_vectors if box_vectors is None else box_vectors),
        )

    def _in_box(self, positions: jax.Array, vector: compiled.Theta, box: jax.Array, neighbors: Any) -> tuple:
        if positions.ndim != 2:
            raise PositionsError(f"a periodic system takes one configuration at a time, got shape {positions.shape}")
        model = self._system.model(True, self._add_constrained_forces)
        if any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves((positions, vector, box, neighbors))):
            if neighbors is None:
                raise UnsupportedInputError(
                    "inside jax.jit, jax.grad and the like the potential of a periodic system needs a neighbour list: "
                    "pass neighbors=system.neighbor_list(positions, box_vectors)"
                )
            self._check_list(neighbors)
        else:
            neighbors = self.serving_list(positions, vector, box, neighbors)
        return model, positions, vector, box, neighbors

    def _check_list(self, neighbors: NeighborList) -> None:
        """Raise where a list is of another system, or of the same one with other methods."""
        system, scheme = self._system, neighbors.scheme
        if neighbors.images.shape[0] != system.n_particles:
            raise UnsupportedInputError(
                f"the neighbour list is of {neighbors.images.shape[0]} particles, the system has {system.n_particles}"
            )
        if (scheme.alpha is None) != uses_reaction_field(system):
            raise UnsupportedInputError("the neighbour list was built for another periodic_potential of Electrostatics")
        if (scheme.dispersion_mesh is not None) != uses_mesh_for_dispersion(system):
            raise UnsupportedInputError("the neighbour list was built for another periodic_method of vdW")

    @property
    def chunk_size(self) -> int:
        """Conformers of isolated molecules evaluated at once when positions are a stack."""
        return self._chunk_size

    def model(self, periodic: bool) -> compiled.Model:
        """Assignment and integer arrays on the device."""
        return self._system.model(periodic, self._add_constrained_forces)

    def serving_list(
        self, positions: jax.Array, vector: compiled.Theta, box: jax.Array, given: NeighborList | None = None
    ) -> NeighborList:
        """A list that covers this configuration: the one given, the last one if it still does, or a new one.

        Raises
        ------
        StaleNeighborListError
            If the one given does not cover it.
        """
        neighbors = given
        if given is not None:
            self._check_list(given)
        elif self._latest is not None:
            tolerance = self._system.engine_options.ewald_tolerance
            wanted = cutoff_scheme(self._system, vector, np.asarray(box), tolerance)
            neighbors = self._latest if self._latest.scheme.fits(wanted) else None
        if neighbors is not None:
            model = self._system.model(True, self._add_constrained_forces)
            check_box(np.asarray(box), neighbors.scheme.cutoff)
            used = float(neighbors.reach_used(compiled.complete(model, positions, vector), box))
            if used <= float(neighbors.skin):
                return neighbors
            check_finite(positions)
            if given is not None:
                raise StaleNeighborListError(
                    f"particles and box moved by {used:.3g} nm since the neighbour list was built, its skin is "
                    f"{float(given.skin):.3g} nm; build a new one with system.neighbor_list"
                )
        self._latest = self._system.neighbor_list(positions, box, vector, like=neighbors)
        return self._latest
