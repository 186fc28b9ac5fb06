"""timemachine's contracts of bonded and Lennard-Jones handles, checked without timemachine."""

from __future__ import annotations

import base64
import copy
import pickle
import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rdkit import Chem

from openff_diffsystem.exceptions import (
    ParameterMismatchError,
    UnassignedParameterError,
    UnsupportedForceFieldError,
)
from openff_diffsystem.interop import timemachine as tm
from tests.timemachine_cases import BONDED, NONBONDED, SMILES, gasteiger, openff, rdkit, sage200, simple_handles


def test_params_are_float64_arrays_that_can_be_changed_in_place():
    simple = simple_handles()
    handles = copy.deepcopy(simple)
    mol = rdkit(SMILES[0])
    for handle in handles.ordered():
        assert isinstance(handle.params, np.ndarray) and handle.params.dtype == np.float64
        before = handle.parameterize(mol)
        handle.params *= 2
        after = handle.parameterize(mol)
        if isinstance(before, tuple):
            before, after = before[0], after[0]
        np.testing.assert_array_equal(np.asarray(after), 2 * np.asarray(before))
    assert not np.shares_memory(handles.q_handle.params, handles.q_handle_intra.params)
    assert not np.shares_memory(handles.lj_handle.params, handles.lj_handle_intra.params)


@pytest.mark.parametrize("name", BONDED)
def test_vjp_jvp_and_jit_of_bonded_handles(name):
    simple = simple_handles()
    handle, mol = getattr(simple, name), rdkit(SMILES[0])
    apply = partial(handle.partial_parameterize, mol=mol)
    plain, idxs = handle.parameterize(mol)
    out, pullback, aux = jax.vjp(apply, handle.params, has_aux=True)
    assert isinstance(aux, np.ndarray) and aux.dtype == np.int32 and aux.flags.c_contiguous
    np.testing.assert_array_equal(aux, idxs)
    np.testing.assert_array_equal(out, plain)
    np.testing.assert_array_equal(jax.jit(apply)(handle.params)[0], plain)
    cotangent = np.random.default_rng(0).normal(size=out.shape)
    (gradient,) = pullback(cotangent)
    assert gradient.shape == handle.params.shape
    # the map is linear, so <cotangent, J v> = <J^T cotangent, v> up to rounding of a few hundred products
    direction = np.random.default_rng(1).normal(size=handle.params.shape)
    _, tangent = jax.jvp(lambda p: apply(p)[0], (jnp.asarray(handle.params),), (jnp.asarray(direction),))
    assert float((tangent * cotangent).sum()) == pytest.approx(float((gradient * direction).sum()), rel=1e-11)
    unused = np.setdiff1d(np.arange(len(handle.params)), np.flatnonzero(np.asarray(gradient).any(axis=1)))
    assert len(unused) and not np.asarray(gradient)[unused].any()


@pytest.mark.parametrize("name", NONBONDED)
def test_vjp_and_jit_of_nonbonded_handles(name):
    simple = simple_handles()
    handle, mol = getattr(simple, name), rdkit(SMILES[0])
    apply = partial(handle.partial_parameterize, mol=mol)
    out, pullback = jax.vjp(apply, handle.params)
    np.testing.assert_array_equal(out, handle.parameterize(mol))
    np.testing.assert_array_equal(jax.jit(apply)(handle.params), out)
    (gradient,) = pullback(np.ones(out.shape))
    assert gradient.shape == handle.params.shape
    assert float(gradient.sum()) == (len(out) if out.ndim == 1 else 1.5 * len(out))


