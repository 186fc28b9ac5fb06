"""timemachine's charge handles, without OpenEye."""

from __future__ import annotations

import base64
import pickle
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from openff.toolkit import ForceField, ToolkitRegistry
from rdkit import Chem

from openff_diffsystem.chemistry.charges import models
from openff_diffsystem.exceptions import (
    ChargeAssignmentError,
    UnsupportedForceFieldError,
    UnsupportedInputError,
)
from openff_diffsystem.interop import timemachine as tm
from openff_diffsystem.interop.timemachine.handles.charge_handles import AM1BCCHandler
from openff_diffsystem.interop.timemachine.handles.increments import with_am1bcc_aromaticity
from tests.timemachine_cases import gasteiger, openff, rdkit, sage200


def test_precomputed_charges():
    mol = rdkit("O")
    with pytest.raises(ChargeAssignmentError, match=r"atom 0 .*PartialCharge"):
        tm.PrecomputedChargeHandler([], [], None).parameterize(mol)
    for atom, charge in zip(mol.GetAtoms(), (-0.8, 0.4, 0.4), strict=True):
        atom.SetProp("PartialCharge", str(charge))
    out = tm.PrecomputedChargeHandler([], [], None).parameterize(mol)
    np.testing.assert_array_equal(out, np.array([-0.8, 0.4, 0.4]) * np.sqrt(138.935456))


def test_base_charges_come_from_the_source_or_the_property():
    mol = rdkit("CO")
    handle = tm.AM1BCCHandler([], [], None)
    handle.source = gasteiger
    charges = handle.parameterize(mol)
    np.testing.assert_array_equal(charges, gasteiger(mol) * np.sqrt(138.935456))
    kept = pickle.loads(base64.b64decode(mol.GetProp("AM1BCCELF10Cache")))
    np.testing.assert_array_equal(kept, charges)
    # what timemachine writes: a pickled list of numpy numbers
    mol.SetProp("AM1BCCELF10Cache", base64.b64encode(pickle.dumps(list(charges + 1))).decode())
    np.testing.assert_array_equal(handle.parameterize(mol), charges + 1)
    out, _ = jax.vjp(partial(handle.partial_parameterize, None, mol))
    np.testing.assert_array_equal(out, charges + 1)


@pytest.mark.parametrize("content", [print, [1.0], [float("nan")] * 6, b"\x80"])
def test_a_property_runs_no_code_and_must_fit(content):
    mol = rdkit("CO")
    mol.SetProp("AM1BCCELF10Cache", base64.b64encode(pickle.dumps(content)).decode())
    with pytest.raises(ChargeAssignmentError, match="AM1BCCELF10Cache"):
        AM1BCCHandler().parameterize(mol)


def _diverged(mol):
    charges = np.zeros(mol.GetNumAtoms())
    charges[1:3] = np.nan, np.inf
    return charges


@pytest.mark.parametrize("handler", [tm.AM1BCCHandler, tm.AM1CCCHandler, tm.AM1BCCCCCHandler])
def test_charges_of_a_source_that_are_no_numbers_are_named_and_not_kept(handler):
    mol = rdkit("CO")
    handle = handler([], [], None)
    handle.source = _diverged
    for _ in range(2):
        with pytest.raises(ChargeAssignmentError, match=r"_diverged gave 2 .* nan for atom 1 \(O\)"):
            handle.parameterize(mol)
    assert not mol.HasProp(handle.property_name)
    handle.source = gasteiger
    assert np.isfinite(handle.parameterize(mol)).all()
    kept = base64.b64encode(pickle.dumps([0.0, float("inf"), *[0.0] * 4])).decode()
    mol.SetProp(handle.property_name, kept)
    with pytest.raises(ChargeAssignmentError, match=f"property {handle.property_name} has inf for atom 1"):
        handle.parameterize(mol)


def test_charges_of_a_function_that_are_no_numbers_are_named():
    """While jax traces, numbers are not known: there NaN stays NaN."""
    mol = rdkit("CO")
    handle = tm.Handles.from_smirnoff(sage200(), _diverged).q_handle
    with pytest.raises(ChargeAssignmentError, match=r"_diverged gave 2 .* nan for atom 1 \(O\)"):
        handle.parameterize(mol)
    handle = tm.FunctionChargeHandler(
        lambda params, mol: jnp.sqrt(params) * jnp.ones(mol.GetNumAtoms()), jnp.array(-1.0)
    )
    with pytest.raises(ChargeAssignmentError, match=r"lambda> gave 6 .* nan for atom 0 \(C\)"):
        handle.parameterize(mol)
    assert np.isnan(jax.jit(partial(handle.partial_parameterize, mol=mol))(handle.params)).all()


