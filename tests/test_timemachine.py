"""timemachine's contracts and conventions, checked without timemachine, and against it where it can be imported.

With a checkout of proteneer/timemachine on PYTHONPATH, the last tests compare with its shipped parameters, its own
handlers and its reference potentials.
"""

from __future__ import annotations

import base64
import copy
import pickle
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from openff.toolkit import ForceField, Molecule
from rdkit import Chem

from openff_diffsystem import DiffSystem, ForceFieldParameters
from openff_diffsystem.exceptions import (
    ChargeAssignmentError,
    CorruptFileError,
    MissingStackError,
    ParameterMismatchError,
    UnassignedParameterError,
    UnsupportedForceFieldError,
)
from openff_diffsystem.interop import timemachine as tm
from openff_diffsystem.interop.timemachine.aromaticity import with_am1bcc_aromaticity
from openff_diffsystem.interop.timemachine.charge_handles import AM1BCCHandler
from tests.molecules import with_charges

SMILES = ("CC(=O)Nc1ccccc1O", "C1CNCOC1F", "CS(=O)(=O)N", "c1ccc2[nH]ccc2c1", "C[N+](=O)[O-]")
BONDED = ("hb_handle", "ha_handle", "pt_handle", "it_handle")
NONBONDED = ("q_handle", "q_handle_intra", "lj_handle", "lj_handle_intra")


@pytest.fixture(scope="module")
def sage200():
    return ForceField("openff-2.0.0.offxml")


@pytest.fixture(scope="module")
def simple(sage200):
    """Handles whose charges have parameters too: one per element."""
    smirks = ["[*:1]", "[#1:1]", "[#6:1]", "[#8:1]"]
    numbers = [0.0, 1.0, -2.0, -5.0]
    charges = (tm.SimpleChargeHandler(smirks, numbers, None), tm.SimpleChargeIntraHandler(smirks, numbers, None))
    return tm.Handles.from_smirnoff(sage200, charges)


def rdkit(smiles: str) -> Chem.Mol:
    return Chem.AddHs(Chem.MolFromSmiles(smiles))


def openff(mol: Chem.Mol) -> Molecule:
    return Molecule.from_rdkit(mol, allow_undefined_stereo=True, hydrogens_are_explicit=True)


def test_params_are_float64_arrays_that_can_be_changed_in_place(simple):
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
def test_vjp_jvp_and_jit_of_bonded_handles(simple, name):
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
def test_vjp_and_jit_of_nonbonded_handles(simple, name):
    handle, mol = getattr(simple, name), rdkit(SMILES[0])
    apply = partial(handle.partial_parameterize, mol=mol)
    out, pullback = jax.vjp(apply, handle.params)
    np.testing.assert_array_equal(out, handle.parameterize(mol))
    np.testing.assert_array_equal(jax.jit(apply)(handle.params), out)
    (gradient,) = pullback(np.ones(out.shape))
    assert gradient.shape == handle.params.shape
    assert float(gradient.sum()) == (len(out) if out.ndim == 1 else 1.5 * len(out))


@pytest.mark.parametrize("smiles", SMILES)
def test_terms_are_those_of_label_molecules(sage200, simple, smiles):
    """The toolkit assigns by itself; numbers of the file in MD units, equal up to rounding of unit conversions."""
    mol = rdkit(smiles)
    (labels,) = sage200.label_molecules(openff(mol).to_topology())
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


def test_impropers_have_the_centre_second_in_three_cyclic_orders(simple):
    mol = rdkit("CC(=O)NC")
    params, idxs = simple.it_handle.parameterize(mol)
    assert idxs[:3].tolist() == [[0, 1, 2, 3], [2, 1, 3, 0], [3, 1, 0, 2]]
    assert (params[0] == params[1]).all()


def test_molecules_without_explicit_hydrogens_get_the_terms_of_their_atoms(simple):
    """Patterns count implicit hydrogens: heavy atoms get the same parameters with and without explicit ones."""
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
def test_molecules_without_terms(simple, smiles):
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


def test_copies_and_pickles(simple):
    mol = rdkit(SMILES[2])
    for handle in simple.ordered():
        handle.parameterize(mol)
        for twin in (copy.deepcopy(handle), pickle.loads(pickle.dumps(handle))):
            twin.params *= 3
            assert twin.smirks == handle.smirks and type(twin) is type(handle)
            assert not np.array_equal(twin.params, handle.params)