@pytest.mark.parametrize("name", (*BONDED, *NONBONDED))
def test_single_precision(name):
    """A gather adds no rounding to that of the numbers themselves; halving sigma is exact."""
    simple = simple_handles()
    handle, mol = getattr(simple, name), rdkit(SMILES[0])
    wanted = handle.parameterize(mol)
    wanted = wanted[0] if isinstance(wanted, tuple) else wanted
    with jax.enable_x64(False):
        out, pullback, *_ = jax.vjp(
            partial(handle.partial_parameterize, mol=mol), handle.params, has_aux=name in BONDED
        )
        (gradient,) = pullback(np.ones(out.shape, dtype=np.float32))
    assert out.dtype == gradient.dtype == np.float32 and handle.params.dtype == np.float64
    np.testing.assert_array_equal(out, np.asarray(wanted, dtype=np.float32))


@pytest.mark.parametrize("smiles", SMILES)
def test_terms_are_those_of_label_molecules(smiles):
    """The toolkit assigns by itself; numbers of the file in MD units, equal up to rounding of unit conversions."""
    simple = simple_handles()
    mol = rdkit(smiles)
    (labels,) = sage200().label_molecules(openff(mol).to_topology())
    checks = (
        ("hb_handle", "Bonds", lambda p: [(md(p.k, "kilojoule/mole/nanometer**2"), md(p.length, "nanometer"))]),
        ("ha_handle", "Angles", lambda p: [(md(p.k, "kilojoule/mole/radian**2"), md(p.angle, "radian"), 0.0)]),
        ("pt_handle", "ProperTorsions", lambda p: torsion_terms(p, None)),
        ("it_handle", "ImproperTorsions", lambda p: torsion_terms(p, 3.0) * 3),
    )
    for name, section, numbers in checks:
        params, idxs = getattr(simple, name).parameterize(mol)
        assert idxs.dtype == np.int32 and idxs.flags.c_contiguous and len(idxs) == len(params)
        if name != "it_handle":
            assert (idxs[:, 0] < idxs[:, -1]).all()
        found: dict = {}
        for atoms, row in zip(idxs.tolist(), params, strict=True):
            key = (atoms[1], *sorted(atoms[:1] + atoms[2:])) if name == "it_handle" else tuple(atoms)
            found.setdefault(key, []).append(row)
        wanted = {}
        for atoms, parameter in labels[section].items():
            if name == "it_handle":
                atoms = (atoms[1], *sorted(atoms[:1] + atoms[2:]))
            elif atoms[0] > atoms[-1]:
                atoms = atoms[::-1]
            wanted[atoms] = numbers(parameter)
        assert found.keys() == wanted.keys()
        for atoms, rows in wanted.items():
            np.testing.assert_allclose(found[atoms], rows, rtol=1e-14)
    lennard_jones = simple.lj_handle.parameterize(mol)
    wanted = [(md(p.sigma, "nanometer") / 2, np.sqrt(md(p.epsilon, "kilojoule/mole"))) for p in labels["vdW"].values()]
    np.testing.assert_allclose(lennard_jones, wanted, rtol=1e-14)


def md(quantity, unit: str) -> float:
    return quantity.m_as(unit)


def torsion_terms(p, idivf) -> list:
    divisors = [idivf] * len(p.k) if idivf else p.idivf
    return [
        (md(k, "kilojoule/mole") / float(d), md(phase, "radian"), n)
        for k, phase, n, d in zip(p.k, p.phase, p.periodicity, divisors, strict=True)
    ]


def test_impropers_have_the_centre_second_in_three_cyclic_orders():
    simple = simple_handles()
    mol = rdkit("CC(=O)NC")
    params, idxs = simple.it_handle.parameterize(mol)
    assert idxs[:3].tolist() == [[0, 1, 2, 3], [2, 1, 3, 0], [3, 1, 0, 2]]
    assert (params[0] == params[1]).all()