def test_a_pair_of_charges_is_two_handles():
    handle = tm.AM1BCCHandler()
    for charges in (("am1bcc", "precomputed"), (handle,), (handle, handle, handle), (handle, tm.AM1BCCHandler), ()):
        with pytest.raises(UnsupportedInputError, match="a pair of charges is two handles"):
            tm.Handles.from_smirnoff(sage200(), charges)
    assert tm.Handles.from_smirnoff(sage200(), (handle, handle)).q_handle_intra is handle


INCREMENTS = [
    "[#6X4:1]-[#1:2]",
    "[#6a:1]:[#6a:2]",
    "[#6a:1]-[#1:2]",
    "[#8:1]-[#1:2]",
    "[#6:1]~[#8:2]",
    "[#16:1]-[#8:2]",
]


def test_charge_increments():
    mol = rdkit("COc1ccccc1")
    params = np.arange(1.0, 7.0)
    handle = tm.AM1CCCHandler(INCREMENTS, params, None)
    handle.source = gasteiger
    out, pullback = jax.vjp(partial(handle.partial_parameterize, mol=mol), handle.params)
    base = gasteiger(mol) * np.sqrt(138.935456)
    # methyl: three C-H bonds and one C-O bond, all from the carbon
    assert float(out[0] - base[0]) == pytest.approx(3 * 1.0 + 5.0, abs=1e-12)
    assert float(out.sum()) == pytest.approx(base.sum(), abs=1e-11)
    cotangent = np.random.default_rng(0).normal(size=out.shape)
    (gradient,) = pullback(cotangent)
    eye = np.eye(len(params))
    columns = [np.asarray(handle.partial_parameterize(params + one, mol)) - np.asarray(out) for one in eye]
    # linear in the increments: a difference is exact up to rounding of charges of order 10
    np.testing.assert_allclose(gradient, [column @ cotangent for column in columns], atol=1e-12)
    # a pattern that matches bonds both ways, and one that matches nothing
    assert gradient[1] == 0.0 and gradient[5] == 0.0
    np.testing.assert_array_equal(jax.jit(partial(handle.partial_parameterize, mol=mol))(params), out)


def test_increments_cover_elements_and_the_first_match_wins():
    handle = tm.AM1CCCHandler(["[#6:1]-[#1:2]", "[#6X4:1]-[#1:2]"], [1.0, 10.0], None)
    handle.source = gasteiger
    mol = rdkit("C")
    base = gasteiger(mol) * np.sqrt(138.935456)
    assert float(handle.parameterize(mol)[0] - base[0]) == pytest.approx(4.0, abs=1e-12)
    with pytest.raises(RuntimeError, match="unsupported element"):
        handle.parameterize(rdkit("CP"))
    covered = tm.AM1BCCCCCHandler(["[#6:1]-[#1:2]"], [1.0], None)
    covered.source = gasteiger
    assert covered.parameterize(rdkit("CP")).shape == (7,)


@pytest.mark.parametrize(
    ("smiles", "aromatic"),
    [
        ("c1ccccc1", 6),
        ("c1cccc2ccccc12", 10),
        ("c1ccoc1", 5),
        ("C1=CC=CC=C1C=O", 6),
        ("C1=CCC=C1", 0),
        ("O=C1C=CC(=O)C=C1", 0),
        ("c1ccc2c(c1)ccc1ccccc12", 14),
        ("c1cc2ccc3cccc4ccc(c1)c2c34", 16),
        ("C1=CC=C[CH+]C=C1", 7),
        ("C1=Cc2cccc3cccc1c23", 10),
    ],
)
def test_am1bcc_aromaticity(smiles, aromatic):
    """The five kinds of Jakalian et al., and rings that are none.

    Phenanthrene has one double bond that closes a ring with two benzene rings (kind 3), pyrene has two, and tropylium
    is kind 4. The five-membered ring of acenaphthylene has no atom that could give a lone pair (kind 5): its double
    bond stays, next to a naphthalene.
    """
    marked = with_am1bcc_aromaticity(rdkit(smiles))
    assert sum(atom.GetIsAromatic() for atom in marked.GetAtoms()) == aromatic


