"""DiffSystem: a force field applied to a topology, ready for derivatives."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from openff_diffsystem import compiled
from openff_diffsystem.assignment import Assignment
from openff_diffsystem.compiled import Model
from openff_diffsystem.configuration import as_box_vectors, as_positions
from openff_diffsystem.construction import from_interchange, from_smirnoff
from openff_diffsystem.cutoffs import EngineOptions, cutoff_scheme
from openff_diffsystem.exceptions import BoxError, ParameterMismatchError, PositionsError
from openff_diffsystem.forms import Form
from openff_diffsystem.frames import evaluate_frames
from openff_diffsystem.interactions import isolated_interactions, not_interacting, periodic_interactions
from openff_diffsystem.interop.interchange import to_interchange
from openff_diffsystem.interop.openmm import from_openmm, to_openmm, update_openmm
from openff_diffsystem.interop.vjp import energy_vjp, vjp
from openff_diffsystem.layout import ParameterLayout
from openff_diffsystem.neighbors import NeighborList, build_neighbor_list
from openff_diffsystem.parameters import ForceFieldParameters, SelectedParameters, as_vector
from openff_diffsystem.potential import Potential
from openff_diffsystem.processes import note_use_of_jax, require_own_process
from openff_diffsystem.section_assignment import SectionAssignment
from openff_diffsystem.stored_forms import forms_of
from openff_diffsystem.system_parameters import SectionBlocks, SystemLayout, SystemParameters

if TYPE_CHECKING:
    from openff_diffsystem.batch import SystemBatch
    from openff_diffsystem.chemistry.origin import Origin
    from openff_diffsystem.interop.torch import TorchPotential


@dataclass(eq=False)
class DiffSystem:
    """A force field applied to a topology: indices and weights, once, and pure functions of arrays from then on.

    Make one with :meth:`from_smirnoff`, :meth:`from_interchange` or :meth:`from_openmm`.

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
    masses
        ``(n_atoms,)``, dalton.
    engine_options
        What OpenMM has to be told and no force field says.
    openmm_particles
        ``(n_particles,)``: index of each particle in the OpenMM System that this system was made from, where
        virtual sites stand between the atoms there; ``None`` otherwise.
    origin
        What the system was made from, for :meth:`to_interchange`; not saved.
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
    masses: np.ndarray | None = None
    engine_options: EngineOptions = field(default_factory=EngineOptions)
    openmm_particles: np.ndarray | None = None
    origin: Origin | None = field(default=None, repr=False)
    _models: dict[tuple[bool, bool, tuple[Form, ...]], Model] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        note_use_of_jax()

    from_smirnoff = classmethod(from_smirnoff)
    from_interchange = classmethod(from_interchange)
    from_openmm = classmethod(from_openmm)

    @property
    def parameter_layout(self) -> ParameterLayout:
        """Which number of theta stands where."""
        return self.force_field_parameters.layout

    @property
    def sections(self) -> tuple[str, ...]:
        """The sections that have terms in this system."""
        return tuple(self.system_layout.sections)

    @property
    def n_positions(self) -> int:
        """How many positions may be given besides ``n_atoms``: all particles, unless OpenMM numbers them otherwise."""
        return self.n_particles if self.openmm_particles is None else self.n_atoms

    def parameterize(self, theta: Any = None) -> SystemParameters:
        """Apply the assignments: force-field parameters to system parameters.

        Pure, compiled, and differentiable to any order in forward and reverse mode.

        Parameters
        ----------
        theta
            :class:`ForceFieldParameters`, a selection of them, or the flat vector, ``(n_values,)``, MD units.
            By default the force field's own values. System parameters are returned as they are.

        Raises
        ------
        ParameterMismatchError
            If theta belongs to another force field or has the wrong shape.
        """
        given = self.as_theta(theta)
        if isinstance(given, SystemParameters):
            return given
        require_own_process()
        return SystemParameters(compiled.apply_assignment(self._assignment_arrays, given), self.system_layout)

    def assignment(self, section: str) -> SectionAssignment:
        """The assignment of one section: indices, weights and, on request, the parameter matrix."""
        return SectionAssignment(self.assignment_map, self._section(section), self.parameter_layout.size)

    def indices(self, section: str) -> np.ndarray:
        """Particle indices of the terms of a section, ``(n_terms, n_atoms_per_term)``, int32, C-contiguous."""
        self._section(section)
        return self.term_indices[section]

    def constraints(self, theta: Any = None) -> tuple[np.ndarray, jax.Array]:
        """What an integrator has to keep fixed: pairs of atoms, ``(n, 2)``, int32, and their distances, ``(n,)``, nm.

        The distances are differentiable in theta: where the force field gives none, they are lengths of bonds.
        """
        if "Constraints" not in self.system_layout.sections:
            return np.empty((0, 2), dtype=np.int32), jnp.empty(0)
        return self.term_indices["Constraints"], self.parameterize(theta)["Constraints"][:, 0]

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
        if self.box_vectors is None:
            self.model(False, add_constrained_forces)
        return Potential(self, chunk_size, add_constrained_forces)

    def to_torch_potential(
        self,
        *,
        trainable: ForceFieldParameters | SelectedParameters | None = None,
        chunk_size: int = 16,
        add_constrained_forces: bool = False,
    ) -> TorchPotential:
        """The potential energy as a function, and a module, for PyTorch.

        Parameters
        ----------
        trainable
            Make these values a parameter of the module, ``theta``, at which the energy is evaluated by default.
        chunk_size, add_constrained_forces
            As for :meth:`to_jax_potential`.

        Returns
        -------
        TorchPotential
            ``potential(positions, theta=None, box_vectors=None, neighbors=None, parameters=None)``, kJ/mol,
            differentiable to any order with ``torch.autograd`` and ``torch.func``.

        Raises
        ------
        MissingStackError
            If PyTorch is not installed.
        ParameterMismatchError
            If ``trainable`` belongs to another force field.
        UnsupportedForceFieldError
            If the system holds interactions that this potential does not cover.
        """
        from openff_diffsystem.interop.torch import TorchPotential

        return TorchPotential(
            self, trainable=trainable, chunk_size=chunk_size, add_constrained_forces=add_constrained_forces
        )

    def neighbor_list(
        self,
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
        box = as_box_vectors(self.box_vectors if box_vectors is None else box_vectors)
        if box is None:
            raise BoxError("the system has no box; pass box_vectors")
        tolerance = self.engine_options.ewald_tolerance if ewald_tolerance is None else ewald_tolerance
        scheme = cutoff_scheme(self, theta, np.asarray(box), tolerance) if like is None else like.scheme
        return build_neighbor_list(
            np.asarray(self.particle_positions(positions, theta)),
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
        potential = Potential(self, 1, add_constrained_forces)
        return potential.by_section(self._own(positions), self.as_theta(theta), box_vectors, neighbors)

    vjp = vjp
    energy_vjp = energy_vjp
    evaluate_frames = evaluate_frames
    to_openmm = to_openmm
    update_openmm = update_openmm
    to_interchange = to_interchange

    def particle_positions(self, positions: Any = None, theta: Any = None) -> jax.Array:
        """Positions of all particles, ``(n_particles, 3)``, nm: atoms as given, virtual sites in their frames."""
        given = as_positions(self._own(positions), self.n_atoms, self.n_positions)
        return compiled.complete(self.model(True), given, self.as_theta(theta))

    def model(self, periodic: bool, add_constrained_forces: bool = False) -> Model:
        """Assignment and integer arrays on the device: what compiled energy functions take besides theta.

        Raises
        ------
        UnsupportedForceFieldError
            If isolated molecules are asked for and the force field has a method that is not covered there.
        UnregisteredFormError
            If a section's functional form is not registered in this process.
        ForkedProcessError
            In a process that was forked from one in which a system was made or read.
        """
        require_own_process()
        key = (periodic, add_constrained_forces, forms_of(self))
        if key not in self._models:
            build = periodic_interactions if periodic else isolated_interactions
            host = build(self, add_constrained_forces)
            # concrete also when first needed inside a trace, so that what is cached is never a tracer
            with jax.ensure_compile_time_eval():
                self._models[key] = Model(self._assignment_arrays, jax.tree.map(jnp.asarray, host), self.system_layout)
        return self._models[key]

    @staticmethod
    def concatenate(systems: Sequence[DiffSystem], *, add_constrained_forces: bool = False) -> SystemBatch:
        """Many systems of isolated molecules and one force field as one object whose energies compile few programs.

        Raises
        ------
        ParameterMismatchError
            If the systems were made with different force fields, or hold different numbers of one.
        UnsupportedInputError
            If there are none, one has a box, or one was read from OpenMM with custom forces or correction maps.
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
        UnregisteredFormError
            If the system has a section of a form that is not registered in this process.
        """
        from openff_diffsystem.storage import load_system

        return load_system(path)

    @cached_property
    def assignment_model(self) -> Model:
        """The assignment on the device, without interactions: what compiled functions of theta alone take."""
        return Model(self._assignment_arrays, None, self.system_layout)

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

    def as_theta(self, theta: Any) -> jax.Array | SystemParameters:
        """What compiled functions take for theta: the flat vector, or :class:`SystemParameters` as they are.

        Raises
        ------
        ParameterMismatchError
            If theta belongs to another force field or system, or has the wrong shape.
        """
        if not isinstance(theta, SystemParameters):
            return as_vector(self.force_field_parameters if theta is None else theta, self.parameter_layout)
        if theta.layout != self.system_layout:
            raise ParameterMismatchError(f"these are parameters of another system: {theta.layout!r}")
        if theta.values.shape != (theta.layout.size,):
            raise ParameterMismatchError(f"values must have shape ({theta.layout.size},), got {theta.values.shape}")
        return theta

    def _own(self, positions: Any) -> Any:
        if positions is None and self.positions is None:
            raise PositionsError("the system holds no positions; pass some")
        return self.positions if positions is None else positions

    def __getstate__(self) -> dict[str, Any]:
        """Without what is cached: arrays on a device, in the precision that jax is set to in this process."""
        cached = {"assignment_model", "_assignment_arrays"}
        return {k: v for k, v in self.__dict__.items() if k not in cached} | {"_models": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        note_use_of_jax()

    def __repr__(self) -> str:
        molecules = f"{sum(copies for _, copies in self.molecules)} molecules, " if self.molecules else ""
        return f"DiffSystem({molecules}{self.n_particles} particles, {self.system_layout!r})"