def test_molecules_without_explicit_hydrogens_get_the_terms_of_their_atoms():
    """Patterns count implicit hydrogens: heavy atoms get the same parameters with and without explicit ones."""
    simple = simple_handles()
    bare = Chem.MolFromSmiles(SMILES[1])
    full = Chem.AddHs(bare)
    params, idxs = simple.hb_handle.parameterize(bare)
    wanted = {tuple(i): p for p, i in zip(*simple.hb_handle.parameterize(full), strict=True)}
    assert len(idxs) == bare.GetNumBonds()
    for row, atoms in zip(params, idxs.tolist(), strict=True):
        np.testing.assert_array_equal(row, wanted[tuple(atoms)])
    heavy = np.asarray(simple.lj_handle.parameterize(full))[: bare.GetNumAtoms()]
    np.testing.assert_array_equal(simple.lj_handle.parameterize(bare), heavy)


@pytest.mark.parametrize("smiles", ["[Na+]", "O=O"])
def test_molecules_without_terms(smiles):
    simple = simple_handles()
    mol = Chem.MolFromSmiles(smiles)
    ha = tm.HarmonicAngleHandler(["[*:1]~[*:2]~[*:3]"], [[1.0, 2.0]], None)
    for handle, shape in ((ha, (0, 3)), (simple.pt_handle, (0, 3)), (simple.it_handle, (0, 3))):
        out, pullback, idxs = jax.vjp(partial(handle.partial_parameterize, mol=mol), handle.params, has_aux=True)
        assert out.shape == shape and len(idxs) == 0
        assert not np.asarray(pullback(np.empty(shape))[0]).any()
    if smiles == "[Na+]":
        params, idxs = simple.hb_handle.parameterize(mol)
        assert params.shape == (0, 2) and idxs.shape == (0, 2)


def test_a_bond_without_parameter_is_an_error():
    handle = tm.HarmonicBondHandler(["[#6:1]-[#6:2]"], [[1.0, 2.0]], None)
    with pytest.raises(ValueError, match="missing bonds") as caught:
        handle.parameterize(rdkit("CC"))
    assert isinstance(caught.value, UnassignedParameterError)


def test_matching_has_no_limit_and_follows_changes_of_the_molecule():
    """Stock timemachine stops at RDKit's 1,000 matches: this pattern has 1,440 in C120H242, both ways."""
    mol = rdkit("C" * 120)
    handle = tm.HarmonicAngleHandler(["[*:1]~[#6X4:2]-[*:3]"], [[1.0, 2.0]], None)
    assert len(handle.parameterize(mol)[1]) == 120 * 6
    water = Chem.RWMol(rdkit("O"))
    lennard_jones = tm.LennardJonesHandler(["[*:1]", "[#16:1]"], [[1.0, 1.0], [2.0, 2.0]], None)
    assert np.asarray(lennard_jones.parameterize(water))[0, 0] == 0.5
    water.GetAtomWithIdx(0).SetAtomicNum(16)
    assert np.asarray(lennard_jones.parameterize(water))[0, 0] == 1.0


def test_integers_are_numbers():
    """Halves and thirds of integers are not cut."""
    mol = rdkit("C")
    wanted = tm.LennardJonesHandler.static_parameterize(np.array([[3.0, 2.0]]), ["[*:1]"], mol)
    assert wanted[0].tolist() == [1.5, 2.0]
    for params in (np.array([[3, 2]]), jnp.array([[3, 2]]), [[3, 2]]):
        found = tm.LennardJonesHandler.static_parameterize(params, ["[*:1]"], mol)
        assert found.dtype == np.float64
        np.testing.assert_array_equal(found, wanted)
    bonds, _ = tm.HarmonicBondHandler.static_parameterize(np.array([[3, 2]]), ["[*:1]~[*:2]"], mol)
    assert bonds.dtype == np.float64 and bonds.tolist() == [[3.0, 2.0]] * 4


