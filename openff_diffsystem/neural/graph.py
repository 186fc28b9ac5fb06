"""Molecules as graphs: what a network reads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields
from functools import lru_cache
from importlib import import_module
from types import ModuleType
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from openff.toolkit import Molecule, Topology
from rdkit import Chem

from openff_diffsystem._jax.types import AnyArray
from openff_diffsystem.chemistry.molecule import PreparedMolecule, as_molecule
from openff_diffsystem.exceptions import (
    InvalidInputError,
    MissingStackError,
    ParameterMismatchError,
    UnsupportedInputError,
)
from openff_diffsystem.system.data import SystemData

ELEMENTS = ("H", "B", "C", "N", "O", "F", "Si", "P", "S", "Cl", "Br", "I")
"""Elements with a feature of their own; other elements differ in ``atomic_number``."""

RING_SIZES = range(3, 9)

HYBRIDISATIONS = ("SP", "SP2", "SP3", "SP3D", "SP3D2")

NODE_FEATURES = (
    *ELEMENTS,
    *("atomic_number", "mass", "covalent_radius", "degree", "valence", "formal_charge", "aromatic"),
    *(f"ring{size}" for size in RING_SIZES),
    *HYBRIDISATIONS,
)
"""Columns of ``MoleculeGraph.nodes``. ``mass`` is in dalton, ``covalent_radius`` in nm and ``formal_charge`` in e;
``degree`` is the number of neighbours and ``valence`` the sum of bond orders. The other features are 0 or 1: the
element, ``aromatic``, ``ringN`` (the atom is in a ring of N atoms), and the hybridisation."""

BOND_FEATURES = ("single", "double", "triple", "in_ring", "conjugated", "aromatic")
"""Columns of ``MoleculeGraph.bond_features``, 0 or 1. An aromatic bond is neither single nor double."""

_TABLE = Chem.GetPeriodicTable()

ELEMENT_NUMBERS = tuple(_TABLE.GetAtomicNumber(symbol) for symbol in ELEMENTS)


def symbol_of(number: int) -> str:
    """The symbol of an element."""
    return _TABLE.GetElementSymbol(number)


def check_molecules(system: SystemData) -> None:
    """Raise if the molecules of a system are unknown, as in one made from an OpenMM System."""
    if not system.molecules:
        raise ParameterMismatchError(
            "the molecules of this system are not known: make it with DiffSystem.from_smirnoff or from_interchange"
        )


class MoleculeGraph(eqx.Module):
    """One molecule, or several side by side: atoms with features, and every bond, angle and torsion. A pytree.

    Arrays are NumPy arrays, or JAX arrays after :meth:`to_jax`; both support DLPack, so that
    ``torch.from_dlpack(graph.nodes)`` shares the memory.

    Attributes
    ----------
    nodes
        ``(n_atoms, n_features)``, float64, the columns of ``NODE_FEATURES``.
    bond_features
        ``(n_bonds, n_features)``, float64, the columns of ``BOND_FEATURES``.
    molecule
        ``(n_atoms,)``, int32: the molecule of each atom.
    bonds, angles, propers
        ``(n, 2)``, ``(n, 3)`` and ``(n, 4)``, int32: the atoms of each term. Each term is listed once, starting from
        the end with the smaller index; rows are in ascending order.
    impropers
        ``(n, 4)``, int32: for each atom with three neighbours, this atom second in its row, and the neighbours in
        ascending order.
    n_molecules
        Number of molecules. Static.
    """

    nodes: Float[AnyArray, "atoms features"]
    bond_features: Float[AnyArray, "bonds bond_features"]
    molecule: Int[AnyArray, " atoms"]
    bonds: Int[AnyArray, "bonds 2"]
    angles: Int[AnyArray, "angles 3"]
    propers: Int[AnyArray, "propers 4"]
    impropers: Int[AnyArray, "impropers 4"]
    n_molecules: int = eqx.field(static=True)

    @classmethod
    def from_molecule(cls, molecule: object) -> MoleculeGraph:
        """The graph of a ``Molecule``, a one-molecule ``Topology``, or an RDKit molecule with explicit hydrogens.

        Aromaticity is that of SMIRNOFF's model.

        Raises
        ------
        UnsupportedInputError
            For anything else.
        """
        prepared = PreparedMolecule(as_molecule(molecule))
        # writing a molecule as SMILES and reading it again may change the order of its bonds
        pairs = sorted(prepared.bonds)
        bonds = [prepared.rdmol.GetBondBetweenAtoms(*pair) for pair in pairs]
        impropers = [
            (around[0], centre, *around[1:]) for centre, around in enumerate(prepared.neighbours) if len(around) == 3
        ]
        return cls(
            nodes=np.array([_atom_features(atom) for atom in prepared.rdmol.GetAtoms()], dtype=float),
            bond_features=np.array([_bond_features(b) for b in bonds], dtype=float).reshape(-1, len(BOND_FEATURES)),
            molecule=np.zeros(prepared.n_atoms, dtype=np.int32),
            bonds=_indices(pairs, 2),
            angles=_indices(sorted(prepared.angles), 3),
            propers=_indices(sorted(prepared.propers), 4),
            impropers=_indices(impropers, 4),
            n_molecules=1,
        )

    @classmethod
    def from_molecules(cls, molecules: Topology | Molecule | Iterable[object]) -> MoleculeGraph:
        """One graph of a ``Topology`` or of several molecules, side by side in their order.

        Raises
        ------
        InvalidInputError
            If there are no molecules.
        UnsupportedInputError
            For a single ``Molecule``; use :meth:`from_molecule`.
        """
        if isinstance(molecules, Molecule):
            raise UnsupportedInputError("expected several molecules or a Topology, got a Molecule; see from_molecule")
        molecules = molecules.molecules if isinstance(molecules, Topology) else molecules
        return cls.concatenate([cls.from_molecule(molecule) for molecule in molecules])

    @classmethod
    def from_system(cls, system: SystemData, molecules: Sequence[int] | None = None) -> MoleculeGraph:
        """One graph of the unique molecules of a system, in the order of ``system.molecules``, without virtual sites.

        Parameters
        ----------
        molecules
            Positions in ``system.molecules``; by default all of them.

        Raises
        ------
        ParameterMismatchError
            If the molecules of the system are unknown, or a position is out of range.
        """
        check_molecules(system)
        n_molecules = len(system.molecules)
        chosen = range(n_molecules) if molecules is None else molecules
        if any(not 0 <= i < n_molecules for i in chosen):
            raise ParameterMismatchError(f"molecules must be numbers from 0 to {n_molecules - 1}, got {list(chosen)}")
        return cls.concatenate([_graph_of_smiles(system.molecules[i][0]) for i in chosen])

    @classmethod
    def concatenate(cls, graphs: Sequence[MoleculeGraph]) -> MoleculeGraph:
        """Graphs side by side, with atoms, bonds and other terms in order.

        The result has JAX arrays if one of the graphs does, NumPy arrays otherwise.

        Raises
        ------
        InvalidInputError
            If there are no graphs.
        """
        if not graphs:
            raise InvalidInputError("there is no molecule to make a graph of")
        array = jnp if any(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(list(graphs))) else np
        first = np.cumsum([0, *(graph.n_atoms for graph in graphs)])
        count = np.cumsum([0, *(graph.n_molecules for graph in graphs)])
        arrays = {
            name: array.concatenate(
                [getattr(graph, name) + shift for graph, shift in zip(graphs, by[:-1].tolist(), strict=True)]
            )
            for name, by in (("molecule", count), *((term, first) for term in _TERMS))
        }
        return cls(
            nodes=array.concatenate([graph.nodes for graph in graphs]),
            bond_features=array.concatenate([graph.bond_features for graph in graphs]),
            n_molecules=int(count[-1]),
            **{name: one.astype(np.int32) for name, one in arrays.items()},
        )

    @property
    def n_atoms(self) -> int:
        return self.nodes.shape[0]

    @property
    def n_bonds(self) -> int:
        return self.bonds.shape[0]

    @property
    def formal_charges(self) -> Float[Array, " molecules"]:
        """Formal charge of each molecule, ``(n_molecules,)``, e."""
        return jax.ops.segment_sum(jnp.asarray(self.node("formal_charge")), self.molecule, self.n_molecules)

    def node(self, *names: str) -> Float[AnyArray, "atoms ..."]:
        """Node features by name: ``(n_atoms,)`` for one name, ``(n_atoms, n)`` for several.

        Raises
        ------
        ParameterMismatchError
            If there is no such feature.
        """
        return _columns(self.nodes, NODE_FEATURES, names)

    def bond(self, *names: str) -> Float[AnyArray, "bonds ..."]:
        """Bond features by name, like :meth:`node`."""
        return _columns(self.bond_features, BOND_FEATURES, names)

    def to_jax(self) -> MoleculeGraph:
        """The same graph with JAX arrays, features in JAX's default precision."""
        return jax.tree.map(jnp.asarray, self)

    def to_numpy(self) -> dict[str, Float[np.ndarray, "..."] | Int[np.ndarray, "..."]]:
        """The arrays by name."""
        return {f.name: np.asarray(getattr(self, f.name)) for f in fields(self) if f.name != "n_molecules"}

    def to_networkx(self) -> Any:
        """A ``networkx.Graph``: features are attributes of nodes and edges, lists of terms are attributes of the graph.

        Raises
        ------
        MissingStackError
            If networkx is not installed.
        """
        networkx = _optional("networkx", "pip install openff-diffsystem[neural]")
        arrays = self.to_numpy()
        graph = networkx.Graph(**{name: arrays[name].tolist() for name in ("angles", "propers", "impropers")})
        for i, (features, molecule) in enumerate(zip(arrays["nodes"], arrays["molecule"], strict=True)):
            graph.add_node(i, molecule=int(molecule), **dict(zip(NODE_FEATURES, features.tolist(), strict=True)))
        for (a, b), features in zip(arrays["bonds"].tolist(), arrays["bond_features"].tolist(), strict=True):
            graph.add_edge(a, b, **dict(zip(BOND_FEATURES, features, strict=True)))
        return graph

    def to_torch_geometric(self) -> Any:
        """A ``torch_geometric.data.Data``: ``x``, ``edge_index``, ``edge_attr`` (each bond both ways), ``batch``.

        Terms are ``angle_index``, ``proper_index`` and ``improper_index``, ``(n_atoms_per_term, n)``, which PyTorch
        Geometric renumbers when it makes batches.

        Raises
        ------
        MissingStackError
            If PyTorch Geometric is not installed.
        """
        data = _optional("torch_geometric.data", "pip install openff-diffsystem[graphs]")
        torch = _optional("torch", "pip install openff-diffsystem[torch]")
        arrays = self.to_numpy()
        both = np.concatenate([arrays["bonds"], arrays["bonds"][:, ::-1]]).T
        return data.Data(
            x=torch.from_numpy(arrays["nodes"]).to(torch.get_default_dtype()),
            edge_index=torch.from_numpy(both.astype(np.int64)),
            edge_attr=torch.from_numpy(np.tile(arrays["bond_features"], (2, 1))).to(torch.get_default_dtype()),
            batch=torch.from_numpy(arrays["molecule"].astype(np.int64)),
            **{
                f"{name[:-1]}_index": torch.from_numpy(arrays[name].T.astype(np.int64).copy())
                for name in ("angles", "propers", "impropers")
            },
        )

    def to_dgl(self) -> Any:
        """A ``dgl.DGLGraph`` of atoms, each bond both ways, with ``ndata["h"]`` and ``edata["h"]``.

        Several molecules are a batch that ``dgl.unbatch`` takes apart.

        Raises
        ------
        MissingStackError
            If DGL is not installed.
        """
        dgl = _optional("dgl", "pip install openff-diffsystem[graphs]")
        torch = _optional("torch", "pip install openff-diffsystem[torch]")
        arrays = self.to_numpy()
        a, b = np.concatenate([arrays["bonds"], arrays["bonds"][:, ::-1]]).T.astype(np.int64)
        of_edge = arrays["molecule"][a]
        order = np.argsort(of_edge, kind="stable")  # DGL expects the edges of a molecule one after the other
        graph = dgl.graph((torch.from_numpy(a[order]), torch.from_numpy(b[order])), num_nodes=self.n_atoms)
        features = np.tile(arrays["bond_features"], (2, 1))[order]
        graph.ndata["h"] = torch.from_numpy(arrays["nodes"]).to(torch.get_default_dtype())
        graph.edata["h"] = torch.from_numpy(features).to(torch.get_default_dtype())
        graph.set_batch_num_nodes(torch.from_numpy(np.bincount(arrays["molecule"], minlength=self.n_molecules)))
        graph.set_batch_num_edges(torch.from_numpy(np.bincount(of_edge, minlength=self.n_molecules)))
        return graph

    def __repr__(self) -> str:
        terms = ", ".join(f"{getattr(self, name).shape[0]} {name}" for name in _TERMS)
        return f"MoleculeGraph({self.n_molecules} molecules, {self.n_atoms} atoms, {terms})"


