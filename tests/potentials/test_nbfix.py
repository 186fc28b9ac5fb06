"""Pairs of atom types with Lennard-Jones parameters of their own, CHARMM's NBFIX, against OpenMM's Reference."""

from __future__ import annotations

import copy
import random
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import jax
import jax.numpy as jnp
import numpy as np
import openmm
import openmm.app
import openmm.unit
import pytest

from openff_diffsystem import DiffSystem, SystemBatch
from openff_diffsystem.exceptions import InvalidInputError, UnsupportedForceFieldError
from openff_diffsystem.interop.timemachine import nonbonded
from openff_diffsystem.potentials.periodic import nbfix
from openff_diffsystem.system.interactions import periodic_interactions
from tests.differences import slope_with_tail
from tests.interop.openmm.test_charmm_and_amber import charmm_files, peptide
from tests.openmm_reference import context_of, energy_of, evaluate, forces_of

ENERGY = {"rel": 1e-8, "abs": 1e-6}
"""kJ/mol. Double precision on both sides; parts of the Coulomb energy of a box cancel, and OpenMM integrates what is
beyond the cutoff numerically."""

BOX = {"nonbondedMethod": openmm.app.PME, "nonbondedCutoff": 0.8, "switchDistance": 0.7}


@cache
def charmm36():
    return openmm.app.ForceField("charmm36_2024.xml", "charmm36_2024/water.xml")


@cache
def in_salt_water(charged=True):
    """A peptide and sodium chloride in water: sodium has NBFIX terms with chloride and, made up here, with water.

    The box is triclinic. Without charges it is not: there is a jump in OpenMM's energy of custom forces as soon as a
    Context is given another triclinic box than its System has, however near.
    """
    force_field = charmm36()
    modeller = openmm.app.Modeller(*peptide())
    box = 2.4 * np.array([[1.0, 0.0, 0.0], [0.3, 1.0, 0.0], [0.45, 0.4, 0.75]])
    if not charged:
        box = np.diag(np.diag(box))
    random.seed(0)  # openmm.app puts ions at random places
    modeller.addSolvent(
        force_field, boxVectors=box * openmm.unit.nanometer, ionicStrength=0.6 * openmm.unit.molar, neutralize=False
    )
    system = force_field.createSystem(modeller.topology, **BOX)
    names = [(atom.residue.name, atom.name) for atom in modeller.topology.atoms()]
    sodium, chloride, oxygen = (names.index(name) for name in (("NA", "Na"), ("CL", "Cl"), ("HOH", "O")))
    positions = np.array([[*v] for v in modeller.positions._value])
    _beside(positions, chloride, sodium, np.flatnonzero([name == ("HOH", "O") for name in names]))
    (force,) = (force for force in system.getForces() if isinstance(force, openmm.CustomNonbondedForce))
    give_own(force, sodium, oxygen, epsilon=0.9, sigma=0.22)
    if not charged:
        _discharge(system)
    context = context_of(system, positions)
    openmm.LocalEnergyMinimizer.minimize(context, maxIterations=30)  # waters overlap at the faces of the box
    positions = context.getState(getPositions=True).getPositions(asNumpy=True)._value
    return system, positions, modeller.topology


def _beside(positions, ion, other, oxygens):
    """Let an ion and the water next to another ion change places."""
    water = oxygens[np.argmin(np.linalg.norm(positions[oxygens] - positions[other], axis=1))]
    shift = positions[ion] - positions[water]
    positions[ion] -= shift
    positions[water : water + 3] += shift


def _discharge(system):
    (force,) = (force for force in system.getForces() if isinstance(force, openmm.NonbondedForce))
    for i in range(force.getNumParticles()):
        force.setParticleParameters(i, 0.0, *force.getParticleParameters(i)[1:])
    for i in range(force.getNumExceptions()):
        a, b, _, *others = force.getExceptionParameters(i)
        force.setExceptionParameters(i, a, b, 0.0, *others)


def give_own(force, particle, other, epsilon, sigma):
    """Write parameters of the types of two particles into the tables of openmm.app's force."""
    a, b = (int(force.getParticleParameters(i)[0]) for i in (particle, other))
    for i in range(2):
        size, _, values = force.getTabulatedFunction(i).getFunctionParameters()
        values = np.array(values).reshape(size, size)
        power = {"acoef": 12, "bcoef": 6}[force.getTabulatedFunctionName(i)]
        values[a, b] = values[b, a] = 4.0 * epsilon * sigma**power
        if "a/r6" in force.getEnergyFunction() and power == 12:
            values[a, b] = values[b, a] = np.sqrt(values[a, b])
        force.getTabulatedFunction(i).setFunctionParameters(size, size, values.ravel())