def test_lookup_and_counts(simple):
    bond = simple.hb_handle
    assert bond.lookup_smirks(bond.smirks[3]) is not None and bond.lookup_smirks("nothing") is None
    bond.lookup_smirks(bond.smirks[3])[:] *= 1  # a view: changes reach params
    torsion = simple.pt_handle
    assert torsion.counts.dtype == np.int32 and torsion.counts.sum() == len(torsion.params)
    last = torsion.lookup_smirks(torsion.smirks[-1])
    np.testing.assert_array_equal(last, torsion.params[-torsion.counts[-1] :])


def test_exclusions_and_pairs():
    mol = Chem.MolFromSmiles("FC(F)=C(F)F")
    idxs, scales = tm.generate_exclusion_idxs(mol)
    assert len(idxs) == 15 and (idxs[:, 0] < idxs[:, 1]).all()
    assert {tuple(s) for s in scales.tolist()} == {(1.0, 1.0), (0.5, 0.5)}
    idxs, scales = tm.generate_exclusion_idxs(mol, 0.0, 0.2, scale14_q=0.25, scale14_lj=0.75)
    assert scales[idxs.tolist().index([0, 4])].tolist() == [0.25, 0.75]
    pairs, kept = tm.intramolecular_pairs(rdkit("CCCC"))
    butane = openff(rdkit("CCCC"))
    near = {tuple(sorted((a.molecule_atom_index, b.molecule_atom_index))) for a, b in butane.nth_degree_neighbors(2)}
    near |= {tuple(sorted((b.atom1_index, b.atom2_index))) for b in butane.bonds}
    assert len(pairs) == 14 * 13 // 2 - len(near) and not near & set(map(tuple, pairs.tolist()))
    fourteen = {
        tuple(sorted((a.molecule_atom_index, b.molecule_atom_index))) for a, b in butane.nth_degree_neighbors(3)
    }
    assert {tuple(p) for p, k in zip(pairs.tolist(), kept, strict=True) if (k == 0.5).all()} == fourteen


def test_pair_list_is_differentiable_and_right(simple):
    mol = rdkit(SMILES[0])
    arguments = [getattr(simple, name).params for name in NONBONDED]
    apply = partial(tm.parameterize_nonbonded_pairlist, simple, mol)
    params, pullback, idxs = jax.vjp(apply, *arguments, has_aux=True)
    charges, lj = np.asarray(simple.q_handle.parameterize(mol)), np.asarray(simple.lj_handle.parameterize(mol))
    _, kept = tm.intramolecular_pairs(mol)
    i, j = idxs.T
    wanted = [
        charges[i] * charges[j] * kept[:, 0],
        lj[i, 0] + lj[j, 0],
        lj[i, 1] * lj[j, 1] * kept[:, 1],
        0 * charges[i],
    ]
    np.testing.assert_array_equal(params, np.stack(wanted, axis=1))
    gradients = pullback(np.ones(params.shape))
    # only the intra handles count, unless asked otherwise
    assert [bool(np.asarray(g).any()) for g in gradients] == [False, True, False, True]
    jitted, _ = jax.jit(apply)(*arguments)
    # XLA may fuse the products and round once less
    np.testing.assert_allclose(jitted, params, rtol=1e-15)


# charges


def gasteiger(mol: Chem.Mol) -> np.ndarray:
    molecule = openff(mol)
    molecule.assign_partial_charges("gasteiger")
    return molecule.partial_charges.m_as("elementary_charge")


def test_precomputed_charges():
    mol = rdkit("O")
    with pytest.raises(ChargeAssignmentError, match="atom 0 .*PartialCharge"):
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
    ],
)
def test_am1bcc_aromaticity(smiles, aromatic):
    """Kinds 1, 2 and 5 of Jakalian et al., and two rings that are none."""
    marked = with_am1bcc_aromaticity(rdkit(smiles))
    assert sum(atom.GetIsAromatic() for atom in marked.GetAtoms()) == aromatic


def test_charges_of_the_force_field_with_gradients(sage200):
    handles = tm.Handles.from_smirnoff(sage200)
    handle = pickle.loads(pickle.dumps(handles.q_handle))
    sodium = Chem.MolFromSmiles("[Na+]")
    out, pullback = jax.vjp(partial(handle.partial_parameterize, mol=sodium), handle.params)
    np.testing.assert_allclose(out, [np.sqrt(138.935456)], rtol=1e-15)
    (gradient,) = pullback(np.ones(1))
    assert [handle.smirks[i] for i in np.flatnonzero(gradient)] == ["[#11+1:1]"]
    with pytest.raises(UnsupportedForceFieldError, match="am1bcc"):
        handles.to_file()


