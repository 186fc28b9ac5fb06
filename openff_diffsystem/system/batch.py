"""Many molecules at once: a data set compiles one program per size class, not one per molecule.

Systems are sorted into size classes. Within a class their arrays are padded to equal shapes, and one compiled loop
runs over *rows*: a row is a system with up to ``conformers_per_row`` of its conformers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from openff_diffsystem._jax.fork import require_own_process
from openff_diffsystem._jax.static import STATIC, StaticArray
from openff_diffsystem._jax.types import AnyArray, Leaf
from openff_diffsystem.exceptions import InvalidInputError, ParameterMismatchError, PositionsError
from openff_diffsystem.parameters.force_field import ForceFieldParameters, as_vector
from openff_diffsystem.parameters.layout import ParameterLayout
from openff_diffsystem.parameters.system import SystemLayout, SystemParameters
from openff_diffsystem.potentials.nbfix import SECTION as NBFIX
from openff_diffsystem.system.arguments import n_axes
from openff_diffsystem.system.data import SystemData
from openff_diffsystem.system.forms import openmm_energies
from openff_diffsystem.system.size_classes import SizeClass, class_energies, size_class_of, stack
from openff_diffsystem.units import nanometers


@jax.tree_util.register_dataclass
@dataclass
class PackedPositions:
    """Conformers of a batch, in rows per size class. Make it once with :meth:`SystemBatch.pack`.

    Attributes
    ----------
    positions
        For each size class ``(n_rows, conformers_per_row, n_atoms, 3)``, nm.
    systems
        For each size class the system of each row, ``(n_rows,)``. Static.
    order
        Position of each conformer in the concatenated rows, ``(n_total,)``. Static.
    n_conformers
        Number of conformers of each system. Static.
    """

    positions: tuple[Leaf, ...]
    systems: tuple[StaticArray, ...] = field(metadata=STATIC)
    order: StaticArray = field(metadata=STATIC)
    n_conformers: tuple[int, ...] = field(metadata=STATIC)


class SystemBatch:
    """Many systems of one force field. Make one with :meth:`DiffSystem.concatenate`.

    Attributes
    ----------
    force_field_parameters
        The numbers of the force field, which all systems share.
    n_atoms
        Number of atoms of each system.
    """

    def __init__(
        self,
        classes: tuple[SizeClass, ...],
        place: Int[np.ndarray, "systems 2"],
        n_atoms: tuple[int, ...],
        force_field_parameters: ForceFieldParameters,
        layouts: tuple[SystemLayout, ...],
    ) -> None:
        self._layouts = layouts
        self._classes = classes
        self._place = place
        self.n_atoms = n_atoms
        self.force_field_parameters = force_field_parameters

    @classmethod
    def from_systems(cls, systems: Sequence[SystemData], *, add_constrained_forces: bool = False) -> SystemBatch:
        """Sort systems into size classes and stack them.

        Raises
        ------
        ParameterMismatchError
            If the systems were made with different force fields, or with different values of the same parameters.
        InvalidInputError
            If the list is empty; if a system has a box; or if one was read from OpenMM with custom forces, correction
            maps or NBFIX: the expression of a custom force may be infinite for padding.
        """
        if not systems:
            raise InvalidInputError("there is no system to concatenate")
        first = systems[0]
        for i, system in enumerate(systems):
            if system.parameter_layout != first.parameter_layout or system.sections != first.sections:
                raise ParameterMismatchError(f"system {i} was made with another force field than system 0")
            if not np.array_equal(system.force_field_parameters.vector, first.force_field_parameters.vector):
                raise ParameterMismatchError(
                    f"system {i} holds other numbers of the force field than system 0; a batch has one theta"
                )
            if system.box_vectors is not None:
                raise InvalidInputError(
                    f"system {i} has a box, and a batch evaluates isolated molecules: make it from a topology without"
                )
            if held := [*openmm_energies(system), *({NBFIX} & {*system.sections})]:
                raise InvalidInputError(
                    f"system {i} holds {', '.join(held)}: systems read from OpenMM with correction maps, custom forces "
                    "or NBFIX are evaluated one by one"
                )
        sizes = np.array([size_class_of(system.n_particles) for system in systems])
        place = np.empty((len(systems), 2), dtype=np.int64)
        classes = []
        for number, size in enumerate(np.unique(sizes)):
            members = np.flatnonzero(sizes == size)
            place[members] = np.stack([np.full(len(members), number), np.arange(len(members))], axis=1)
            classes.append(stack([systems[i] for i in members.tolist()], add_constrained_forces))
        n_atoms, layouts = zip(*((system.n_atoms, system.system_layout) for system in systems), strict=True)
        return cls(tuple(classes), place, n_atoms, first.force_field_parameters, layouts)

    @property
    def parameter_layout(self) -> ParameterLayout:
        """What each number of theta is."""
        return self.force_field_parameters.layout

    @property
    def n_programs(self) -> int:
        """Number of programs that an energy compiles: one per size class."""
        return len(self._classes)

    def __len__(self) -> int:
        return len(self.n_atoms)

    def pack(self, positions: Sequence[object], *, conformers_per_row: int = 8) -> PackedPositions:
        """Arrange conformers for evaluation. Differentiable with respect to jax arrays.

        Parameters
        ----------
        positions
            For each system ``(n_conformers, n_atoms, 3)`` or ``(n_atoms, 3)``, nm or a ``Quantity``. Systems may have
            different numbers of conformers.
        conformers_per_row
            How many conformers of one system are evaluated at once. Rows are padded, so choose a number that divides
            most numbers of conformers.

        Raises
        ------
        PositionsError
            If a shape does not fit its system; the message names the system.
        """
        if len(positions) != len(self):
            raise PositionsError(f"positions for {len(positions)} systems, the batch has {len(self)}")
        conformers = [self._conformers(i, one) for i, one in enumerate(positions)]
        counts = [len(one) for one in conformers]
        packed, row_systems, found = [], [], []
        for number, size_class in enumerate(self._classes):
            members = np.flatnonzero(self._place[:, 0] == number)
            padded, owners = [], []
            for i in members.tolist():
                n_rows = -(-counts[i] // conformers_per_row)
                fill = n_rows * conformers_per_row - counts[i]
                widths = ((0, fill), (0, size_class.n_atoms - self.n_atoms[i]), (0, 0))
                # padding repeats a real geometry: with an invented one energies could overflow
                array = jnp if isinstance(conformers[i], jax.Array) else np
                rows = array.concatenate([conformers[i], array.repeat(conformers[i][:1], fill, axis=0)])
                padded.append(array.pad(rows, ((0, 0), *widths[1:])))
                owners += [self._place[i, 1]] * n_rows
                found += [(i, c) for c in range(counts[i])] + [(len(self), 0)] * fill
            array = jnp if any(isinstance(one, jax.Array) for one in padded) else np
            rows = array.concatenate(padded)
            packed.append(jnp.asarray(rows.reshape(-1, conformers_per_row, *rows.shape[1:])))
            row_systems.append(StaticArray(np.array(owners, dtype=np.int32)))
        starts = np.cumsum([0, *counts])
        order = np.empty(starts[-1], dtype=np.int32)
        for position, (owner, c) in enumerate(found):
            if owner < len(self):
                order[starts[owner] + c] = position
        return PackedPositions(tuple(packed), tuple(row_systems), StaticArray(order), tuple(counts))

    def potential(self, positions: PackedPositions | Sequence[object], theta: object = None) -> Float[Array, " total"]:
        """Energies of all conformers of all systems, ``(n_total,)``, kJ/mol, in the order of the systems.

        Differentiable with respect to positions and theta. Gradients evaluate each row again instead of storing what
        they need, so that memory is bounded by one row.

        Parameters
        ----------
        positions
            What :meth:`pack` returned, or what it takes.
        theta
            :class:`ForceFieldParameters`, a selection, or the flat vector; by default the force field's own. Or a
            list of :class:`SystemParameters`, one per system.

        Raises
        ------
        ParameterMismatchError
            If theta belongs to another force field, or system parameters belong to other systems.
        """
        require_own_process()
        if not isinstance(positions, PackedPositions):
            positions = self.pack(positions)
        given = self._of_classes(theta)
        energies = [
            class_energies(size_class, rows, jnp.asarray(systems.array), one).ravel()
            for size_class, rows, systems, one in zip(
                self._classes, positions.positions, positions.systems, given, strict=True
            )
        ]
        return jnp.concatenate(energies)[positions.order.array]

    def split(
        self, energies: Float[AnyArray, " total"], positions: PackedPositions
    ) -> list[Float[Array, " _conformers"]]:
        """The energies of :meth:`potential` by system, ``(n_conformers,)`` each."""
        return jnp.split(energies, np.cumsum(positions.n_conformers)[:-1])

    def _of_classes(self, theta: object) -> list[Float[Array, " parameters"]] | list[Float[Array, "_systems _values"]]:
        """For each size class the flat vector, or the padded values of its systems, ``(n_systems, n_values)``."""
        if not (isinstance(theta, list | tuple) and any(isinstance(one, SystemParameters) for one in theta)):
            vector = as_vector(self.force_field_parameters if theta is None else theta, self.parameter_layout)
            return [vector] * len(self._classes)
        if len(theta) != len(self):
            raise ParameterMismatchError(f"parameters of {len(theta)} systems, the batch has {len(self)}")
        for i, (one, layout) in enumerate(zip(theta, self._layouts, strict=True)):
            if not isinstance(one, SystemParameters) or one.layout != layout:
                raise ParameterMismatchError(f"entry {i} holds no parameters of system {i}: {one!r}")
        found = []
        for number, size_class in enumerate(self._classes):
            values = [theta[i].values for i in np.flatnonzero(self._place[:, 0] == number).tolist()]
            longest = max(len(one) for one in values)
            padded = jnp.stack([jnp.pad(one, (0, longest - len(one))) for one in values])
            fillers = size_class.assignment.offset.astype(padded.dtype)
            repeated = jnp.take_along_axis(padded, jnp.maximum(size_class.origin, 0), axis=1)
            found.append(jnp.where(size_class.origin >= 0, repeated, fillers))
        return found

    def _conformers(self, i: int, positions: object) -> Float[AnyArray, "conformers atoms 3"]:
        given = positions
        if not isinstance(given, jax.Array):
            given = nanometers(given, f"positions of system {i}", (None,) * (n_axes(given) - 1) + (3,))
        if given is None:
            raise PositionsError(f"system {i} has no positions")
        if given.ndim == 2:
            given = given[None]
        if given.ndim != 3 or given.shape[1:] != (self.n_atoms[i], 3) or not len(given):
            raise PositionsError(
                f"positions of system {i} must have shape (n_conformers, {self.n_atoms[i]}, 3), got {given.shape}"
            )
        return given
