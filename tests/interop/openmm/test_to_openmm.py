"""OpenMM Systems at any theta, against those that stock openff-interchange exports."""

from __future__ import annotations

import copy
import dataclasses
from functools import cache, partial

import jax
import numpy as np
import openmm
import pytest
from openff.toolkit import ForceField

from openff_diffsystem import DiffSystem
from openff_diffsystem.exceptions import (
    InvalidInputError,
    NonFiniteParameterError,
    ParameterMismatchError,
    UnsupportedForceError,
    UnsupportedForceFieldError,
    UnsupportedInputError,
)
from tests import boxes
from tests.force_fields import SITE_MOLECULE, VIRTUAL_SITES
from tests.molecules import with_charges
from tests.openmm_reference import Reference, context_of, energy_of, evaluate, forces_of, place


def parity(system):
    """The same numbers, but for the last bit, in the same forces on the same platform: 1e-10.

    The parts of the Coulomb energy of a box, about 100 kJ/mol per particle, cancel; what is left of rounding is
    relative to them.
    """
    return {"rel": 1e-10, "abs": 1e-9 * system.getNumParticles()}


GBSA = """<SMIRNOFF version="0.3" aromaticity_model="OEAroModel_MDL">
  <GBSA version="0.3" gb_model="{model}" solvent_dielectric="78.5" solute_dielectric="1.0" sa_model="{area}"
    surface_area_penalty="5.4 * calorie / mole / angstrom**2" solvent_radius="1.4 * angstrom">
    <Atom smirks="[*:1]" radius="0.15 * nanometer" scale="0.8" />
    <Atom smirks="[#1:1]" radius="0.12 * nanometer" scale="0.85" />
  </GBSA>
</SMIRNOFF>"""


def _vacuum(*force_field):
    smiles = SITE_MOLECULE if VIRTUAL_SITES in force_field else "CC(=O)Nc1ccc(O)cc1"
    molecule = with_charges(smiles)
    topology = molecule.to_topology()
    return ForceField(*force_field), topology, molecule.conformers[0].m_as("nanometer"), [molecule]


def _box(make, *, vdw="cutoff"):
    box = make()
    force_field = box.load()
    force_field["vdW"].periodic_method = vdw
    return force_field, box.topology, box.positions, list(box.preset)


SAGE = "openff-2.2.1.offxml"
LIGAND = partial(boxes.ligand, "CCO", edge=1.9)
CASES = {
    "ligand": partial(_vacuum, SAGE),
    "unconstrained ligand": partial(_vacuum, "openff_unconstrained-2.2.1.offxml"),
    "ligand with sites": partial(_vacuum, SAGE, VIRTUAL_SITES),
    "HCT": partial(_vacuum, SAGE, GBSA.format(model="HCT", area="ACE")),
    "OBC1": partial(_vacuum, SAGE, GBSA.format(model="OBC1", area="None")),
    "OBC2": partial(_vacuum, SAGE, GBSA.format(model="OBC2", area="ACE")),
    "TIP4P-FB": partial(_box, partial(boxes.water, "tip4p_fb.offxml", 1.9)),
    "OPC": partial(_box, partial(boxes.water, "opc.offxml", 1.9)),
    "TIP5P": partial(_box, partial(boxes.water, "tip5p.offxml", 1.9)),
    "triclinic TIP3P": partial(_box, partial(boxes.water, "tip3p.offxml", 2.0, True)),
    "ff14SB dipeptide": partial(_box, boxes.protein),
    "ligand with sites in water": partial(_box, partial(boxes.ligand, SITE_MOLECULE, (SAGE, VIRTUAL_SITES), edge=2.2)),
    "ligand in water": partial(_box, LIGAND),
    "LJPME": partial(_box, partial(boxes.ligand, "CCO", edge=2.1), vdw="Ewald3D"),
}
PERTURBED = ("ligand", "ligand with sites", "OBC2", "HCT", "TIP5P", "LJPME")


@cache
def case(name):
    """The force field, its Interchange, our system and positions of atoms."""
    force_field, topology, positions, preset = CASES[name]()
    options = {"charge_from_molecules": preset} if preset else {}
    system = DiffSystem.from_smirnoff(force_field, topology, positions=positions, **options)
    return force_field, topology, options, system, positions


def stock(force_field, topology, options):
    return force_field.create_openmm_system(topology, **options)


