"""The valence network: what it must not depend on, what it may emit, and its energies and gradients in OpenMM."""

from __future__ import annotations

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from openff.toolkit import ForceField, Molecule

from openff_diffsystem import DiffSystem
from openff_diffsystem.exceptions import UnassignedParameterError
from openff_diffsystem.neural import MoleculeGraph, ValenceNetwork, generic_valence, lambda_module
from openff_diffsystem.neural.graph import NODE_FEATURES
from tests.molecules import with_charges
from tests.neural.test_graph import permuted
from tests.openmm_network import with_valence
from tests.openmm_reference import ENERGY_TOLERANCE, Reference

ROUNDING = {"rtol": 1e-12, "atol": 1e-12}
"""What a change of the order of summation may change in double precision, after three layers."""


EMIT = jax.jit(lambda network, graph: network(graph))
"""Compiled as a whole, which takes less time than operation by operation."""


@pytest.fixture(scope="module")
def network():
    """Far from the textbook, so that nothing is equal by chance."""
    return ValenceNetwork(width=16, n_layers=3, key=jax.random.key(3), spread=1.0)


@pytest.fixture(scope="module")
def generic(sage):
    return generic_valence(sage)


def by_atoms(graph: MoleculeGraph, emitted: dict, order: np.ndarray) -> dict:
    """What is emitted for each term, by its atoms in another numbering."""
    found = {}
    for section, terms in (("Bonds", graph.bonds), ("Angles", graph.angles), ("ProperTorsions", graph.propers)):
        for i, atoms in enumerate(order[terms].tolist()):
            key = (section, *min(tuple(atoms), tuple(atoms)[::-1]))
            found[key] = np.concatenate([np.ravel(values[i]) for values in emitted[section].values()])
    for i, (a, centre, b, c) in enumerate(order[graph.impropers].tolist()):
        found["ImproperTorsions", centre, *sorted((a, b, c))] = np.asarray(emitted["ImproperTorsions"]["k"][i])
    return found


@pytest.mark.parametrize("smiles", ["CC(=O)Nc1ccccc1", "C1CC1C#N", "C[C@H](F)O"])
def test_does_not_depend_on_the_order_of_atoms(network, smiles):
    molecule = with_charges(smiles, conformer=False)
    graph = MoleculeGraph.from_molecule(molecule)
    emitted = by_atoms(graph, EMIT(network, graph), np.arange(graph.n_atoms))
    for seed in range(3):
        other, order = permuted(molecule, seed)
        again = MoleculeGraph.from_molecule(other)
        found = by_atoms(again, EMIT(network, again), np.argsort(order))
        assert found.keys() == emitted.keys()
        for key, values in emitted.items():
            np.testing.assert_allclose(found[key], values, **ROUNDING, err_msg=str(key))


def test_does_not_depend_on_the_direction_of_terms(network):
    graph = MoleculeGraph.from_molecule(Molecule.from_smiles("CC(=O)NCC#N"))
    turned = dataclasses.replace(
        graph, bonds=graph.bonds[:, ::-1], angles=graph.angles[:, ::-1], propers=graph.propers[:, ::-1]
    )
    expected = EMIT(network, graph)
    for order in ([0, 1, 2, 3], [2, 1, 3, 0], [3, 1, 0, 2], [0, 1, 3, 2], [2, 1, 0, 3], [3, 1, 2, 0]):
        found = EMIT(network, dataclasses.replace(turned, impropers=graph.impropers[:, order]))
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **ROUNDING), found, expected)
    assert np.ptp(expected["ImproperTorsions"]["k"]) > 1e-3 and np.ptp(expected["ProperTorsions"]["k"]) > 1e-3


