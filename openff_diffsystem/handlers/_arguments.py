"""What the methods of a handler take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias, TypedDict

if TYPE_CHECKING:
    # the toolkit loads the handlers without RDKit, which takes 0.3 s to import
    from openff.toolkit import Molecule, Topology
    from openff.toolkit.typing.engines.smirnoff import ParameterHandler
    from rdkit import Chem

MoleculeLike: TypeAlias = "Molecule | Topology | Chem.Mol"
"""A ``Molecule``, a one-molecule ``Topology``, or an RDKit molecule with explicit hydrogens."""


class Options(TypedDict, total=False):
    """Options of ``parameterize``, each for some sections."""

    bonds: ParameterHandler
    partial_bond_orders_from_molecules: Sequence[Molecule] | None
