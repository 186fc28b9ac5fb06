"""Systems read from OpenMM Systems of any origin, against OpenMM's Reference platform."""

from __future__ import annotations

import itertools
import shutil
import subprocess
from functools import cache

import jax
import numpy as np
import openmm
import openmm.app
import openmm.unit
import pytest
from openff.toolkit import ForceField
from openff.toolkit.utils import get_data_file_path

from openff_diffsystem import DiffSystem
from openff_diffsystem.exceptions import ParameterMismatchError, PositionsError
from tests import boxes
from tests.force_fields import SITE_MOLECULE, VIRTUAL_SITES
from tests.molecules import with_charges
from tests.openmm_reference import context_of, energy_of, evaluate, forces_of
from tests.openmm_systems import nonbonded, system_of

SAGE = "openff-2.2.1.offxml"

TOLERANCE = {"rel": 1e-8, "abs": 1e-6}
"""kJ/mol. Double precision on both sides; parts of the Coulomb energy of a box, about 1e5 kJ/mol, cancel."""

OBC2 = """<SMIRNOFF version="0.3" aromaticity_model="OEAroModel_MDL">
  <GBSA version="0.3" gb_model="OBC2" solvent_dielectric="78.5" solute_dielectric="1.0" sa_model="ACE"
    surface_area_penalty="5.4 * calorie / mole / angstrom**2" solvent_radius="1.4 * angstrom">
    <Atom smirks="[*:1]" radius="0.15 * nanometer" scale="0.8" />
  </GBSA>
</SMIRNOFF>"""


def padded(system, positions):
    """Positions of all particles, whatever for those after the atoms."""
    return np.concatenate([positions, np.zeros((system.getNumParticles() - len(positions), 3))])


def by_interchange(box=None, smiles=None, *extra):
    if box is None:
        molecule = with_charges(smiles)
        interchange = ForceField(SAGE, *extra).create_interchange(
            molecule.to_topology(), charge_from_molecules=[molecule]
        )
        positions = molecule.conformers[0].m_as("nanometer")
    else:
        interchange = box.load().create_interchange(box.topology, **box.options)
        positions = box.positions
    system = interchange.to_openmm(combine_nonbonded_forces=True)
    return system, padded(system, positions), interchange.topology


def dipeptide():
    pdb = openmm.app.PDBFile(get_data_file_path("proteins/MainChain_ALA_ALA.pdb"))
    return pdb.topology, np.asarray(pdb.getPositions(asNumpy=True)._value)


def by_openmm(water=None, **options):
    """Alanine dipeptide with OpenMM's own copy of ff14SB, in one of its water models."""
    topology, positions = dipeptide()
    files = ["amber14-all.xml", f"amber14/{water or 'tip3pfb'}.xml"]
    if water == "tip5p":
        files = ["amber99sb.xml", "tip5p.xml"]
    force_field = openmm.app.ForceField(*files)
    modeller = openmm.app.Modeller(topology, positions)
    if water:
        model = {"tip4pew": "tip4pew", "tip5p": "tip5p"}.get(water, "tip3p")
        modeller.addSolvent(force_field, model=model, boxSize=openmm.Vec3(2.2, 2.2, 2.2), neutralize=False)
    else:
        modeller.topology.setPeriodicBoxVectors(None)
    system = force_field.createSystem(modeller.topology, **options)
    return system, np.array([[x for x in v] for v in modeller.positions._value]), modeller.topology