_TERMS = ("bonds", "angles", "propers", "impropers")


def _atom_features(atom: Chem.Atom) -> list[float]:
    number = atom.GetAtomicNum()
    return [
        *(atom.GetSymbol() == element for element in ELEMENTS),
        number,
        atom.GetMass(),
        _TABLE.GetRcovalent(number) / 10,
        atom.GetDegree(),
        atom.GetTotalValence(),
        atom.GetFormalCharge(),
        atom.GetIsAromatic(),
        *(atom.IsInRingSize(size) for size in RING_SIZES),
        *(atom.GetHybridization().name == name for name in HYBRIDISATIONS),
    ]


def _bond_features(bond: Chem.Bond) -> list[float]:
    aromatic = bond.GetIsAromatic()
    order = None if aromatic else bond.GetBondType().name
    return [
        *(order == name for name in ("SINGLE", "DOUBLE", "TRIPLE")),
        bond.IsInRing(),
        bond.GetIsConjugated(),
        aromatic,
    ]


@lru_cache(maxsize=256)
def molecule_of_smiles(mapped: str) -> Molecule:
    """The molecule of one of ``system.molecules``; callers must not change it.

    Systems made from an Interchange list every copy, so the same SMILES is often read many times.
    """
    return Molecule.from_mapped_smiles(mapped, allow_undefined_stereo=True)