@pytest.mark.parametrize(
    ("handler", "smirks"),
    [
        (tm.HarmonicBondHandler, "[#6:1]~[#6:2]~[#6:3]~[#6:4]"),
        (tm.HarmonicAngleHandler, "[*:1]~[*:2]"),
        (tm.ImproperTorsionHandler, "[*:1]~[*:2]"),
        (tm.LennardJonesHandler, "[*]"),
    ],
)
def test_smirks_with_another_number_of_tags_are_named(handler, smirks):
    columns = 3 if handler is tm.ImproperTorsionHandler else 2
    with pytest.raises(UnsupportedForceFieldError, match=re.escape(repr(smirks)) + " tags"):
        handler([smirks], np.ones((1, columns)), None).parameterize(rdkit("CCCC"))


def test_what_one_kind_of_term_found_is_not_given_to_another():
    """The same SMIRKS and molecule, asked for angles and then for bonds."""
    smirks, mol = ["[#6:1]~[#6:2]~[#6:3]"], rdkit("CCC")
    assert tm.HarmonicAngleHandler(smirks, np.ones((1, 2)), None).parameterize(mol)[1].tolist() == [[0, 1, 2]]
    with pytest.raises(UnsupportedForceFieldError, match="tags 3 atoms, a term has 2"):
        tm.HarmonicBondHandler(smirks, np.ones((1, 2)), None).parameterize(mol)


THREE_ROWS = {
    "bonds": lambda: tm.HarmonicBondHandler(["[*:1]~[*:2]", "[#6:1]~[*:2]", "[#6:1]-[#1:2]"], np.ones((3, 2)), None),
    "angles": lambda: tm.HarmonicAngleHandler(
        ["[*:1]~[*:2]~[*:3]", *["[#1:1]~[*:2]~[#1:3]"] * 2], np.ones((3, 2)), None
    ),
    "propers": lambda: tm.ProperTorsionHandler(
        ["[*:1]~[*:2]~[*:3]~[*:4]", "[#1:1]~[*:2]~[*:3]~[#1:4]"], [np.ones((1, 3)), np.ones((2, 3))], None
    ),
    "impropers": lambda: tm.ImproperTorsionHandler(["[*:1]~[*X3:2](~[*:3])~[*:4]"] * 3, np.ones((3, 3)), None),
    "Lennard-Jones": lambda: tm.LennardJonesHandler(["[*:1]", "[#6:1]", "[#1:1]"], np.ones((3, 2)), None),
    "charges by SMIRKS": lambda: tm.SimpleChargeHandler(["[*:1]", "[#6:1]", "[#1:1]"], np.ones(3), None),
    "increments": lambda: tm.AM1CCCHandler(["[#6:1]-[#1:2]", "[#6:1]-[#6:2]", "[#6:1]=[#8:2]"], np.ones(3), None),
}


@pytest.mark.parametrize("name", THREE_ROWS)
def test_params_of_another_shape_are_refused(name):
    """When called, traced or not, and when made: a traced gather would read a missing row from the last one."""
    handle, mol = THREE_ROWS[name](), rdkit("CC=O")
    mol.SetProp("AM1ELF10Cache", base64.b64encode(pickle.dumps([0.0] * 7)).decode())
    rows, *columns = handle.params.shape
    assert rows == 3
    handle.parameterize(mol)
    others = [np.ones((2, *columns)), np.ones((4, *columns)), np.ones((3, *columns, 1)), np.ones((3, 7)), np.ones(9)]
    for params in others:
        says = f"{type(handle).__name__}: .* shape {handle.params.shape}.* have {params.shape}"
        says = says.replace("(", r"\(").replace(")", r"\)")
        for apply in (handle.partial_parameterize, jax.jit(lambda p: handle.partial_parameterize(p, mol)[0])):
            arguments = (params, mol) if apply == handle.partial_parameterize else (params,)
            with pytest.raises(ParameterMismatchError, match=says):
                apply(*arguments)
        if name != "propers":
            with pytest.raises(ParameterMismatchError, match=says):
                type(handle)(handle.smirks, params, None)
    for params in ([[1.0, 2.0], [1.0]], ["x"]):
        with pytest.raises(ParameterMismatchError):
            type(handle)(handle.smirks[: len(params)], params, None)