PME = {"nonbondedMethod": openmm.app.PME, "nonbondedCutoff": 0.9, "constraints": openmm.app.HBonds}
CASES = {
    "Sage ligand with sites": lambda: by_interchange(None, SITE_MOLECULE, VIRTUAL_SITES),
    "Sage ligand in OBC2": lambda: by_interchange(None, "CCO", OBC2),
    "Sage ligand in water": lambda: by_interchange(boxes.ligand("CCO", edge=2.0)),
    "peptide": by_openmm,
    "peptide, constraints and the terms they replace": lambda: by_openmm(
        constraints=openmm.app.HAngles, flexibleConstraints=True
    ),
    "peptide in TIP3P-FB, switched reaction field": lambda: by_openmm(
        "tip3pfb", nonbondedMethod=openmm.app.CutoffPeriodic, nonbondedCutoff=1.0, switchDistance=0.8
    ),
    "peptide in TIP3P-FB, LJPME": lambda: by_openmm(
        "tip3pfb", nonbondedMethod=openmm.app.LJPME, nonbondedCutoff=0.9, ewaldErrorTolerance=1e-4
    ),
    "peptide in TIP4P-Ew": lambda: by_openmm("tip4pew", **PME),
    "peptide in TIP5P": lambda: by_openmm("tip5p", **PME),
}


@cache
def case(name):
    """The OpenMM System, positions of its particles, and ours."""
    system, positions, topology = CASES[name]()
    # no dispersion correction and another permittivity: settings that openff-interchange never writes
    for force in system.getForces():
        if name == "peptide in TIP4P-Ew" and isinstance(force, openmm.NonbondedForce):
            force.setUseDispersionCorrection(False)
        if "reaction field" in name and isinstance(force, openmm.NonbondedForce):
            force.setReactionFieldDielectric(40.0)
    return system, positions, topology, DiffSystem.from_openmm(system, topology, positions=positions)


def atoms_of(ours, positions):
    order = np.arange(ours.n_particles) if ours.openmm_particles is None else ours.openmm_particles
    return positions[order[: ours.n_atoms]]


@cache
def ours_at(name):
    """Our energy, its gradient in positions and in theta: one program per case."""
    _, positions, _, ours = case(name)
    atoms = np.asarray(atoms_of(ours, positions))
    neighbors = None if ours.box_vectors is None else ours.neighbor_list(atoms)
    energy = jax.value_and_grad(ours.to_jax_potential(), argnums=(0, 1))
    value, (slope, slopes) = energy(atoms, ours.force_field_parameters, None, neighbors)
    return float(value), np.asarray(slope), slopes


# boxes take long: sites of TIP5P are tested one by one, and TIP4P-Ew has PME
@pytest.mark.parametrize("name", [n for n in CASES if n not in ("peptide in TIP5P", "Sage ligand in water")])
def test_energy_and_forces(name):
    system, positions, *_ = case(name)
    wanted, wanted_forces = evaluate(system, positions)
    energy, slope, _ = ours_at(name)
    assert energy == pytest.approx(wanted, **TOLERANCE)
    at = np.setdiff1d(np.arange(len(positions)), [i for i in range(len(positions)) if system.isVirtualSite(i)])
    # the size of forces at these geometries, which are not relaxed
    np.testing.assert_allclose(-slope, wanted_forces[at], rtol=1e-6, atol=1e-8 * np.abs(wanted_forces).max())


def test_single_precision(name="peptide"):
    """Energies within 2e-5 of the magnitudes of the sections: roundings of 6e-8, amplified by r^-12.

    Positions of 1 to 2 nm are rounded by 6e-8 nm, which k of 5e5 kJ/mol/nm2 makes 0.03 kJ/mol/nm for each end of each
    bond of an atom, of which there may be four.
    """
    system, positions, _, ours = case(name)
    wanted, forces = evaluate(system, positions)
    atoms = np.asarray(atoms_of(ours, positions), dtype=np.float32)
    theta = ours.force_field_parameters.vector.astype(np.float32)
    energy, slope = jax.value_and_grad(ours.to_jax_potential())(atoms, theta)
    assert energy.dtype == slope.dtype == np.float32
    magnitude = sum(abs(float(term)) for term in ours.energy_terms(atoms_of(ours, positions)).values())
    assert float(energy) == pytest.approx(wanted, rel=0, abs=2e-5 * magnitude)
    np.testing.assert_allclose(-slope, forces, rtol=0, atol=0.25)