@cache
def two_molecules():
    with TemporaryDirectory() as folder:
        system, topology = charmm_files(Path(folder), "NBFIX\nOX HX -0.05 2.60\nCX NX -0.3 3.1\nOX NX 0.0 3.0")
    one = np.array([[0.0, 0.0, 0.0], [0.0, 0.12, 0.01], [0.11, -0.06, 0.0], [-0.09, -0.05, 0.0]])
    return system, np.concatenate([one, [0.1, 0.2, 0.35] - one]), topology


MADE = {"two molecules": two_molecules, "salt water": in_salt_water}


@cache
def case(name):
    system, positions, topology = MADE[name]()
    return system, positions, DiffSystem.from_openmm(system, topology, positions=positions)


@cache
def derivatives(name):
    """Energy, its gradients in positions and theta, ours."""
    _, positions, ours = case(name)
    neighbors = None if ours.box_vectors is None else ours.neighbor_list()
    evaluated = jax.jit(jax.value_and_grad(ours.to_jax_potential(), argnums=(0, 1)))
    return evaluated(jnp.asarray(positions), ours.force_field_parameters, None, neighbors)


def table_force(system):
    return next(force for force in system.getForces() if isinstance(force, openmm.CustomNonbondedForce))


@pytest.mark.parametrize("name", MADE)
def test_energy_and_forces(name):
    system, positions, ours = case(name)
    wanted, forces = evaluate(system, positions)
    energy, (slope, _) = derivatives(name)
    assert float(energy) == pytest.approx(wanted, **ENERGY)
    np.testing.assert_allclose(-slope, forces, rtol=1e-9, atol=1e-9 * np.abs(forces).max())
    terms = ours.energy_terms()
    assert float(sum(terms.values())) == pytest.approx(wanted, **ENERGY)
    assert abs(float(terms["NBFIX"])) > 1


def without_correction(system):
    copied = copy.deepcopy(system)
    table_force(copied).setUseLongRangeCorrection(False)
    return copied


@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize("attribute", ("epsilon", "sigma"))
def test_gradient_in_parameters_of_types(name, attribute):
    """Of the original System, whose tables are changed."""
    system, positions, ours = case(name)
    _, (_, slopes) = derivatives(name)
    columns = ours.force_field_parameters["NBFIX"]
    for term, pair in enumerate(ours.indices("NBFIX").tolist()):
        values = {key: float(column[term]) for key, column in columns.items()}
        if not values["epsilon"]:
            continue

        def changed(factor, correction, pair=pair, values=values):
            one = copy.deepcopy(system) if correction else without_correction(system)
            give_own(table_force(one), *pair, **values | {attribute: factor * values[attribute]})
            return context_of(one, positions)

        slope, uncertainty = slope_with_tail(changed, values[attribute])
        assert float(slopes["NBFIX"][attribute][term]) == pytest.approx(slope, abs=uncertainty)
        assert abs(slope) > 30 * uncertainty


@pytest.mark.parametrize("attribute", ("epsilon", "sigma"))
def test_gradient_in_parameters_that_some_pairs_do_not_combine(attribute):
    """Of the particles that have a term: with all others they combine theirs still."""
    _, positions, ours = case("salt water")
    _, (_, slopes) = derivatives("salt water")
    theta, clear = ours.force_field_parameters, False
    for particle in np.unique(ours.indices("NBFIX")).tolist():
        label = next(one for one in theta.labels if one.startswith(f"vdW/{particle}:") and one.endswith(attribute))
        i = theta.labels.index(label)

        def changed(factor, correction, i=i):
            made = ours.to_openmm(theta.vector.at[i].multiply(factor))
            return context_of(made if correction else without_correction(made), positions)

        slope, uncertainty = slope_with_tail(changed, float(theta.vector[i]))
        assert float(slopes.vector[i]) == pytest.approx(slope, abs=uncertainty)
        clear |= abs(slope) > 30 * uncertainty
    assert clear


def test_gradient_in_the_box():
    """Without charges, whose energies end with a step at the cutoff, against differences of OpenMM."""
    system, positions, topology = in_salt_water(charged=False)
    ours = DiffSystem.from_openmm(system, topology, positions=positions)
    box, strain = ours.box_vectors, np.diag([0.7, -0.4, 0.5])
    along = positions @ strain, box @ strain
    gradient = jax.grad(ours.to_jax_potential(), argnums=(0, 2))(
        positions, ours.force_field_parameters, box, ours.neighbor_list()
    )
    context = context_of(system, positions)
    energies = []
    for sign in (1, -1):
        context.setPeriodicBoxVectors(*(box + sign * 1e-6 * along[1]))
        context.setPositions(positions + sign * 1e-6 * along[0])
        energies.append(energy_of(context))
    parts = [np.vdot(a, b) for a, b in zip(gradient, along, strict=True)]
    assert sum(parts) == pytest.approx((energies[0] - energies[1]) / 2e-6, abs=1e-6 * max(np.abs(parts)))


