"""Correction maps and custom forces read from OpenMM Systems, against OpenMM's Reference platform."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import openmm
import pytest

from openff_diffsystem import DiffSystem
from openff_diffsystem.exceptions import (
    InvalidInputError,
    ParameterMismatchError,
    UnsupportedForceError,
)
from tests import openmm_systems
from tests.openmm_reference import context_of, energy_of, evaluate

N = 9

POSITIONS = np.cumsum(np.random.default_rng(11).normal(scale=0.1, size=(N, 3)), axis=0)

ENERGY = {"rel": 1e-12, "abs": 1e-10}
"""Double precision on both sides, and few terms."""


system_of = partial(openmm_systems.system_of, n=N)

reference = partial(evaluate, positions=POSITIONS)
"""Energy and forces of a System there."""


def maps(size=6, n_maps=3):
    """Three maps, one of them used by nobody, and terms that share one; some lie across the ends of the map."""
    rng = np.random.default_rng(4)
    force = openmm.CMAPTorsionForce()
    for _ in range(n_maps):
        force.addMap(size, rng.normal(scale=5.0, size=size * size).tolist())
    for first, number in ((0, 2), (1, 0), (1, 2)):
        force.addTorsion(number, *range(first, first + 4), *range(first + 1, first + 5))
    force.addTorsion(0, 8, 2, 5, 1, 3, 0, 6, 4)
    return force


def custom():
    """Forces of every kind that is covered, two of a class, some with global parameters that they share."""
    bond = openmm.CustomBondForce("depth*(1-exp(-a*(r-r0)))^2*lambda")
    bond.setName("morse")
    for name in ("depth", "a", "r0"):
        bond.addPerBondParameter(name)
    bond.addGlobalParameter("lambda", 0.7)
    bond.addBond(0, 1, [400.0, 20.0, 0.15])
    bond.addBond(4, 2, [300.0, 15.0, 0.2])
    angle = openmm.CustomAngleForce("lambda*scale*k*(cos(theta)-cos(theta0))^2")
    angle.addPerAngleParameter("k")
    angle.addPerAngleParameter("theta0")
    angle.addGlobalParameter("scale", 1.5)
    angle.addGlobalParameter("lambda", 0.7)
    angle.addAngle(0, 1, 2, [50.0, 1.9])
    angle.addAngle(3, 5, 4, [60.0, 2.1])
    improper = openmm.CustomTorsionForce("k*min(dtheta, 2*pi-dtheta)^2; dtheta = abs(theta-theta0);pi = 3.1415926535")
    improper.addPerTorsionParameter("k")
    improper.addPerTorsionParameter("theta0")
    improper.addTorsion(0, 1, 2, 3, [20.0, 3.0])
    improper.addTorsion(2, 4, 6, 8, [30.0, -3.0])
    plain = openmm.CustomTorsionForce("3*sin(theta)^2")
    plain.addTorsion(1, 2, 3, 4, [])
    compound = openmm.CustomCompoundBondForce(
        4, "k*(distance(p1,p2)-0.1)*(angle(p2,p3,p4)-1.5)*cos(dihedral(p1,p2,p3,p4)) + 2*x1*z4"
    )
    compound.addPerBondParameter("k")
    compound.addBond([0, 3, 5, 7], [40.0])
    compound.addBond([8, 3, 1, 7], [45.0])
    return [bond, angle, openmm.CustomBondForce("r"), improper, plain, compound]  # one without terms


CASES = {"maps": lambda: system_of(maps()), "custom": lambda: system_of(*custom())}


@cache
def ours(name):
    return DiffSystem.from_openmm(CASES[name]())


@cache
def derivatives(name):
    system = ours(name)
    energy, (slope, slopes) = jax.value_and_grad(system.to_jax_potential(), argnums=(0, 1))(
        POSITIONS, system.force_field_parameters
    )
    return float(energy), np.asarray(slope), np.asarray(slopes.vector)


@pytest.mark.parametrize("name", CASES)
def test_energy_and_forces(name):
    wanted, forces = reference(CASES[name]())
    energy, slope, _ = derivatives(name)
    assert energy == pytest.approx(wanted, **ENERGY)
    np.testing.assert_allclose(-slope, forces, rtol=1e-9, atol=1e-11 * np.abs(forces).max())


@pytest.mark.parametrize("name", CASES)
def test_single_precision(name):
    """A few hundred roundings of 6e-8 in forces, expressions and splines: 1e-4 of the largest force."""
    wanted, forces = reference(CASES[name]())
    theta = ours(name).force_field_parameters.vector.astype(np.float32)
    energy, slope = jax.value_and_grad(ours(name).to_jax_potential())(POSITIONS.astype(np.float32), theta)
    assert energy.dtype == slope.dtype == np.float32
    magnitude = sum(abs(float(term)) for term in ours(name).energy_terms(POSITIONS).values())
    assert float(energy) == pytest.approx(wanted, rel=0, abs=2e-5 * magnitude)
    np.testing.assert_allclose(-slope, forces, rtol=0, atol=1e-4 * np.abs(forces).max())


def test_sections_and_parameters():
    assert ours("maps").sections == ("CMAPTorsions",)
    theta = ours("maps").force_field_parameters
    assert theta.layout.size == 2 * 36  # the map that nobody uses is none
    values = [value._value for value in maps().getMapParameters(2)[1]]
    np.testing.assert_array_equal(theta["CMAPTorsions"]["energy"][:36], values)
    assert theta.labels[4 + 6 * 5] == "CMAPTorsions/map2:e4_5/energy" and set(theta.units) == {"kilojoule / mole"}
    selected = theta.select("CMAPTorsions", "energy", id="map2:e4_5")
    assert float(selected.vector[0]) == values[4 + 6 * 5]

    assert ours("custom").sections == (
        "morse",
        "CustomAngles",
        "CustomTorsions",
        "CustomTorsions2",
        "CustomCompoundBonds",
    )
    theta = ours("custom").force_field_parameters
    np.testing.assert_array_equal(theta["morse"]["depth"], [400.0, 300.0])
    assert float(np.squeeze(theta["CustomAngles"]["scale"])) == 1.5
    assert sum(label.endswith("/lambda") for label in theta.labels) == 1  # OpenMM has one for both forces
    assert "CustomTorsions/0-1-2-3/theta0" in theta.labels


@pytest.mark.parametrize("name", CASES)
def test_gradient_in_every_parameter_against_finite_differences_of_openmm(name):
    system, slopes = ours(name), derivatives(name)[2]
    theta = system.force_field_parameters.vector
    chosen = range(len(theta)) if name == "custom" else range(0, len(theta), 5)
    largest = np.abs(slopes).max()
    for i in chosen:
        step = 1e-5 * max(1.0, abs(float(theta[i])))
        low, high = (reference(system.to_openmm(theta.at[i].add(sign * step)))[0] for sign in (-1, 1))
        # central differences: the third derivative times the step squared, and rounding over the step
        assert slopes[i] == pytest.approx((high - low) / (2 * step), rel=1e-6, abs=1e-8 * largest + 1e-9)
    assert largest > 0.1


@pytest.mark.parametrize("name", CASES)
def test_second_derivatives_against_finite_differences_of_openmm(name):
    system = ours(name)
    theta = system.force_field_parameters
    potential = system.to_jax_potential()
    rng = np.random.default_rng(5)
    direction, turn = rng.normal(size=POSITIONS.shape), rng.normal(size=theta.vector.shape)

    def along(positions, vector):
        return jax.jvp(jax.grad(potential), (positions, vector), (jnp.asarray(direction), jnp.asarray(turn)))[1]

    second = jax.jit(along)(jnp.asarray(POSITIONS), theta.vector)
    step = 1e-6
    low, high = (
        evaluate(system.to_openmm(theta.vector + sign * step * turn), POSITIONS + sign * step * direction)[1]
        for sign in (-1, 1)
    )
    by_differences = -(high - low) / (2 * step)
    # third derivatives of a spline jump at its knots, and rounding of forces over the step
    np.testing.assert_allclose(second, by_differences, rtol=1e-5, atol=1e-7 * np.abs(by_differences).max())


@pytest.mark.parametrize("name", CASES)
def test_back_to_openmm(name):
    system = CASES[name]()
    again = ours(name).to_openmm()
    wanted, forces = reference(system)
    energy, forces_again = reference(again)
    assert energy == pytest.approx(wanted, rel=1e-14)
    np.testing.assert_allclose(forces_again, forces, rtol=1e-13, atol=1e-13 * np.abs(forces).max())
    kinds = sorted(type(force).__name__ for force in system.getForces())
    if name == "custom":
        kinds.remove("CustomBondForce")  # the one without terms
    assert sorted(type(force).__name__ for force in again.getForces()) == sorted([*kinds, "CMMotionRemover"])
    names = {force.getName() for force in again.getForces()}
    assert ("morse" in names) == (name == "custom")


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("target", ("the original", "ours", "a Context"))
def test_update(name, target):
    system = ours(name)
    moved = 1.1 * system.force_field_parameters.vector
    openmm_system = system.to_openmm() if target == "ours" else CASES[name]()
    context = context_of(openmm_system, POSITIONS) if target == "a Context" else None
    system.update_openmm(context or openmm_system, moved)
    energy = energy_of(context) if context else reference(openmm_system)[0]
    assert energy == pytest.approx(float(system.to_jax_potential()(POSITIONS, moved)), **ENERGY)
    assert energy != pytest.approx(reference(CASES[name]())[0], rel=1e-3)


def test_update_of_a_global_parameter_that_a_restraint_shares():
    """OpenMM refuses to begin a Context anew with two default values of a parameter."""
    bond = bond_force("lam*r^2", "lam", default=3.0)
    restraint = openmm.CustomExternalForce("lam*x^2")
    restraint.addGlobalParameter("lam", 3.0)
    system = DiffSystem.from_openmm(system_of(copy.deepcopy(bond)))
    openmm_system = system_of(bond, restraint)
    context = context_of(openmm_system, POSITIONS)
    system.update_openmm(context, 2.0 * system.force_field_parameters.vector)
    energy = energy_of(context)
    context.reinitialize(preserveState=True)
    assert energy_of(context) == pytest.approx(energy, rel=1e-12)
    assert [force.getGlobalParameterDefaultValue(0) for force in openmm_system.getForces()] == [6.0, 6.0]


def test_terms_of_one_map_that_part_get_maps_of_their_own():
    system = ours("maps")
    parameters = system.parameterize()
    rows = np.asarray(parameters.unique("CMAPTorsions")) * np.array([[1.0], [1.1], [1.2], [1.3]])
    apart = parameters.replace({"CMAPTorsions": jnp.asarray(rows)})
    wanted = float(system.to_jax_potential()(POSITIONS, apart))
    assert reference(system.to_openmm(apart))[0] == pytest.approx(wanted, **ENERGY)
    context = context_of(CASES["maps"](), POSITIONS)
    system.update_openmm(context, apart)
    assert energy_of(context) == pytest.approx(wanted, **ENERGY)
    system.update_openmm(context)
    assert energy_of(context) == pytest.approx(derivatives("maps")[0], **ENERGY)


def test_ties():
    force = openmm.CMAPTorsionForce()
    values = np.random.default_rng(0).normal(size=16).tolist()
    for _ in range(2):
        force.addMap(4, values)
    force.addTorsion(0, 0, 1, 2, 3, 1, 2, 3, 4)
    force.addTorsion(1, 4, 5, 6, 7, 5, 6, 7, 8)
    bond = openmm.CustomBondForce("k*r^4")
    bond.addPerBondParameter("k")
    for i in range(3):
        bond.addBond(i, i + 1, [5.0 if i else 6.0])
    system = system_of(force, bond)
    sizes = [DiffSystem.from_openmm(system, tie_equal=tie).parameter_layout.size for tie in (False, True)]
    assert sizes == [2 * 16 + 3, 16 + 2]


@pytest.mark.parametrize("size", (3, 24))
def test_maps_of_other_sizes_and_at_their_knots(size):
    """At a knot an angle is at the end of an interval, and rounding says of which."""
    rng = np.random.default_rng(size)
    force = openmm.CMAPTorsionForce()
    values = rng.normal(size=(size, size))
    force.addMap(size, values.ravel().tolist())
    force.addTorsion(0, 0, 1, 2, 3, 4, 5, 6, 7)
    openmm_system = system_of(force)
    system = DiffSystem.from_openmm(openmm_system)
    potential = system.to_jax_potential()

    def four(angle):
        return np.array([[1.0, 0.0, 0.0], [0, 0, 0], [0, 0, 1.0], [np.cos(angle), np.sin(angle), 1.0]])

    for i, j in ((0, 0), (1, size - 1), (size // 2, 1)):
        at = np.concatenate([four(2 * np.pi * i / size), four(2 * np.pi * j / size) + 3.0, [[9.0, 9.0, 9.0]]])
        energy = float(potential(at, system.force_field_parameters))
        # the first angle runs fastest
        assert energy == pytest.approx(values[j, i], abs=1e-12)
        assert energy == pytest.approx(evaluate(openmm_system, at)[0], abs=1e-12)


def test_saved_pickled_and_read_in_another_process(tmp_path):
    """The form is part of the system: the process that reads it knows nothing of this one."""
    both = DiffSystem.from_openmm(system_of(maps(), *custom()), positions=POSITIONS)
    both.save(tmp_path / "both.npz")
    (tmp_path / "both.pickle").write_bytes(pickle.dumps(both))
    program = (
        "import pickle, sys, jax\n"
        "jax.config.update('jax_enable_x64', True)\n"
        "from openff_diffsystem import DiffSystem\n"
        "a = DiffSystem.load('both.npz'); b = pickle.load(open('both.pickle', 'rb'))\n"
        "for s in (a, b): print(repr(float(s.to_jax_potential()(s.positions, s.force_field_parameters))))\n"
    )
    out = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True, capture_output=True, text=True)
    wanted = reference(system_of(maps(), *custom()))[0]
    assert [float(line) for line in out.stdout.split()] == pytest.approx([wanted] * 2, **ENERGY)
    again = DiffSystem.load(tmp_path / "both.npz")
    assert reference(again.to_openmm())[0] == pytest.approx(wanted, rel=1e-14)
    assert set(again.energy_terms(POSITIONS)) == set(again.sections)


def test_a_system_has_its_own_form_whatever_others_have():
    """Two systems with sections of one name and different expressions, in one process."""
    systems = []
    for text in ("k*r^2", "k*r^3"):
        force = openmm.CustomBondForce(text)
        force.addPerBondParameter("k")
        force.addBond(0, 1, [7.0])
        systems.append(system_of(force))
    for openmm_system in systems:
        system = DiffSystem.from_openmm(openmm_system)
        energy = float(system.to_jax_potential()(POSITIONS, system.force_field_parameters))
        assert energy == pytest.approx(reference(openmm_system)[0], **ENERGY)
    other = DiffSystem.from_openmm(systems[0])
    with pytest.raises(ParameterMismatchError, match="CustomBondForce of the OpenMM System has another expression"):
        other.update_openmm(systems[1])


def bond_force(text, *parameters, name=None, default=1.0):
    force = openmm.CustomBondForce(text)
    for parameter in parameters:
        force.addGlobalParameter(parameter, default)
    force.addBond(0, 1, [])
    if name:
        force.setName(name)
    return force


def test_one_value_of_a_global_parameter():
    forces = bond_force("a*r", "a"), bond_force("a*r^2", "a", default=2.0)
    with pytest.raises(UnsupportedForceError, match=r"global parameter 'a' is 1\.0 in CustomBonds and 2\.0"):
        DiffSystem.from_openmm(system_of(*forces))


@pytest.mark.parametrize("name", ("Bonds", "with/slash", "vdW", "RBTorsions"))
def test_names_that_cannot_be_those_of_sections(name, tmp_path):
    system = DiffSystem.from_openmm(system_of(bond_force("a*r", "a", name=name)))
    assert system.sections == ("CustomBonds",)
    again = system.to_openmm()
    assert name in {force.getName() for force in again.getForces()}


def _periodic():
    force = bond_force("r")
    force.setUsesPeriodicBoundaryConditions(True)
    return force


def _sizes():
    force = openmm.CMAPTorsionForce()
    for i, size in enumerate((4, 6)):
        force.addMap(size, [0.0] * size**2)
        force.addTorsion(i, 0, 1, 2, 3, 1, 2, 3, 4)
    return force


def _tabulated():
    force = openmm.CustomCompoundBondForce(2, "f(distance(p1,p2))")
    force.addTabulatedFunction("f", openmm.Continuous1DFunction([0.0, 1.0, 2.0], 0.0, 1.0))
    force.addBond([0, 1], [])
    return force


def _compound(text, *names):
    force = openmm.CustomCompoundBondForce(2, text)
    for name in names:
        force.addPerBondParameter(name)
    force.addBond([0, 1], [7.0] * len(names))
    return force


REFUSED = {
    "bessel is no function that is covered": lambda: bond_force("bessel(r)"),
    "CustomBondForce 'my own' has no parameter 'k'": lambda: bond_force("k*r", name="my own"),
    "two meanings for the name 'r'": lambda: bond_force("r", "r"),
    "two meanings for the name 'x1'": lambda: _compound("x1*distance(p1,p2)", "x1"),
    "CustomBondForce wraps its terms": _periodic,
    "CMAPTorsionForce has maps of 2 sizes": _sizes,
    "CustomCompoundBondForce has tabulated functions": _tabulated,
    r"no parameter 'distance\(p1,p3\)'": lambda: _compound("distance(p1,p3)"),
    "no parameter 'x3'": lambda: _compound("x3"),
    "pointdistance is no function": lambda: _compound("pointdistance(x1,y1,z1,0,0,0)"),
    "not covered: CustomHbondForce": lambda: openmm.CustomHbondForce("1"),
    "not covered: CustomExternalForce": lambda: openmm.CustomExternalForce("x"),
}


@pytest.mark.parametrize("message", REFUSED)
def test_refused_by_name(message):
    with pytest.raises(UnsupportedForceError, match=message):
        DiffSystem.from_openmm(system_of(REFUSED[message]()))


@pytest.mark.parametrize("name", CASES)
def test_batches_refuse_systems_with_forms_of_their_own(name):
    with pytest.raises(InvalidInputError, match=f"system 0 holds {ours(name).sections[0]}"):
        DiffSystem.concatenate([ours(name)] * 2)


def test_update_refuses_other_forces():
    system = ours("custom")
    with pytest.raises(ParameterMismatchError, match="0 forces of class CMAPTorsionForce"):
        ours("maps").update_openmm(system_of())
    with pytest.raises(ParameterMismatchError, match=r"1 forces of class CustomTorsionForce with terms; .* has 2"):
        system.update_openmm(system_of(*[f for f in custom() if f.getName() == "morse" or "theta0" in _text(f)]))


def test_update_knows_the_direction_of_terms():
    """Where the order of the particles matters, a term and its reverse are two."""
    cases = []
    for pairs in (((0, 1), (1, 0)), ((1, 0), (0, 1)), ((0, 1), (0, 1))):
        force = openmm.CustomCompoundBondForce(2, "k*(x1-3*x2)")
        force.addPerBondParameter("k")
        for i, pair in enumerate(pairs):
            force.addBond(pair, [1.0 + (i if pairs[0] == (0, 1) else 1 - i)])
        cases.append(system_of(force))
    forth, back, other = cases
    system = DiffSystem.from_openmm(forth)
    expected = reference(forth)[0]
    assert reference(back)[0] == pytest.approx(expected, **ENERGY)
    system.update_openmm(back)
    assert reference(back)[0] == pytest.approx(expected, **ENERGY)
    with pytest.raises(ParameterMismatchError, match="terms of the CustomCompoundBondForce"):
        system.update_openmm(other)
    turned = openmm.CMAPTorsionForce()
    turned.addMap(4, np.arange(16.0))
    straight = openmm.CMAPTorsionForce(turned)
    straight.addTorsion(0, 0, 1, 2, 3, 1, 2, 3, 4)
    turned.addTorsion(0, 4, 3, 2, 1, 3, 2, 1, 0)
    with pytest.raises(ParameterMismatchError, match="terms of the CMAPTorsionForce"):
        DiffSystem.from_openmm(system_of(straight)).update_openmm(system_of(turned))


def _text(force):
    return force.getEnergyFunction()