@pytest.mark.parametrize("name", CASES)
def test_back_to_openmm(name):
    system, positions, _, ours = case(name)
    again = ours.to_openmm()
    wanted, wanted_forces = evaluate(system, positions)
    energy, forces = evaluate(again, positions)
    assert energy == pytest.approx(wanted, rel=1e-10, abs=1e-9 * len(positions))
    np.testing.assert_allclose(forces, wanted_forces, rtol=1e-9, atol=1e-10 * np.abs(wanted_forces).max())
    assert [again.getParticleMass(i)._value for i in range(len(positions))] == [
        system.getParticleMass(i)._value for i in range(len(positions))
    ]
    assert again.getNumConstraints() == system.getNumConstraints()


@pytest.mark.parametrize(
    "name", ("Sage ligand with sites", "Sage ligand in OBC2", "peptide in TIP4P-Ew", "peptide in TIP3P-FB, LJPME")
)
def test_gradient_in_every_attribute_against_finite_differences_of_openmm(name):
    _, positions, _, ours = case(name)
    theta = ours.force_field_parameters
    slopes = np.asarray(ours_at(name)[2].vector)
    rng = np.random.default_rng(0)
    by_attribute: dict = {}
    for i, component in enumerate(theta.layout.components):
        by_attribute.setdefault((component.section, component.attribute), []).append(i)
    for (section, attribute), members in by_attribute.items():
        if section == "Constraints" or attribute in ("cutoff", "switch_width", "solvent_radius"):
            continue  # no function of these, or OpenMM's force has none
        # a root of a well depth near zero has no finite difference to speak of
        members = [j for j in members if attribute != "epsilon" or theta.vector[j] > 1e-3]
        i = max(rng.choice(members, size=min(5, len(members)), replace=False), key=lambda j: abs(slopes[j]))
        step = 1e-5 * max(1.0, abs(float(theta.vector[i])))
        low, high = (evaluate(ours.to_openmm(theta.vector.at[i].add(sign * step)), positions)[0] for sign in (-1, 1))
        # central differences: rounding of energies of 1e4 kJ/mol over the step, and the third derivative
        assert slopes[i] == pytest.approx((high - low) / (2 * step), rel=1e-5, abs=2e-4), theta.labels[i]


def test_ties():
    system, _, topology, ours = case("peptide in TIP4P-Ew")
    in_water = DiffSystem.from_openmm(system, topology, tie_equal=True)
    assert in_water.parameter_layout.size < ours.parameter_layout.size / 10
    for section in ours.sections:
        np.testing.assert_array_equal(in_water.parameterize()[section], ours.parameterize()[section])
    system, positions, topology, ours = case("peptide")
    tied = DiffSystem.from_openmm(system, topology, tie_equal=True)
    assert tied.parameter_layout.size < ours.parameter_layout.size / 2
    theta = tied.force_field_parameters
    potential = tied.to_jax_potential()
    energy, slopes = jax.value_and_grad(lambda t: potential(positions, t))(theta)
    wanted, _, apart = ours_at("peptide")
    assert float(energy) == pytest.approx(wanted, rel=1e-12)
    # the slope of a tied charge is the sum of those of the particles that share it
    charges = np.asarray(ours.force_field_parameters["Electrostatics"]["charge"])
    for value, slope in zip(theta["Electrostatics"]["charge"], slopes["Electrostatics"]["charge"], strict=True):
        members = charges == float(value)
        assert members.any()
        # parts of the energy of a box cancel
        assert float(slope) == pytest.approx(
            float(apart["Electrostatics"]["charge"][members].sum()), rel=1e-8, abs=1e-6
        )