def test_a_function_or_network_gives_charges(sage200):
    mol = rdkit("CO")
    plain = tm.Handles.from_smirnoff(sage200, gasteiger).q_handle
    wanted = gasteiger(mol) * np.sqrt(138.935456)
    np.testing.assert_allclose(plain.parameterize(mol), wanted, rtol=1e-15)
    features = jnp.asarray([[atom.GetAtomicNum(), 1.0] for atom in mol.GetAtoms()])
    network = tm.FunctionChargeHandler(lambda weights, mol: jnp.tanh(features @ weights), jnp.array([0.1, -0.2]))
    out, pullback = jax.vjp(partial(network.partial_parameterize, mol=mol), network.params)
    derivative = jnp.sqrt(138.935456) * (1 - (out / np.sqrt(138.935456)) ** 2) @ features
    np.testing.assert_allclose(pullback(jnp.ones(6))[0], derivative, rtol=1e-12)
    with pytest.raises(ChargeAssignmentError, match="shape"):
        tm.FunctionChargeHandler(lambda mol: np.zeros(2)).parameterize(mol)
    named = tm.Handles.from_smirnoff(sage200, "gasteiger").q_handle
    np.testing.assert_allclose(named.parameterize(mol), wanted, rtol=1e-15)


# files


def test_file_round_trip_is_exact(sage200):
    text = tm.to_timemachine(sage200)
    file = tm.ForceFieldFile.parse(text)
    assert file.format() == text
    new = tm.read_timemachine(file)
    assert tm.to_timemachine(new) == text
    # the same energies by construction: theta of the new force field is complete
    assert ForceFieldParameters.from_force_field(new).vector.size > 700


def test_numbers_that_did_not_change_come_back_bit_for_bit(sage200):
    file = tm.ForceFieldFile.parse(tm.to_timemachine(sage200))
    assert tm.read_timemachine(file, template=sage200).to_string() == sage200.to_string()


def test_a_refit_comes_back_as_offxml(sage200, tmp_path):
    handles = tm.Handles.from_smirnoff(sage200, "am1bcc")
    rng = np.random.default_rng(0)
    for name in (*BONDED, "lj_handle"):
        params = getattr(handles, name).params
        moved = slice(0, 2) if name in ("pt_handle", "it_handle") else slice(None)
        params[:, moved] *= 1 + 0.01 * rng.normal(size=params[:, moved].shape)
    handles.lj_handle_intra.params[:] = handles.lj_handle.params
    handles.to_file().write(tmp_path / "refit.py")
    refit = tm.read_timemachine(tmp_path / "refit.py", template=sage200)
    refit.to_file(str(tmp_path / "refit.offxml"))
    again = tm.Handles.from_smirnoff(ForceField(str(tmp_path / "refit.offxml")), "am1bcc")
    for ours, theirs in zip(handles.ordered(), again.ordered(), strict=True):
        # a unit, an idivf or a square costs a rounding each on the way out and in
        np.testing.assert_allclose(np.asarray(theirs.params), np.asarray(ours.params), rtol=2e-15)


def test_new_force_field_parameterizes(sage200):
    new = tm.read_timemachine(tm.ForceFieldFile.parse(tm.to_timemachine(sage200)))
    # the file does not say; Sage's 0.833333 has fewer digits than SMIRNOFF's default
    new["Electrostatics"].scale14 = sage200["Electrostatics"].scale14
    molecule = with_charges("CC(=O)NC")
    energies = []
    for force_field in (sage200, new):
        system = DiffSystem.from_smirnoff(force_field, molecule, charge_from_molecules=[molecule])
        energies.append(float(system.to_jax_potential(add_constrained_forces=True)(system.positions, None)))
    assert energies[0] == pytest.approx(energies[1], rel=1e-12)


