"""Force-field parameters: the numbers of an OFFXML file as one differentiable vector."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Float, Int
from openff.toolkit import ForceField

from openff_diffsystem._jax.static import STATIC, StaticArray
from openff_diffsystem._jax.types import HostOrDevice, Leaf
from openff_diffsystem.exceptions import ParameterMismatchError
from openff_diffsystem.parameters.layout import ParameterLayout
from openff_diffsystem.parameters.offxml import handlers_of, read_handlers, write_handlers
from openff_diffsystem.parameters.table import ParameterTable


@jax.tree_util.register_dataclass
@dataclass(eq=False, repr=False)
class ForceFieldParameters:
    """The numbers of a force field, one row per SMIRKS parameter, shared by every place they apply to.

    A pytree with a single leaf, ``vector``: jit, grad, vmap, ``jax.tree`` and optimisers accept it as it is, and
    a compiled function gets one array instead of one per attribute. ``theta["Bonds"]["k"]`` is a slice of that leaf.

    Attributes
    ----------
    vector
        ``(..., n_values)``, MD units: nm, kJ/mol, radian, e. The dtype follows JAX's own setting.
    layout
        What each number of the vector is. Static.
    """

    vector: Leaf
    layout: ParameterLayout = field(metadata=STATIC)

    @classmethod
    def from_force_field(cls, force_field: object) -> ForceFieldParameters:
        """Read every number of a ``ForceField``, swapped or stock.

        Raises
        ------
        NonFiniteParameterError
            If a value is NaN or infinite.
        UnsupportedForceFieldError
            If a unit is not covered by MD units.
        """
        layout, values = read_handlers(handlers_of(force_field))
        return cls(jnp.asarray(values), layout)

    def to_force_field(self, template: ForceField) -> ForceField:
        """A copy of ``template`` with these values.

        A value that equals the template's keeps its unit and its text; a changed value is written in the
        template's unit.

        Parameters
        ----------
        template
            ``ForceField`` with the same parameters, swapped or stock; the result is of the same kind.

        Raises
        ------
        ParameterMismatchError
            If the template has other parameters, or the vector has a wrong shape.
        NonFiniteParameterError
            If a value is NaN or infinite.
        """
        layout, _ = read_handlers(handlers_of(template))
        if layout != self.layout:
            raise ParameterMismatchError(f"the template has other parameters: {_first_difference(self.layout, layout)}")
        result = copy.deepcopy(template)
        write_handlers(handlers_of(result), self.vector)
        return result

    def to_file(self, path: str | os.PathLike[str], template: ForceField) -> None:
        """Write ``template`` with these values as an OFFXML file."""
        self.to_force_field(template).to_file(os.fspath(path), io_format="XML")

    def to_vector(self) -> tuple[Leaf, Callable[[Any], ForceFieldParameters]]:
        """The flat vector, ``(n_values,)`` in MD units, and a function that turns such a vector into parameters."""
        return self.vector, partial(_unravel, self.layout)

    @property
    def labels(self) -> tuple[str, ...]:
        """One name per component of the vector, ``SECTION/ID/ATTRIBUTE``, for example ``Bonds/b83/k``."""
        return self.layout.labels

    @property
    def units(self) -> tuple[str, ...]:
        """The unit of each component of the vector."""
        return tuple(component.unit for component in self.layout.components)

    def __getitem__(self, section: str) -> dict[str, Float[HostOrDevice, "..."]]:
        """The values of a section by attribute: ``(n_rows,)`` each, or a scalar for a number of the section itself."""
        if section not in self.layout.sections:
            raise KeyError(f"no section {section!r}; there are {', '.join(self.layout.sections)}")
        return {
            name: self.vector[..., column.start] if column.rows is None else self.vector[..., column.slice]
            for name, column in self.layout.sections[section].columns.items()
        }

    def to_tree(self) -> dict[str, dict[str, Float[HostOrDevice, "..."]]]:
        """Nested dictionaries of arrays, ``tree[section][attribute]``, to optimise attributes differently."""
        return {section: self[section] for section in self.layout.sections}

    def from_tree(self, tree: Mapping[str, Mapping[str, ArrayLike]]) -> ForceFieldParameters:
        """The inverse of :meth:`to_tree`; sections and attributes that are missing keep their values.

        Raises
        ------
        ParameterMismatchError
            If a section or attribute is unknown or an array has the wrong shape.
        """
        vector = self.vector
        for section, attributes in tree.items():
            for name, values in attributes.items():
                column = self.layout.column(section, name)
                wanted = () if column.rows is None else (column.size,)
                if jnp.shape(values) != wanted:
                    raise ParameterMismatchError(f"{section}/{name} must have shape {wanted}, got {jnp.shape(values)}")
                vector = vector.at[column.slice].set(jnp.reshape(values, (column.size,)))
        return ForceFieldParameters(vector, self.layout)

    def select(
        self,
        section: str | Iterable[str] = "*",
        attribute: str | Iterable[str] = "*",
        *,
        id: str | Iterable[str] | None = None,
        smirks: str | Iterable[str] | None = None,
    ) -> SelectedParameters:
        """Choose the trainable part; all other values are frozen as they are now.

        Parameters
        ----------
        section, attribute
            Names, or shell-style patterns (``"k*"``).
        id, smirks
            Ids and SMIRKS, compared exactly. If given, numbers of a section itself, which have neither, are left out.

        Raises
        ------
        ParameterMismatchError
            If nothing is selected, or one of the names selects nothing.
        """
        components = self.layout.components
        chosen = np.ones(len(components), dtype=bool)
        for name, wanted, matches in (
            ("section", section, fnmatchcase),
            ("attribute", attribute, fnmatchcase),
            ("id", id, str.__eq__),
            ("smirks", smirks, str.__eq__),
        ):
            if wanted is None:
                continue
            patterns = [wanted] if isinstance(wanted, str) else list(wanted)
            have = [getattr(component, name) for component in components]
            hits = np.zeros((len(patterns), len(components)), dtype=bool)
            for i, pattern in enumerate(patterns):
                known = {value: matches(value, pattern) for value in set(have) if value is not None}
                hits[i] = [known.get(value, False) for value in have]
                if not hits[i].any():
                    raise ParameterMismatchError(f"no component has {name} {pattern!r}")
            chosen &= hits.any(axis=0)
        if not chosen.any():
            raise ParameterMismatchError("each name exists, but no component has all of them")
        positions = np.flatnonzero(chosen)
        # a copy, so that a compiled step may reuse the memory of a selection (donate_argnums)
        frozen = jnp.array(self.vector)
        return SelectedParameters(self.vector[positions], frozen, Selection(self.layout, StaticArray(positions)))

    def table(self) -> ParameterTable:
        """The parameters as a table that can be printed, shown in a notebook, or passed to ``pandas.DataFrame``."""
        return ParameterTable.from_vector(self.layout, np.arange(self.layout.size), np.asarray(self.vector))

    def __repr__(self) -> str:
        return f"ForceFieldParameters({self.layout!r}, dtype={getattr(self.vector, 'dtype', None)})"


@dataclass(frozen=True)
class Selection:
    """Which components of a vector are trainable. Static, compared by content."""

    layout: ParameterLayout
    trainable: StaticArray

    @property
    def positions(self) -> Int[np.ndarray, " selected"]:
        """Positions of the trainable components in the full vector, ``(n_selected,)``."""
        return self.trainable.array


@jax.tree_util.register_dataclass
@dataclass(eq=False, repr=False)
class SelectedParameters:
    """The trainable part of :class:`ForceFieldParameters`; the rest is frozen. Accepted wherever those are.

    A pytree with two leaves. Frozen values are arguments of a compiled function, as the trainable ones are: when they
    change, nothing is compiled again. Their gradients are zero, so that Adam and similar optimisers do not change them.
    Weight decay, noise and ``jax.tree.map`` do change them; to avoid this, use the vector of :meth:`to_vector`.

    Attributes
    ----------
    vector
        ``(n_selected,)``, MD units: the trainable values.
    frozen
        ``(n_values,)``, MD units: the values of all other components. Those of the trainable ones are not used.
    selection
        Which components are trainable. Static.
    """

    vector: Leaf
    frozen: Leaf
    selection: Selection = field(metadata=STATIC)

    @property
    def labels(self) -> tuple[str, ...]:
        """One name per trainable component, ``SECTION/ID/ATTRIBUTE``."""
        return tuple(self.selection.layout.labels[i] for i in self.selection.positions)

    @property
    def units(self) -> tuple[str, ...]:
        """The unit of each trainable component."""
        return tuple(self.selection.layout.components[i].unit for i in self.selection.positions)

    def to_vector(self) -> tuple[Leaf, Callable[[Any], SelectedParameters]]:
        """The trainable values, ``(n_selected,)``, and a function that turns such a vector into a selection."""
        return self.vector, self.replace

    def replace(self, vector: Any) -> SelectedParameters:
        """The same selection with other values, ``(n_selected,)``."""
        if jnp.shape(vector)[-1:] != (len(self.selection.positions),):
            raise ParameterMismatchError(
                f"the selection has {len(self.selection.positions)} values, got shape {jnp.shape(vector)}"
            )
        return SelectedParameters(vector, self.frozen, self.selection)

    def merge(self) -> ForceFieldParameters:
        """All parameters: the trainable values put back among the frozen ones."""
        frozen = jax.lax.stop_gradient(jnp.asarray(self.frozen, dtype=jnp.result_type(self.vector)))
        return ForceFieldParameters(frozen.at[self.selection.positions].set(self.vector), self.selection.layout)

    def to_force_field(self, template: ForceField) -> ForceField:
        """:meth:`ForceFieldParameters.to_force_field` of the merged parameters."""
        return self.merge().to_force_field(template)

    def to_file(self, path: str | os.PathLike[str], template: ForceField) -> None:
        """:meth:`ForceFieldParameters.to_file` of the merged parameters."""
        self.merge().to_file(path, template)

    def table(self) -> ParameterTable:
        """The trainable parameters as a table, like :meth:`ForceFieldParameters.table`."""
        return ParameterTable.from_vector(self.selection.layout, self.selection.positions, np.asarray(self.vector))

    def __repr__(self) -> str:
        return f"SelectedParameters({len(self.selection.positions)} of {self.selection.layout.size} values)"


def as_vector(theta: object, layout: ParameterLayout) -> Leaf:
    """The flat vector, ``(n_values,)``, of force-field parameters given as the pytree, a selection, or a vector.

    Raises
    ------
    ParameterMismatchError
        If theta belongs to another force field or has the wrong shape.
    """
    if isinstance(theta, SelectedParameters):
        theta = theta.merge()
    if isinstance(theta, ForceFieldParameters):
        if theta.layout != layout:
            raise ParameterMismatchError(
                f"these parameters belong to another force field: {_first_difference(theta.layout, layout)}"
            )
        theta = theta.vector
    vector: Any = theta if hasattr(theta, "shape") else jnp.asarray(theta)
    _check_shape(layout, vector)
    return vector


def _unravel(layout: ParameterLayout, vector: Any) -> ForceFieldParameters:
    _check_shape(layout, vector)
    return ForceFieldParameters(vector, layout)


def _check_shape(layout: ParameterLayout, vector: Leaf) -> None:
    if jnp.shape(vector) != (layout.size,):
        raise ParameterMismatchError(f"the vector must have shape ({layout.size},), got {jnp.shape(vector)}")


def _first_difference(ours: ParameterLayout, theirs: ParameterLayout) -> str:
    missing = [label for label in ours.labels if label not in set(theirs.labels)]
    extra = [label for label in theirs.labels if label not in set(ours.labels)]
    if missing:
        return f"it has no {missing[0]}"
    if extra:
        return f"it also has {extra[0]}"
    for a, b, label in zip(ours.components, theirs.components, ours.labels, strict=True):
        if a != b:
            return f"{label} is {b.smirks or b.unit} there and {a.smirks or a.unit} here"
    return "the order of the parameters differs"