def test_parameters_are_named_by_their_atoms():
    *_, ours = case("peptide")
    labels = ours.force_field_parameters.labels
    assert len(set(labels)) == len(labels)
    assert any(label.startswith("Bonds/") and ":ALA" in label for label in labels)
    theta = ours.force_field_parameters
    bond = ours.indices("Bonds")[3]
    section = theta.layout.sections["Bonds"]
    assert [int(part.split(":")[0]) for part in section.ids[3].split("-")] == bond.tolist()
    selected = theta.select("Bonds", "k", id=section.ids[3])
    assert selected.vector.shape == (1,)
    units = dict(zip(labels, theta.units, strict=True))
    assert units[f"Bonds/{section.ids[3]}/k"] == "kilojoule / mole / nanometer**2"
    assert "Bonds" in str(theta.table())


def test_without_a_topology_atoms_are_numbers():
    system, *_ = case("peptide")
    ours = DiffSystem.from_openmm(system)
    assert ours.parameter_layout.sections["Bonds"].ids[0] == "-".join(map(str, ours.indices("Bonds")[0]))
    with pytest.raises(ParameterMismatchError, match="atoms"):
        DiffSystem.from_openmm(system, with_charges("CCO").to_topology())


def test_exceptions_have_parameters_of_their_own():
    _, positions, _, ours = case("peptide")
    assert len(ours.indices("NonbondedExceptions")) > 10
    terms = ours.energy_terms(positions)
    theta = ours.force_field_parameters
    off = theta.from_tree(
        {"NonbondedExceptions": {"charge_product": 0 * theta["NonbondedExceptions"]["charge_product"],
                                 "epsilon": 0 * theta["NonbondedExceptions"]["epsilon"]}}
    )  # fmt: skip
    assert float(ours.energy_terms(positions, off)["NonbondedExceptions"]) == 0.0
    assert abs(float(terms["NonbondedExceptions"])) > 1.0


@pytest.mark.parametrize("name", ("peptide in TIP4P-Ew", "peptide"))
def test_saved_and_loaded(name, tmp_path):
    _, positions, _, ours = case(name)
    ours.save(tmp_path / "frozen.npz")
    again = DiffSystem.load(tmp_path / "frozen.npz")
    assert again.parameter_layout == ours.parameter_layout and again.engine_options == ours.engine_options
    atoms = atoms_of(ours, positions)
    assert float(again.to_jax_potential()(atoms, again.force_field_parameters)) == pytest.approx(ours_at(name)[0])
    assert evaluate(again.to_openmm(), positions)[0] == evaluate(ours.to_openmm(), positions)[0]


def test_positions_in_openmms_order_are_refused_where_it_is_another():
    _, positions, _, ours = case("peptide in TIP4P-Ew")
    assert ours.openmm_particles is not None
    with pytest.raises(PositionsError, match=str(ours.n_atoms)):
        ours.to_jax_potential()(positions, ours.force_field_parameters)


def waters_with_a_site_each():
    """Two waters of four particles, O H H M, and so on: the first site stands before the atoms of the second."""
    force = openmm.NonbondedForce()
    system = system_of(force, n=8)
    for first in (0, 4):
        for charge, sigma, epsilon in ((0.0, 0.316, 0.68), (0.52, 1.0, 0.0), (0.52, 1.0, 0.0), (-1.04, 1.0, 0.0)):
            force.addParticle(charge, sigma, epsilon)
        for a, b in itertools.combinations(range(first, first + 4), 2):
            force.addException(a, b, 0.0, 1.0, 0.0)
        system.setParticleMass(first + 3, 0.0)
        system.setVirtualSite(
            first + 3, openmm.ThreeParticleAverageSite(first, first + 1, first + 2, 0.79, 0.105, 0.105)
        )
    atoms = np.array([[0.0, 0.0, 0.0], [0.0957, 0.0, 0.0], [-0.024, 0.0927, 0.0]])
    site = [[0.79, 0.105, 0.105] @ atoms]
    one = np.concatenate([atoms, site])
    return system, np.concatenate([one, one + [0.05, 0.0, 0.3]])