def test_does_not_depend_on_where_charges_are_drawn(network):
    groups = {
        "CC(=O)[O-]": "[C:1]~[OX1:2]",
        "C[N+](=O)[O-]": "[N:1]~[OX1:2]",
        "CP(=O)([O-])[O-]": "[P:1]~[OX1:2]",
        "CS(=O)(=O)[O-]": "[S:1]~[OX1:2]",
        "NC(=[NH2+])N": "[C:1]~[NX3:2]",
    }
    molecules = [Molecule.from_smiles(smiles) for smiles in groups]
    graph = MoleculeGraph.from_molecules(molecules)
    emitted = [np.asarray(values) for values in EMIT(network, graph)["Bonds"].values()]
    for i, (molecule, pattern) in enumerate(zip(molecules, groups.values(), strict=True)):
        first = int(np.flatnonzero(graph.molecule == i)[0])
        pairs = [sorted(first + atom for atom in pair) for pair in molecule.chemical_environment_matches(pattern)]
        rows = [graph.bonds.tolist().index(pair) for pair in pairs]
        others = [row for row in np.flatnonzero(graph.molecule[graph.bonds[:, 0]] == i) if row not in rows]
        assert len(rows) >= 2 and others
        for values in emitted:
            np.testing.assert_allclose(values[rows], values[rows[0]], rtol=1e-12)
            assert np.abs(values[others] - values[rows[0]]).min() > 1e-6 * values[rows[0]]


def test_starts_from_the_textbook():
    graph = MoleculeGraph.from_molecule(Molecule.from_smiles("C=CC#N"))
    emitted = EMIT(ValenceNetwork(width=16, key=jax.random.key(0), spread=0.0), graph)
    radius = graph.nodes[:, NODE_FEATURES.index("covalent_radius")]
    np.testing.assert_allclose(emitted["Bonds"]["length"], radius[graph.bonds].sum(axis=1), rtol=1e-12)
    np.testing.assert_allclose(emitted["Bonds"]["k"], 240_000, rtol=1e-12)
    centre = graph.angles[:, 1]
    for degrees, chosen in ((120, graph.node("SP2")[centre]), (175, graph.node("SP")[centre])):
        np.testing.assert_allclose(np.rad2deg(emitted["Angles"]["angle"])[chosen > 0], degrees, rtol=1e-12)
    assert not np.any(emitted["ProperTorsions"]["k"]) and not np.any(emitted["ImproperTorsions"]["k"])


def test_numbers_stay_physical_whatever_the_weights(network):
    graph = MoleculeGraph.from_molecule(Molecule.from_smiles("CC(=O)Nc1ccccc1"))
    for factor in (-30.0, 30.0):
        emitted = EMIT(jax.tree.map(lambda leaf, f=factor: f * leaf, network), graph)
        for values in (*emitted["Bonds"].values(), emitted["Angles"]["k"]):
            assert np.all(np.isfinite(values)) and np.all(values >= 0)
        assert np.all((emitted["Angles"]["angle"] >= 0) & (emitted["Angles"]["angle"] <= np.pi))
    straight = MoleculeGraph.from_molecule(Molecule.from_smiles("CC#CC"))
    about_sp = straight.node("SP")[straight.propers[:, 1:3]].any(axis=1)
    assert about_sp.any() and not np.any(EMIT(network, straight)["ProperTorsions"]["k"][about_sp])


def test_single_precision(network):
    graph = MoleculeGraph.from_molecule(Molecule.from_smiles("CC(=O)N"))
    expected = EMIT(network, graph)
    with jax.enable_x64(False):
        emitted = EMIT(jax.tree.map(lambda leaf: leaf.astype(jnp.float32), network), graph)
        assert {leaf.dtype for leaf in jax.tree.leaves(emitted)} == {jnp.dtype(jnp.float32)}
    # sums of tens of numbers of size one, each to 6e-8, in units of the largest
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5 * np.abs(b).max()), emitted, expected)


def test_generic_valence_has_a_row_for_every_term_and_keeps_the_rest(sage, stock_sage, generic):
    molecule = with_charges("CC(=O)Nc1ccccc1C#N")
    graph = MoleculeGraph.from_molecule(molecule)
    system = DiffSystem.from_smirnoff(generic, molecule, charge_from_molecules=[molecule])
    counts = [len(system.indices(section)) for section in ("Bonds", "Angles", "ProperTorsions", "ImproperTorsions")]
    terms = (graph.bonds, graph.angles, graph.propers, graph.impropers)
    assert counts == [len(rows) * n for rows, n in zip(terms, (1, 1, 6, 18), strict=True)]
    assert sorted(set(system.term_static["ImproperTorsions"]["periodicity"])) == [1, 2, 3, 4, 5, 6]
    before = DiffSystem.from_smirnoff(sage, molecule, charge_from_molecules=[molecule]).parameterize()
    for section in ("vdW", "Electrostatics"):
        np.testing.assert_array_equal(system.parameterize()[section], before[section])
    assert len(system.indices("Constraints")) == 0
    water = DiffSystem.from_smirnoff(generic, Molecule.from_smiles("O"))
    assert len(water.indices("Constraints")) == 3
    assert type(generic["Bonds"]) is type(sage["Bonds"])
    assert type(generic_valence(stock_sage)["Bonds"]) is type(stock_sage["Bonds"])
    assert len(sage["Bonds"].parameters) > 1  # the argument is left alone
    assert ForceField(generic.to_string(), load_plugins=True)["Angles"].parameters[0].id == "generic-Angles"


