"""Interchanges at any theta, and the files that openff-interchange writes from them."""

from __future__ import annotations

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import openmm
import openmm.app
import pytest
from openff.toolkit import ForceField, Molecule

from openff_diffsystem import DiffSystem
from openff_diffsystem.exceptions import InvalidInputError, ParameterMismatchError
from tests.force_fields import BOND_ORDERS
from tests.handlers.test_handlers import with_bond_orders
from tests.interchange_reference import assert_same_parameters
from tests.interop.openmm.test_to_openmm import assert_same, evaluate, scaled
from tests.interop.openmm.test_to_openmm import case as any_case

EXPORTED = ("ligand", "ligand with sites", "OBC2", "HCT", "TIP5P", "ligand with sites in water", "ff14SB dipeptide")


def stock(system, force_field, topology, options, theta):
    refit = theta.to_force_field(force_field)
    return refit.create_interchange(topology, **options | {"allow_nonintegral_charges": True})


@pytest.mark.parametrize("name", EXPORTED)
def test_holds_what_stock_makes_of_the_refit_force_field(name):
    force_field, topology, options, system, positions = any_case(name)
    theta = scaled(system)
    ours = system.to_interchange(theta)
    theirs = stock(system, force_field, topology, options, theta)
    assert_same(*(one.to_openmm(combine_nonbonded_forces=True) for one in (ours, theirs)), positions)
    assert_same(ours.to_openmm(combine_nonbonded_forces=True), system.to_openmm(theta), positions)
    np.testing.assert_allclose(ours.positions.m_as("nanometer"), positions, atol=1e-12)


def test_in_single_precision(tmp_path):
    """jax's default: the numbers are rounded, by 6e-8 each, as ``to_openmm`` writes them too; it is compared there."""
    force_field, topology, options, system, positions = any_case("ligand")
    system.save(tmp_path / "system.npz")
    with jax.enable_x64(False):
        single = DiffSystem.load(tmp_path / "system.npz")
        made = single.to_interchange(interchange=force_field.create_interchange(topology, **options))
        direct = single.to_openmm()
    assert_same(made.to_openmm(combine_nonbonded_forces=True), direct, positions)
    double = evaluate(system.to_openmm(), positions)[0]
    magnitude = sum(abs(float(term)) for term in system.energy_terms(positions).values())
    found = evaluate(made.to_openmm(combine_nonbonded_forces=True), positions)[0]
    assert found == pytest.approx(double, rel=0, abs=1e-6 * magnitude) and found != double


def test_what_shared_a_parameter_shares_a_potential():
    force_field, topology, options, system, _ = any_case("ligand with sites in water")
    theirs = force_field.create_interchange(topology, **options)
    ours = system.to_interchange()
    for section in ("Bonds", "Angles", "ProperTorsions", "vdW", "VirtualSites"):
        mine, stocks = (one.collections[section] for one in (ours, theirs))
        assert set(mine.potentials) == set(stocks.potentials), section
        for key, potential in stocks.potentials.items():
            for name, value in potential.parameters.items():
                if value is not None:
                    # a number goes through MD units and back
                    assert mine.potentials[key].parameters[name].m_as(value.units) == pytest.approx(value.m, rel=1e-14)


def test_an_interchange_taken_over():
    force_field, topology, options, _, positions = any_case("ligand with sites in water")
    interchange = force_field.create_interchange(topology, **options)
    before = evaluate(interchange.to_openmm(combine_nonbonded_forces=True), positions)[0]
    system = DiffSystem.from_interchange(interchange)
    theta = scaled(system)
    assert_same(
        system.to_interchange(theta).to_openmm(combine_nonbonded_forces=True), system.to_openmm(theta), positions
    )
    assert evaluate(interchange.to_openmm(combine_nonbonded_forces=True), positions)[0] == before


def test_parameters_that_no_force_field_could_hold():
    """Every bond has a length of its own, as a network would give it."""
    *_, system, positions = any_case("ligand with sites in water")
    parameters = system.parameterize()
    length = parameters.unique("Bonds")[:, 1]
    own = parameters.replace({"Bonds": {"length": length + 1e-4 * jnp.arange(len(length))}})
    interchange = system.to_interchange(own)
    assert_same(interchange.to_openmm(combine_nonbonded_forces=True), system.to_openmm(own), positions)
    assert len(interchange["Bonds"].potentials) == len(length)