def test_simple_charges_become_library_charges(sage200):
    file = tm.ForceFieldFile.parse(tm.to_timemachine(sage200, {"SimpleCharge": tm.Section(["[*:1]"], [0.5])}))
    new = tm.read_timemachine(file)
    charge = new["LibraryCharges"].parameters[0].charge[0].m_as("elementary_charge")
    assert charge * np.sqrt(138.935456) == pytest.approx(0.5, rel=1e-15)
    assert tm.Handles.from_file(file).q_handle_intra.params.tolist() == [0.5]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "not a Python literal"),
        ("{'HarmonicBond': ", "not a Python literal"),
        ("[1, 2]", "dictionary"),
        ("{'HarmonicBond': __import__('os').getcwd()}", "not a literal"),
        ("{'AM1BCC': {'patterns': []}, 'AM1BCC': {'patterns': []}}", "twice"),
        ("{1: 2}", "must be a string"),
        ("{'HarmonicBond': {'patterns': [['[#6:1]-[#6:2]', 1.0]]}}", "row 0 .* 2 numbers"),
        ("{'HarmonicBond': {'patterns': [['[#6:1]-[#6:2]', 1.0, 1e999]]}}", "finite"),
        ("{'HarmonicBond': {'patterns': [['[#6:1]-[#6:2]', 1.0, 'x']]}}", "finite"),
        ("{'HarmonicBond': {'pattern': []}}", "list of patterns"),
        ("{'ProperTorsion': {'patterns': [['x', [[1.0, 2.0]]]]}}", "a term is"),
        ("{'AM1BCC': {'patterns': [['x', 1.0]]}}", "no patterns"),
        ("{'WaterForcefield': 3}", "must be a name"),
        ("(" * 2000 + ")" * 2000, "not a Python literal"),
    ],
)
def test_corrupt_files_are_named(text, says, tmp_path):
    (tmp_path / "broken.py").write_text(text)
    with pytest.raises(CorruptFileError, match=says) as caught:
        tm.ForceFieldFile.read(tmp_path / "broken.py")
    assert "broken.py" in str(caught.value)


def test_binary_files_are_named(tmp_path):
    (tmp_path / "broken.py").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CorruptFileError, match="not a text file"):
        tm.ForceFieldFile.read(tmp_path / "broken.py")


def test_what_cannot_be_represented_is_refused(sage200):
    for name in ("tip4p_fb.offxml",):
        with pytest.raises(UnsupportedForceFieldError, match="VirtualSites"):
            tm.to_timemachine(ForceField(name))
    changed = copy.deepcopy(sage200)
    changed["vdW"].scale14 = 0.4
    with pytest.warns(UserWarning, match="scale14"):
        tm.to_timemachine(changed)
    file = tm.ForceFieldFile.parse(tm.to_timemachine(sage200))
    file.sections["AM1CCC"] = tm.Section(["[#6:1]-[#1:2]"], [0.1])
    with pytest.raises(UnsupportedForceFieldError, match="ignore"):
        tm.read_timemachine(file)
    tm.read_timemachine(file, template=sage200, ignore=("AM1CCC",))
    file.sections["HarmonicBond"].smirks[0] = "[#6:1]"
    with pytest.raises(ParameterMismatchError, match="HarmonicBond has other SMIRKS"):
        tm.read_timemachine(file, template=sage200, ignore=("AM1CCC",))


# arrays


@pytest.fixture(scope="module")
def system(sage200):
    """N-methylacetamide, bent: at a planar centre the two orders of improper torsions agree."""
    molecule = Molecule(with_charges("CC(=O)NC"))
    system = DiffSystem.from_smirnoff(sage200, molecule, charge_from_molecules=[molecule])
    system.positions = system.positions + np.random.default_rng(0).normal(scale=0.01, size=system.positions.shape)
    return system


def test_arrays_give_the_energies_of_each_section(system):
    """timemachine's formulas in NumPy; the charges' prefactor is CODATA's but for 1.2e-8."""
    x = system.positions
    wanted = system.energy_terms(x, add_constrained_forces=True)
    params, idxs = tm.harmonic_bonds(system)
    r = np.linalg.norm(x[idxs[:, 0]] - x[idxs[:, 1]], axis=1)
    assert float((params[:, 0] / 2 * (r - params[:, 1]) ** 2).sum()) == pytest.approx(float(wanted["Bonds"]), rel=1e-12)

    params, idxs = tm.harmonic_angles(system)
    assert params.shape[1] == 3 and not params[:, 2].any()
    a, b = x[idxs[:, 0]] - x[idxs[:, 1]], x[idxs[:, 2]] - x[idxs[:, 1]]
    theta = np.arccos((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1))
    energy = float((params[:, 0] / 2 * (theta - params[:, 1]) ** 2).sum())
    assert energy == pytest.approx(float(wanted["Angles"]), rel=1e-10)

    for function, section in ((tm.proper_torsions, "ProperTorsions"), (tm.improper_torsions, "ImproperTorsions")):
        assert torsion_energy(x, *function(system)) == pytest.approx(float(wanted[section]), rel=1e-10)

    pairs = tm.nonbonded_pair_list(system, scale14="smirnoff")
    q, sigma, epsilon, _ = np.asarray(pairs.params).T
    r = np.linalg.norm(x[pairs.idxs[:, 0]] - x[pairs.idxs[:, 1]], axis=1)
    assert (q / r).sum() == pytest.approx(float(wanted["Electrostatics"]), rel=2e-8)
    s6 = (sigma / r) ** 6
    assert (4 * epsilon * (s6**2 - s6)).sum() == pytest.approx(float(wanted["vdW"]), rel=1e-12)