def test_every_potential_refuses_positions_in_openmms_order_where_it_is_another():
    system, positions = waters_with_a_site_each()
    ours = DiffSystem.from_openmm(system)
    wanted, _ = evaluate(system, positions)
    energy, _ = ours.energy_vjp(atoms_of(ours, positions))
    assert float(energy) == pytest.approx(wanted, **TOLERANCE)
    with pytest.raises(PositionsError, match=r"must have shape \(6, 3\), or a stack of those, got \(8, 3\)"):
        ours.energy_vjp(positions)
    torch = pytest.importorskip("torch")
    potential = ours.to_torch_potential()
    assert float(potential(torch.tensor(atoms_of(ours, positions)))) == pytest.approx(wanted, **TOLERANCE)
    with pytest.raises(PositionsError, match=r"\(6, 3\)"):
        potential(torch.tensor(positions))


def test_update_of_the_system_it_was_made_from():
    system, positions, _, ours = case("peptide in TIP4P-Ew")
    theta = ours.force_field_parameters
    labels = np.array([c.attribute for c in theta.layout.components])
    moved = theta.to_vector()[1](theta.vector * np.where(np.isin(labels, ("k", "charge", "epsilon")), 1.02, 1.0))
    context = context_of(system, positions)
    ours.update_openmm(context, moved)
    energy = energy_of(context)
    assert energy == pytest.approx(float(ours.to_jax_potential()(atoms_of(ours, positions), moved)), **TOLERANCE)
    ours.update_openmm(system)  # the case is shared


def torsions():
    """Ryckaert-Bellemans torsions as GROMACS files of OPLS have them, and two bond forces, in one System."""
    rb = openmm.RBTorsionForce()
    rb.addTorsion(0, 1, 2, 3, 9.28, 12.16, -13.12, -3.06, 26.24, -31.5)
    rb.addTorsion(3, 1, 0, 2, 1.0, -2.0, 0.5, 0.25, -0.1, 0.3)
    bonds = [openmm.HarmonicBondForce() for _ in range(2)]
    bonds[0].addBond(0, 1, 0.15, 2e5)
    bonds[1].addBond(0, 2, 0.25, 1e4)  # CHARMM keeps Urey-Bradley terms in a force of their own
    periodic = openmm.PeriodicTorsionForce()
    periodic.addTorsion(0, 1, 2, 3, 2, 0.3, 5.0)
    periodic.addTorsion(0, 1, 2, 3, 2, 1.3, 4.0)
    return system_of(rb, *bonds, periodic, nonbonded())


def test_ryckaert_bellemans_torsions_and_two_forces_of_a_class(tmp_path):
    system = torsions()
    positions = np.random.default_rng(2).normal(scale=0.2, size=(4, 3))
    ours = DiffSystem.from_openmm(system)
    theta = ours.force_field_parameters
    energy, (slope, slopes) = jax.value_and_grad(ours.to_jax_potential(), argnums=(0, 1))(positions, theta)
    wanted, forces = evaluate(system, positions)
    assert float(energy) == pytest.approx(wanted, **TOLERANCE)
    np.testing.assert_allclose(-slope, forces, rtol=1e-8, atol=1e-10 * np.abs(forces).max())
    for i, label in enumerate(theta.labels):
        # the energy is linear in most parameters, and quadratic or cubic in others
        low, high = (evaluate(ours.to_openmm(theta.vector.at[i].add(s * 1e-4)), positions)[0] for s in (-1, 1))
        assert float(slopes.vector[i]) == pytest.approx((high - low) / 2e-4, rel=1e-5, abs=1e-4 * abs(wanted)), label
    ours.save(tmp_path / "torsions.npz")
    again = DiffSystem.load(tmp_path / "torsions.npz")
    moved = theta.vector * 1.1
    target = again.to_openmm()
    assert evaluate(target, positions)[0] == pytest.approx(wanted, rel=1e-12)
    again.update_openmm(target, moved)
    assert evaluate(target, positions)[0] == pytest.approx(
        float(again.to_jax_potential()(positions, moved)), **TOLERANCE
    )


