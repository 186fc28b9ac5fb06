"""Which terms of a system share one number, because of the SMIRKS or because a network cannot tell them apart."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from openff_diffsystem.exceptions import ParameterMismatchError
from openff_diffsystem.neural.compose import LambdaModule
from openff_diffsystem.neural.graph_rows import terms_of
from openff_diffsystem.neural.symmetry import term_classes
from openff_diffsystem.system.data import SystemData


@dataclass(frozen=True)
class Link:
    """Terms that share one number.

    Attributes
    ----------
    column
        The column of the section.
    origin
        Where the number comes from: a label of theta, ``Bonds/b83/k``, or several with weights,
        ``1 x A/b/c + -1 x D/e/f``; ``constant``; or the name of the model and what it emits.
    rows
        ``(n,)``: the rows of ``parameters.unique(section)``.
    """

    column: str
    origin: str
    rows: Int[np.ndarray, " rows"]

    def __repr__(self) -> str:
        return f"Link({self.column} of rows {self.rows.tolist()}: {self.origin})"


def linkage(source: SystemData | LambdaModule, section: str) -> tuple[Link, ...]:
    """Which terms of a section share one number, column by column, in the order of their first rows.

    Terms with the same SMIRKS share their values from theta. Terms that a model cannot tell apart share its output. If
    a model has a method ``atom_classes(graph)``, which returns ``(n_atoms,)`` numbers, it cannot tell terms apart whose
    atoms have the same classes. For other models, terms differ if colour refinement on all features tells their atoms
    apart, or if the features of their bonds differ; no message-passing network can tell more terms apart. Constants are
    shared by value.

    Parameters
    ----------
    source
        A system, or a module that :func:`lambda_module` made for one system.

    Raises
    ------
    ParameterMismatchError
        If there is no such section, or the module was made for several systems.
    """
    module = source if isinstance(source, LambdaModule) else None
    if module is not None and len(module.systems) != 1:
        raise ParameterMismatchError("linkage takes a module for one system; this one was made for several")
    system = module.systems[0] if module is not None else source
    assert isinstance(system, SystemData)
    assignment = system.assignment(section)
    blocks = assignment.blocks
    labels = system.parameter_layout.labels
    sources: list[list[tuple[int, float]]] = [[] for _ in range(blocks.n_values)]
    row, component, weight = assignment.assignment.entries()
    for i, j, w in zip(row.tolist(), component.tolist(), weight.tolist(), strict=True):
        if blocks.start <= i < blocks.start + blocks.n_values:
            sources[i - blocks.start].append((j, w))
    emitted = {} if module is None else _emitted(module, section)
    found: dict[tuple[str, str, Hashable], list[int]] = {}
    for i, (mine, offset) in enumerate(zip(sources, assignment.offset.tolist(), strict=True)):
        column = blocks.columns[i % len(blocks.columns)]
        if i in emitted:
            origin, key = emitted[i]
        else:
            key = (tuple(sorted(mine)), offset)
            origin = " + ".join(labels[j] if w == 1 else f"{w:g} x {labels[j]}" for j, w in mine) or "constant"
        found.setdefault((column, origin, key), []).append(i // len(blocks.columns))
    links = [Link(column, origin, np.array(rows)) for (column, origin, _), rows in found.items()]
    return tuple(sorted(links, key=lambda link: (blocks.columns.index(link.column), link.rows[0])))


def _emitted(module: LambdaModule, section: str) -> dict[int, tuple[str, Hashable]]:
    """For each value of a section that a model emits: where it comes from, and what the output depends on."""
    blocks = module.systems[0].system_layout.sections[section]
    positions = module.outputs[0][blocks.start : blocks.start + blocks.n_values]
    found: dict[int, tuple[str, Hashable]] = {}
    for one in module.emitted:
        if one.section != section:
            continue
        graph = module.graphs[one.source]
        bonds = {
            pair: kind
            for (a, b), kind in zip(graph.bonds.tolist(), module.bond_classes[one.source].tolist(), strict=True)
            for pair in ((a, b), (b, a))
        }
        keys = term_classes(section, terms_of(section, graph), module.classes[one.source], bonds)
        width = one.shape[1] if len(one.shape) == 2 else 1
        size = int(np.prod(one.shape))
        for i in np.flatnonzero((positions >= one.start) & (positions < one.start + size)).tolist():
            term, n = divmod(int(positions[i]) - one.start, width)
            name = f"{one.column}{n + 1}" if width > 1 else one.column
            found[i] = (f"{one.title} emits {section}/{name}", (keys[term], n))
    return found
