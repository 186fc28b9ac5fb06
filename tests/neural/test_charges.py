"""espaloma-charge: against expaloma's own inference, its weights' gradients against OpenMM, and as a section."""

from __future__ import annotations

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from openff.interchange.exceptions import SMIRNOFFHandlersNotImplementedError
from openff.toolkit import ForceField, Molecule, Quantity
from openff.toolkit.utils.exceptions import IncompatibleParameterError
from rdkit import Chem

from openff_diffsystem import DiffSystem
from openff_diffsystem.exceptions import (
    ChargeAssignmentError,
    InvalidInputError,
    MissingStackError,
    ParameterMismatchError,
    UnsupportedForceFieldError,
    UnsupportedInputError,
)
from openff_diffsystem.neural import (
    EspalomaCharges,
    MoleculeGraph,
    espaloma_charges,
    lambda_module,
    linkage,
    load_espaloma,
    replace_charges,
)
from openff_diffsystem.parameters.system import SystemParameters
from tests import boxes
from tests.force_fields import SITE_MOLECULE, VIRTUAL_SITES
from tests.molecules import IMATINIB, with_charges
from tests.neural.test_graph import permuted
from tests.openmm_reference import Reference

expaloma = pytest.importorskip("expaloma")
from expaloma.featurize import from_rdkit_mol, graph_to_jax  # noqa: E402

SALT = "[Cl-].C[NH3+]"

SMILES = (
    "O",
    "[Cl-]",
    SALT,
    "C[N+](C)(C)CC([O-])=O",
    "O=[N+]([O-])c1c[nH]cc1",
    "CS(=O)(=O)NP",
    "FC(Cl)(Br)I",
    IMATINIB,
)
"""Every element of the network, ions, alone and in a molecule of two fragments, and a ring that is aromatic in RDKit's
model and not in SMIRNOFF's."""

pytestmark = pytest.mark.filterwarnings("ignore:RDKit Molecule passed to from_rdkit consists of more than one")

SECTION = """<SMIRNOFF version="0.3" aromaticity_model="OEAroModel_MDL">
  <NeuralCharges version="0.3" model="{}"/>
</SMIRNOFF>"""

TIP3P = [-0.834, 0.417, 0.417]


@pytest.fixture(scope="module")
def espaloma():
    return load_espaloma()


@pytest.fixture(scope="module")
def single_espaloma():
    with jax.enable_x64(False):
        return load_espaloma()


@pytest.fixture(scope="module")
def neural_sage():
    return ForceField("openff-2.2.1.offxml", SECTION.format("espaloma-charge-0.0.8"), load_plugins=True)


def own_charges(network, molecule: Molecule) -> np.ndarray:
    """Charges by expaloma's features and network, in the precision of its weights."""
    features, senders, receivers, formal = graph_to_jax(from_rdkit_mol(molecule.to_rdkit()))
    dtype = network.w_readout.dtype
    one = jnp.zeros(molecule.n_atoms, dtype=jnp.int32)
    return np.asarray(NETWORK(network, features.astype(dtype), senders, receivers, one, formal.astype(dtype)))[:, 0]


NETWORK = jax.jit(lambda network, *arrays: network(*arrays[:-1], 1, 0.0, q_ref=arrays[-1]))


@pytest.mark.parametrize("smiles", SMILES)
def test_charges_are_those_of_expaloma(espaloma, single_espaloma, smiles):
    """In single precision, that of expaloma, to 1e-6 e: equal sums in another order differ by a few roundings of 6e-8.

    In double precision the same weights give the same charges to 1e-12: there is no other difference, except that
    expaloma keeps masses in single precision, which is why they are rounded here.
    """
    molecule = with_charges(smiles, conformer=False)
    double = np.asarray(espaloma_charges(espaloma, molecule))
    np.testing.assert_allclose(double, own_charges(espaloma.network, molecule), rtol=0, atol=1e-6)
    with jax.enable_x64(False):
        single = np.asarray(espaloma_charges(single_espaloma, molecule))
        theirs = expaloma.charges_for_rdkit_mol(molecule.to_rdkit())
    assert double.dtype == np.float64 and single.dtype == np.float32
    np.testing.assert_allclose(single, theirs, rtol=0, atol=1e-6)
    np.testing.assert_allclose(double, theirs, rtol=0, atol=1e-5)
    assert double.sum() == pytest.approx(molecule.total_charge.m, abs=1e-12)


