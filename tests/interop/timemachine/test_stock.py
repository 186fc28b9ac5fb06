"""Against timemachine itself: its shipped parameters, handlers and reference potentials.

Needs a checkout of proteneer/timemachine on PYTHONPATH.
"""

from __future__ import annotations

import jax
import numpy as np
import pytest

from openff_diffsystem.interop import timemachine as tm
from tests.timemachine_cases import SMILES, bent_amide, odd_phase, rdkit, sage200

DOUBLE = {"rel": 1e-12, "abs": 1e-12}
"""kJ/mol. Both sides compute in double precision, and add up a few dozen terms."""


@pytest.fixture(scope="module")
def stock():
    """timemachine's own Sage 2.0.0 with AM1-BCC charges."""
    return pytest.importorskip("timemachine.ff").Forcefield.load_from_file("smirnoff_2_0_0_am1bcc.py")


PAIRED = ("hb_handle", "ha_handle", "pt_handle", "it_handle", "lj_handle")


def test_numbers_of_the_shipped_force_field(stock):
    ours = tm.to_forcefield(sage200(), "am1bcc")
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
def test_terms_of_the_stock_handlers(stock, smiles):
    ours, mol = tm.to_forcefield(sage200(), "am1bcc"), rdkit(smiles)
    for name in PAIRED:
        mine, theirs = getattr(ours, name).parameterize(mol), getattr(stock, name).parameterize(mol)
        if name == "lj_handle":
            np.testing.assert_allclose(mine, theirs, rtol=1e-15)
        else:
            np.testing.assert_array_equal(mine[1], theirs[1])
            np.testing.assert_allclose(mine[0], theirs[0], rtol=1e-15)


def test_energies_of_timemachines_potentials(stock):
    """Its reference potentials take our arrays and give our energies; Coulomb without damping and cutoff."""
    system = bent_amide()
    from timemachine.potentials import bonded, nonbonded

    x = system.positions
    wanted = system.energy_terms(x, add_constrained_forces=True)
    for function, arrays, section in (
        (bonded.harmonic_bond, tm.harmonic_bonds(system), "Bonds"),
        (bonded.harmonic_angle, tm.harmonic_angles(system), "Angles"),
        (bonded.periodic_torsion, tm.proper_torsions(system), "ProperTorsions"),
        (bonded.periodic_torsion, tm.improper_torsions(system), "ImproperTorsions"),
    ):
        assert float(function(x, arrays[0], None, arrays[1])) == pytest.approx(float(wanted[section]), **DOUBLE)
    pairs = tm.nonbonded_pair_list(system, scale14="smirnoff")
    vdw, damped = nonbonded.nonbonded_on_precomputed_pairs(x, pairs.params, None, pairs.idxs, 0.0, None)
    assert float(vdw.sum()) == pytest.approx(float(wanted["vdW"]), **DOUBLE)
    r = np.linalg.norm(x[pairs.idxs[:, 0]] - x[pairs.idxs[:, 1]], axis=1)
    # its switch multiplies Coulomb whatever the cutoff; divide it out
    plain = np.asarray(damped) / np.asarray(nonbonded.switch_fn(r))
    assert plain.sum() == pytest.approx(float(wanted["Electrostatics"]), rel=2e-8)  # its constant is 1.2e-8 away
    arrays = tm.nonbonded(system, scale14="smirnoff")
    together = nonbonded.nonbonded(
        x, arrays.params, None, arrays.exclusion_idxs, arrays.scale_factors, arrays.beta, arrays.cutoff
    )
    by_pairs = nonbonded.nonbonded_on_precomputed_pairs(x, pairs.params, None, pairs.idxs, arrays.beta, arrays.cutoff)
    assert float(np.sum(together)) == pytest.approx(float(sum(part.sum() for part in by_pairs)), **DOUBLE)


@pytest.mark.parametrize("molecule", [bent_amide, odd_phase])
def test_bonded_potentials_have_our_energies_and_slopes_in_theta(stock, molecule):
    """timemachine's potential objects with our arrays, also where a phase is neither 0 nor 180 degrees."""
    from timemachine import potentials

    system = molecule()
    x, theta = system.positions, system.force_field_parameters

    def theirs(theta):
        functions = (tm.harmonic_bonds, tm.harmonic_angles, tm.periodic_torsions)
        bonds, angles, torsions = (function(system, theta) for function in functions)
        return (
            potentials.HarmonicBond(bonds[1])(x, bonds[0], None)
            + potentials.HarmonicAngle(angles[1])(x, angles[0], None)
            + potentials.PeriodicTorsion(torsions[1])(x, torsions[0], None)
        )

    def ours(theta):
        terms = system.energy_terms(x, theta, add_constrained_forces=True)
        return sum(terms[name] for name in ("Bonds", "Angles", "ProperTorsions", "ImproperTorsions"))

    (energy, slopes), (wanted, wanted_slopes) = (jax.value_and_grad(function)(theta) for function in (theirs, ours))
    assert float(energy) == pytest.approx(float(wanted), **DOUBLE)
    # slopes reach hundreds of kJ/mol per nm; both sides compute in double precision
    np.testing.assert_allclose(slopes.vector, wanted_slopes.vector, rtol=1e-9, atol=1e-9)


def test_all_pairs_and_the_list_of_pairs_have_the_same_slopes_in_theta(stock):
    """Through ``Nonbonded``, which takes exclusions off the sum over all pairs, and through the list of the others."""
    from timemachine import potentials

    system = bent_amide()
    x, theta = system.positions, system.force_field_parameters

    def all_pairs(theta):
        arrays = tm.nonbonded(system, theta)
        exclusions = (arrays.exclusion_idxs, arrays.scale_factors)
        return potentials.Nonbonded(len(x), *exclusions, arrays.beta, arrays.cutoff)(x, arrays.params, None)

    def listed(theta):
        pairs = tm.nonbonded_pair_list(system, theta)
        return potentials.NonbondedPairListPrecomputed(pairs.idxs, pairs.beta, pairs.cutoff)(x, pairs.params, None)

    whole, by_pairs = (jax.grad(function)(theta).vector for function in (all_pairs, listed))
    # bonded pairs, which are taken off the sum, are repelled many times more than the others
    scale = float(np.abs(whole).max())
    assert scale > 1.0
    np.testing.assert_allclose(whole, by_pairs, rtol=1e-7, atol=1e-7 * scale)
