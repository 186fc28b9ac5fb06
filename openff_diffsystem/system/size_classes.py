"""Systems of about the same size, padded to equal shapes and stacked, so that they share one program."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Shaped

from openff_diffsystem._jax.static import STATIC
from openff_diffsystem._jax.types import AnyArray
from openff_diffsystem.parameters.assignment import Assignment
from openff_diffsystem.parameters.system import SectionBlocks, SystemLayout, SystemParameters
from openff_diffsystem.potentials.isolated import Interactions, total_energy
from openff_diffsystem.potentials.pairs import PADDING
from openff_diffsystem.sections import section_of
from openff_diffsystem.system.data import SystemData
from openff_diffsystem.system.interactions import isolated_interactions

_SMALLEST = 16
_GRANULARITY = 16
"""Size classes are 16, 32, 64, ... particles; array lengths are multiples of 16, so that data sets share programs."""


@jax.tree_util.register_dataclass
@dataclass
class SizeClass:
    """The systems of one size class, padded to equal shapes and stacked.

    Attributes
    ----------
    assignment
        The maps of the systems, arrays ``(n_systems, n)`` each.
    interactions
        Arrays as in ``Interactions``, with a leading axis ``n_systems``.
    origin
        For each value of a padded system, the position of the same value in the system itself,
        ``(n_systems, n_values)``; -1 for padding, whose value is the offset of the assignment.
    layout
        The layout of one padded system. Static.
    """

    assignment: Assignment
    interactions: Interactions
    origin: Int[AnyArray, "*systems values"]
    layout: SystemLayout = field(metadata=STATIC)

    @property
    def n_atoms(self) -> int:
        return self.interactions.n_atoms


@jax.jit
def class_energies(
    size_class: SizeClass,
    rows: Float[Array, "rows conformers atoms 3"],
    systems: Int[Array, " rows"],
    theta: Float[Array, "*systems values"],
) -> Float[Array, "rows conformers"]:
    """Energies of rows of conformers, ``(n_rows, conformers_per_row)``, kJ/mol.

    Parameters
    ----------
    rows
        ``(n_rows, conformers_per_row, n_atoms, 3)``, nm.
    systems
        ``(n_rows,)``: the system of each row.
    theta
        The flat vector, or values of the padded systems, ``(n_systems, n_values)``.
    """

    @jax.checkpoint
    def one_row(row: tuple[Float[Array, "conformers atoms 3"], Int[Array, ""]]) -> Float[Array, " conformers"]:
        positions, system = row
        mine = jax.tree.map(lambda array: array[system], size_class)
        values = theta[system] if theta.ndim == 2 else mine.assignment(theta)
        parameters = SystemParameters(values, mine.layout)
        return jax.vmap(lambda one: total_energy(mine.interactions, one, parameters))(positions)

    return jax.lax.map(one_row, (rows, systems))


def size_class_of(n_particles: int) -> int:
    size = _SMALLEST
    while size < n_particles:
        size *= 2
    return size


def _round_up(lengths: Sequence[int]) -> int:
    longest = max(lengths)
    return -(-longest // _GRANULARITY) * _GRANULARITY


def _fill(array: Shaped[AnyArray, "_length ..."], length: int, value: int = 0) -> Shaped[np.ndarray, "_filled ..."]:
    widths = [(0, length - len(array)), *[(0, 0)] * (array.ndim - 1)]
    return np.pad(array, widths, constant_values=value)


def stack(systems: list[SystemData], add_constrained_forces: bool) -> SizeClass:
    """Pad and stack the systems of one class."""
    host = [isolated_interactions(system, add_constrained_forces) for system in systems]
    n_atoms = _round_up([system.n_atoms for system in systems])
    n_sites = max(len(one.site_types) for one in host)
    lengths = {
        section: _round_up([system.system_layout.sections[section].n_terms for system in systems])
        for section in systems[0].sections
    }
    lengths["VirtualSites"] = n_sites
    per_particle = {tag for tag, where in systems[0].system_layout.sections.items() if where.per_particle}
    lengths |= dict.fromkeys(per_particle, n_atoms + n_sites)
    n_pairs = _round_up([len(one.pairs) for one in host])

    sections, start = {}, 0
    for section in systems[0].sections:
        columns = systems[0].system_layout.sections[section].columns
        sections[section] = SectionBlocks(columns, start, ((lengths[section], 1),), section in per_particle)
        start += sections[section].n_values
    settings = {key: start + i for i, key in enumerate(systems[0].system_layout.settings)}
    layout = SystemLayout(sections, settings, None)

    assignments, origins = zip(*(_filled_assignment(system, layout, n_atoms) for system in systems), strict=True)
    n_further = max(len(a.further_row) for a in assignments)
    stacked = jax.tree.map(lambda *x: jnp.asarray(np.stack(x)), *(a.with_further(n_further) for a in assignments))

    def renumber(indices: Int[AnyArray, "..."], system: SystemData) -> Int[np.ndarray, "..."]:
        """Particle indices in a padded system, where virtual sites come after the padded atoms."""
        return np.where(indices >= system.n_atoms, indices - system.n_atoms + n_atoms, indices).astype(np.int32)

    filled = [
        Interactions(
            indices={s: _fill(renumber(x, system), lengths[s]) for s, x in one.indices.items()},
            periodicity={s: _fill(x, lengths[s]) for s, x in one.periodicity.items()},
            kept={s: _fill(x, lengths[s], False) for s, x in one.kept.items()},
            site_atoms=_fill(one.site_atoms, n_sites, -1),
            site_types=_fill(one.site_types, n_sites),
            pairs=_fill(renumber(one.pairs, system), n_pairs),
            pair_kinds=_fill(one.pair_kinds, n_pairs, PADDING),
            n_atoms=n_atoms,
            forms=one.forms,
            born_model=one.born_model,
            surface_area=one.surface_area,
            weighted_sites=one.weighted_sites,
        )
        for one, system in zip(host, systems, strict=True)
    ]
    interactions = jax.tree.map(lambda *x: jnp.asarray(np.stack(x)), *filled)
    return SizeClass(stacked, interactions, jnp.asarray(np.stack(origins)), layout)


def _filled_assignment(
    system: SystemData, layout: SystemLayout, n_atoms: int
) -> tuple[Assignment, Int[np.ndarray, " values"]]:
    """The assignment of a padded system: copies of molecules are written out, and padding is constant.

    The second result is one row of ``SizeClass.origin``, ``(n_values,)``.
    """
    mine = system.assignment_map
    origin = np.full(layout.size, -1, dtype=np.int64)
    offset = np.zeros(layout.size)
    counted: Any = np.arange(system.system_layout.size, dtype=float)  # NumPy instead of jax
    numbers = SystemParameters(counted, system.system_layout)
    for section, where in layout.sections.items():
        terms = np.asarray(numbers[section])
        target = np.full((where.n_terms, len(where.columns)), -1, dtype=np.int64)
        if where.per_particle:
            target[: system.n_atoms] = terms[: system.n_atoms]
            n_sites = len(terms) - system.n_atoms
            target[n_atoms : n_atoms + n_sites] = terms[system.n_atoms :]
        else:
            target[: len(terms)] = terms
        values = slice(where.start, where.start + where.n_values)
        origin[values] = target.ravel()
        fillers = np.array([section_of(section).filler.get(name, 0.0) for name in where.columns])
        offset[values] = np.broadcast_to(fillers, target.shape).ravel()
    for key, position in layout.settings.items():
        origin[position] = system.system_layout.settings[key]
    real = origin >= 0
    further = [
        (position, mine.further_source[j], mine.further_weight[j])
        for j, row in enumerate(mine.further_row)
        for position in np.flatnonzero(origin == row)
    ]
    rows, sources, weights = zip(*further, strict=True) if further else ((), (), ())
    filled = Assignment(
        source=np.where(real, mine.source[origin], 0).astype(np.int32),
        weight=np.where(real, mine.weight[origin], 0.0),
        offset=np.where(real, mine.offset[origin], offset),
        further_row=np.array(rows, dtype=np.int32),
        further_source=np.array(sources, dtype=np.int32),
        further_weight=np.array(weights, dtype=float),
    )
    return filled, origin.astype(np.int32)