def scaled(system, factor=1.01, width=0.005):
    """Another theta: every number that is no setting of a section times about ``factor``."""
    theta = system.force_field_parameters
    free = np.array([c.row is not None and not c.attribute.startswith("idivf") for c in theta.layout.components])
    factors = np.where(free, factor + width * np.random.default_rng(1).normal(size=theta.layout.size), 1.0)
    return theta.to_vector()[1](theta.vector * factors)


def counts(system):
    found = {"masses": [system.getParticleMass(i)._value for i in range(system.getNumParticles())]}
    found["constraints"] = system.getNumConstraints()
    for force in system.getForces():
        name = "CustomGBForce" if isinstance(force, openmm.CustomGBForce) else type(force).__name__
        methods = (m for m in dir(force) if m.startswith("getNum"))
        found[name] = {m: getattr(force, m)() for m in methods if m != "getNumPerBondParameters"}
    return found


def assert_same(ours, theirs, positions):
    assert counts(ours) == counts(theirs)
    assert ours.usesPeriodicBoundaryConditions() == theirs.usesPeriodicBoundaryConditions()
    assert ours.getDefaultPeriodicBoxVectors() == theirs.getDefaultPeriodicBoxVectors()
    (energy, forces), (wanted, wanted_forces) = evaluate(ours, positions), evaluate(theirs, positions)
    assert energy == pytest.approx(wanted, **parity(ours))
    np.testing.assert_allclose(forces, wanted_forces, rtol=1e-10, atol=1e-10 * np.abs(wanted_forces).max())


@pytest.mark.parametrize("name", CASES)
def test_equals_what_interchange_exports(name):
    force_field, topology, options, system, positions = case(name)
    ours = system.to_openmm()
    theirs = stock(force_field, topology, options)
    assert_same(ours, theirs, positions)
    a, b = ({type(f).__name__: f for f in s.getForces()} for s in (ours, theirs))
    for get in ("getNonbondedMethod", "getCutoffDistance", "getUseSwitchingFunction", "getSwitchingDistance",
                "getUseDispersionCorrection", "getEwaldErrorTolerance", "getReactionFieldDielectric"):  # fmt: skip
        ours_, theirs_ = (getattr(one["NonbondedForce"], get)() for one in (a, b))
        assert getattr(ours_, "_value", ours_) == pytest.approx(getattr(theirs_, "_value", theirs_), rel=1e-14), get
    for i in range(ours.getNumConstraints()):
        assert ours.getConstraintParameters(i)[2]._value > 0


@pytest.mark.parametrize("name", PERTURBED)
def test_equals_the_export_of_the_refit_force_field(name):
    force_field, topology, options, system, positions = case(name)
    theta = scaled(system)
    refit = theta.to_force_field(force_field)
    options = options | {"allow_nonintegral_charges": True}
    assert_same(system.to_openmm(theta), stock(refit, topology, options), positions)


@pytest.mark.parametrize("name", ("ligand", "OBC2", "ligand with sites", "TIP4P-FB", "OPC"))
def test_equals_our_own_energy(name):
    *_, system, positions = case(name)
    theta = scaled(system)
    energy, _ = evaluate(system.to_openmm(theta), positions)
    # the tolerance of all comparisons of our energies with OpenMM's
    assert float(system.to_jax_potential()(positions, theta)) == pytest.approx(energy, rel=1e-7)


def test_forces_that_constraints_replace_are_written_on_request():
    force_field, topology, options, system, positions = case("ligand")
    theirs = force_field.create_interchange(topology, **options).to_openmm(
        combine_nonbonded_forces=True, add_constrained_forces=True
    )
    ours = system.to_openmm(add_constrained_forces=True)
    assert counts(ours) != counts(system.to_openmm())
    assert_same(ours, theirs, positions)


def test_an_interchange_taken_over_comes_back():
    force_field, topology, options, _, positions = case("ligand with sites in water")
    interchange = force_field.create_interchange(topology, **options)
    system = DiffSystem.from_interchange(interchange)
    assert_same(system.to_openmm(), interchange.to_openmm(combine_nonbonded_forces=True), positions)


def test_reaction_field():
    """Which no SMIRNOFF file can ask for, but an Interchange can."""
    force_field, topology, options, _, positions = case("ligand in water")
    interchange = force_field.create_interchange(topology, **options)
    interchange["Electrostatics"].periodic_potential = "reaction-field"
    system = DiffSystem.from_interchange(interchange)
    assert_same(system.to_openmm(), interchange.to_openmm(combine_nonbonded_forces=True), positions)


