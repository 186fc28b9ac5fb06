"""Graphs: what networks read of a molecule."""

from __future__ import annotations

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from openff.toolkit import Molecule
from rdkit import Chem

from openff_diffsystem import DiffSystem
from openff_diffsystem.exceptions import (
    InvalidInputError,
    MissingStackError,
    ParameterMismatchError,
)
from openff_diffsystem.neural import MoleculeGraph
from openff_diffsystem.neural.graph import BOND_FEATURES, NODE_FEATURES
from openff_diffsystem.neural.symmetry import refine
from tests.molecules import IMATINIB, with_charges

SMILES = (
    "O",
    "CC(=O)[O-]",
    "c1ccc2ccccc2c1",
    "C1CC1C#N",
    "C[N+](C)(C)CCO",
    "O=[N+]([O-])c1ccncc1",
    "CS(=O)(=O)N",
    IMATINIB,
)


def permuted(molecule: Molecule, seed: int) -> tuple[Molecule, np.ndarray]:
    """The molecule with its atoms in another order, and the new place of each atom."""
    order = np.random.default_rng(seed).permutation(molecule.n_atoms)
    return molecule.remap({i: int(new) for i, new in enumerate(order)}), order


def canonical(graph: MoleculeGraph, order: np.ndarray, width: int) -> set:
    terms = {2: graph.bonds, 3: graph.angles, 4: graph.propers}[width]
    return {min(tuple(row), tuple(row)[::-1]) for row in order[terms].tolist()}


@pytest.mark.parametrize("smiles", SMILES)
def test_terms_and_features_are_those_of_the_toolkit(smiles):
    molecule = with_charges(smiles, conformer=False)
    graph = MoleculeGraph.from_molecule(molecule)
    assert (graph.n_atoms, graph.n_bonds) == (molecule.n_atoms, molecule.n_bonds)
    assert len(graph.angles) == molecule.n_angles and len(graph.propers) == molecule.n_propers
    centres = [i for i, atom in enumerate(molecule.atoms) if len(list(atom.bonded_atoms)) == 3]
    assert graph.impropers[:, 1].tolist() == centres
    assert canonical(graph, np.arange(graph.n_atoms), 4) == {
        min(t, t[::-1]) for t in (tuple(molecule.atom_index(a) for a in torsion) for torsion in molecule.propers)
    }
    for i, atom in enumerate(molecule.atoms):
        shown = dict(zip(NODE_FEATURES, graph.nodes[i], strict=True))
        assert shown["atomic_number"] == atom.atomic_number
        assert shown["formal_charge"] == atom.formal_charge.m
        assert shown["aromatic"] == atom.is_aromatic
        assert shown["degree"] == len(list(atom.bonded_atoms))
        assert shown["mass"] == pytest.approx(atom.mass.m, rel=2e-3)  # tables of atomic weights differ that much
        assert shown[atom.symbol] == 1
    for pair, features in zip(graph.bonds.tolist(), graph.bond_features, strict=True):
        bond, shown = molecule.get_bond_between(*pair), dict(zip(BOND_FEATURES, features, strict=True))
        assert shown["aromatic"] == bond.is_aromatic and shown["in_ring"] == bond.is_in_ring()
        if not bond.is_aromatic:
            assert shown["single"] + 2 * shown["double"] + 3 * shown["triple"] == bond.bond_order


@pytest.mark.parametrize("smiles", SMILES)
def test_atom_order_permutes_rows_and_nothing_else(smiles):
    molecule = with_charges(smiles, conformer=False)
    graph = MoleculeGraph.from_molecule(molecule)
    for seed in range(3):
        other, order = permuted(molecule, seed)
        again = MoleculeGraph.from_molecule(other)
        np.testing.assert_array_equal(again.nodes[order], graph.nodes)
        for width in (2, 3, 4):
            assert canonical(graph, order, width) == canonical(again, np.arange(graph.n_atoms), width)
        features = {
            tuple(sorted(order[pair])): tuple(f) for pair, f in zip(graph.bonds, graph.bond_features, strict=True)
        }
        assert features == {tuple(p): tuple(f) for p, f in zip(again.bonds, again.bond_features, strict=True)}
        centres = {(order[b], *sorted(order[[a, c, d]])) for a, b, c, d in graph.impropers}
        assert centres == {(b, *sorted((a, c, d))) for a, b, c, d in again.impropers}