@lru_cache(maxsize=256)
def _graph_of_smiles(mapped: str) -> MoleculeGraph:
    """The graph of :func:`molecule_of_smiles`. Callers share its arrays, so they must not hand them out."""
    return MoleculeGraph.from_molecule(molecule_of_smiles(mapped))


def atom_outside(graph: MoleculeGraph, elements: Iterable[int], bonded: bool = False) -> tuple[int, int] | None:
    """The first atom of another element, and its atomic number; ``None`` if there is none, or if the graph is traced.

    Parameters
    ----------
    elements
        Atomic numbers.
    bonded
        Look only at atoms with a bond.
    """
    if isinstance(graph.nodes, jax.core.Tracer):
        return None
    numbers = np.asarray(graph.node("atomic_number"))
    other = ~np.isin(numbers, list(elements))
    if bonded:
        other &= np.asarray(graph.node("degree")) > 0
    if not other.any():
        return None
    first = int(np.argmax(other))
    return first, int(numbers[first])


def _indices(terms: Iterable[Sequence[int]], width: int) -> Int[np.ndarray, "terms {width}"]:
    return np.array(list(terms), dtype=np.int32).reshape(-1, width)


def _columns(
    array: Float[AnyArray, "rows features"], known: tuple[str, ...], names: tuple[str, ...]
) -> Float[AnyArray, "rows ..."]:
    for name in names:
        if name not in known:
            raise ParameterMismatchError(f"a graph has no feature {name!r}; there are {', '.join(known)}")
    return array[:, known.index(names[0])] if len(names) == 1 else array[:, [known.index(name) for name in names]]


def _optional(module: str, remedy: str) -> ModuleType:
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingStackError(f"{module} is not installed: {remedy}") from error