def torsion_energy(x, params, idxs) -> float:
    p0, p1, p2, p3 = (x[idxs[:, i]] for i in range(4))
    n1, n2 = np.cross(p1 - p0, p2 - p1), np.cross(p2 - p1, p3 - p2)
    axis = p2 - p1
    sine = (np.cross(n1, n2) * axis).sum(1) / np.linalg.norm(axis, axis=1)
    k, phase, n = np.asarray(params).T
    return float((k * (1 + np.cos(n * np.arctan2(sine, (n1 * n2).sum(1)) - phase))).sum())


def test_nonbonded_arrays(system):
    arrays = tm.nonbonded(system)
    pairs = tm.nonbonded_pair_list(system)
    n = system.n_atoms
    removed = np.zeros((n, n, 2))
    removed[tuple(arrays.exclusion_idxs.T)] = arrays.scale_factors
    q, half_sigma, root_epsilon, w = np.asarray(arrays.params).T
    assert not w.any() and (arrays.beta, arrays.cutoff) == (2.0, 1.2)
    i, j = pairs.idxs.T
    np.testing.assert_allclose(pairs.params[:, 0], q[i] * q[j] * (1 - removed[i, j, 0]), rtol=1e-14)
    np.testing.assert_allclose(pairs.params[:, 1], half_sigma[i] + half_sigma[j], rtol=1e-14)
    np.testing.assert_allclose(
        pairs.params[:, 2], root_epsilon[i] * root_epsilon[j] * (1 - removed[i, j, 1]), rtol=1e-14
    )
    assert len(i) + int((removed == 1).all(-1).sum()) == n * (n - 1) // 2
    own = tm.nonbonded(system, scale14="smirnoff").scale_factors
    assert sorted(set(map(tuple, np.round(own, 6).tolist()))) == [(0.166667, 0.5), (1.0, 1.0)]


def test_arrays_are_differentiable_in_theta(system):
    theta = system.force_field_parameters

    def total(theta):
        parts = [tm.harmonic_bonds(system, theta)[0], tm.harmonic_angles(system, theta)[0]]
        parts += [tm.periodic_torsions(system, theta)[0], tm.nonbonded_pair_list(system, theta, "smirnoff").params]
        return sum(jnp.sum(part) for part in parts)

    gradient = jax.jit(jax.grad(total))(theta)
    assert bool(jnp.isfinite(gradient.vector).all()) and bool(gradient["vdW"]["epsilon"].any())
    assert float(gradient["vdW"]["scale14"]) != 0.0


def test_handles_and_arrays_agree(sage200, system):
    """Two ways to the same numbers: the handles of the molecule, and the arrays of its system."""
    mol = rdkit("CC(=O)NC")
    assert [a.atomic_number for a in Molecule.from_smiles("CC(=O)NC").atoms] == [
        a.GetAtomicNum() for a in mol.GetAtoms()
    ]
    handles = tm.Handles.from_smirnoff(sage200, "precomputed")
    for handle, arrays in (
        (handles.hb_handle, tm.harmonic_bonds(system)),
        (handles.ha_handle, tm.harmonic_angles(system)),
        (handles.pt_handle, tm.proper_torsions(system)),
        (handles.it_handle, tm.improper_torsions(system, order="timemachine")),
    ):
        params, idxs = handle.parameterize(mol)
        ours, theirs = (
            sorted((*atoms, *np.round(row, 9)) for row, atoms in zip(np.asarray(p).tolist(), i.tolist(), strict=True))
            for p, i in ((params, idxs), arrays)
        )
        # the same terms; numbers up to rounding, hence the nine digits
        assert [row[: idxs.shape[1]] for row in ours] == [row[: idxs.shape[1]] for row in theirs]
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-9)


