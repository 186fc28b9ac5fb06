"""Functional forms of one's own, against OpenMM's custom forces."""

from __future__ import annotations

import copy
import dataclasses
import importlib.util
import pickle
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import openmm
import pytest
from openff.toolkit import ForceField, unit
from openff.toolkit.typing.engines.smirnoff.parameters import (
    ParameterAttribute,
    ParameterHandler,
    ParameterType,
    vdWHandler,
)

from openff_diffsystem import DiffSystem
from openff_diffsystem.exceptions import (
    DuplicateFormError,
    FormShapeError,
    UnregisteredFormError,
    UnsupportedForceFieldError,
    UnsupportedInputError,
)
from openff_diffsystem.forms import ValenceForm, register_form, registry
from openff_diffsystem.potentials.geometry import columns, difference, norm
from tests.molecules import with_charges
from tests.openmm_reference import context_of, energy_of, evaluate, forces_of

spec = importlib.util.spec_from_file_location("custom_forms", Path(__file__).parents[2] / "examples/custom_forms.py")
custom_forms = importlib.util.module_from_spec(spec)
spec.loader.exec_module(custom_forms)

MORSE = "depth*(1-exp(-width*(r-length)))^2"
PAIR = (
    "scale*sqrt(e1*e2)*(beta/(alpha-beta)*exp(alpha*(1-x))-alpha/(alpha-beta)*exp(beta*(1-x)));"
    "x=r/(0.5*(r1+r2)); alpha=18.7; beta=3.3"
)


@pytest.fixture(scope="module")
def ethanol():
    force_field = ForceField(custom_forms.OFFXML, parameter_handler_classes=custom_forms.HANDLERS)
    return force_field, DiffSystem.from_smirnoff(force_field, with_charges("CCO"))


def in_openmm(system: DiffSystem) -> openmm.Context:
    """The same energy as expressions that OpenMM evaluates."""
    engine = openmm.System()
    for _ in range(system.n_atoms):
        engine.addParticle(1.0)
    parameters = system.parameterize()
    bonds = openmm.CustomBondForce(MORSE)
    for name in ("depth", "width", "length"):
        bonds.addPerBondParameter(name)
    for (a, b), values in zip(system.indices("MorseBonds").tolist(), parameters["MorseBonds"].tolist(), strict=True):
        bonds.addBond(a, b, values)
    engine.addForce(bonds)
    pairs = openmm.CustomBondForce(PAIR)
    for name in ("r1", "e1", "r2", "e2", "scale"):
        pairs.addPerBondParameter(name)
    excluded, scaled = (set(map(tuple, p.tolist())) for p in (system.excluded_pairs, system.pairs_14))
    atoms = parameters["DoubleExponential"].tolist()
    for a in range(system.n_atoms):
        for b in range(a + 1, system.n_atoms):
            if (a, b) not in excluded:
                pairs.addBond(a, b, [*atoms[a], *atoms[b], 0.5 if (a, b) in scaled else 1.0])
    engine.addForce(pairs)
    return context_of(engine, system.positions)


def test_energy_and_forces(ethanol):
    """To the precision of OpenMM's parsed expressions, 1e-13 of the largest term."""
    _, system = ethanol
    context = in_openmm(system)
    energy, gradient = jax.value_and_grad(system.to_jax_potential())(
        jnp.asarray(system.positions), system.force_field_parameters
    )
    assert float(energy) == pytest.approx(energy_of(context), rel=1e-11)
    np.testing.assert_allclose(-gradient, forces_of(context), atol=1e-8)


def test_single_precision(ethanol):
    """Roundings of 6e-8, amplified by exponentials of 18 r/r_min: 2e-5 of the magnitudes of the sections."""
    _, system = ethanol
    theta = system.force_field_parameters.vector.astype(np.float32)
    positions = np.asarray(system.positions, dtype=np.float32)
    energy, slope = jax.value_and_grad(system.to_jax_potential())(positions, theta)
    assert energy.dtype == slope.dtype == np.float32
    terms = {section: float(term) for section, term in system.energy_terms().items()}
    assert float(energy) == pytest.approx(sum(terms.values()), abs=2e-5 * sum(map(abs, terms.values())))


def test_every_parameter_against_differences_of_openmm(ethanol):
    force_field, system = ethanol
    theta = system.force_field_parameters
    gradient = jax.grad(system.to_jax_potential(), argnums=1)(jnp.asarray(system.positions), theta)
    used = [i for i, label in enumerate(theta.labels) if label.split("/")[-1] not in ("alpha", "beta", "scale14")]
    for i in used:
        energies = []
        for sign in (1, -1):
            changed = copy.deepcopy(theta)
            changed.vector = theta.vector.at[i].multiply(1 + sign * 1e-5)
            context = in_openmm(DiffSystem.from_smirnoff(changed.to_force_field(force_field), with_charges("CCO")))
            energies.append(energy_of(context))
        difference = (energies[0] - energies[1]) / (2e-5 * float(theta.vector[i]))
        # truncation: 1e-10 of third derivatives, which exponents of about 20 make large; rounding 1e-16 / 1e-5
        assert float(gradient.vector[i]) == pytest.approx(difference, rel=1e-6, abs=1e-6), theta.labels[i]