def test_interpolated_parameters():
    force_field = ForceField(BOND_ORDERS)
    molecule = with_bond_orders("c1ccccc1C(=O)N")
    given = {"partial_bond_orders_from_molecules": [molecule]}
    system = DiffSystem.from_smirnoff(force_field, molecule, **given)
    theta = scaled(system)
    refit = DiffSystem.from_smirnoff(theta.to_force_field(force_field), molecule, **given)
    assert assert_same_parameters(refit, system.to_interchange(theta))["ProperTorsions"] > 20


def test_charges_of_a_network():
    """A section that openff-interchange does not know; its charges are ours, final ones, like all others."""
    pytest.importorskip("expaloma")
    section = """<SMIRNOFF version="0.3" aromaticity_model="OEAroModel_MDL">
      <NeuralCharges version="0.3" model="espaloma-charge-0.0.8"/>
    </SMIRNOFF>"""
    force_field = ForceField("openff-2.2.1.offxml", section, load_plugins=True)
    system = DiffSystem.from_smirnoff(force_field, Molecule.from_smiles("CCO"))
    charges = system.to_interchange()["Electrostatics"].charges.values()
    np.testing.assert_allclose([charge.m for charge in charges], system.parameterize()["Electrostatics"][:, 0])
    assert "NeuralCharges" in force_field.registered_parameter_handlers


def test_after_saving_an_interchange_has_to_be_given(tmp_path):
    force_field, topology, options, system, positions = any_case("ligand")
    system.save(tmp_path / "system.npz")
    again = DiffSystem.load(tmp_path / "system.npz")
    with pytest.raises(InvalidInputError, match="interchange="):
        again.to_interchange()
    interchange = force_field.create_interchange(topology, **options)
    theta = scaled(again)
    assert_same(
        again.to_interchange(theta, interchange=interchange).to_openmm(combine_nonbonded_forces=True),
        again.to_openmm(theta),
        positions,
    )
    other = any_case("HCT")
    with pytest.raises(ParameterMismatchError, match="atoms"):
        any_case("ligand with sites")[3].to_interchange(interchange=interchange)
    with pytest.raises(ParameterMismatchError, match="GBSA"):
        again.to_interchange(interchange=other[0].create_interchange(other[1], **other[2]))


@cache
def exported(name, constrained=False):
    """A system at another theta, its Interchange, our energy and forces, with or without what constraints replace."""
    *_, system, positions = any_case(name)
    theta = scaled(system, factor=1.003, width=0.002)
    # LAMMPS takes no impropers with other phases than 0 and 180 degrees
    phases = np.array([c.attribute.startswith("phase") for c in theta.layout.components])
    theta = theta.to_vector()[1](jnp.where(phases, system.force_field_parameters.vector, theta.vector))
    interchange = system.to_interchange(theta)
    potential = system.to_jax_potential(add_constrained_forces=not constrained)
    neighbors = None if system.box_vectors is None else system.neighbor_list(positions, theta=theta)
    energy, slope = jax.value_and_grad(potential)(jnp.asarray(positions), theta, None, neighbors)
    return system, positions, theta, interchange, float(energy), -np.asarray(slope)


PRINTED = {"rel": 2e-7, "abs": 1e-4}
"""kJ/mol. Both kinds of files print numbers with nine digits or so, and parts of hundreds of kJ/mol cancel."""

IN_FILES = ("unconstrained ligand", "ligand in water")
PME = {"nonbondedMethod": openmm.app.PME, "nonbondedCutoff": 0.9 * openmm.unit.nanometer}


def engine_options(name, constrained=False):
    box = {} if name == "unconstrained ligand" else PME | {"ewaldErrorTolerance": 1e-4}
    fixed = openmm.app.HBonds if constrained else None
    return {"constraints": fixed, "rigidWater": constrained, "removeCMMotion": False, **box}