def test_counts_and_terms_of_propers_have_to_fit():
    handle, mol = THREE_ROWS["propers"](), rdkit("CC=O")
    with pytest.raises(ParameterMismatchError, match="counts must have shape"):
        tm.ProperTorsionHandler.static_parameterize(handle.params, handle.smirks, [3], mol)
    with pytest.raises(ParameterMismatchError, match=r"a row \(k, phase, periodicity\) for each term"):
        tm.ProperTorsionHandler.static_parameterize(handle.params, handle.smirks, [1, 1], mol)
    with pytest.raises(ParameterMismatchError, match="ProperTorsionHandler"):
        tm.ProperTorsionHandler(handle.smirks[:1], [[[1.0, 2.0]]], None)


def test_sections_without_parameters_have_the_documented_shapes():
    empty = copy.deepcopy(sage200())
    for tag in ("Bonds", "Angles", "ProperTorsions", "ImproperTorsions", "vdW"):
        empty[tag].parameters.clear()
    handles, mol = tm.Handles.from_smirnoff(empty, "precomputed"), rdkit("CC=O")
    for handle, columns, atoms in (
        (handles.ha_handle, 3, 3),
        (handles.pt_handle, 3, 4),
        (handles.it_handle, 3, 4),
    ):
        assert handle.params.shape == (0, len(handle.columns))
        for apply in (
            handle.parameterize,
            lambda m, h=handle: jax.jit(lambda p: h.partial_parameterize(p, m)[0])(h.params),
        ):
            params = apply(mol)
            params = params[0] if isinstance(params, tuple) else params
            assert params.shape == (0, columns)
        assert handle.parameterize(mol)[1].shape == (0, atoms)
        assert not handle.serialize()[handle.section()]["patterns"]
    params, idxs = handles.hb_handle.parameterize(Chem.MolFromSmiles("[Na+]"))
    assert params.shape == idxs.shape == (0, 2)
    with pytest.raises(UnassignedParameterError, match="missing bonds"):
        handles.hb_handle.parameterize(mol)
    for handle in (
        handles.lj_handle,
        handles.lj_handle_intra,
        tm.LennardJonesHandler([], np.zeros((0, 2)), None),
        tm.SimpleChargeHandler([], [], None),
    ):
        with pytest.raises(UnassignedParameterError, match=f"{type(handle).__name__} has no SMIRKS"):
            handle.parameterize(mol)


def test_handlers_of_the_solvent_are_the_others_under_another_name():
    solvent = [name for name in tm.__all__ if name.endswith("SolventHandler")]
    assert len(solvent) == 5
    for name in solvent:
        cls, base = getattr(tm, name), getattr(tm, name.replace("Solvent", ""))
        assert issubclass(cls, base) and cls.section() == f"{base.section()}Solvent"


EVERY_HANDLE = {
    "bonds": lambda: simple_handles().hb_handle,
    "angles": lambda: simple_handles().ha_handle,
    "propers": lambda: simple_handles().pt_handle,
    "impropers": lambda: simple_handles().it_handle,
    "Lennard-Jones": lambda: simple_handles().lj_handle,
    "Lennard-Jones, intra": lambda: simple_handles().lj_handle_intra,
    "charges by SMIRKS": lambda: simple_handles().q_handle,
    "precomputed": lambda: tm.PrecomputedChargeHandler([], [], None),
    "AM1-BCC": lambda: tm.AM1BCCHandler([], [], None),
    "increments on AM1": lambda: tm.AM1CCCHandler(["[#6:1]-[#1:2]"], [0.3], None),
    "increments on AM1-BCC": lambda: tm.AM1BCCCCCHandler(["[#6:1]-[#1:2]"], [0.3], None),
    "of the force field": lambda: tm.Handles.from_smirnoff(sage200()).q_handle,
    "a toolkit's method": lambda: tm.Handles.from_smirnoff(sage200(), "gasteiger").q_handle,
    "a function of parameters": lambda: tm.FunctionChargeHandler(_scaled_gasteiger, np.array([0.9])),
}