def test_several_molecules_in_any_form_and_any_order(espaloma):
    molecules = [with_charges(smiles, conformer=False) for smiles in SMILES]
    together = espaloma_charges(espaloma, MoleculeGraph.from_molecules(molecules))
    alone = [espaloma_charges(espaloma, molecule) for molecule in molecules]
    np.testing.assert_allclose(together, np.concatenate(alone), rtol=0, atol=1e-12)
    for molecule, charges in zip(molecules, alone, strict=True):
        other, order = permuted(molecule, 0)
        np.testing.assert_allclose(espaloma_charges(espaloma, other)[order], charges, rtol=0, atol=1e-12)
        np.testing.assert_allclose(espaloma_charges(espaloma, molecule.to_rdkit()), charges, rtol=0, atol=1e-12)
    # an ion has its charge whatever the weights, and no NaN where it has no neighbour
    ion = SMILES.index("[Cl-]")
    slopes = jax.jit(jax.grad(lambda m: espaloma_charges(m, molecules[ion]).sum()))(espaloma)
    assert all(np.abs(leaf).max() < 1e-12 for leaf in jax.tree.leaves(slopes))
    number = SMILES.index(SALT)
    traced = jax.jit(espaloma_charges)(espaloma, MoleculeGraph.from_molecule(molecules[number]).to_jax())
    np.testing.assert_allclose(traced, alone[number], rtol=0, atol=1e-12)
    # in a molecule of two fragments, the charge of an atom without neighbours depends on the weights
    with jax.debug_nans(True):
        slopes = jax.grad(lambda m: espaloma_charges(m, molecules[number])[0])(espaloma)
    assert all(np.any(leaf) and np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(slopes))


def moved(model, direction, step):
    return jax.tree.map(lambda leaf, d: leaf + step * d, model, direction)


@pytest.fixture(scope="module")
def vacuum(stock_sage):
    molecule = with_charges("CC(=O)N")
    system = DiffSystem.from_smirnoff(stock_sage, molecule, charge_from_molecules=[molecule])
    return molecule, molecule.to_topology(), system, system.positions, None


@pytest.fixture(scope="module")
def box(stock_sage):
    """Acetamide in TIP3P water, whose charges stay library charges, with particle-mesh Ewald."""
    case = boxes.ligand("CC(=O)N", edge=1.9)
    system = case.system(stock_sage)
    return case.preset[0], case.topology, system, case.positions, system.neighbor_list()


@pytest.mark.filterwarnings("ignore:Preset charges")
@pytest.mark.parametrize("where", ["vacuum", "box"])
def test_gradient_in_the_weights_is_that_of_openmm(espaloma, stock_sage, where, request):
    """Through charge equilibration and Coulomb energy, along random directions in all weights.

    The reference has nothing of ours: expaloma's features and network give charges, openff-interchange an OpenMM
    system with them, and the Reference platform its energy. The step is 1e-5 of each weight; a step common to all
    would switch rectifiers whose weights have decayed to nearly nothing, which a difference counts and a derivative
    does not. Energies of up to 1e4 kJ/mol, rounded to 1e-12, leave 1e-7 kJ/mol of some 100, and the single precision of
    expaloma's masses 1e-8 of it: 1e-6 of the gradient is allowed.
    """
    molecule, topology, system, positions, neighbors = request.getfixturevalue(where)
    sources = {"Electrostatics": espaloma}
    number = next(i for i, (smiles, _) in enumerate(system.molecules) if "C" in smiles)
    compose = lambda_module(system, sources, molecules={"Electrostatics": [number]})
    potential = system.to_jax_potential()

    def energy(theta, model):
        return potential(jnp.asarray(positions), compose(theta, {"Electrostatics": model}), None, neighbors)

    theta = system.force_field_parameters
    slopes, gradient = jax.jit(jax.grad(energy, argnums=(0, 1)))(theta, espaloma)
    assert np.any(slopes.vector)
    rng = np.random.default_rng(0)
    for _ in range(2):
        direction = jax.tree.map(lambda leaf: leaf * rng.normal(size=leaf.shape), espaloma)
        energies = []
        for step in (1e-5, -1e-5):
            copy = Molecule(molecule)
            copy.partial_charges = Quantity(
                own_charges(moved(espaloma, direction, step).network, molecule), "elementary_charge"
            )
            stock = stock_sage.create_openmm_system(topology, charge_from_molecules=[copy])
            energies.append(Reference(stock).energy(positions))
        expected = (energies[0] - energies[1]) / 2e-5
        parts = jax.tree.map(lambda g, d: float(np.vdot(g, d)), gradient, direction)
        assert sum(jax.tree.leaves(parts)) == pytest.approx(expected, rel=1e-6)
        assert all(jax.tree.leaves(parts))