@pytest.mark.parametrize("name", ("ligand", "ligand with sites in water"))
def test_masses_are_saved(name, tmp_path):
    *_, topology, _, system, positions = case(name)
    wanted = [atom.mass.m_as("dalton") for atom in topology.atoms]
    np.testing.assert_array_equal(system.masses, wanted)
    system.save(tmp_path / "system.npz")
    again = DiffSystem.load(tmp_path / "system.npz")
    np.testing.assert_array_equal(again.masses, wanted)
    assert_same(again.to_openmm(), system.to_openmm(), positions)


def test_without_masses_there_is_no_system():
    *_, system, _ = case("ligand")
    fields = (field.name for field in dataclasses.fields(system) if field.init and field.name != "masses")
    bare = DiffSystem(**{name: getattr(system, name) for name in fields})
    with pytest.raises(InvalidInputError, match="masses"):
        bare.to_openmm()


def test_another_solvent_radius_is_refused_where_openmm_has_none():
    *_, system, _ = case("OBC2")
    theta = system.force_field_parameters
    other = theta.from_tree({"GBSA": {"solvent_radius": 0.15}})
    with pytest.raises(UnsupportedForceFieldError, match="solvent radius"):
        system.to_openmm(other)


def test_surface_area_of_a_custom_force_follows_theta():
    *_, system, positions = case("HCT")
    theta = system.force_field_parameters
    other = theta.from_tree({"GBSA": {"surface_area_penalty": 3.0, "solvent_radius": 0.15}})
    energy, _ = evaluate(system.to_openmm(other), positions)
    # OpenMM rounds the Coulomb constant of its custom forces at 2e-7
    assert float(system.to_jax_potential()(positions, other)) == pytest.approx(energy, rel=1e-6)
    assert evaluate(system.to_openmm(), positions)[0] != pytest.approx(energy, rel=1e-4)


UPDATED = ("ligand", "ligand with sites", "OBC2", "HCT", "TIP5P", "ligand with sites in water")


@pytest.mark.parametrize("made_by", ("us", "interchange"))
@pytest.mark.parametrize("name", UPDATED)
def test_update_in_place_equals_a_fresh_system(name, made_by):
    force_field, topology, options, system, positions = case(name)
    theta = scaled(system)
    fresh = evaluate(system.to_openmm(theta), positions)
    old = system.to_openmm() if made_by == "us" else stock(force_field, topology, options)
    context = context_of(old, positions)
    before = energy_of(context)
    system.update_openmm(context, theta)
    # at first without setting positions anew: sites have to be where theta puts them
    for again in (False, True):
        if again:
            place(context, positions)
        assert energy_of(context) == pytest.approx(fresh[0], **parity(old))
        np.testing.assert_allclose(forces_of(context), fresh[1], rtol=1e-9, atol=1e-10 * np.abs(fresh[1]).max())
    assert before != pytest.approx(fresh[0], rel=1e-4)
    system.update_openmm(old)
    assert evaluate(old, positions)[0] == pytest.approx(before, **parity(old))


@pytest.mark.parametrize("attribute, value", (("cutoff", 0.7), ("switch_width", 0.05), ("scale14", 0.4)))
def test_settings_of_a_context_are_updated(attribute, value):
    *_, system, positions = case("ligand with sites in water")
    theta = system.force_field_parameters.from_tree({"vdW": {attribute: value}})
    context = context_of(system.to_openmm(), positions)
    before = energy_of(context)
    system.update_openmm(context, theta)
    energy = energy_of(context)
    assert energy == pytest.approx(evaluate(system.to_openmm(theta), positions)[0], **parity(context.getSystem()))
    assert energy != pytest.approx(before, rel=1e-7)


def test_a_well_depth_that_leaves_zero():
    """The context was made with plain exclusions where 1-4 pairs are now."""
    *_, system, positions = case("ligand")
    theta = system.force_field_parameters
    off = theta.from_tree({"vdW": {"scale14": 0.0}, "Electrostatics": {"scale14": 0.0}})
    context = context_of(system.to_openmm(off), positions)
    system.update_openmm(context)
    assert energy_of(context) == pytest.approx(
        evaluate(system.to_openmm(), positions)[0], **parity(context.getSystem())
    )