def _scaled_gasteiger(params, mol):
    return params[0] * gasteiger(mol)


@pytest.mark.parametrize("name", EVERY_HANDLE)
def test_the_contract_of_every_handle(name):
    """What timemachine does with any handle: parameterize, jit, VJP, copy, pickle; atoms are int32 and contiguous.

    Acetate has a formal charge; base charges of AM1 are given as its property, as timemachine gives them.
    """
    handle, mol = EVERY_HANDLE[name](), rdkit("CC(=O)[O-]" if name != "of the force field" else "[Cl-]")
    charges = gasteiger(mol) * np.sqrt(138.935456) if name != "of the force field" else np.zeros(1)
    for key in ("AM1BCCELF10Cache", "AM1ELF10Cache"):
        mol.SetProp(key, base64.b64encode(pickle.dumps(charges.tolist())).decode())
    for atom, charge in zip(mol.GetAtoms(), charges, strict=True):
        atom.SetProp("PartialCharge", str(charge))
    has_idxs = type(handle).__name__ in (
        *("HarmonicBondHandler", "HarmonicAngleHandler", "ProperTorsionHandler", "ImproperTorsionHandler"),
    )
    apply = partial(handle.partial_parameterize, mol=mol)
    given, expected_idxs = handle.parameterize(mol=mol), None
    if has_idxs:
        given, expected_idxs = given
        assert expected_idxs.dtype == np.int32 and expected_idxs.flags.c_contiguous and len(given) == len(expected_idxs)
        assert name == "impropers" or (expected_idxs[:, 0] < expected_idxs[:, -1]).all()
    assert np.asarray(given).dtype == np.float64 and np.isfinite(given).all() and np.any(given)
    out, pullback, *idxs = jax.vjp(apply, handle.params, has_aux=has_idxs)
    np.testing.assert_array_equal(out, given)
    (gradient,) = pullback(np.ones(np.shape(out)))
    assert np.shape(gradient) == np.shape(handle.params)
    if has_idxs:
        np.testing.assert_array_equal(idxs[0], expected_idxs)
        assert not isinstance(idxs[0], jax.Array)
    jitted = jax.jit(lambda params: apply(params)[0] if has_idxs else apply(params))(handle.params)
    # compiled products may round once less
    np.testing.assert_allclose(jitted, given, rtol=1e-15)
    for twin in (copy.deepcopy(handle), pickle.loads(pickle.dumps(handle))):
        again = twin.parameterize(mol)
        np.testing.assert_array_equal(again[0] if has_idxs else again, given)
        assert twin.props == handle.props and twin.lookup_smirks("nothing") is None
        assert not np.shares_memory(twin.params, handle.params)


def test_copies_and_pickles():
    simple = simple_handles()
    mol = rdkit(SMILES[2])
    for handle in simple.ordered():
        handle.parameterize(mol)
        for twin in (copy.deepcopy(handle), pickle.loads(pickle.dumps(handle))):
            twin.params *= 3
            assert twin.smirks == handle.smirks and type(twin) is type(handle)
            assert not np.array_equal(twin.params, handle.params)


def test_lookup_and_counts():
    simple = simple_handles()
    bond = simple.hb_handle
    assert bond.lookup_smirks(bond.smirks[3]) is not None and bond.lookup_smirks("nothing") is None
    bond.lookup_smirks(bond.smirks[3])[:] *= 1  # a view: changes reach params
    torsion = simple.pt_handle
    assert torsion.counts.dtype == np.int32 and torsion.counts.sum() == len(torsion.params)
    last = torsion.lookup_smirks(torsion.smirks[-1])
    np.testing.assert_array_equal(last, torsion.params[-torsion.counts[-1] :])