@pytest.mark.skipif(shutil.which("tleap") is None, reason="needs AmberTools")
@pytest.mark.parametrize("method", ("vacuum", "PME"))
def test_amber_files(method, tmp_path):
    solvate = "solvatebox m TIP3PBOX 6.0" if method == "PME" else ""
    (tmp_path / "leap.in").write_text(
        "source leaprc.protein.ff14SB\nsource leaprc.water.tip3p\nm = sequence { ACE ALA SER NME }\n"
        f"{solvate}\nsaveamberparm m m.prmtop m.inpcrd\nquit\n"
    )
    subprocess.run(["tleap", "-f", "leap.in"], cwd=tmp_path, check=True, capture_output=True)
    prmtop, inpcrd = (
        openmm.app.AmberPrmtopFile(str(tmp_path / "m.prmtop")),
        openmm.app.AmberInpcrdFile(str(tmp_path / "m.inpcrd")),
    )
    options = {"nonbondedMethod": openmm.app.PME, "nonbondedCutoff": 0.8} if method == "PME" else {}
    system = prmtop.createSystem(constraints=openmm.app.HBonds, **options)
    positions = np.asarray(inpcrd.getPositions(asNumpy=True)._value)
    ours = DiffSystem.from_openmm(system, prmtop.topology, tie_equal=True)
    energy = float(ours.to_jax_potential()(positions, ours.force_field_parameters))
    assert energy == pytest.approx(evaluate(system, positions)[0], **TOLERANCE)


def test_what_contributes_no_energy_is_passed_over():
    system = system_of(nonbonded(), openmm.CMMotionRemover(), openmm.AndersenThermostat(300, 1))
    ours = DiffSystem.from_openmm(system)
    positions = np.random.default_rng(0).normal(size=(4, 3))
    energy = float(ours.to_jax_potential()(positions, ours.force_field_parameters))
    assert energy == pytest.approx(evaluate(system, positions)[0], **TOLERANCE)


@pytest.mark.parametrize(
    "site",
    (
        openmm.TwoParticleAverageSite(0, 1, 0.3, 0.7),
        openmm.ThreeParticleAverageSite(0, 1, 2, 0.2, 0.3, 0.5),
        openmm.OutOfPlaneSite(0, 1, 2, 0.2, 0.3, 1.5),
        openmm.LocalCoordinatesSite([0, 1], [1, 0], [-1, 1], [-1, 1], [-0.05, 0, 0]),
        openmm.LocalCoordinatesSite([0, 1, 2], [1, 0, 0], [-1, 1, 0], [-1, 0, 1], [-0.05, 0.02, 0.03]),
        openmm.LocalCoordinatesSite([0, 1, 2], [1, 0, 0], [-1, 0.5, 0.5], [-1, 1, 0], [0.05, -0.02, 0.03]),
    ),
    ids=lambda site: type(site).__name__,
)
def test_every_kind_of_site(site):
    force = nonbonded(n=5)
    for parent in range(3):
        force.addException(parent, 3, 0, 1, 0)  # the site is within atoms, and the fifth particle sees it
    system = system_of(force, n=5, sites=[(3, site)])
    ours = DiffSystem.from_openmm(system)
    positions = np.random.default_rng(3).normal(size=(5, 3))
    atoms = positions[[0, 1, 2, 4]]
    context = context_of(system, positions)
    placed = context.getState(getPositions=True).getPositions(asNumpy=True)[3]._value
    np.testing.assert_allclose(ours.particle_positions(atoms)[4], placed, atol=1e-12)
    theta = ours.force_field_parameters
    energy, (slope, slopes) = jax.value_and_grad(ours.to_jax_potential(), argnums=(0, 1))(atoms, theta)
    assert float(energy) == pytest.approx(energy_of(context), **TOLERANCE)
    np.testing.assert_allclose(-slope, forces_of(context)[[0, 1, 2, 4]], rtol=1e-8, atol=1e-8)
    places = np.array([c.section == "VirtualSites" for c in theta.layout.components])
    assert np.isfinite(slopes.vector).all() and np.abs(slopes.vector)[places].max() > 0