def at_the_switch(system, positions):
    """Energy and forces with the switch of the force field, which is in neither kind of file: a run's input has it."""
    for force in system.getForces():
        if isinstance(force, openmm.NonbondedForce) and force.getNonbondedMethod() == force.PME:
            force.setUseSwitchingFunction(True)
            force.setSwitchingDistance(0.8)
            force.setUseDispersionCorrection(True)
    return evaluate(system, positions)


@pytest.mark.parametrize("name", IN_FILES)
def test_amber_files_have_our_energy(name, tmp_path):
    _, positions, _, interchange, energy, forces = exported(name)
    interchange.to_prmtop(tmp_path / "system.prmtop")
    interchange.to_inpcrd(tmp_path / "system.inpcrd")
    prmtop = openmm.app.AmberPrmtopFile(str(tmp_path / "system.prmtop"))
    inpcrd = openmm.app.AmberInpcrdFile(str(tmp_path / "system.inpcrd"))
    # the file has positions to 1e-7 angstrom
    np.testing.assert_allclose(inpcrd.getPositions(asNumpy=True)._value, positions, atol=1e-7)
    there, forces_there = at_the_switch(prmtop.createSystem(**engine_options(name)), positions)
    np.testing.assert_allclose(forces, forces_there, rtol=0.0, atol=5e-7 * np.abs(forces).max())
    assert there == pytest.approx(energy, **PRINTED)


@pytest.mark.parametrize("name", IN_FILES)
def test_gromacs_files_have_our_energy(name, tmp_path):
    # openff-interchange writes water for GROMACS with constraints and nothing beside
    constrained = name == "ligand in water"
    system, positions, theta, interchange, energy, forces = exported(name, constrained)
    if system.box_vectors is None:
        interchange = system.to_interchange(theta)
        interchange.box = 4.0 * np.eye(3)  # GROMACS has no isolated molecules; OpenMM takes no notice
    interchange.to_top(tmp_path / "system.top")
    interchange.to_gro(tmp_path / "system.gro")
    gro = openmm.app.GromacsGroFile(str(tmp_path / "system.gro"))
    # three decimals
    np.testing.assert_allclose(gro.getPositions(asNumpy=True)._value, positions, atol=5.1e-4)
    top = openmm.app.GromacsTopFile(
        str(tmp_path / "system.top"),
        periodicBoxVectors=None if system.box_vectors is None else system.box_vectors * openmm.unit.nanometer,
    )
    there, forces_there = at_the_switch(top.createSystem(**engine_options(name, constrained)), positions)
    np.testing.assert_allclose(forces, forces_there, rtol=0.0, atol=5e-7 * np.abs(forces).max())
    assert there == pytest.approx(energy, **PRINTED)


def test_lammps_file_has_our_parameters(tmp_path):
    """Row by row; test_lammps runs it. The units are kcal/mol and angstrom, and k has no factor of one half."""
    system, _, theta, interchange, *_ = exported("unconstrained ligand")
    interchange.to_lammps_datafile(tmp_path / "system.lmp")
    lines = (tmp_path / "system.lmp").read_text().splitlines()

    def section(title):
        start = lines.index(title) + 2
        rows = []
        while start < len(lines) and lines[start].strip():
            rows.append([float(x) for x in lines[start].split("#")[0].split() if x[0] in "-.0123456789"])
            start += 1
        return np.array(rows)

    parameters = system.parameterize(theta)
    coefficients, bonds = section("Bond Coeffs"), section("Bonds").astype(int)
    written = {tuple(sorted(row[2:4] - 1)): coefficients[row[1] - 1, 1:] for row in bonds}
    kcal = 4.184
    for atoms, (k, length) in zip(system.indices("Bonds"), np.asarray(parameters["Bonds"]), strict=True):
        # the numbers are printed with six decimals or more
        np.testing.assert_allclose(written[tuple(sorted(atoms))], [0.5 * k / kcal / 100, 10 * length], rtol=1e-6)
    charges = section("Atoms")[:, 3]
    np.testing.assert_allclose(charges, parameters["Electrostatics"][:, 0], atol=1e-6)