def test_improper_order_changes_the_energy(system):
    """Bent out of plane, the two conventions measure different dihedrals."""
    energies = {
        order: torsion_energy(system.positions, *tm.improper_torsions(system, order=order))
        for order in ("openff", "timemachine")
    }
    assert abs(energies["openff"] - energies["timemachine"]) > 0.01 * abs(energies["openff"])


def test_timemachine_is_named_where_it_is_missing(sage200, monkeypatch):
    monkeypatch.setitem(sys.modules, "timemachine", None)
    monkeypatch.setitem(sys.modules, "timemachine.ff", None)
    with pytest.raises(MissingStackError, match="proteneer/timemachine"):
        tm.to_forcefield(sage200)


# with timemachine


@pytest.fixture(scope="module")
def stock():
    """timemachine's own Sage 2.0.0 with AM1-BCC charges."""
    return pytest.importorskip("timemachine.ff").Forcefield.load_from_file("smirnoff_2_0_0_am1bcc.py")


PAIRED = ("hb_handle", "ha_handle", "pt_handle", "it_handle", "lj_handle")


def test_numbers_of_the_shipped_force_field(stock, sage200):
    ours = tm.to_forcefield(sage200, "am1bcc")
    for name in PAIRED:
        mine, theirs = getattr(ours, name), getattr(stock, name)
        assert mine.smirks == theirs.smirks
        # units were converted by two programs: a rounding or two
        np.testing.assert_allclose(mine.params, theirs.params, rtol=1e-15)
    assert (ours.protein_ff, ours.water_ff) == (stock.protein_ff, stock.water_ff)
    file = tm.ForceFieldFile.parse(ours.serialize())
    assert file.sections.keys() == tm.ForceFieldFile.parse(stock.serialize()).sections.keys()
    np.testing.assert_array_equal(ours.get_params().hb_params, ours.hb_handle.params)


@pytest.mark.parametrize("smiles", SMILES)
def test_terms_of_the_stock_handlers(stock, sage200, smiles):
    ours, mol = tm.to_forcefield(sage200, "am1bcc"), rdkit(smiles)
    for name in PAIRED:
        mine, theirs = getattr(ours, name).parameterize(mol), getattr(stock, name).parameterize(mol)
        if name == "lj_handle":
            np.testing.assert_allclose(mine, theirs, rtol=1e-15)
        else:
            np.testing.assert_array_equal(mine[1], theirs[1])
            np.testing.assert_allclose(mine[0], theirs[0], rtol=1e-15)


def test_energies_of_timemachines_potentials(stock, system):
    """Its reference potentials take our arrays and give our energies; Coulomb without damping and cutoff."""
    from timemachine.potentials import bonded, nonbonded

    x = system.positions
    wanted = system.energy_terms(x, add_constrained_forces=True)
    for function, arrays, section in (
        (bonded.harmonic_bond, tm.harmonic_bonds(system), "Bonds"),
        (bonded.harmonic_angle, tm.harmonic_angles(system), "Angles"),
        (bonded.periodic_torsion, tm.proper_torsions(system), "ProperTorsions"),
        (bonded.periodic_torsion, tm.improper_torsions(system), "ImproperTorsions"),
    ):
        assert float(function(x, arrays[0], None, arrays[1])) == pytest.approx(float(wanted[section]), rel=1e-9)
    pairs = tm.nonbonded_pair_list(system, scale14="smirnoff")
    vdw, damped = nonbonded.nonbonded_on_precomputed_pairs(x, pairs.params, None, pairs.idxs, 0.0, None)
    assert float(vdw.sum()) == pytest.approx(float(wanted["vdW"]), rel=1e-9)
    r = np.linalg.norm(x[pairs.idxs[:, 0]] - x[pairs.idxs[:, 1]], axis=1)
    # its switch multiplies Coulomb whatever the cutoff; divide it out
    plain = np.asarray(damped) / np.asarray(nonbonded.switch_fn(r))
    assert plain.sum() == pytest.approx(float(wanted["Electrostatics"]), rel=1e-7)
    arrays = tm.nonbonded(system, scale14="smirnoff")
    together = nonbonded.nonbonded(
        x, arrays.params, None, arrays.exclusion_idxs, arrays.scale_factors, arrays.beta, arrays.cutoff
    )
    by_pairs = nonbonded.nonbonded_on_precomputed_pairs(x, pairs.params, None, pairs.idxs, arrays.beta, arrays.cutoff)
    assert float(np.sum(together)) == pytest.approx(float(sum(part.sum() for part in by_pairs)), rel=1e-7)
