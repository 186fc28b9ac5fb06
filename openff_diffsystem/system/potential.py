"""The potential energy of a system as a function for jax."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from openff_diffsystem._jax.fork import require_own_process
from openff_diffsystem.exceptions import PositionsError, StaleNeighborListError, UnsupportedInputError
from openff_diffsystem.potentials.periodic.neighbors import NeighborList, check_box, check_finite
from openff_diffsystem.system import compiled
from openff_diffsystem.system.arguments import as_box_vectors, as_positions
from openff_diffsystem.system.cutoffs import cutoff_scheme, uses_mesh_for_dispersion, uses_reaction_field
from openff_diffsystem.system.lists import neighbor_list
from openff_diffsystem.system.model import Model, model

if TYPE_CHECKING:
    from openff_diffsystem.system.data import SystemData


class Potential:
    """``potential(positions, theta, box_vectors=None, neighbors=None)``; see ``DiffSystem.to_jax_potential``.

    Called with plain arrays in a box, it keeps the neighbour list of the last call and uses it as long as it serves.
    The mesh of that list stays while the box grows or shrinks by a few percent, as in a simulation.
    """

    def __init__(self, system: SystemData, chunk_size: int, add_constrained_forces: bool) -> None:
        self._system = system
        self._chunk_size = chunk_size
        self._add_constrained_forces = add_constrained_forces
        self._latest: NeighborList | None = None

    def __call__(self, positions: Any, theta: Any, box_vectors: Any = None, neighbors: Any = None) -> jax.Array:
        """Energy, kJ/mol."""
        positions, vector, box = self._arguments(positions, theta, box_vectors)
        if box is not None:
            return compiled.energy_in_box(*self._in_box(positions, vector, box, neighbors))
        found = model(self._system, False, self._add_constrained_forces)
        if positions.ndim == 2:
            return compiled.energy(found, positions, vector)
        return compiled.conformer_energies(found, positions, vector, self._chunk_size)

    def by_section(
        self, positions: Any, theta: Any, box_vectors: Any = None, neighbors: Any = None
    ) -> dict[str, jax.Array]:
        """Energies of the sections, kJ/mol."""
        positions, vector, box = self._arguments(positions, theta, box_vectors)
        if box is not None:
            return compiled.section_energies_in_box(*self._in_box(positions, vector, box, neighbors))
        return compiled.section_energies(model(self._system, False, self._add_constrained_forces), positions, vector)

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
        found = model(self._system, True, self._add_constrained_forces)
        if any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves((positions, vector, box, neighbors))):
            if neighbors is None:
                raise UnsupportedInputError(
                    "inside jax.jit, jax.grad and the like the potential of a periodic system needs a neighbour list: "
                    "pass neighbors=system.neighbor_list(positions, box_vectors)"
                )
            self._check_list(neighbors)
        else:
            neighbors = self.serving_list(positions, vector, box, neighbors)
        return found, positions, vector, box, neighbors

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

    def model(self, periodic: bool) -> Model:
        """Assignment and integer arrays on the device."""
        return model(self._system, periodic, self._add_constrained_forces)

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
            found = model(self._system, True, self._add_constrained_forces)
            check_box(np.asarray(box), neighbors.scheme.cutoff)
            used = float(neighbors.reach_used(compiled.complete(found, positions, vector), box))
            if used <= float(neighbors.skin):
                return neighbors
            check_finite(positions)
            if given is not None:
                raise StaleNeighborListError(
                    f"particles and box moved by {used:.3g} nm since the neighbour list was built, its skin is "
                    f"{float(given.skin):.3g} nm; build a new one with system.neighbor_list"
                )
        self._latest = neighbor_list(self._system, positions, box, vector, like=neighbors)
        return self._latest


def to_jax_potential(system: SystemData, *, chunk_size: int = 16, add_constrained_forces: bool = False) -> Potential:
    """The potential energy as a function for jax.

    Without box vectors, neither here nor in the call, molecules are isolated and every pair of particles interacts,
    as with ``Interchange.to_openmm()`` of a system without box. With box vectors the system is periodic, with
    the methods, cutoffs and long-range corrections that ``Interchange.to_openmm()`` would choose.

    Parameters
    ----------
    chunk_size
        Conformers of isolated molecules evaluated at once when positions are a stack.
    add_constrained_forces
        Count bonds and angles that constraints fix. Like ``Interchange.to_openmm``, they are left out by default.

    Returns
    -------
    callable
        ``potential(positions, theta, box_vectors=None, neighbors=None)``, kJ/mol: a scalar for positions
        ``(n_atoms, 3)`` or ``(n_particles, 3)``, nm. Isolated molecules also take ``(n_conformers, n, 3)`` and give
        ``(n_conformers,)``. ``box_vectors``, ``(3, 3)``, nm, are by default those of the system.
        ``neighbors`` is a :meth:`neighbor_list`; where jax traces the call, it must be given. In a box, molecules
        may be in any image, but have to be whole: bonded atoms in the same one.

    Raises
    ------
    UnsupportedForceFieldError
        If the system holds interactions that this potential does not cover.
    StaleNeighborListError
        From the potential, if the list given no longer covers the configuration. Compiled code cannot raise errors
        of this package: there it is ``equinox.EquinoxRuntimeError``, with the same message.
    """
    if system.box_vectors is None:
        model(system, False, add_constrained_forces)
    return Potential(system, chunk_size, add_constrained_forces)


def energy_terms(
    system: SystemData,
    positions: Any = None,
    theta: Any = None,
    box_vectors: Any = None,
    neighbors: NeighborList | None = None,
    *,
    add_constrained_forces: bool = False,
) -> dict[str, jax.Array]:
    """Energies by section, scalars in kJ/mol; 1-4 interactions count in ``vdW`` and ``Electrostatics``.

    Parameters
    ----------
    positions
        ``(n_atoms, 3)`` or ``(n_particles, 3)``, nm; by default the system's own.
    theta
        As for :meth:`parameterize`.
    box_vectors, neighbors
        As for the potential of :meth:`to_jax_potential`.
    """
    potential = Potential(system, 1, add_constrained_forces)
    return potential.by_section(system.own_positions(positions), system.as_theta(theta), box_vectors, neighbors)
