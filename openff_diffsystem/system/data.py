"""The data of a system: its arrays, and the map from theta to its parameters."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from openff_diffsystem._jax.fork import note_use_of_jax, require_own_process
from openff_diffsystem._jax.types import HostOrDevice, Leaf
from openff_diffsystem.chemistry.origin import Origin
from openff_diffsystem.exceptions import ParameterMismatchError, PositionsError
from openff_diffsystem.forms.form import Form
from openff_diffsystem.forms.registry import form_of, required_forms
from openff_diffsystem.parameters.assignment import Assignment
from openff_diffsystem.parameters.force_field import ForceFieldParameters, as_vector
from openff_diffsystem.parameters.layout import ParameterLayout
from openff_diffsystem.parameters.system import SectionAssignment, SectionBlocks, SystemLayout, SystemParameters
from openff_diffsystem.potentials.periodic.scheme import EngineOptions


@dataclass(eq=False)
class SystemData:
    """A force field applied to a topology: indices and weights, and the methods that need nothing else.

    Functions of other modules take it as their first argument; :class:`~openff_diffsystem.DiffSystem` has them as
    methods.

    Attributes
    ----------
    force_field_parameters
        The numbers of the force field when the system was made: the default theta of the methods below.
    assignment_map
        The map from theta to the values of the system's unique molecules.
    system_layout
        What each of these values is.
    term_indices, term_static
        By section: particle indices ``(n_terms, n_atoms_per_term)``, int32; and by name further integers,
        ``(n_terms,)``, for example periodicities.
    excluded_pairs, pairs_14
        ``(n, 2)``, int32: pairs that do not interact, and pairs that interact with the 1-4 scales.
    n_atoms, n_particles
        Particles are the atoms, in topology order, and then the virtual sites.
    positions
        ``(n_atoms, 3)``, nm, if the topology or the caller gave any.
    box_vectors
        ``(3, 3)``, nm, if the topology or the caller gave any.
    methods
        By section and attribute, the functional forms that the force field names, for example
        ``methods["vdW"]["periodic_method"]``.
    forms
        By section, the functional forms of sections that are not SMIRNOFF's, as registered when the system was made.
    molecules
        Mapped SMILES and number of copies of each unique molecule.
    masses
        ``(n_atoms,)``, dalton.
    engine_options
        Settings that OpenMM needs and that a SMIRNOFF force field does not specify.
    openmm_particles
        ``(n_particles,)``: index of each particle in the OpenMM System that this system was read from, if virtual
        sites are between the atoms there; ``None`` otherwise.
    origin
        What the system was made from, for ``DiffSystem.to_interchange``; not saved.
    """

    force_field_parameters: ForceFieldParameters
    assignment_map: Assignment
    system_layout: SystemLayout
    term_indices: dict[str, Int[np.ndarray, "_terms _atoms"]]
    term_static: dict[str, dict[str, Int[np.ndarray, " _terms"]]]
    excluded_pairs: Int[np.ndarray, "excluded 2"]
    pairs_14: Int[np.ndarray, "scaled 2"]
    n_atoms: int
    n_particles: int
    positions: Float[np.ndarray, "atoms 3"] | None = None
    box_vectors: Float[np.ndarray, "3 3"] | None = None
    methods: dict[str, dict[str, str]] = field(default_factory=dict)
    forms: dict[str, Form] = field(default_factory=dict)
    molecules: tuple[tuple[str, int], ...] = ()
    masses: Float[np.ndarray, " atoms"] | None = None
    engine_options: EngineOptions = field(default_factory=EngineOptions)
    openmm_particles: Int[np.ndarray, " particles"] | None = None
    origin: Origin | None = field(default=None, repr=False)
    energy_models: dict[tuple[bool, bool], Any] = field(default_factory=dict, init=False, repr=False)
    """What :func:`~openff_diffsystem.system.model.energy_model` has made, by its arguments ``periodic`` and
    ``add_constrained_forces``: a system's arrays are brought to the device once. Not saved, pickled or copied."""

    def __post_init__(self) -> None:
        note_use_of_jax()

    @property
    def parameter_layout(self) -> ParameterLayout:
        """What each number of theta is."""
        return self.force_field_parameters.layout

    @property
    def sections(self) -> tuple[str, ...]:
        """The sections that have terms in this system."""
        return tuple(self.system_layout.sections)

    @property
    def n_positions(self) -> int:
        """How many positions may be given, if not ``n_atoms``: all particles, unless OpenMM orders them differently."""
        return self.n_particles if self.openmm_particles is None else self.n_atoms

    def parameterize(self, theta: object = None) -> SystemParameters:
        """Apply the assignments: force-field parameters to system parameters.

        Pure, compiled, and differentiable to any order in forward and reverse mode.

        Parameters
        ----------
        theta
            :class:`ForceFieldParameters`, a selection of them, or the flat vector, ``(n_values,)``, MD units.
            By default :attr:`force_field_parameters`. System parameters are returned as they are.

        Raises
        ------
        ParameterMismatchError
            If theta belongs to another force field or has the wrong shape.
        """
        given = self.as_theta(theta)
        if isinstance(given, SystemParameters):
            return given
        require_own_process()
        return SystemParameters(_apply(self.device_assignment, given), self.system_layout)

    def assignment(self, section: str) -> SectionAssignment:
        """The assignment of one section: indices, weights and, on request, the parameter matrix."""
        return SectionAssignment(self.assignment_map, self._section(section), self.parameter_layout.size)

    def indices(self, section: str) -> Int[np.ndarray, "terms atoms"]:
        """Particle indices of the terms of a section, ``(n_terms, n_atoms_per_term)``, int32, C-contiguous."""
        self._section(section)
        return self.term_indices[section]

    def constraints(
        self, theta: object = None
    ) -> tuple[Int[np.ndarray, "constraints 2"], Float[HostOrDevice, " constraints"]]:
        """Distances to keep fixed in a simulation: pairs of atoms, ``(n, 2)``, int32, and distances, ``(n,)``, nm.

        The distances are differentiable in theta. If the force field does not give one, it is the length of the bond.
        """
        if "Constraints" not in self.system_layout.sections:
            return np.empty((0, 2), dtype=np.int32), jnp.empty(0)
        return self.term_indices["Constraints"], self.parameterize(theta)["Constraints"][:, 0]

    def as_theta(self, theta: object) -> Leaf | SystemParameters:
        """Theta as compiled functions take it: the flat vector, or :class:`SystemParameters` as they are.

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

    def own_positions(self, positions: object = None) -> object:
        """The positions given, or the system's own.

        Raises
        ------
        PositionsError
            If there are none.
        """
        if positions is None and self.positions is None:
            raise PositionsError("the system holds no positions; pass some")
        return self.positions if positions is None else positions

    @cached_property
    def device_assignment(self) -> Assignment:
        """The assignment map with its arrays on the device, moved there at the first use; not saved or pickled."""
        with jax.ensure_compile_time_eval():
            return jax.tree.map(jnp.asarray, self.assignment_map)

    def _section(self, section: str) -> SectionBlocks:
        if section not in self.system_layout.sections:
            raise ParameterMismatchError(f"no section {section!r} in this system; there are {', '.join(self.sections)}")
        return self.system_layout.sections[section]

    def __getstate__(self) -> dict[str, Any]:
        """Nothing that is cached, and registered forms by name: pickle could not import functions of a notebook."""
        state = {k: v for k, v in self.__dict__.items() if k != "device_assignment"}
        forms = {section: None if form_of(section) == form else form for section, form in self.forms.items()}
        return state | {"energy_models": {}, "forms": forms}

    def __setstate__(self, state: dict[str, Any]) -> None:
        forms = state["forms"]
        found = required_forms(section for section, form in forms.items() if form is None)
        self.__dict__.update(state | {"forms": {section: form or found[section] for section, form in forms.items()}})
        note_use_of_jax()

    def __repr__(self) -> str:
        molecules = f"{sum(copies for _, copies in self.molecules)} molecules, " if self.molecules else ""
        return f"{type(self).__name__}({molecules}{self.n_particles} particles, {self.system_layout!r})"


@jax.jit
def _apply(assignment: Assignment, theta: Float[Array, " parameters"]) -> Float[Array, " values"]:
    return assignment(theta)


System = TypeVar("System", bound=SystemData)
"""The class that a constructor is called on, and makes."""