def test_charges_of_the_force_field_with_gradients():
    handles = tm.Handles.from_smirnoff(sage200())
    handle = pickle.loads(pickle.dumps(handles.q_handle))
    sodium = Chem.MolFromSmiles("[Na+]")
    out, pullback = jax.vjp(partial(handle.partial_parameterize, mol=sodium), handle.params)
    np.testing.assert_allclose(out, [np.sqrt(138.935456)], rtol=1e-15)
    (gradient,) = pullback(np.ones(1))
    assert [handle.smirks[i] for i in np.flatnonzero(gradient)] == ["[#11+1:1]"]
    np.testing.assert_array_equal(jax.jit(partial(handle.partial_parameterize, mol=sodium))(handle.params), out)
    with pytest.raises(UnsupportedForceFieldError, match="am1bcc"):
        handles.to_file()


def test_a_function_or_network_gives_charges():
    mol = rdkit("CO")
    plain = tm.Handles.from_smirnoff(sage200(), gasteiger).q_handle
    wanted = gasteiger(mol) * np.sqrt(138.935456)
    np.testing.assert_allclose(plain.parameterize(mol), wanted, rtol=1e-15)
    features = jnp.asarray([[atom.GetAtomicNum(), 1.0] for atom in mol.GetAtoms()])
    network = tm.FunctionChargeHandler(lambda weights, mol: jnp.tanh(features @ weights), jnp.array([0.1, -0.2]))
    out, pullback = jax.vjp(partial(network.partial_parameterize, mol=mol), network.params)
    derivative = jnp.sqrt(138.935456) * (1 - (out / np.sqrt(138.935456)) ** 2) @ features
    np.testing.assert_allclose(pullback(jnp.ones(6))[0], derivative, rtol=1e-12)
    with pytest.raises(ChargeAssignmentError, match="shape"):
        tm.FunctionChargeHandler(lambda mol: np.zeros(2)).parameterize(mol)
    named = tm.Handles.from_smirnoff(sage200(), "gasteiger").q_handle
    np.testing.assert_allclose(named.parameterize(mol), wanted, rtol=1e-15)


def test_charges_are_those_of_the_registered_toolkits(monkeypatch):
    """Other toolkits may give others for the same method: what one gave is not kept for the next."""
    mol = rdkit("CCO")
    handle = tm.Handles.from_smirnoff(sage200(), "gasteiger").q_handle
    handle.parameterize(mol)
    monkeypatch.setattr(models, "GLOBAL_TOOLKIT_REGISTRY", ToolkitRegistry([]))
    with pytest.raises(ChargeAssignmentError, match="gasteiger"):
        handle.parameterize(mol)


NEURAL = """<SMIRNOFF version="0.3" aromaticity_model="OEAroModel_MDL">
  <NeuralCharges version="0.3" model="{}"/>
</SMIRNOFF>"""


def test_charges_of_a_network_that_a_section_names(tmp_path):
    """The handle's charges are the network's own, also after its file was written anew, and timemachine's times."""
    pytest.importorskip("expaloma")
    from openff_diffsystem.neural import espaloma_charges, load_espaloma

    espaloma, mol = load_espaloma(), rdkit("CCO")
    weights = tmp_path / "weights.eqx"
    espaloma.save(weights)
    wanted = np.asarray(espaloma_charges(espaloma, mol)) * np.sqrt(138.935456)
    for model in ("espaloma-charge-0.0.8", weights):
        force_field = ForceField("openff-2.0.0.offxml", NEURAL.format(model), load_plugins=True)
        handle = pickle.loads(pickle.dumps(tm.Handles.from_smirnoff(force_field).q_handle))
        np.testing.assert_allclose(handle.parameterize(mol), wanted, rtol=1e-12, atol=1e-12)
    changed = jax.tree.map(lambda leaf: 1.01 * leaf, espaloma)
    changed.save(weights)
    after = np.asarray(espaloma_charges(changed, mol)) * np.sqrt(138.935456)
    assert np.abs(after - wanted).max() > 1e-3
    # the file is in single precision
    np.testing.assert_allclose(handle.parameterize(mol), after, rtol=0, atol=1e-4)