def test_in_single_precision(tmp_path):
    """jax's default: numbers of the OFFXML file are rounded, by 6e-8 each.

    For a bond of 0.15 nm that is 9e-9 nm, and with a k of 6e5 kJ/mol/nm2 0.005 kJ/mol/nm, 5e-6 of the largest force.
    """
    *_, system, positions = case("ligand")
    energy, forces = evaluate(system.to_openmm(), positions)
    system.save(tmp_path / "system.npz")
    with jax.enable_x64(False):
        single = DiffSystem.load(tmp_path / "system.npz")
        assert single.force_field_parameters.vector.dtype == np.float32
        there, forces_there = evaluate(single.to_openmm(), positions)
    magnitude = sum(abs(float(term)) for term in system.energy_terms(positions).values())
    assert there == pytest.approx(energy, rel=0, abs=1e-6 * magnitude) and there != energy
    np.testing.assert_allclose(forces_there, forces, rtol=0, atol=5e-6 * np.abs(forces).max())


def test_numbers_that_are_none_are_refused():
    *_, system, _ = case("ligand")
    theta = system.force_field_parameters
    target = system.to_openmm()
    before = openmm.XmlSerializer.serialize(target)
    assignment = system.assignment("Bonds").to_matrix().tocoo()
    broken = theta.vector.at[int(assignment.col[0])].set(np.nan)
    for refused in (system.to_openmm, partial(system.update_openmm, target), system.to_interchange):
        with pytest.raises(NonFiniteParameterError, match="of the term of Bonds between particles"):
            refused(broken)
    assert openmm.XmlSerializer.serialize(target) == before


def test_an_update_of_something_else_is_refused():
    *_, system, _ = case("ligand")
    *_, other, _ = case("ligand with sites")
    with pytest.raises(ParameterMismatchError, match="particles"):
        system.update_openmm(other.to_openmm())
    with pytest.raises(ParameterMismatchError, match="HarmonicBondForce"):
        system.update_openmm(system.to_openmm(), add_constrained_forces=True)
    with pytest.raises(UnsupportedInputError, match="list"):
        system.update_openmm([])


def test_an_update_that_would_count_interactions_twice_is_refused():
    """openff-interchange's split forces: Lennard-Jones and 1-4 pairs as expressions beside the NonbondedForce."""
    force_field, topology, options, system, positions = case("ligand")
    target = force_field.create_interchange(topology, **options).to_openmm(combine_nonbonded_forces=False)
    before = evaluate(target, positions)[0]
    with pytest.raises(UnsupportedForceError, match=r"CustomNonbondedForce 'vdW force'.*combine_nonbonded_forces=True"):
        system.update_openmm(target)
    for i in reversed(range(target.getNumForces())):
        if isinstance(target.getForce(i), openmm.CustomNonbondedForce):
            target.removeForce(i)
    with pytest.raises(UnsupportedForceError, match="CustomBondForce 'vdW 1-4 force'"):
        system.update_openmm(target)
    restrained = system.to_openmm()
    restraint = openmm.CustomBondForce("r^2")
    restraint.addBond(0, 5, [])
    restrained.addForce(restraint)
    energy = evaluate(restrained, positions)[0]
    system.update_openmm(restrained)
    assert evaluate(restrained, positions)[0] == energy != before


@pytest.mark.parametrize("name", ("HarmonicBondForce", "NonbondedForce", "PeriodicTorsionForce"))
def test_a_refused_update_changes_nothing(name):
    """Two forces of a class: which term is whose is not known."""
    *_, system, _ = case("ligand with sites")
    target = system.to_openmm()
    target.addForce(copy.deepcopy(next(f for f in target.getForces() if type(f).__name__ == name)))
    before = openmm.XmlSerializer.serialize(target)
    with pytest.raises(ParameterMismatchError, match=f"2 forces of class {name}"):
        system.update_openmm(target, scaled(system))
    assert openmm.XmlSerializer.serialize(target) == before


def test_the_reference_of_other_tests_takes_our_systems():
    *_, system, positions = case("ligand")
    sections = Reference(system.to_openmm()).sections(positions)
    ours = system.energy_terms()
    assert sections["Bonds"] == pytest.approx(float(ours["Bonds"]), rel=1e-9)