def test_gradients_in_single_precision(espaloma, neural_sage):
    """Energies, dL/dtheta and dL/dphi through charges and Coulomb, and the section's own charges, against double.

    A few roundings of 6e-8 in sums whose terms are larger than the sum: 1e-5 of the largest number is allowed.
    """
    molecule = with_charges("CC(=O)N")
    system = DiffSystem.from_smirnoff(neural_sage, molecule)
    potential, section = system.to_jax_potential(), neural_sage["NeuralCharges"]

    def everything(dtype):
        model = jax.tree.map(lambda leaf: leaf.astype(dtype), espaloma)
        sources = {"Electrostatics": model}
        compose = lambda_module(system, sources)
        positions, theta = (jnp.asarray(x, dtype) for x in (system.positions, system.force_field_parameters.vector))
        energy = jax.jit(
            jax.value_and_grad(lambda theta, models: potential(positions, compose(theta, models)), argnums=(0, 1))
        )
        charges, pullback, _ = jax.vjp(lambda p: section.partial_parameterize(p, molecule), model, has_aux=True)
        return energy(theta, sources), charges, pullback(jnp.arange(9, dtype=dtype)[:, None])

    expected = everything(jnp.float64)
    with jax.enable_x64(False):
        found = everything(jnp.float32)
    pairs = list(zip(*map(jax.tree.leaves, (found, expected)), strict=True))
    assert len(pairs) == 1 + 1 + 16 + 1 + 16  # the network has 16 arrays
    for single, double in pairs:
        assert single.dtype == np.float32 and double.dtype == np.float64 and np.any(double)
        np.testing.assert_allclose(single, double, rtol=0, atol=1e-5 * np.abs(double).max())


def test_section_assigns_and_is_written_back(neural_sage, espaloma, tmp_path):
    """Library charges come first (water, ions), then the network; nothing else is asked."""
    ligand, water, ion = (with_charges(s, conformer=False) for s in ("CC(=O)Nc1ccc(O)cc1", "O", "[Na+]"))
    system = DiffSystem.from_smirnoff(neural_sage, [water, ligand, ion, water])
    charges = np.asarray(system.parameterize()["Electrostatics"][:, 0])
    expected = espaloma_charges(espaloma, ligand)
    np.testing.assert_array_equal(charges, [*TIP3P, *np.asarray(expected), 1.0, *TIP3P])
    oxygen, hydrogen, *network, sodium = linkage(system, "Electrostatics")
    assert len(network) == len(set(np.round(np.asarray(expected), 12)))
    assert {link.origin for link in network} == {"constant"}
    assert all(link.origin.startswith("LibraryCharges/") for link in (oxygen, hydrogen, sodium))

    theta = system.force_field_parameters
    assert "NeuralCharges" not in {label.split("/")[0] for label in theta.labels}
    theta.to_file(tmp_path / "neural.offxml", neural_sage)
    again = ForceField(str(tmp_path / "neural.offxml"), load_plugins=True)
    assert again["NeuralCharges"].model == "espaloma-charge-0.0.8"
    assert again.to_string() == neural_sage.to_string()
    np.testing.assert_array_equal(
        DiffSystem.from_smirnoff(again, ligand).parameterize()["Electrostatics"][:, 0], expected
    )
    preset = with_charges("CC(=O)Nc1ccc(O)cc1", conformer=False)
    taken = DiffSystem.from_smirnoff(neural_sage, ligand, charge_from_molecules=[preset]).parameterize()
    np.testing.assert_allclose(taken["Electrostatics"][:, 0], preset.partial_charges.m, rtol=1e-12)