@pytest.fixture(scope="module")
def acetamide(generic, network):
    molecule = with_charges("CC(=O)N")
    system = DiffSystem.from_smirnoff(generic, molecule, charge_from_molecules=[molecule])
    stock = generic_valence(ForceField("openff-2.2.1.offxml")).create_openmm_system(
        molecule.to_topology(), charge_from_molecules=[molecule]
    )
    compose = lambda_module(system, {"valence": network})
    return system, stock, compose


def test_energy_is_that_of_openmm(network, acetamide):
    system, stock, compose = acetamide
    parameters = jax.jit(compose)(None, {"valence": network})
    reference = Reference(with_valence(stock, system, parameters))
    potential = system.to_jax_potential()
    assert float(potential(system.positions, parameters)) == pytest.approx(
        reference.energy(system.positions), **ENERGY_TOLERANCE
    )
    forces = -jax.grad(potential)(system.positions, parameters)
    np.testing.assert_allclose(forces, reference.forces(system.positions), rtol=1e-7, atol=1e-5)


def test_gradient_in_the_weights_is_that_of_openmm(network, acetamide):
    """Along random directions in the weights, by central differences of OpenMM's energies of the emitted numbers.

    A step of 1e-5 has a truncation error of some 1e-10 of the third derivative, and a rounding error of 1e-16 / 1e-5 of
    the energy: 1e-6 of the gradient is allowed.
    """
    system, stock, compose = acetamide
    potential = system.to_jax_potential()
    gradient = jax.jit(jax.grad(lambda model: potential(system.positions, compose(None, {"valence": model}))))(network)
    rng, step, parameterize = np.random.default_rng(0), 1e-5, jax.jit(compose)
    for _ in range(3):
        direction = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape), network)
        energies = []
        for sign in (1, -1):
            moved = jax.tree.map(lambda leaf, d, s=sign: leaf + s * step * d, network, direction)
            parameters = parameterize(None, {"valence": moved})
            energies.append(Reference(with_valence(stock, system, parameters)).energy(system.positions))
        expected = (energies[0] - energies[1]) / (2 * step)
        parts = jax.tree.map(lambda g, d: float(np.vdot(g, d)), gradient, direction)
        assert sum(jax.tree.leaves(parts)) == pytest.approx(expected, rel=1e-6)


def test_elements_without_an_input_are_refused_by_name(network):
    """They would all look alike to the network, and not to its lengths. Monatomic ions have no terms to emit."""
    for smiles, symbol in (("C[SeH]", "Se"), ("C[TeH]", "Te")):
        graph = MoleculeGraph.from_molecule(Molecule.from_smiles(smiles))
        for use in (network, network.atoms, network.atom_classes):
            with pytest.raises(UnassignedParameterError, match=f"ValenceNetwork .* atom 1, {symbol}; it knows H, B"):
                use(graph)
    ion, ethanol = Molecule.from_smiles("[K+]"), Molecule.from_smiles("CCO")
    both, alone = (MoleculeGraph.from_molecules(molecules) for molecules in ([ion, ethanol], [ethanol]))
    assert len(set(network.atom_classes(both))) == 1 + len(set(network.atom_classes(alone)))
    jax.tree.map(np.testing.assert_array_equal, EMIT(network, both), EMIT(network, alone))


def test_weights_can_be_saved(network, tmp_path):
    eqx.tree_serialise_leaves(str(tmp_path / "weights.eqx"), network)
    other = ValenceNetwork(width=16, n_layers=3, key=jax.random.key(4))
    again = eqx.tree_deserialise_leaves(str(tmp_path / "weights.eqx"), other)
    assert eqx.tree_equal(again, network) and not eqx.tree_equal(other, network)
