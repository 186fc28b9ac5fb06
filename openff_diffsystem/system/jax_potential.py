"""The potential energy of a system as a function for jax."""

from __future__ import annotations

from openff_diffsystem._jax.fork import require_own_process
from openff_diffsystem.potentials.periodic.neighbors import NeighborList
from openff_diffsystem.system import compiled
from openff_diffsystem.system.arguments import Configuration, as_configuration
from openff_diffsystem.system.compiled import Energy
from openff_diffsystem.system.data import SystemData
from openff_diffsystem.system.lists import NeighborLists
from openff_diffsystem.system.model import EnergyModel, Theta, energy_model


class Potential:
    """``potential(positions, theta, box_vectors=None, neighbors=None)``; see ``DiffSystem.to_jax_potential``.

    In a box, and outside ``jax.jit`` and ``jax.grad``, it keeps the neighbour list of the last call and uses it again
    as long as it covers the configuration. The mesh stays the same while the box grows or shrinks by a few percent.

    Attributes
    ----------
    chunk_size
        Conformers of isolated molecules evaluated at once when positions are a stack.
    lists
        The neighbour list of the last call.
    """

    def __init__(self, system: SystemData, chunk_size: int, add_constrained_forces: bool) -> None:
        self._system = system
        self._add_constrained_forces = add_constrained_forces
        self.chunk_size = chunk_size
        self.lists = NeighborLists(system)

    def __call__(
        self, positions: object, theta: object, box_vectors: object = None, neighbors: NeighborList | None = None
    ) -> Energy:
        """Energy, kJ/mol."""
        return compiled.energy(*self._arguments(positions, theta, box_vectors, neighbors), self.chunk_size)

    def by_section(
        self, positions: object, theta: object, box_vectors: object = None, neighbors: NeighborList | None = None
    ) -> dict[str, Energy]:
        """The energy of each section, kJ/mol."""
        return compiled.section_energies(*self._arguments(positions, theta, box_vectors, neighbors), self.chunk_size)

    def model(self, periodic: bool) -> EnergyModel:
        """The first argument of the compiled energy; see :class:`~openff_diffsystem.system.model.EnergyModel`."""
        return energy_model(self._system, periodic, self._add_constrained_forces)

    def _arguments(
        self, positions: object, theta: object, box_vectors: object, neighbors: NeighborList | None
    ) -> tuple[EnergyModel, Configuration, Theta]:
        require_own_process()
        configuration = as_configuration(self._system, positions, box_vectors, neighbors)
        vector = self._system.as_theta(theta)
        if configuration.is_periodic:
            configuration.neighbors = self.lists.covering(configuration, vector)
        return self.model(configuration.is_periodic), configuration, vector


def to_jax_potential(system: SystemData, *, chunk_size: int = 16, add_constrained_forces: bool = False) -> Potential:
    """The potential energy as a function for jax.

    If neither the system nor the call has box vectors, molecules are isolated and every pair of particles interacts, as
    with ``Interchange.to_openmm()`` for a system without a box. With box vectors the system is periodic, with the
    methods, cutoffs and long-range corrections that ``Interchange.to_openmm()`` would choose.

    Parameters
    ----------
    chunk_size
        Conformers of isolated molecules evaluated at once when positions are a stack.
    add_constrained_forces
        Count bonds and angles that constraints fix. By default they are left out, as in ``Interchange.to_openmm``.

    Returns
    -------
    callable
        ``potential(positions, theta, box_vectors=None, neighbors=None)``, kJ/mol: a scalar for positions
        ``(n_atoms, 3)`` or ``(n_particles, 3)``, nm. Isolated molecules also take ``(n_conformers, n, 3)`` and give
        ``(n_conformers,)``. ``box_vectors``, ``(3, 3)``, nm, are by default those of the system.
        ``neighbors`` is a :meth:`neighbor_list`; inside ``jax.jit``, ``jax.grad`` and the like it must be given. In a
        box, a molecule may be in any periodic image, but it has to be whole: bonded atoms in the same image.

    Raises
    ------
    UnsupportedForceFieldError
        If the system holds interactions that this potential does not cover.
    StaleNeighborListError
        From the potential, if the given list no longer covers the configuration. Compiled code cannot raise errors
        of this package: it raises ``equinox.EquinoxRuntimeError``, with the same message.
    """
    if system.box_vectors is None:
        energy_model(system, periodic=False, add_constrained_forces=add_constrained_forces)
    return Potential(system, chunk_size, add_constrained_forces)


def energy_terms(
    system: SystemData,
    positions: object = None,
    theta: object = None,
    box_vectors: object = None,
    neighbors: NeighborList | None = None,
    *,
    add_constrained_forces: bool = False,
) -> dict[str, Energy]:
    """Energies by section, kJ/mol, scalars or ``(n_conformers,)``; ``vdW`` and ``Electrostatics`` include 1-4 pairs.

    Parameters
    ----------
    positions
        ``(n_atoms, 3)`` or ``(n_particles, 3)``, nm; by default the system's own. Isolated molecules also take
        ``(n_conformers, n, 3)``.
    theta
        As for :meth:`parameterize`.
    box_vectors, neighbors
        As for the potential of :meth:`to_jax_potential`.
    """
    potential = Potential(system, 16, add_constrained_forces)
    return potential.by_section(system.own_positions(positions), system.as_theta(theta), box_vectors, neighbors)
