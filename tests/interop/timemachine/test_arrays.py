"""Arrays for timemachine's potentials: pairs, exclusions, and those of a DiffSystem."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import openmm
import pytest
from openff.toolkit import ForceField, Molecule
from rdkit import Chem

from openff_diffsystem import DiffSystem
from openff_diffsystem.exceptions import InvalidInputError, UnsupportedForceFieldError
from openff_diffsystem.interop import timemachine as tm
from tests.forms.test_forms import custom_forms
from tests.molecules import with_charges
from tests.timemachine_cases import (
    NONBONDED,
    SMILES,
    bent_amide,
    odd_phase,
    openff,
    rdkit,
    sage200,
    simple_handles,
    torsion_energy,
)


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


def test_pair_list_is_differentiable_and_right():
    simple = simple_handles()
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


def test_arrays_give_the_energies_of_each_section():
    """timemachine's formulas in NumPy; the charges' prefactor is CODATA's but for 1.2e-8."""
    system = bent_amide()
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


def test_nonbonded_arrays():
    system = bent_amide()
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


def test_arrays_are_differentiable_in_theta():
    system = bent_amide()
    theta = system.force_field_parameters

    def total(theta):
        parts = [tm.harmonic_bonds(system, theta)[0], tm.harmonic_angles(system, theta)[0]]
        parts += [tm.periodic_torsions(system, theta)[0], tm.nonbonded_pair_list(system, theta, "smirnoff").params]
        return sum(jnp.sum(part) for part in parts)

    gradient = jax.jit(jax.grad(total))(theta)
    assert bool(jnp.isfinite(gradient.vector).all()) and bool(gradient["vdW"]["epsilon"].any())
    assert float(gradient["vdW"]["scale14"]) != 0.0


def test_arrays_in_single_precision():
    """Each number has a few roundings of its own: quotients, roots, products."""
    system = bent_amide()
    functions = (tm.harmonic_bonds, tm.harmonic_angles, tm.periodic_torsions, tm.nonbonded, tm.nonbonded_pair_list)
    double = [function(system)[0] for function in functions]
    molecule = with_charges("CC(=O)NC")
    with jax.enable_x64(False):
        other = DiffSystem.from_smirnoff(sage200(), molecule, charge_from_molecules=[molecule])
        single = [function(other)[0] for function in functions]
    for one, two in zip(single, double, strict=True):
        assert one.dtype == np.float32 and two.dtype == np.float64
        np.testing.assert_allclose(one, two, rtol=5e-7)


def test_handles_and_arrays_agree():
    """Two ways to the same numbers: the handles of the molecule, and the arrays of its system."""
    system = bent_amide()
    mol = rdkit("CC(=O)NC")
    assert [a.atomic_number for a in Molecule.from_smiles("CC(=O)NC").atoms] == [
        a.GetAtomicNum() for a in mol.GetAtoms()
    ]
    handles = tm.Handles.from_smirnoff(sage200(), "precomputed")
    for handle, arrays in (
        (handles.hb_handle, tm.harmonic_bonds(system)),
        (handles.ha_handle, tm.harmonic_angles(system)),
        (handles.pt_handle, tm.proper_torsions(system, convention="timemachine")),
        (handles.it_handle, tm.improper_torsions(system, convention="timemachine")),
    ):
        params, idxs = handle.parameterize(mol)
        ours, theirs = (
            sorted((*atoms, *np.round(row, 9)) for row, atoms in zip(np.asarray(p).tolist(), i.tolist(), strict=True))
            for p, i in ((params, idxs), arrays)
        )
        # the same terms; numbers up to rounding, hence the nine digits
        assert [row[: idxs.shape[1]] for row in ours] == [row[: idxs.shape[1]] for row in theirs]
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-9)


def test_a_dihedral_has_the_opposite_sign_in_timemachine():
    """OpenFF's energies where a phase is neither 0 nor 180 degrees, and what the handlers' phases give instead."""
    system = odd_phase()
    phases = np.degrees(np.asarray(system.parameterize(None).column("ProperTorsions", "phase")))
    assert 320.0 in np.round(phases, 9)
    wanted = float(system.energy_terms(system.positions)["ProperTorsions"])
    ours = torsion_energy(system.positions, *tm.proper_torsions(system))
    theirs = torsion_energy(system.positions, *tm.proper_torsions(system, convention="timemachine"))
    assert ours == pytest.approx(wanted, rel=1e-10)
    assert abs(theirs - wanted) > 0.01 * abs(wanted)
    with pytest.raises(InvalidInputError, match="convention"):
        tm.periodic_torsions(system, convention="smirnoff")