def test_espaloma_charge_as_a_handle_with_gradients():
    """dL/dweights through timemachine's call, against central differences of expaloma's numbers times the scale.

    A step of 1e-5 leaves 1e-10 of truncation and 1e-11 of rounding: 1e-6 of the slope is allowed.
    """
    pytest.importorskip("expaloma")
    from openff_diffsystem.neural import espaloma_charges, load_espaloma

    mol = rdkit("CCO")
    handle = tm.FunctionChargeHandler(espaloma_charges, load_espaloma())
    charges, pullback = jax.vjp(partial(handle.partial_parameterize, mol=mol), handle.params)
    assert float(charges.sum()) == pytest.approx(0.0, abs=1e-10)
    cotangent = np.arange(9.0)
    (gradient,) = pullback(cotangent)
    rng, step = np.random.default_rng(0), 1e-5
    direction = jax.tree.map(lambda leaf: leaf * rng.normal(size=leaf.shape), handle.params)
    up, down = (
        np.asarray(espaloma_charges(jax.tree.map(lambda x, d, s=s: x + s * step * d, handle.params, direction), mol))
        for s in (1, -1)
    )
    expected = float(cotangent @ (up - down)) * np.sqrt(138.935456) / (2 * step)
    found = sum(float(np.vdot(g, d)) for g, d in zip(*map(jax.tree.leaves, (gradient, direction)), strict=True))
    assert found == pytest.approx(expected, rel=1e-6) and expected != 0


def test_espaloma_charge_as_a_handle_in_single_precision():
    """Charges and dL/dweights against double, to a few roundings of 6e-8 of the largest number and of what cancels."""
    pytest.importorskip("expaloma")
    mol = rdkit("CCO")

    def both():
        handle = tm.NeuralChargeHandler()
        charges, pullback = jax.vjp(partial(handle.partial_parameterize, mol=mol), handle.params)
        return charges, pullback(np.arange(9, dtype=charges.dtype))

    expected = both()
    with jax.enable_x64(False):
        found = both()
    for single, double in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
        assert single.dtype == np.float32 and double.dtype == np.float64 and np.any(double)
        np.testing.assert_allclose(single, double, rtol=0, atol=1e-5 * np.abs(double).max())


def test_the_network_of_a_section_as_a_handle_with_gradients(tmp_path):
    """Both handles have the section's numbers, and a step along their gradient reaches the file that it names."""
    pytest.importorskip("expaloma")
    weights, mol = tmp_path / "weights.eqx", rdkit("CCO")
    tm.NeuralChargeHandler().params.save(weights)
    force_field = ForceField("openff-2.0.0.offxml", NEURAL.format(weights), load_plugins=True)
    handles = tm.Handles.from_smirnoff(force_field, "neural")
    assigned = tm.Handles.from_smirnoff(force_field).q_handle.parameterize(mol)
    for handle in (handles.q_handle, handles.q_handle_intra):
        np.testing.assert_allclose(handle.parameterize(mol), assigned, rtol=1e-12, atol=1e-12)
    handle = handles.q_handle
    oxygen = next(atom.GetIdx() for atom in mol.GetAtoms() if atom.GetSymbol() == "O")
    gradient = jax.jit(jax.grad(lambda p: handle.partial_parameterize(p, mol)[oxygen]))(handle.params)
    squared = sum(float(np.vdot(g, g)) for g in jax.tree.leaves(gradient))
    step = 0.01 / squared
    handle.params = jax.tree.map(lambda p, g: p + step * g, handle.params, gradient)
    change = float(handle.parameterize(mol)[oxygen] - assigned[oxygen])
    # first order: a change of 0.01 of 4.7, of which curvature may take a tenth
    assert change == pytest.approx(0.01, rel=0.1)
    handle.params.save(weights)
    # the file is in single precision
    again = tm.Handles.from_smirnoff(force_field, "neural").q_handle.parameterize(mol)
    np.testing.assert_allclose(again, handle.parameterize(mol), rtol=0, atol=1e-4)
    with pytest.raises(UnsupportedForceFieldError, match="NeuralCharges"):
        tm.Handles.from_smirnoff(sage200(), "neural")
    with pytest.raises(UnsupportedForceFieldError, match="function"):
        handles.to_file()


@pytest.mark.nagl
def test_nagl_charges():
    pytest.importorskip("openff.nagl")
    model = "openff-gnn-am1bcc-0.1.0-rc.3.pt"
    mol = rdkit("CCO")
    handle = tm.Handles.from_smirnoff(sage200(), model).q_handle_intra
    molecule = openff(mol)
    molecule.assign_partial_charges(model)
    wanted = molecule.partial_charges.m_as("elementary_charge") * np.sqrt(138.935456)
    np.testing.assert_allclose(handle.parameterize(mol), wanted, rtol=1e-14)


@pytest.mark.am1bcc
def test_am1bcc_charges_of_the_registered_toolkits():
    mol = rdkit("CO")
    charges = tm.Handles.from_smirnoff(sage200(), "am1bcc").q_handle.parameterize(mol)
    wanted = sage200().get_partial_charges(openff(mol)).m_as("elementary_charge") * np.sqrt(138.935456)
    np.testing.assert_allclose(charges, wanted, rtol=1e-12)