def test_more_pairs_than_are_evaluated_at_once(monkeypatch):
    """Energies and gradients of the pairs alone, in chunks of which the last is not full."""
    _, positions, ours = case("salt water")
    scheme, parameters = ours.neighbor_list().scheme, ours.parameterize()
    pairs = jax.tree.map(jnp.asarray, periodic_interactions(ours, True).nbfix)

    def derivatives():
        def energy(x, combined, own, box):
            return nbfix.nbfix_energy(pairs, x, combined, own, box, scheme)

        at = jnp.asarray(positions), parameters["vdW"], parameters["NBFIX"], jnp.asarray(ours.box_vectors)
        return jax.tree.leaves(jax.jit(jax.value_and_grad(energy, (0, 1, 2, 3)))(*at))

    expected = derivatives()
    monkeypatch.setattr(nbfix, "AT_ONCE", 100)
    assert len(pairs.terms) > 300 and len(pairs.terms) % 100
    for a, b in zip(expected, derivatives(), strict=True):
        assert np.any(a)
        np.testing.assert_allclose(b, a, rtol=0, atol=1e-13 * float(jnp.abs(a).max()))


def test_hessian():
    """The Hessian against differences of OpenMM's forces, with the parameters of types moving as well."""
    _, positions, ours = case("two molecules")
    theta, rng = ours.force_field_parameters, np.random.default_rng(0)
    turn = np.array([c.section in ("NBFIX", "vdW") for c in theta.layout.components]) * rng.normal(
        size=len(theta.vector)
    )
    turn *= np.asarray(theta.vector)
    direction = rng.normal(size=positions.shape)
    gradient = jax.grad(ours.to_jax_potential())
    _, found = jax.jvp(gradient, (positions, theta.vector), (direction, turn))
    forces = [
        evaluate(ours.to_openmm(theta.vector + sign * 1e-6 * turn), positions + sign * 1e-6 * direction)[1]
        for sign in (1, -1)
    ]
    difference = -(forces[0] - forces[1]) / 2e-6
    np.testing.assert_allclose(found, difference, rtol=0, atol=1e-7 * np.abs(difference).max())


@pytest.mark.parametrize("name", MADE)
def test_to_openmm_and_back(name, tmp_path):
    system, positions, ours = case(name)
    wanted, forces = evaluate(system, positions)
    made = ours.to_openmm()
    again = DiffSystem.from_openmm(made)
    ours.save(tmp_path / "system.npz")
    loaded = DiffSystem.load(tmp_path / "system.npz")
    for one in (made, again.to_openmm(), loaded.to_openmm()):
        energy, same_forces = evaluate(one, positions)
        assert energy == pytest.approx(wanted, **ENERGY)
        np.testing.assert_allclose(same_forces, forces, rtol=1e-9, atol=1e-10 * np.abs(forces).max())
    for column, values in ours.force_field_parameters["NBFIX"].items():
        np.testing.assert_array_equal(again.force_field_parameters["NBFIX"][column], values)


def test_update_of_a_context():
    _, positions, ours = case("salt water")
    made, theta = ours.to_openmm(), ours.force_field_parameters
    factors = np.array([c.section in ("NBFIX", "vdW") and c.row is not None for c in theta.layout.components])
    moved = theta.vector * (1.0 + 0.02 * factors)
    context = context_of(made, positions)
    before = energy_of(context)
    ours.update_openmm(context, moved)
    wanted, forces = evaluate(ours.to_openmm(moved), positions)
    assert energy_of(context) == pytest.approx(wanted, rel=1e-12)
    np.testing.assert_allclose(forces_of(context), forces, rtol=0, atol=1e-12 * np.abs(forces).max())
    assert before != pytest.approx(wanted, rel=1e-4)
    neighbors = ours.neighbor_list()
    assert float(ours.to_jax_potential()(positions, moved, None, neighbors)) == pytest.approx(wanted, **ENERGY)


def test_single_precision():
    """Positions have seven digits; repulsion is the twelfth power."""
    _, positions, ours = case("two molecules")
    single = ours.force_field_parameters.vector.astype(np.float32)
    energy = ours.to_jax_potential()(jnp.asarray(positions, np.float32), single)
    assert energy.dtype == np.float32
    magnitude = sum(abs(float(value)) for value in ours.energy_terms().values())
    assert float(energy) == pytest.approx(float(derivatives("two molecules")[0]), abs=1e-6 * magnitude)


def test_refused_by_name():
    ours = case("two molecules")[2]
    with pytest.raises(InvalidInputError, match="system 0 holds CustomTorsions, NBFIX: systems read from OpenMM"):
        SystemBatch.from_systems([ours])
    with pytest.raises(UnsupportedForceFieldError, match="no place for CustomTorsions"):
        nonbonded(ours)