def test_ring_sizes_and_hybridisation():
    graph = MoleculeGraph.from_molecule(Molecule.from_smiles("C1CC1C#N"))
    heavy = graph.node("atomic_number") > 1
    assert graph.node("ring3")[heavy].tolist() == [1, 1, 1, 0, 0]
    assert graph.node("SP")[heavy].tolist() == [0, 0, 0, 1, 1]
    assert not graph.node("ring4", "ring5", "ring6", "ring7", "ring8").any()


def test_of_systems_and_rdkit_molecules(sage):
    ethanol, water = with_charges("CCO"), with_charges("O")
    system = DiffSystem.from_smirnoff(sage, [water, ethanol, water], charge_from_molecules=[ethanol])
    graph = MoleculeGraph.from_system(system)
    together = MoleculeGraph.from_molecules([water, ethanol])
    for name, array in together.to_numpy().items():
        np.testing.assert_array_equal(graph.to_numpy()[name], array)
    assert graph.molecule.tolist() == [0] * 3 + [1] * 9
    only = MoleculeGraph.from_system(system, [1])
    np.testing.assert_array_equal(only.bonds + 3, graph.bonds[2:])
    rdmol = Chem.AddHs(Chem.MolFromSmiles("CC(=O)[O-]"))
    assert MoleculeGraph.from_molecule(rdmol).formal_charges.tolist() == [-1]


def test_is_a_pytree_in_both_precisions():
    graph = MoleculeGraph.from_molecule(Molecule.from_smiles("CC(=O)[O-]"))
    for x64, dtype in ((True, jnp.float64), (False, jnp.float32)):
        with jax.enable_x64(x64):
            arrays = graph.to_jax()
            assert arrays.nodes.dtype == dtype and arrays.bonds.dtype == jnp.int32
            assert float(jax.jit(lambda g: g.formal_charges[0])(arrays)) == -1
    assert isinstance(graph.nodes, np.ndarray)


def test_side_by_side_arrays_stay_of_their_kind():
    graphs = [MoleculeGraph.from_molecule(Molecule.from_smiles(smiles)) for smiles in ("O", "CC(=O)N")]
    expected = MoleculeGraph.concatenate(graphs)
    assert all(isinstance(array, np.ndarray) for array in jax.tree.leaves(expected))
    both = [graph.to_jax() for graph in graphs]
    traced = jax.jit(MoleculeGraph.concatenate)(both)
    for found in (MoleculeGraph.concatenate(both), MoleculeGraph.concatenate([graphs[0], both[1]]), traced):
        assert found.n_molecules == 2
        for name, array in expected.to_numpy().items():
            assert isinstance(getattr(found, name), jax.Array) and getattr(found, name).dtype == array.dtype
            np.testing.assert_array_equal(getattr(found, name), array)


def test_graphs_of_systems_are_made_once_and_nobody_else_s(ethanol, monkeypatch):
    """Copies of an Interchange are asked for one by one; arrays that are handed out can be written to."""
    graph = MoleculeGraph.from_system(ethanol)
    before = graph.nodes.copy()
    graph.nodes[:] = 0
    monkeypatch.setattr(MoleculeGraph, "from_molecule", None)
    np.testing.assert_array_equal(MoleculeGraph.from_system(ethanol).nodes, before)


def test_refinement_finds_the_symmetry_of_benzene_and_stops_where_told():
    toluene = MoleculeGraph.from_molecule(Molecule.from_smiles("Cc1ccccc1"))
    carbon = toluene.node("atomic_number") == 6
    assert len(set(refine(toluene)[carbon])) == 5  # methyl, ipso, ortho, meta, para
    assert (
        len(set(refine(toluene, rounds=0)[carbon])) == 2
    )  # without looking around, one carbon in a ring is like another
    assert len(set(refine(toluene, rounds=1)[carbon])) == 3