def test_second_derivatives_batches_and_files(ethanol, tmp_path):
    force_field, system = ethanol
    theta, potential = system.force_field_parameters.vector, system.to_jax_potential()
    x = jnp.asarray(system.positions)
    product = jax.jvp(jax.grad(potential, argnums=(0, 1)), (x, theta), (jnp.ones_like(x), jnp.ones_like(theta)))[1]
    for array in product:
        assert np.isfinite(array).all()
    other = DiffSystem.from_smirnoff(force_field, with_charges("CCCO"))
    batch = DiffSystem.concatenate([system, other])
    energies = batch.potential([system.positions, other.positions])
    expected = [float(s.to_jax_potential()(s.positions, theta)) for s in (system, other)]
    np.testing.assert_allclose(energies, expected, rtol=1e-12)
    slopes = jax.grad(lambda t: batch.potential([system.positions, other.positions], t).sum())(theta)
    assert np.isfinite(slopes).all()
    system.save(tmp_path / "system.npz")
    assert float(DiffSystem.load(tmp_path / "system.npz").to_jax_potential()(x, theta)) == pytest.approx(expected[0])


def test_refusals(ethanol):
    force_field, _ = ethanol
    with pytest.raises(DuplicateFormError, match="MorseBonds"):
        register_form(ValenceForm("MorseBonds", ("depth",), 2, custom_forms.morse))
    with pytest.raises(DuplicateFormError, match="own sections"):
        register_form(ValenceForm("Bonds", ("k",), 2, custom_forms.morse))
    lennard_jones = (
        """<SMIRNOFF version="0.3" aromaticity_model="OEAroModel_MDL"><vdW version="0.3"></vdW></SMIRNOFF>"""
    )
    handlers = [vdWHandler, *custom_forms.HANDLERS]
    both = ForceField(custom_forms.OFFXML, lennard_jones, parameter_handler_classes=handlers)
    with pytest.raises(UnsupportedForceFieldError, match="place of vdW"):
        DiffSystem.from_smirnoff(both, with_charges("O"))
    wrong = copy.deepcopy(force_field)
    wrong["MorseBonds"].parameters[0].smirks = "[*:1]~[*:2]~[*:3]"
    with pytest.raises(UnsupportedForceFieldError, match="tags 3"):
        DiffSystem.from_smirnoff(wrong, with_charges("CCO"))


def test_bad_forms(ethanol, monkeypatch):
    registered = dict(registry._REGISTERED)
    monkeypatch.setattr(registry, "_REGISTERED", dict(registered))
    with pytest.raises(UnsupportedInputError, match="expected a ValenceForm or a PairForm, got function"):
        register_form(custom_forms.morse)
    with pytest.raises(UnsupportedInputError, match="columns of Springs must be names of attributes, got 'k'"):
        register_form(ValenceForm("Springs", "k", 2, custom_forms.morse))
    force_field, system = ethanol
    del registry._REGISTERED["MorseBonds"]
    register_form(ValenceForm("MorseBonds", ["depth", "widht", "length"], 2, custom_forms.morse))
    with pytest.raises(UnsupportedForceFieldError, match=r"MorseBonds parameter .* has no attribute 'widht'"):
        DiffSystem.from_smirnoff(force_field, with_charges("CCO"))
    # numbers that are broadcast would be counted many times
    shapes = {"MorseBonds": lambda terms: terms[:, 0], "DoubleExponential": jnp.sum}
    for section, change in shapes.items():
        monkeypatch.setattr(registry, "_REGISTERED", dict(registered))
        form = registered[section]
        registry._REGISTERED[section] = dataclasses.replace(
            form, energy=lambda *arguments, e=form.energy, change=change: change(e(*arguments))
        )
        with pytest.raises(FormShapeError, match=f"energy of {section} has shape"):
            DiffSystem.from_smirnoff(force_field, with_charges("CCO")).energy_terms(system.positions)


class TwoArmHandler(ParameterHandler):
    """Angles with a force constant for each arm."""

    class TwoArmType(ParameterType):
        _ELEMENT_NAME = "Angle"
        k_first = ParameterAttribute(unit=unit.kilojoule_per_mole / unit.nanometer**2)
        k_last = ParameterAttribute(unit=unit.kilojoule_per_mole / unit.nanometer**2)

    _TAGNAME = "TwoArms"
    _INFOTYPE = TwoArmType


def two_arms(corners, parameters, settings):
    first, last = columns(parameters)
    a, b, c = corners
    return first * norm(difference(a, b)) ** 2 + last * norm(difference(c, b)) ** 2