def test_handler_parameterizes_and_differentiates(neural_sage, espaloma):
    handler, molecule = neural_sage["NeuralCharges"], with_charges("CCO", conformer=False)
    charges, pullback, indices = jax.vjp(
        lambda p: handler.partial_parameterize(p, molecule), handler.params, has_aux=True
    )
    assert charges.shape == indices.shape == (9, 1) and indices.dtype == np.int32
    np.testing.assert_array_equal(charges, handler.parameterize(molecule)[0])
    np.testing.assert_array_equal(charges[:, 0], espaloma_charges(espaloma, molecule))
    (gradient,) = pullback(jnp.arange(9.0)[:, None])
    assert all(np.any(leaf) for leaf in jax.tree.leaves(gradient))
    (still,) = pullback(jnp.ones((9, 1)))  # the sum is the formal charge, whatever the weights: zero to rounding
    for zero, leaf in zip(jax.tree.leaves(still), jax.tree.leaves(gradient), strict=True):
        assert np.abs(zero).max() < 1e-10 * np.abs(leaf).max()


def test_trained_weights_are_saved_and_named_by_the_section(espaloma, neural_sage, tmp_path):
    changed = jax.tree.map(lambda leaf: 1.01 * leaf, espaloma)
    path = tmp_path / "weights.eqx"
    changed.save(path)
    molecule = with_charges("CC(=O)N", conformer=False)
    expected = np.asarray(espaloma_charges(changed, molecule))
    assert np.abs(expected - espaloma_charges(espaloma, molecule)).max() > 1e-3
    with jax.enable_x64(False):
        theirs = expaloma.charges_for_rdkit_mol(molecule.to_rdkit(), path)
    np.testing.assert_allclose(expected, theirs, rtol=0, atol=1e-5)
    named = ForceField("openff-2.2.1.offxml", SECTION.format(path), load_plugins=True)
    found = DiffSystem.from_smirnoff(named, molecule).parameterize()["Electrostatics"][:, 0]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)  # the file is in single precision


def test_weights_are_read_once_per_file(espaloma, neural_sage, tmp_path):
    """One object, which compiled functions and optimisers recognise, until the file changes."""
    section = neural_sage["NeuralCharges"]
    assert section.params is section.params
    path = tmp_path / "weights.eqx"
    espaloma.save(path)
    named = ForceField("openff-2.2.1.offxml", SECTION.format(path), load_plugins=True)["NeuralCharges"]
    before = named.params
    assert named.params is before
    jax.tree.map(lambda leaf: 2 * leaf, espaloma).save(path)
    np.testing.assert_array_equal(named.params.network.w_readout, 2 * before.network.w_readout)
    with jax.enable_x64(False):
        assert named.params.network.w_readout.dtype == np.float32


def test_files_have_the_name_that_is_given(espaloma, tmp_path):
    """Also without a suffix, which equinox would append."""
    doubled = EspalomaCharges(jax.tree.map(lambda leaf: 2 * leaf, espaloma.network))
    doubled.save(tmp_path / "weights")
    assert [path.name for path in tmp_path.iterdir()] == ["weights"]
    named = ForceField(SECTION.format(tmp_path / "weights"), load_plugins=True)["NeuralCharges"]
    for again in (load_espaloma(tmp_path / "weights"), load_espaloma(str(tmp_path / "weights")), named.params):
        np.testing.assert_array_equal(again.network.w_readout, 2 * espaloma.network.w_readout)
    for missing in (tmp_path / "nowhere.eqx", tmp_path / "nowhere"):
        with pytest.raises(FileNotFoundError, match=missing.name):
            load_espaloma(missing)


