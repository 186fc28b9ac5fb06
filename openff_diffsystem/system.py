"""DiffSystem: a force field applied to a topology, ready for derivatives."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from openff_diffsystem.assignment import Assignment
from openff_diffsystem.cutoffs import cutoff_scheme
from openff_diffsystem.exceptions import (
    BoxError,
    ParameterMismatchError,
    PositionsError,
    StaleNeighborListError,
    UnsupportedInputError,
)
from openff_diffsystem.interactions import isolated_interactions, not_interacting, periodic_interactions
from openff_diffsystem.layout import ParameterLayout, handlers_of
from openff_diffsystem.neighbors import NeighborList, build_neighbor_list
from openff_diffsystem.parameters import ForceFieldParameters, as_vector
from openff_diffsystem.potentials.isolated import Interactions, complete_positions, term_energies, total_energy
from openff_diffsystem.potentials.periodic import PeriodicInteractions, periodic_energy, periodic_term_energies
from openff_diffsystem.section_assignment import SectionAssignment
from openff_diffsystem.static import StaticArray
from openff_diffsystem.system_parameters import SectionBlocks, SystemLayout, SystemParameters
from openff_diffsystem.units import nanometers

if TYPE_CHECKING:
    from openff_diffsystem.batch import SystemBatch
    from openff_diffsystem.chemistry.build import Assembled
    from openff_diffsystem.frames import FrameEnergies

Potential = Callable[..., jax.Array]


@dataclass(eq=False)
class DiffSystem:
    """A force field applied to a topology: indices and weights, once, and pure functions of arrays from then on.

    Make one with :meth:`from_smirnoff` or :meth:`from_interchange`.

    Attributes
    ----------
    force_field_parameters
        The numbers of the force field at the time, the theta that the methods below take.
    assignment_map
        The map from theta to the values of the system's unique molecules.
    system_layout
        Which of these values stands where.
    term_indices, term_static
        By section: particle indices ``(n_terms, n_atoms_per_term)``, int32, and integers that are not differentiated.
    excluded_pairs, pairs_14
        ``(n, 2)``, int32: pairs that do not interact, and pairs with the 1-4 scales.
    n_atoms, n_particles
        Particles are the atoms, in topology order, and then the virtual sites.
    positions
        ``(n_atoms, 3)``, nm, if the topology or the caller gave any.
    box_vectors
        ``(3, 3)``, nm, if the topology or the caller gave any.
    methods
        By section and attribute, the functional forms that the force field names, for example
        ``methods["vdW"]["periodic_method"]``.
    molecules
        Mapped SMILES and number of copies of each unique molecule.
    """

    force_field_parameters: ForceFieldParameters
    assignment_map: Assignment
    system_layout: SystemLayout
    term_indices: dict[str, np.ndarray]
    term_static: dict[str, dict[str, np.ndarray]]
    excluded_pairs: np.ndarray
    pairs_14: np.ndarray
    n_atoms: int
    n_particles: int
    positions: np.ndarray | None = None
    box_vectors: np.ndarray | None = None
    methods: dict[str, dict[str, str]] = field(default_factory=dict)
    molecules: tuple[tuple[str, int], ...] = ()
    _interactions: dict[tuple[bool, bool], Any] = field(default_factory=dict, init=False, repr=False)

    @classmethod
    def from_smirnoff(
        cls,
        force_field: Any,
        topology: Any,
        box: Any = None,
        positions: Any = None,
        charge_from_molecules: Sequence[Any] | None = None,
        partial_bond_orders_from_molecules: Sequence[Any] | None = None,
        allow_nonintegral_charges: bool = False,
    ) -> DiffSystem:
        """Assign the parameters of a force field to a topology.

        Chemistry is done once per unique molecule; copies cost array filling. The arguments are those of
        ``Interchange.from_smirnoff``.

        Parameters
        ----------
        force_field
            ``ForceField``, swapped or stock.
        topology
            ``Topology``, ``Molecule`` or list of ``Molecule``.
        box
            Box vectors, ``(3, 3)``, a ``Quantity`` or nm; by default those of the topology.
        positions
            ``(n_atoms, 3)``, a ``Quantity`` or nm; by default the first conformer of each molecule, if all have one.
        charge_from_molecules
            Molecules whose partial charges are taken for isomorphic molecules of the topology.
        partial_bond_orders_from_molecules
            Likewise for fractional bond orders.
        allow_nonintegral_charges
            Accept molecules whose charges do not add up to their formal charge within 0.01 e.

        Raises
        ------
        UnsupportedForceFieldError
            If the force field holds something that cannot be represented.
        UnassignedParameterError, ChargeAssignmentError
            If a term or an atom gets no parameter; the message names the atoms.
        """
        from openff_diffsystem.chemistry.build import Options, assemble
        from openff_diffsystem.chemistry.methods import methods_of_handlers

        theta = ForceFieldParameters.from_force_field(force_field)
        handlers = {handler.TAGNAME: handler for handler in handlers_of(force_field)}
        assembled = assemble(
            handlers,
            theta.layout,
            np.asarray(theta.vector, dtype=float),
            topology,
            Options(charge_from_molecules, partial_bond_orders_from_molecules, allow_nonintegral_charges),
        )
        return cls._from_assembled(
            theta,
            assembled,
            box=getattr(topology, "box_vectors", None) if box is None else box,
            positions=_first_conformers(topology) if positions is None else positions,
            methods=methods_of_handlers(handlers),
            molecules=tuple((s.prepared.molecule.to_smiles(mapped=True), len(s.starts)) for s in assembled.species),
        )

    @classmethod
    def from_interchange(cls, interchange: Any, force_field: Any = None) -> DiffSystem:
        """Take over the assignments of a ready ``Interchange``; no chemistry is done again.

        Parameters
        ----------
        interchange
            An ``Interchange`` made with ``Interchange.from_smirnoff``.
        force_field
            The ``ForceField`` it was made with. With it, theta is all of that force field and can be written back
            to it; without it, theta holds the parameters that the Interchange uses, one row per SMIRKS.

        Raises
        ------
        UnsupportedForceFieldError
            If the Interchange holds something that cannot be represented.
        ParameterMismatchError
            If the force field lacks a parameter that the Interchange uses.
        """
        from openff_diffsystem.chemistry.from_interchange import assemble_interchange
        from openff_diffsystem.chemistry.methods import methods_of_interchange

        layout, values, assembled = assemble_interchange(interchange, force_field)
        return cls._from_assembled(
            ForceFieldParameters(jnp.asarray(values), layout),
            assembled,
            box=interchange.box,
            positions=interchange.positions,
            methods=methods_of_interchange(interchange),
            molecules=tuple((m.to_smiles(mapped=True), 1) for m in interchange.topology.molecules),
        )

    @classmethod
    def _from_assembled(
        cls,
        theta: ForceFieldParameters,
        assembled: Assembled,
        box: Any,
        positions: Any,
        methods: dict[str, dict[str, str]],
        molecules: tuple,
    ) -> DiffSystem:
        order = assembled.particle_order
        layout = SystemLayout(
            {tag: SectionBlocks(*blocks) for tag, blocks in assembled.blocks.items()},
            assembled.settings,
            None if np.array_equal(order, np.arange(len(order))) else StaticArray(order.astype(np.int32)),
        )
        return cls(
            force_field_parameters=theta,
            assignment_map=assembled.assignment,
            system_layout=layout,
            term_indices=assembled.indices,
            term_static=assembled.static,
            excluded_pairs=assembled.excluded,
            pairs_14=assembled.scaled_14,
            n_atoms=assembled.n_atoms,
            n_particles=assembled.n_particles,
            positions=nanometers(positions, "positions", (assembled.n_atoms, 3)),
            box_vectors=_box(box),
            methods=methods,
            molecules=molecules,
        )

    @property
    def parameter_layout(self) -> ParameterLayout:
        """Which number of theta stands where."""
        return self.force_field_parameters.layout

    @property
    def sections(self) -> tuple[str, ...]:
        """The sections that have terms in this system."""
        return tuple(self.system_layout.sections)

    def parameterize(self, theta: Any = None) -> SystemParameters:
        """Apply the assignments: force-field parameters to system parameters.

        Pure, compiled, and differentiable to any order in forward and reverse mode.

        Parameters
        ----------
        theta
            :class:`ForceFieldParameters`, a selection of them, or the flat vector, ``(n_values,)``, MD units.
            By default the force field's own values.

        Raises
        ------
        ParameterMismatchError
            If theta belongs to another force field or has the wrong shape.
        """
        vector = self._vector(theta)
        return SystemParameters(_apply(self._assignment_arrays, vector), self.system_layout)

    def assignment(self, section: str) -> SectionAssignment:
        """The assignment of one section: indices, weights and, on request, the parameter matrix."""
        return SectionAssignment(self.assignment_map, self._section(section), self.parameter_layout.size)

    def indices(self, section: str) -> np.ndarray:
        """Particle indices of the terms of a section, ``(n_terms, n_atoms_per_term)``, int32, C-contiguous."""
        self._section(section)
        return self.term_indices[section]

    def to_jax_potential(self, *, chunk_size: int = 16, add_constrained_forces: bool = False) -> Potential:
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
            ``neighbors`` is a :meth:`neighbor_list`; where jax traces the call, it must be given.

        Raises
        ------
        UnsupportedForceFieldError
            If the system holds interactions that this potential does not cover.
        """
        if self.box_vectors is None:
            self.interactions(add_constrained_forces)
        latest: list[NeighborList] = []

        def potential(positions: Any, theta: Any, box_vectors: Any = None, neighbors: Any = None) -> jax.Array:
            positions = self._positions(positions)
            vector = self._vector(theta)
            box = self._box_vectors(box_vectors)
            if box is None:
                arguments = (self._assignment_arrays, self.interactions(add_constrained_forces), self.system_layout)
                if positions.ndim == 2:
                    return _energy(*arguments, positions, vector)
                return _energies(*arguments, positions, vector, chunk_size)
            neighbors = self._neighbors(positions, vector, box, neighbors, latest)
            return _periodic_energy(
                self._assignment_arrays,
                self.periodic_interactions(add_constrained_forces),
                self.system_layout,
                positions,
                vector,
                box,
                neighbors,
            )

        return potential

    def neighbor_list(
        self,
        positions: Any = None,
        box_vectors: Any = None,
        theta: Any = None,
        *,
        skin: float = 0.1,
        ewald_tolerance: float = 1e-4,
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
            OpenMM's error tolerance, which decides splitting parameter and mesh.
        like
            A list whose mesh, and if possible shape, the new one takes over, so that compiled code can be used again.

        Raises
        ------
        BoxError
            If there is no box, or it is not in reduced form or narrower than twice the cutoff.
        PositionsError
            If a position is NaN or infinite.
        UnsupportedForceFieldError
            If the force field asks for a method that is not covered.
        """
        box = self._box_vectors(box_vectors)
        if box is None:
            raise BoxError("the system has no box; pass box_vectors")
        vector = self._vector(theta)
        scheme = cutoff_scheme(self, vector, np.asarray(box), ewald_tolerance) if like is None else like.scheme
        particles = self._complete(self._positions(positions), vector)
        return build_neighbor_list(
            np.asarray(particles),
            np.asarray(box),
            not_interacting(self),
            scheme,
            skin,
            None if like is None else len(like.row_block),
        )

    def energy_terms(
        self,
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
        positions, vector, box = self._positions(positions), self._vector(theta), self._box_vectors(box_vectors)
        if box is None:
            interactions = self.interactions(add_constrained_forces)
            return _section_energies(self._assignment_arrays, interactions, self.system_layout, positions, vector)
        return _periodic_section_energies(
            self._assignment_arrays,
            self.periodic_interactions(add_constrained_forces),
            self.system_layout,
            positions,
            vector,
            box,
            self._neighbors(positions, vector, box, neighbors, []),
        )

    def evaluate_frames(
        self,
        frames: Any,
        theta: Any = None,
        box_vectors: Any = None,
        *,
        gradients: bool = False,
        chunk_size: int = 4,
        skin: float = 0.1,
        progress: bool = False,
    ) -> FrameEnergies:
        """Energies, and dU/dtheta if asked for, of many configurations; see :func:`frames.evaluate_frames`."""
        from openff_diffsystem.frames import evaluate_frames

        return evaluate_frames(
            self, frames, theta, box_vectors, gradients=gradients, chunk_size=chunk_size, skin=skin, progress=progress
        )

    def particle_positions(self, positions: Any = None, theta: Any = None) -> jax.Array:
        """Positions of all particles, ``(n_particles, 3)``, nm: atoms as given, virtual sites in their frames."""
        return self._complete(self._positions(positions), self._vector(theta))

    def interactions(self, add_constrained_forces: bool = False) -> Interactions:
        """The integer arrays of the energy of isolated molecules, on the device.

        Raises
        ------
        UnsupportedForceFieldError
            If the force field has a section that contributes energy and is not covered in vacuum.
        """
        return self._cached(False, isolated_interactions, add_constrained_forces)

    def periodic_interactions(self, add_constrained_forces: bool = False) -> PeriodicInteractions:
        """The integer arrays of the energy of a periodic system, on the device."""
        return self._cached(True, periodic_interactions, add_constrained_forces)

    def _cached(self, periodic: bool, build: Callable, add_constrained_forces: bool) -> Any:
        key = (periodic, add_constrained_forces)
        if key not in self._interactions:
            host = build(self, add_constrained_forces)
            # concrete also when first needed inside a trace, so that what is cached is never a tracer
            with jax.ensure_compile_time_eval():
                self._interactions[key] = jax.tree.map(jnp.asarray, host)
        return self._interactions[key]

    @staticmethod
    def concatenate(systems: Sequence[DiffSystem], *, add_constrained_forces: bool = False) -> SystemBatch:
        """Many systems of one force field as one object whose energies compile a handful of programs.

        Raises
        ------
        ParameterMismatchError
            If the systems were made with different force fields.
        """
        from openff_diffsystem.batch import SystemBatch

        return SystemBatch.from_systems(systems, add_constrained_forces=add_constrained_forces)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the system as a NumPy archive (no pickle). The file appears whole or not at all."""
        from openff_diffsystem.storage import save_system

        save_system(self, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> DiffSystem:
        """Read a system written by :meth:`save`.

        Raises
        ------
        CorruptFileError
            If the file is damaged or was not written by this package.
        """
        from openff_diffsystem.storage import load_system

        return load_system(path)

    @cached_property
    def _assignment_arrays(self) -> tuple[jax.Array, ...]:
        a = self.assignment_map
        with jax.ensure_compile_time_eval():
            return tuple(
                jnp.asarray(array)
                for array in (a.source, a.weight, a.offset, a.further_row, a.further_source, a.further_weight)
            )

    def _section(self, section: str) -> SectionBlocks:
        if section not in self.system_layout.sections:
            raise ParameterMismatchError(f"no section {section!r} in this system; there are {', '.join(self.sections)}")
        return self.system_layout.sections[section]

    def _vector(self, theta: Any) -> jax.Array:
        return as_vector(self.force_field_parameters if theta is None else theta, self.parameter_layout)

    def _positions(self, positions: Any) -> Any:
        if positions is None:
            if self.positions is None:
                raise PositionsError("the system holds no positions; pass some")
            positions = self.positions
        if not isinstance(positions, jax.Array):
            ndim = np.ndim(getattr(positions, "_value", positions))
            positions = jnp.asarray(nanometers(positions, "positions", (None,) * (ndim - 2) + (None, 3)))
        if positions.ndim not in (2, 3) or positions.shape[-2:] not in (
            (self.n_atoms, 3),
            (self.n_particles, 3),
        ):
            raise PositionsError(
                f"positions must have shape ({self.n_atoms}, 3) or ({self.n_particles}, 3), "
                f"or a stack of those, got {positions.shape}"
            )
        return positions

    def _box_vectors(self, box_vectors: Any) -> jax.Array | None:
        if isinstance(box_vectors, jax.Array):
            if box_vectors.shape != (3, 3):
                raise BoxError(f"box vectors must have shape (3, 3), got {box_vectors.shape}")
            return box_vectors
        box = self.box_vectors if box_vectors is None else _box(box_vectors)
        return None if box is None else jnp.asarray(box)

    def _complete(self, positions: jax.Array, vector: jax.Array) -> jax.Array:
        local = self.periodic_interactions().local
        return _complete(self._assignment_arrays, local, self.system_layout, positions, vector)

    def _neighbors(
        self, positions: jax.Array, vector: jax.Array, box: jax.Array, given: Any, latest: list[NeighborList]
    ) -> NeighborList:
        """A list that serves this configuration: the one given, the last one if it still does, or a new one."""
        if positions.ndim != 2:
            raise PositionsError(f"a periodic system takes one configuration at a time, got shape {positions.shape}")
        if any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves((positions, vector, box, given))):
            if given is None:
                raise UnsupportedInputError(
                    "inside jax.jit, jax.grad and the like the potential of a periodic system needs a neighbour list: "
                    "pass neighbors=system.neighbor_list(positions, box_vectors)"
                )
            return given
        particles = self._complete(positions, vector)
        for neighbors in [given] if given is not None else latest:
            used, skin = float(neighbors.reach_used(particles, box)), float(neighbors.skin)
            if used <= skin:
                return neighbors
            if given is not None:
                raise StaleNeighborListError(
                    f"particles and box moved by {used:.3g} nm since the neighbour list was built, its skin is "
                    f"{skin:.3g} nm; build a new one with system.neighbor_list"
                )
        latest[:] = [self.neighbor_list(positions, box, vector, like=latest[0] if latest else None)]
        return latest[0]

    def __repr__(self) -> str:
        n_molecules = sum(copies for _, copies in self.molecules)
        return f"DiffSystem({n_molecules} molecules, {self.n_particles} particles, {self.system_layout!r})"


def _apply_arrays(arrays: tuple[jax.Array, ...], theta: jax.Array) -> jax.Array:
    return Assignment(*arrays)(theta)  # type: ignore[arg-type]


_apply = jax.jit(_apply_arrays)


def _parameters(arrays: tuple[jax.Array, ...], layout: SystemLayout, theta: jax.Array) -> SystemParameters:
    return SystemParameters(_apply_arrays(arrays, theta), layout)


@partial(jax.jit, static_argnames="layout")
def _energy(
    arrays: tuple, interactions: Interactions, layout: SystemLayout, positions: jax.Array, theta: jax.Array
) -> jax.Array:
    return total_energy(interactions, positions, _parameters(arrays, layout, theta))


@partial(jax.jit, static_argnames="layout")
def _complete(
    arrays: tuple, interactions: Interactions, layout: SystemLayout, positions: jax.Array, theta: jax.Array
) -> jax.Array:
    return complete_positions(interactions, positions, _parameters(arrays, layout, theta))


@partial(jax.jit, static_argnames="layout")
def _periodic_energy(
    arrays: tuple,
    interactions: PeriodicInteractions,
    layout: SystemLayout,
    positions: jax.Array,
    theta: jax.Array,
    box_vectors: jax.Array,
    neighbors: NeighborList,
) -> jax.Array:
    return periodic_energy(interactions, positions, _parameters(arrays, layout, theta), box_vectors, neighbors)


@partial(jax.jit, static_argnames="layout")
def _periodic_section_energies(
    arrays: tuple,
    interactions: PeriodicInteractions,
    layout: SystemLayout,
    positions: jax.Array,
    theta: jax.Array,
    box_vectors: jax.Array,
    neighbors: NeighborList,
) -> dict[str, jax.Array]:
    return periodic_term_energies(interactions, positions, _parameters(arrays, layout, theta), box_vectors, neighbors)


@partial(jax.jit, static_argnames=("layout", "chunk_size"))
def _energies(
    arrays: tuple,
    interactions: Interactions,
    layout: SystemLayout,
    positions: jax.Array,
    theta: jax.Array,
    chunk_size: int,
) -> jax.Array:
    parameters = _parameters(arrays, layout, theta)
    return jax.lax.map(
        lambda one: total_energy(interactions, one, parameters),
        positions,
        batch_size=min(chunk_size, positions.shape[0]) or None,
    )


@partial(jax.jit, static_argnames="layout")
def _section_energies(
    arrays: tuple, interactions: Interactions, layout: SystemLayout, positions: jax.Array, theta: jax.Array
) -> dict[str, jax.Array]:
    terms = term_energies(interactions, positions, _parameters(arrays, layout, theta))
    return {section: jnp.sum(energies) for section, energies in terms.items()}


def _first_conformers(topology: Any) -> np.ndarray | None:
    molecules = getattr(topology, "molecules", topology if isinstance(topology, list | tuple) else [topology])
    conformers = [m.conformers for m in molecules]
    if not all(conformers):
        return None
    return np.concatenate([c[0].m_as("nanometer") for c in conformers])


def _box(box: Any) -> np.ndarray | None:
    array = nanometers(box, "box vectors", (3, 3) if np.ndim(getattr(box, "m", box)) == 2 else (3,))
    return np.diag(array) if array is not None and array.ndim == 1 else array