TWO_ARMS = """<SMIRNOFF version="0.3" aromaticity_model="OEAroModel_MDL"><TwoArms version="0.3">
    <Angle smirks="[*:1]~[*:2]~[*:3]" k_first="3 * kilojoule_per_mole / nanometer**2"
           k_last="3 * kilojoule_per_mole / nanometer**2"></Angle>
    <Angle smirks="{}" k_first="{} * kilojoule_per_mole / nanometer**2"
           k_last="{} * kilojoule_per_mole / nanometer**2"></Angle>
</TwoArms></SMIRNOFF>"""


@pytest.mark.parametrize("smirks, k", (("[#1:1]-[#6:2]-[#8:3]", (100, 7)), ("[#8:1]-[#6:2]-[#1:3]", (7, 100))))
def test_columns_follow_the_tags(monkeypatch, smirks, k):
    """Hydrogens have larger indices than the oxygen; the toolkit finds the matches, and OpenMM evaluates them."""
    monkeypatch.setattr(registry, "_REGISTERED", dict(registry._REGISTERED))
    register_form(ValenceForm("TwoArms", ("k_first", "k_last"), 3, two_arms))
    molecule = with_charges("CO")
    force_field = ForceField(TWO_ARMS.format(smirks, *k), parameter_handler_classes=[TwoArmHandler])
    system = DiffSystem.from_smirnoff(force_field, molecule)
    engine = openmm.System()
    for _ in range(molecule.n_atoms):
        engine.addParticle(1.0)
    arms = openmm.CustomCompoundBondForce(3, "first*distance(p1,p2)^2+last*distance(p3,p2)^2")
    arms.addPerBondParameter("first")
    arms.addPerBondParameter("last")
    for atoms, parameter in force_field.label_molecules(molecule.to_topology())[0]["TwoArms"].items():
        first, last = parameter.k_first.m, parameter.k_last.m
        if first != last:  # the toolkit's keys begin with the smaller index, too
            oxygen_first = molecule.atom(atoms[0]).atomic_number == 8
            first, last = (7, 100) if oxygen_first else (100, 7)
        arms.addBond(atoms, [first, last])
    engine.addForce(arms)
    wanted, _ = evaluate(engine, system.positions)
    assert float(system.energy_terms()["TwoArms"]) == pytest.approx(wanted, rel=1e-10)


def test_a_process_that_lacks_the_form_says_so(ethanol, monkeypatch, tmp_path):
    """As after a restart: a file or a pickle is read, and the module that registers the form is not imported."""
    _, system = ethanol
    system.save(tmp_path / "system.npz")
    pickled = pickle.dumps(dataclasses.replace(system, origin=None))  # whose classes are of no importable module here
    monkeypatch.setattr(registry, "_REGISTERED", {})
    for use in (
        lambda _: DiffSystem.load(tmp_path / "system.npz"),
        DiffSystem.energy_terms,
        DiffSystem.to_openmm,
        DiffSystem.to_interchange,
        DiffSystem.to_jax_potential,
        lambda system: DiffSystem.concatenate([system]),
        lambda system: system.evaluate_frames([system.positions]),
    ):
        with pytest.raises(UnregisteredFormError, match=r"registered in this process for .*MorseBonds.*: import"):
            use(pickle.loads(pickled))


def test_engines_without_the_form_are_refused(ethanol):
    _, system = ethanol
    with pytest.raises(UnsupportedForceFieldError, match="MorseBonds"):
        system.to_openmm()
    with pytest.raises(UnsupportedForceFieldError, match="MorseBonds"):
        system.to_interchange()


def cell(factor):
    """A cell of a notebook, with the number that is edited between two runs."""

    def spring(corners, parameters, settings):
        return factor * two_arms(corners, parameters, settings)

    return spring


def test_a_form_that_is_defined_again_replaces_the_first(monkeypatch):
    monkeypatch.setattr(registry, "_REGISTERED", dict(registry._REGISTERED))
    form = ValenceForm("TwoArms", ("k_first", "k_last"), 3, cell(1.0))
    register_form(form)
    force_field = ForceField(TWO_ARMS.format("[#1:1]-[#6:2]-[#8:3]", 1, 2), parameter_handler_classes=[TwoArmHandler])
    system = DiffSystem.from_smirnoff(force_field, with_charges("CO"))
    before = float(system.energy_terms()["TwoArms"])
    register_form(dataclasses.replace(form, energy=cell(2.0)))
    assert float(system.energy_terms()["TwoArms"]) == before  # a system keeps the form it was made with
    renewed = DiffSystem.from_smirnoff(force_field, with_charges("CO"))
    assert float(renewed.energy_terms()["TwoArms"]) == pytest.approx(2.0 * before, rel=1e-12)
    for changes in ({"columns": ("k_last", "k_first")}, {"n_atoms": 2}, {"energy": two_arms}):
        with pytest.raises(DuplicateFormError, match="TwoArms"):
            register_form(dataclasses.replace(form, **changes))
