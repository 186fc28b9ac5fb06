"""System parameters: force-field parameters as applied to one topology."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int
from scipy.sparse import csr_array

from openff_diffsystem._jax.static import STATIC, StaticArray
from openff_diffsystem._jax.types import HostOrDevice, Leaf
from openff_diffsystem.exceptions import ParameterMismatchError
from openff_diffsystem.parameters.assignment import Assignment


@dataclass(frozen=True)
class SectionBlocks:
    """Where the values of one section are among those of the unique molecules.

    Attributes
    ----------
    columns
        Names of the attributes of a term.
    start
        Position of the first value.
    blocks
        ``(n_terms, n_copies)`` of each unique molecule, in order.
    per_particle
        Whether the terms are the particles of the system: atoms in topology order, then virtual sites.
    """

    columns: tuple[str, ...]
    start: int
    blocks: tuple[tuple[int, int], ...]
    per_particle: bool

    @property
    def n_values(self) -> int:
        return len(self.columns) * sum(n for n, _ in self.blocks)

    @property
    def n_terms(self) -> int:
        return sum(n * copies for n, copies in self.blocks)

    @property
    def copies(self) -> Int[np.ndarray, " unique_terms"]:
        """How many copies the system has of each term of the unique molecules, ``(n_unique_terms,)``."""
        terms, copies = zip(*self.blocks, strict=True)
        return np.repeat(copies, terms)


class SystemLayout:
    """The static description of system parameters. Hashed and compared by content.

    Attributes
    ----------
    sections
        Terms by section.
    settings
        Position of each number that applies to a whole section, by ``(section, attribute)``.
    size
        Number of values: those of one copy of each unique molecule, and the settings.
    particle_order
        Row of each particle when the unique molecules are written one after the other, each with all its copies,
        ``(n_particles,)``; ``None`` if that is the order of the topology already.
    """

    def __init__(
        self,
        sections: dict[str, SectionBlocks],
        settings: dict[tuple[str, str], int],
        particle_order: StaticArray | None,
    ) -> None:
        self.sections = sections
        self.settings = settings
        self.size = sum(section.n_values for section in sections.values()) + len(settings)
        self.particle_order = particle_order

    @cached_property
    def _content(self) -> tuple:
        return tuple(self.sections.items()), tuple(self.settings.items()), self.particle_order

    @cached_property
    def _hash(self) -> int:
        return hash(self._content)

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, SystemLayout) and self._content == other._content)

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        return f"SystemLayout({', '.join(f'{s.n_terms} {name}' for name, s in self.sections.items())})"


@jax.tree_util.register_dataclass
@dataclass(eq=False, repr=False)
class SystemParameters:
    """Force-field parameters as applied to one topology. A pytree with one leaf.

    The leaf holds each unique molecule once, and ``parameters["Bonds"]`` repeats its terms for all copies. So a
    gradient is summed over the copies first, and only then over the places where a force-field parameter is used.

    Attributes
    ----------
    values
        ``(..., n_values)``, MD units: nm, kJ/mol, radian, e.
    layout
        What each value is. Static.
    """

    values: Leaf
    layout: SystemLayout = field(metadata=STATIC)

    def __getitem__(self, section: str) -> Float[HostOrDevice, "*batch terms columns"]:
        """The terms of a section, ``(..., n_terms, n_columns)``, in the order of ``DiffSystem.indices(section)``."""
        where = self._where(section)
        return self._expand(section, self.values[..., where.start : where.start + where.n_values])

    def unique(self, section: str) -> Float[HostOrDevice, "*batch terms columns"]:
        """The terms of each unique molecule, without copies, ``(..., n_unique_terms, n_columns)``."""
        where = self._where(section)
        part = self.values[..., where.start : where.start + where.n_values]
        return part.reshape(*part.shape[:-1], sum(n for n, _ in where.blocks), len(where.columns))

    def replace(self, sections: Mapping[str, ArrayLike | Mapping[str, ArrayLike]]) -> SystemParameters:
        """The same parameters with other values in some sections, for example from a neural network.

        Parameters
        ----------
        sections
            By section an array in the shape of :meth:`unique`; or by section and column, ``{"Bonds": {"k": k}}``,
            an array in the shape of ``unique(section)[..., 0]``.

        Raises
        ------
        ParameterMismatchError
            If a section or column is unknown, or an array has another shape.
        """
        values = self.values
        for section, given in sections.items():
            where, terms = self._where(section), self.unique(section)
            if isinstance(given, Mapping):
                for column, array in given.items():
                    if column not in where.columns:
                        named = ", ".join(where.columns)
                        raise ParameterMismatchError(f"{section} has no column {column!r}; there are {named}")
                    _check_shape(f"{section}/{column}", array, terms.shape[:-1])
                    terms = terms.at[..., where.columns.index(column)].set(array)
            else:
                _check_shape(section, given, terms.shape)
                terms = jnp.asarray(given)
            flat = terms.reshape(*terms.shape[:-2], -1)
            values = values.at[..., where.start : where.start + where.n_values].set(flat)
        return SystemParameters(values, self.layout)

    def by_section(self) -> dict[str, Float[Array, "_terms _columns"]]:
        """The terms of all sections, for values without a batch: cheaper to differentiate than section by section."""
        sizes = [where.n_values for where in self.layout.sections.values()]
        *parts, _ = jax.lax.split(self.values, (*sizes, self.layout.size - sum(sizes)))
        return {name: self._expand(name, part) for name, part in zip(self.layout.sections, parts, strict=True)}

    def _where(self, section: str) -> SectionBlocks:
        if section not in self.layout.sections:
            named = ", ".join(self.layout.sections)
            raise ParameterMismatchError(f"no section {section!r} in this system; there are {named}")
        return self.layout.sections[section]

    def _expand(
        self, section: str, values: Float[HostOrDevice, "*batch values"]
    ) -> Float[HostOrDevice, "*batch terms columns"]:
        """Repeat the terms of a section for all copies of their molecules."""
        where = self.layout.sections[section]
        array = np if isinstance(values, np.ndarray) else jnp
        batch, width = values.shape[:-1], len(where.columns)
        parts, start = [], 0
        for n_terms, copies in where.blocks:
            part = values[..., start : start + n_terms * width].reshape(*batch, 1, n_terms, width)
            start += n_terms * width
            copied = array.broadcast_to(part, (*batch, copies, n_terms, width))
            parts.append(copied.reshape(*batch, copies * n_terms, width))
        terms = parts[0] if len(parts) == 1 else array.concatenate(parts, axis=-2)
        if self.layout.particle_order is not None and where.per_particle:
            terms = terms[..., self.layout.particle_order.array, :]
        return terms

    def column(self, section: str, attribute: str) -> Float[HostOrDevice, "*batch terms"]:
        """One attribute of the terms of a section, ``(..., n_terms)``."""
        columns = self.layout.sections[section].columns if section in self.layout.sections else ()
        if attribute not in columns:
            raise ParameterMismatchError(f"{section} has no column {attribute!r}; there are {', '.join(columns)}")
        return self[section][..., columns.index(attribute)]

    def setting(self, section: str, attribute: str) -> Float[HostOrDevice, "*batch"]:
        """A number that applies to a whole section, for example ``("vdW", "scale14")``."""
        try:
            return self.values[..., self.layout.settings[section, attribute]]
        except KeyError:
            named = ", ".join("/".join(key) for key in self.layout.settings)
            raise ParameterMismatchError(f"no setting {section}/{attribute}; there are {named}") from None

    def settings(self, section: str) -> dict[str, Float[HostOrDevice, "*batch"]]:
        """All numbers that apply to a whole section, by attribute."""
        return {name: self.setting(tag, name) for tag, name in self.layout.settings if tag == section}

    def __repr__(self) -> str:
        return f"SystemParameters({self.layout!r})"


def _check_shape(name: str, array: ArrayLike, shape: tuple[int, ...]) -> None:
    if jnp.shape(array) != shape:
        raise ParameterMismatchError(f"{name} must have shape {shape}, got {jnp.shape(array)}")


@dataclass(frozen=True)
class SectionAssignment:
    """The assignment of one section: system parameters of the unique molecules as weighted sums over theta.

    Row ``i * n_columns + c`` is column ``c`` of term ``i``; the unique molecules follow each other.
    """

    assignment: Assignment
    blocks: SectionBlocks
    n_parameters: int

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the attributes of a term."""
        return self.blocks.columns

    @property
    def indices(self) -> tuple[Int[np.ndarray, " nonzero"], Int[np.ndarray, " nonzero"]]:
        """Row and column of each non-zero of the matrix, ``(n_nonzero,)``, int32."""
        row, column, _ = self._entries()
        return row, column

    @property
    def weights(self) -> Float[np.ndarray, " nonzero"]:
        """The non-zeros of the matrix, ``(n_nonzero,)``."""
        return self._entries()[2]

    @property
    def offset(self) -> Float[np.ndarray, " rows"]:
        """The constant part, ``(n_rows,)``, MD units."""
        return np.asarray(self.assignment.offset[self._values])

    def to_matrix(self) -> csr_array:
        """The parameter matrix, ``(n_rows, n_values)``, sparse: system parameters are ``matrix @ theta + offset``."""
        row, column, weight = self._entries()
        return csr_array((weight, (row, column)), shape=(self.blocks.n_values, self.n_parameters))

    def _entries(
        self,
    ) -> tuple[Int[np.ndarray, " nonzero"], Int[np.ndarray, " nonzero"], Float[np.ndarray, " nonzero"]]:
        row, column, weight = self.assignment.entries()
        mine = (row >= self._values.start) & (row < self._values.stop)
        return row[mine] - self._values.start, column[mine], weight[mine]

    @property
    def _values(self) -> slice:
        return slice(self.blocks.start, self.blocks.start + self.blocks.n_values)