def test_networkx():
    networkx = pytest.importorskip("networkx")
    molecule = with_charges("CC(=O)Nc1ccccc1")
    graph = MoleculeGraph.from_molecule(molecule).to_networkx()
    theirs = molecule.to_networkx()
    assert networkx.is_isomorphic(graph, theirs, node_match=lambda a, b: a["atomic_number"] == b["atomic_number"])
    assert graph.nodes[1]["SP2"] == 1 and graph.edges[1, 2]["double"] == 1
    assert len(graph.graph["propers"]) == molecule.n_propers


def test_dlpack_shares_memory():
    torch = pytest.importorskip("torch")
    graph = MoleculeGraph.from_molecule(Molecule.from_smiles("CCO"))
    tensor = torch.from_dlpack(graph.nodes)
    tensor[0, 0] = 7
    assert graph.nodes[0, 0] == 7
    np.testing.assert_array_equal(torch.from_dlpack(graph.to_jax().propers).numpy(), graph.propers)


def test_torch_geometric_batches_renumber_terms():
    pytest.importorskip("torch_geometric")
    from torch_geometric.data import Batch

    graphs = [MoleculeGraph.from_molecule(Molecule.from_smiles(smiles)) for smiles in ("CCO", "CC(=O)N")]
    datas = [graph.to_torch_geometric() for graph in graphs]
    for data in datas:
        del data.batch
    batch, both = Batch.from_data_list(datas), MoleculeGraph.concatenate(graphs)
    for name, theirs in (("angles", batch.angle_index), ("propers", batch.proper_index)):
        np.testing.assert_array_equal(theirs.numpy().T, getattr(both, name))
    np.testing.assert_array_equal(batch.improper_index.numpy().T, both.impropers)
    assert batch.edge_index.shape == (2, 2 * both.n_bonds) and batch.edge_attr.shape[0] == 2 * both.n_bonds


def test_dgl_takes_a_batch_apart(monkeypatch):
    monkeypatch.setenv("DGLBACKEND", "pytorch")  # without it, DGL writes to the home directory when imported
    dgl = pytest.importorskip("dgl")
    graphs = [MoleculeGraph.from_molecule(Molecule.from_smiles(smiles)) for smiles in ("CCO", "[Na+]", "CC(=O)N")]
    parts = dgl.unbatch(MoleculeGraph.concatenate(graphs).to_dgl())
    for graph, part in zip(graphs, parts, strict=True):
        alone = graph.to_dgl()
        np.testing.assert_array_equal(part.ndata["h"], graph.nodes.astype(np.float32))
        np.testing.assert_array_equal(part.edata["h"], alone.edata["h"])
        for here, there in zip(part.edges(), alone.edges(), strict=True):
            np.testing.assert_array_equal(here, there)
        pairs = set(zip(*(ends.tolist() for ends in alone.edges()), strict=True))
        assert pairs == {(a, b) for bond in graph.bonds.tolist() for a, b in (bond, bond[::-1])}


@pytest.mark.parametrize(
    ("module", "method"),
    [("dgl", "to_dgl"), ("torch_geometric.data", "to_torch_geometric"), ("networkx", "to_networkx")],
)
def test_missing_packages_are_named(monkeypatch, module, method):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingStackError, match=module.split(".")[0]):
        getattr(MoleculeGraph.from_molecule(Molecule.from_smiles("O")), method)()


def test_errors():
    graph = MoleculeGraph.from_molecule(Molecule.from_smiles("O"))
    with pytest.raises(ParameterMismatchError, match="no feature 'colour'"):
        graph.node("colour")
    with pytest.raises(InvalidInputError, match="no molecule"):
        MoleculeGraph.concatenate([])
    with pytest.raises(InvalidInputError, match="implicit hydrogens"):
        MoleculeGraph.from_molecule(Chem.MolFromSmiles("CCO"))