def test_improper_order_changes_the_energy():
    """Bent out of plane, the two conventions measure different dihedrals."""
    system = bent_amide()
    energies = {
        convention: torsion_energy(system.positions, *tm.improper_torsions(system, convention=convention))
        for convention in ("openff", "timemachine")
    }
    assert abs(energies["openff"] - energies["timemachine"]) > 0.01 * abs(energies["openff"])


def test_a_negative_epsilon_is_refused_where_it_is_known():
    system = bent_amide()
    theta = system.force_field_parameters
    tree = theta.to_tree()
    tree["vdW"]["epsilon"] = -1.0 - tree["vdW"]["epsilon"]
    negative = theta.from_tree(tree)
    for function in (tm.nonbonded, tm.nonbonded_pair_list):
        with pytest.raises(UnsupportedForceFieldError, match=r"epsilon of atom 0 is -.*no square root"):
            function(system, negative)
        assert np.isnan(jax.jit(lambda t, f=function: f(system, t).params)(negative)).any()


@pytest.mark.parametrize("missing", [("Electrostatics",), ("vdW",), ("Electrostatics", "vdW")])
@pytest.mark.parametrize("scale14", ["timemachine", "smirnoff"])
def test_nonbonded_columns_of_a_missing_section_are_zero(missing, scale14):
    force_field = ForceField("openff-2.0.0.offxml", load_plugins=True)
    dropped = {"Electrostatics": ("Electrostatics", "LibraryCharges", "ToolkitAM1BCC"), "vdW": ("vdW",)}
    for section in missing:
        for tag in dropped[section]:
            force_field.deregister_parameter_handler(tag)
    molecule = with_charges("CC(=O)NC")
    given = {} if "Electrostatics" in missing else {"charge_from_molecules": [molecule]}
    system = DiffSystem.from_smirnoff(force_field, molecule, **given)
    whole = bent_amide()
    columns = {"Electrostatics": [0], "vdW": [1, 2]}
    for function in (tm.nonbonded, tm.nonbonded_pair_list):
        wanted, found = np.array(function(whole, None, scale14).params), function(system, None, scale14).params
        if found.shape == wanted.shape:
            for section in missing:
                wanted[:, columns[section]] = 0.0
            np.testing.assert_allclose(found, wanted, rtol=1e-14)
        else:
            assert len(missing) == 2 and not np.asarray(found).any()


def test_systems_with_terms_that_no_array_holds_are_refused():
    """Pairs of an OpenMM System have parameters of their own, and its Ryckaert-Bellemans torsions are no cosines of
    timemachine's; nor has it a place for registered forms."""
    molecule = with_charges("CCCC")
    engine = sage200().create_openmm_system(molecule.to_topology(), charge_from_molecules=[molecule])
    exceptions = DiffSystem.from_openmm(engine)
    torsions = openmm.System()
    for _ in range(4):
        torsions.addParticle(12.0)
    force = openmm.RBTorsionForce()
    force.addTorsion(0, 1, 2, 3, *range(6))
    torsions.addForce(force)
    forms = ForceField(custom_forms.OFFXML, parameter_handler_classes=custom_forms.HANDLERS)
    functions = (tm.harmonic_bonds, tm.harmonic_angles, tm.proper_torsions, tm.improper_torsions)
    functions += (tm.periodic_torsions, tm.nonbonded, tm.nonbonded_pair_list)
    for system, section in (
        (exceptions, "NonbondedExceptions"),
        (DiffSystem.from_openmm(torsions), "RBTorsions"),
        (DiffSystem.from_smirnoff(forms, with_charges("CCO")), "MorseBonds|DoubleExponential"),
    ):
        for function in functions:
            with pytest.raises(UnsupportedForceFieldError, match=section):
                function(system)