def test_plain_functions(espaloma, stock_sage):
    """Charges of one molecule in a system, by position or by molecule, in any order of its atoms."""
    ethanol, amide, water = (with_charges(s, conformer=False) for s in ("CCO", "CC(=O)N", "O"))
    system = DiffSystem.from_smirnoff(
        stock_sage, [water, ethanol, amide, ethanol, water], charge_from_molecules=[ethanol, amide]
    )
    base = system.parameterize()
    charges = espaloma_charges(espaloma, ethanol)
    found = replace_charges(system, base, ethanol, charges)
    by_hand = np.array(base["Electrostatics"][:, 0])
    by_hand[3:12] = by_hand[21:30] = charges
    np.testing.assert_array_equal(found["Electrostatics"][:, 0], by_hand)
    for section in system.sections:
        if section != "Electrostatics":
            np.testing.assert_array_equal(found[section], base[section])
    np.testing.assert_array_equal(replace_charges(system, base, 1, charges).values, found.values)
    other, _ = permuted(ethanol, 4)
    for same in (other, other.to_topology(), other.to_rdkit()):
        again = replace_charges(system, base, same, espaloma_charges(espaloma, other))
        np.testing.assert_allclose(again.values, found.values, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(replace_charges(system, base, np.int32(1), charges).values, found.values)
    composed = lambda_module(system, {"Electrostatics": espaloma}, molecules={"Electrostatics": [1]})
    np.testing.assert_allclose(composed(None, {"Electrostatics": espaloma}).values, found.values, rtol=0, atol=1e-12)


@pytest.mark.filterwarnings("error:scatter inputs have incompatible types")
def test_charges_in_a_higher_precision_promote_the_parameters(ethanol, espaloma):
    """As with lambda_module: nothing is rounded, of the charges or of what is taken over."""
    single = SystemParameters(ethanol.parameterize().values.astype(jnp.float32), ethanol.system_layout)
    charges = np.linspace(-0.1, 0.1, 9)
    found = replace_charges(ethanol, single, 0, charges)
    assert found.values.dtype == np.float64
    np.testing.assert_array_equal(found["Electrostatics"][:, 0], charges)
    np.testing.assert_array_equal(found["Bonds"], single["Bonds"])
    # the higher precision of the parameters stays
    found = replace_charges(ethanol, ethanol.parameterize(), 0, charges.astype(np.float32))
    assert found.values.dtype == np.float64
    np.testing.assert_array_equal(found["Bonds"], ethanol.parameterize()["Bonds"])


@pytest.mark.nagl
def test_nagl_networks_and_library_charges_in_one_system(espaloma):
    """NAGL's charges are constants; a network gives those of one molecule, with a gradient; water has the library's."""
    pytest.importorskip("openff.nagl")
    force_field = ForceField("openff-2.3.0.offxml", load_plugins=True)
    ethanol, amide, water = (with_charges(s) for s in ("CCO", "CC(=O)N", "O"))
    system = DiffSystem.from_smirnoff(force_field, [ethanol, amide, water])
    sources = {"Electrostatics": espaloma}
    compose = lambda_module(system, sources, molecules={"Electrostatics": [1]})
    frozen = np.asarray(force_field.get_partial_charges(ethanol).m)

    @jax.jit
    def slopes(theta, models, mask):
        return jax.grad(lambda *both: jnp.vdot(mask, compose(*both)["Electrostatics"][:, 0] ** 2), argnums=(0, 1))(
            theta, models
        )

    found = np.asarray(compose(None, sources)["Electrostatics"][:, 0])
    np.testing.assert_allclose(found[:9], frozen, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(found[9:18], espaloma_charges(espaloma, amide))
    np.testing.assert_array_equal(found[18:], TIP3P)
    theta = system.force_field_parameters
    reached = {}
    for name, first, last in (("NAGL", 0, 9), ("network", 9, 18), ("library", 18, 21)):
        mask = np.zeros(21)
        mask[first:last] = 1
        in_theta, in_weights = slopes(theta, sources, mask)
        labels = {theta.labels[i].split("/")[0] for i in np.flatnonzero(in_theta.vector)}
        reached[name] = (labels, any(np.any(leaf) for leaf in jax.tree.leaves(in_weights)))
    assert reached == {"NAGL": (set(), False), "network": (set(), True), "library": ({"LibraryCharges"}, False)}


def test_linkage_of_charges(espaloma, stock_sage):
    """Atoms that the network cannot tell apart have one charge, and the others different ones."""
    molecule = with_charges("CC(=O)Nc1ccccc1")
    system = DiffSystem.from_smirnoff(stock_sage, molecule, charge_from_molecules=[molecule])
    sources = {"Electrostatics": espaloma}
    compose = lambda_module(system, sources)
    charges = np.asarray(compose(None, sources).unique("Electrostatics")[:, 0])
    links = linkage(compose, "Electrostatics")
    assert {link.origin for link in links} == {"Electrostatics emits Electrostatics/charge"}
    for link in links:
        np.testing.assert_allclose(charges[link.rows], charges[link.rows[0]], rtol=0, atol=1e-12)
    first = charges[[link.rows[0] for link in links]]
    assert np.diff(np.sort(first)).min() > 1e-9
    sizes = sorted(len(link.rows) for link in links)
    assert sizes == [1] * 8 + [2, 2, 2, 2, 3]  # C, C, O, N, H, ipso and para C, para H; ortho and meta; methyl H


class TestErrors:
    def test_expaloma_missing(self, monkeypatch, neural_sage):
        monkeypatch.setitem(sys.modules, "expaloma", None)
        with pytest.raises(MissingStackError, match=r"pip install openff-diffsystem\[neural\]"):
            load_espaloma()
        with pytest.raises(MissingStackError, match="expaloma"):
            DiffSystem.from_smirnoff(neural_sage, Molecule.from_smiles("CO"))
        assert DiffSystem.from_smirnoff(neural_sage, Molecule.from_smiles("O")).n_atoms == 3  # not needed for water

    def test_elements_it_was_not_trained_on(self, espaloma, neural_sage):
        silane = Molecule.from_smiles("C[Si](C)(C)C")
        with pytest.raises(ChargeAssignmentError, match=r"atom 1, of atomic number 14.*charge_from_molecules"):
            espaloma_charges(espaloma, silane)
        with pytest.raises(ChargeAssignmentError, match="atomic number 5"):
            DiffSystem.from_smirnoff(neural_sage, Molecule.from_smiles("CB(O)O"))

    def test_stock_force_fields_and_interchange_refuse_the_section_by_name(self, neural_sage):
        with pytest.raises(KeyError, match="NeuralCharges"):
            ForceField("openff-2.2.1.offxml", SECTION.format("espaloma-charge-0.0.8"))
        with pytest.raises(SMIRNOFFHandlersNotImplementedError, match="NeuralCharges"):
            neural_sage.create_interchange(Molecule.from_smiles("CCO").to_topology())

    def test_models_that_are_not_there(self, tmp_path):
        molecule = Molecule.from_smiles("CO")
        for name in ("espaloma-charge-9", str(tmp_path / "nothing.eqx")):
            with pytest.raises(UnsupportedForceFieldError, match=r"no model '.*'; there is 'espaloma-charge-0\.0\.8'"):
                DiffSystem.from_smirnoff(
                    ForceField("openff-2.2.1.offxml", SECTION.format(name), load_plugins=True), molecule
                )
        (tmp_path / "other.eqx").write_bytes(b"something else")
        with pytest.raises(InvalidInputError, match=r"other\.eqx does not hold weights"):
            load_espaloma(tmp_path / "other.eqx")

    def test_two_sections_with_different_models(self):
        with pytest.raises(IncompatibleParameterError, match=r"espaloma-charge-0\.0\.8.*mine"):
            ForceField(SECTION.format("espaloma-charge-0.0.8"), SECTION.format("mine"), load_plugins=True)

    def test_replacing_charges(self, espaloma, stock_sage):
        ethanol = with_charges("CCO", conformer=False)
        system = DiffSystem.from_smirnoff(stock_sage, [ethanol], charge_from_molecules=[ethanol])
        base = system.parameterize()
        with pytest.raises(ParameterMismatchError, match=r"shape \(9,\), got \(8,\)"):
            replace_charges(system, base, 0, jnp.zeros(8))
        with pytest.raises(ParameterMismatchError, match="1 unique molecules, none is number 1"):
            replace_charges(system, base, 1, jnp.zeros(9))
        for strange in (0.7, "ethanol", None):
            with pytest.raises(UnsupportedInputError, match=r"expected a Molecule.*position in system\.molecules"):
                replace_charges(system, base, strange, jnp.zeros(9))
        with pytest.raises(InvalidInputError, match="implicit hydrogens"):
            replace_charges(system, base, Chem.MolFromSmiles("CCO"), jnp.zeros(9))
        with pytest.raises(ParameterMismatchError, match="0 unique molecules of the system are CO"):
            replace_charges(system, base, Molecule.from_smiles("CO"), jnp.zeros(6))
        sites = with_charges(SITE_MOLECULE, conformer=False)
        with pytest.warns(UserWarning, match="VirtualSites"):
            system = DiffSystem.from_smirnoff(
                ForceField("openff-2.2.1.offxml", VIRTUAL_SITES, load_plugins=True),
                sites,
                charge_from_molecules=[sites],
            )
        with pytest.raises(UnsupportedForceFieldError, match="has virtual sites"):
            replace_charges(system, system.parameterize(), 0, jnp.zeros(sites.n_atoms))
