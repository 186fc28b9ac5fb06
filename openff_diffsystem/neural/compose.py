"""Theta and models together: a function of force-field parameters and networks that returns system parameters."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import NamedTuple, TypeVar

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from openff_diffsystem.exceptions import ParameterMismatchError, UnsupportedForceFieldError
from openff_diffsystem.neural.graph import MoleculeGraph, check_molecules
from openff_diffsystem.neural.graph_rows import TERMS, UniqueMolecules, check_known, term_numbers, terms_of
from openff_diffsystem.neural.symmetry import bond_classes, refine
from openff_diffsystem.parameters.system import SystemParameters
from openff_diffsystem.system.data import SystemData

Network = Callable[[MoleculeGraph], object]
"""From a graph to parameters of its terms: an equinox module, or any other pytree that can be called."""

Name = TypeVar("Name", bound=Hashable)
"""The name of a model, as :func:`lambda_module` reads it."""


class Emitted(NamedTuple):
    """One array that a model emits.

    Attributes
    ----------
    source
        The name of the model among the sources.
    section, column
        The column that the array fills.
    shape
        ``(n_terms,)``, or ``(n_terms, 6)`` by periodicity.
    start
        Position of its first number when the outputs of all models are put one after the other.
    """

    source: Hashable
    section: str
    column: str
    shape: tuple[int, ...]
    start: int

    @property
    def title(self) -> str:
        """The name of the model."""
        return _title(self.source)


def lambda_module(
    systems: SystemData | Sequence[SystemData],
    sources: Mapping[Name, Network],
    *,
    molecules: Mapping[Name, Sequence[int]] | None = None,
    partial: bool = False,
) -> LambdaModule:
    """Let models give parameters in place of the rows of an OFFXML file.

    Parameters
    ----------
    systems
        The system to parameterize, or several. Molecules of several systems form one graph, and each model is
        evaluated once.
    sources
        Models by name. A model is called with a :class:`MoleculeGraph`, and its name says what it returns:

        * ``("Bonds", "k")`` or ``"Bonds/k"``: the values of this column;
        * a section, ``"Angles"`` or ``"Electrostatics"``: columns by name, ``{"k": k}``, or the values of the only
          column;
        * any other name: columns by section, ``{"Bonds": {"k": k}}``.

        There is one value for each term of the graph (``graph.bonds`` and so on), and for each atom in sections that
        have no such terms. Torsions have one value per term, the same for every periodicity, or ``(n_terms, 6)`` for
        periodicities 1 to 6.
    molecules
        For each source, the molecules whose parameters come from it, as positions in ``system.molecules``; with several
        systems the count continues from one to the next. Other molecules keep theta. By default all molecules.
    partial
        Drop numbers that have no row in the systems, instead of raising an error. A torsion in SMIRNOFF has rows only
        for the periodicities of its SMIRKS, and few centres have an improper torsion; :func:`generic_valence` makes a
        row for every term.

    Raises
    ------
    ParameterMismatchError
        If a model emits a column that the system does not have or that another model emits, an array of the wrong
        shape, or numbers for terms or periodicities without a row in the system.
    UnsupportedForceFieldError
        If a model emits charges for a molecule with virtual sites.
    """
    return LambdaModule(systems, sources, molecules or {}, partial)


class LambdaModule:
    """``parameters = module(theta, models)``: pure, differentiable in both, without weights of its own.

    Made by :func:`lambda_module`.

    Attributes
    ----------
    systems
        The systems to parameterize.
    graphs, chosen
        By source, the graph that its model is called with, and the molecules in this graph.
    classes
        By source, a number for each atom of its graph, equal where the model cannot tell atoms apart, ``(n_atoms,)``.
    bond_classes
        By source, a number for each bond of its graph, different where the model can tell bonds apart even if their
        atoms look alike, ``(n_bonds,)``: all zero for a model that has a method ``atom_classes``.
    emitted
        Every array that the models emit.
    outputs
        By system, where each of its values stands among all emitted numbers, ``(n_values,)``; -1 for values that come
        from theta.
    """

    def __init__(
        self,
        systems: SystemData | Sequence[SystemData],
        sources: Mapping[Name, Network],
        molecules: Mapping[Name, Sequence[int]],
        partial: bool = False,
    ) -> None:
        self._single = isinstance(systems, SystemData)
        self.systems: tuple[SystemData, ...] = (systems,) if isinstance(systems, SystemData) else tuple(systems)
        self.names: tuple[Hashable, ...] = tuple(sources)
        for system in self.systems:
            check_molecules(system)
        graphs = [
            [MoleculeGraph.from_system(system, [i]) for i in range(len(system.molecules))] for system in self.systems
        ]
        everyone = [graph for of_system in graphs for graph in of_system]
        if unknown := [name for name in molecules if name not in sources]:
            raise ParameterMismatchError(f"molecules are given for {unknown[0]!r}, but there is no source of that name")
        self.chosen: dict[Hashable, tuple[int, ...]] = {
            name: tuple(molecules.get(name, range(len(everyone)))) for name in sources
        }
        system_of = [s for s, mine in enumerate(graphs) for _ in mine]
        self.graphs: dict[Hashable, MoleculeGraph] = {
            name: MoleculeGraph.concatenate([everyone[i] for i in self._within(name, len(everyone))])
            for name in sources
        }
        self._reached = {
            name: tuple(dict.fromkeys(system_of[i] for i in chosen)) for name, chosen in self.chosen.items()
        }
        self.classes: dict[Hashable, Int[np.ndarray, " atoms"]] = {
            name: _classes(model, self.graphs[name]) for name, model in sources.items()
        }
        self.bond_classes: dict[Hashable, Int[np.ndarray, " bonds"]] = {
            name: _bond_classes(model, self.graphs[name]) for name, model in sources.items()
        }
        self.emitted = self._emitted(sources)
        self.outputs = self._outputs(graphs)
        if not partial:
            self._check_rows()

    def __call__(self, theta: object, models: Mapping[Name, Network]) -> SystemParameters | list[SystemParameters]:
        """System parameters, differentiable in theta and in the models.

        Parameters
        ----------
        theta
            As for ``DiffSystem.parameterize``.
        models
            Models under the same names as the sources.

        Returns
        -------
        SystemParameters
            Or a list of them, one for each system, if the module was made for several.

        Raises
        ------
        ParameterMismatchError
            If the names of the models are different from those of the sources, or a model emits other columns or
            shapes than when this module was made.
        """
        if set(models) != set(self.names):
            raise ParameterMismatchError(f"models must be {', '.join(map(str, self.names))}")
        found: dict[tuple[Hashable, str, str], object] = {
            (name, section, column): values
            for name, model in models.items()
            for section, column, values in self._columns(name, model(self.graphs[name]))
        }
        self._check_emitted(found)
        parts = [jnp.asarray(found[one.source, one.section, one.column]).ravel() for one in self.emitted]
        flat = jnp.concatenate(parts) if parts else jnp.zeros(1)
        result = [
            _merge(system.parameterize(theta), output, flat)
            for system, output in zip(self.systems, self.outputs, strict=True)
        ]
        return result[0] if self._single else result

    def _within(self, name: Hashable, n_molecules: int) -> tuple[int, ...]:
        chosen = self.chosen[name]
        outside = [i for i in chosen if not 0 <= i < n_molecules]
        if outside or len(set(chosen)) < len(chosen) or not chosen:
            raise ParameterMismatchError(
                f"{name}: molecules must be different numbers from 0 to {n_molecules - 1}, got {list(chosen)}"
            )
        return chosen

    def _emitted(self, sources: Mapping[Name, Network]) -> list[Emitted]:
        found: list[Emitted] = []
        start = 0
        for name, model in sources.items():
            layout = self.systems[self._reached[name][0]].system_layout
            shapes = eqx.filter_eval_shape(lambda one, graph: one(graph), model, self.graphs[name])
            for section, column, values in self._columns(name, shapes):
                check_known(section, layout)
                graph, title = self.graphs[name], f"{_title(name)}: {section}/{column}"
                n_terms = getattr(graph, TERMS[section]).shape[0] if section in TERMS else graph.n_atoms
                if not hasattr(values, "shape"):
                    kind = type(values).__name__
                    raise ParameterMismatchError(f"{title} must be an array, the model returns a {kind}")
                shape = tuple(values.shape)
                if shape not in ({(n_terms,), (n_terms, 6)} if "Torsions" in section else {(n_terms,)}):
                    raise ParameterMismatchError(f"{title} must have shape ({n_terms},), got {shape}")
                found.append(Emitted(name, section, column, shape, start))
                start += int(np.prod(shape))
        return found

    def _columns(self, name: Hashable, output: object) -> list[tuple[str, str, object]]:
        """Section, column and values of everything that a model returned."""
        layouts = {s: self.systems[s].system_layout.sections for s in self._reached[name]}
        title = _title(name)
        section, _, column = title.partition("/")
        sections: dict[str, object]
        if column:
            sections = {section: {column: output}}
        elif any(section in layout for layout in layouts.values()):
            sections = {section: output}
        elif isinstance(output, Mapping):
            sections = dict(output)
        else:
            raise ParameterMismatchError(
                f"{name!r} is no section of this system, so its model must return columns by section"
            )
        found = []
        for tag, columns in sections.items():
            for s, layout in layouts.items():
                if tag not in layout:
                    raise ParameterMismatchError(
                        f"{title}: no section {tag!r}{self._of(s)}; there are {', '.join(layout)}"
                    )
            known = next(iter(layouts.values()))[tag].columns
            if not isinstance(columns, Mapping):
                if len(known) > 1:
                    raise ParameterMismatchError(
                        f"{title}: the model must return values by column; {tag} has the columns {', '.join(known)}"
                    )
                columns = {known[0]: columns}
            for key, values in columns.items():
                for s, layout in layouts.items():
                    if key not in layout[tag].columns:
                        raise ParameterMismatchError(
                            f"{title}: {tag} has no column {key!r}{self._of(s)}; there are "
                            f"{', '.join(layout[tag].columns)}"
                        )
                found.append((tag, key, values))
        return found

    def _of(self, system: int) -> str:
        """Which system a message is about, if there are several."""
        return "" if self._single else f" in system {system}"

    def _check_emitted(self, found: Mapping[tuple[Hashable, str, str], object]) -> None:
        """Raise if models emit other arrays than when this was made: jax would silently read the wrong numbers."""
        promised = {(one.source, one.section, one.column): one.shape for one in self.emitted}
        for key in (*promised, *found):
            name, section, column = key
            before = f"shape {promised[key]}" if key in promised else "nothing"
            now = f"shape {getattr(found[key], 'shape', None)}" if key in found else "nothing"
            if now != before:
                raise ParameterMismatchError(
                    f"{_title(name)} emits {now} for {section}/{column}, and {before} when lambda_module was called; "
                    "call it again for this model"
                )

    def _check_rows(self) -> None:
        """Raise if an emitted number reaches no system."""
        placed = np.concatenate([np.zeros(0, dtype=np.int64), *self.outputs])
        found = []
        for one in self.emitted:
            size = int(np.prod(one.shape))
            missing = np.setdiff1d(np.arange(one.start, one.start + size), placed) - one.start
            if missing.size:
                width = one.shape[1] if len(one.shape) == 2 else 1
                term, n = divmod(int(missing[0]), width)
                first = f"atoms {terms_of(one.section, self.graphs[one.source])[term]}"
                first += f", periodicity {n + 1}" if width > 1 else ""
                found.append(f"{one.title}: {missing.size} of {size} of {one.section}/{one.column} ({first})")
        if found:
            raise ParameterMismatchError(
                f"models emit numbers that have no row in the system: {'; '.join(found)}. Make the system with "
                "generic_valence(force_field), which has a row for every bond, angle and torsion, or pass partial=True "
                "to drop them"
            )

    def _outputs(self, graphs: list[list[MoleculeGraph]]) -> tuple[Int[np.ndarray, " values"], ...]:
        """The attribute ``outputs``."""
        positions = [np.full(system.system_layout.size, -1, dtype=np.int64) for system in self.systems]
        unique = [UniqueMolecules(system) for system in self.systems]
        place = [(s, i) for s, mine in enumerate(graphs) for i in range(len(mine))]
        for one in self.emitted:
            numbers = term_numbers(one.section, self.graphs[one.source])
            shift = 0
            for s, molecule in (place[i] for i in self.chosen[one.source]):
                if one.section == "Electrostatics" and unique[s].n_sites[molecule]:
                    raise UnsupportedForceFieldError(
                        f"Electrostatics: {self.systems[s].molecules[molecule][0]} has virtual sites, which "
                        "take their charges from the atoms; a model cannot emit charges of the atoms alone"
                    )
                rows = unique[s].rows(one.section, molecule, numbers, shift)
                shift += graphs[s][molecule].n_atoms
                blocks = self.systems[s].system_layout.sections[one.section]
                where = blocks.start + rows.row * len(blocks.columns) + blocks.columns.index(one.column)
                target = one.start + rows.term
                if len(one.shape) == 2 and rows.periodicity is not None:
                    known = rows.periodicity <= one.shape[1]
                    where = where[known]
                    target = (one.start + rows.term * one.shape[1] + rows.periodicity - 1)[known]
                if (positions[s][where] >= 0).any():
                    raise ParameterMismatchError(f"{one.section}/{one.column} is emitted by two models")
                positions[s][where] = target
        return tuple(positions)


def _merge(
    base: SystemParameters, output: Int[np.ndarray, " values"], flat: Float[Array, " emitted"]
) -> SystemParameters:
    if (output < 0).all():
        return base
    dtype = jnp.result_type(base.values, flat)
    emitted = flat[np.maximum(output, 0)].astype(dtype)
    return SystemParameters(jnp.where(output >= 0, emitted, base.values.astype(dtype)), base.layout)


def _classes(model: Network, graph: MoleculeGraph) -> Int[np.ndarray, " atoms"]:
    known = getattr(model, "atom_classes", None)
    return refine(graph) if known is None else np.asarray(known(graph))


def _bond_classes(model: Network, graph: MoleculeGraph) -> Int[np.ndarray, " bonds"]:
    return np.zeros(graph.n_bonds, dtype=np.int64) if hasattr(model, "atom_classes") else bond_classes(graph)


def _title(name: Hashable) -> str:
    return "/".join(name) if isinstance(name, tuple) else str(name)
