"""What openmm.app makes of CHARMM's and AMBER's force fields and files, against OpenMM's Reference platform."""

from __future__ import annotations

import copy
import shutil
import subprocess
from functools import cache

import jax
import numpy as np
import openmm
import openmm.app
import pytest
from openff.toolkit import Molecule

from openff_diffsystem import DiffSystem
from openff_diffsystem.exceptions import UnsupportedForceError
from tests.openmm_reference import evaluate

ENERGY = {"rel": 1e-7, "abs": 1e-6}
"""kJ/mol. Double precision on both sides; of a box, parts of 1e5 kJ/mol cancel, and OpenMM integrates the long-range
correction of a CustomNonbondedForce numerically."""


def assert_same_forces(found, wanted):
    """1e-9 of each, or 1e-12 of the largest: each is a sum of thousands of both signs, rounded at 1e-16."""
    np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-12 * np.abs(wanted).max())


@cache
def peptide():
    """Cyclo-(Ala-Ser-Gly-Gly): topology and positions. OpenMM tries CHARMM's patches for ends for minutes."""
    molecule = Molecule.from_smiles("C[C@@H]1NC(=O)CNC(=O)CNC(=O)[C@H](CO)NC1=O")
    molecule.generate_conformers(n_conformers=1)
    molecule.perceive_residues()
    order = sorted(range(molecule.n_atoms), key=lambda i: int(molecule.atoms[i].metadata["residue_number"]))
    molecule = molecule.remap({old: new for new, old in enumerate(order)})
    molecule.generate_unique_atom_names()
    return molecule.to_topology().to_openmm(), molecule.conformers[0].m_as("nanometer")


def by_force_field(*files, water=None, **options):
    force_field = openmm.app.ForceField(*files)
    modeller = openmm.app.Modeller(*peptide())
    if water:
        modeller.addSolvent(force_field, model=water, boxSize=openmm.Vec3(2.0, 2.0, 2.0), neutralize=False)
    system = force_field.createSystem(modeller.topology, **options)
    return system, np.array([[*v] for v in modeller.positions._value]), modeller.topology


BOX = {"nonbondedMethod": openmm.app.PME, "nonbondedCutoff": 0.9, "constraints": openmm.app.HBonds}

CASES = {
    "CHARMM36": lambda: by_force_field("charmm36.xml"),
    "CHARMM36 of 2024": lambda: by_force_field("charmm36_2024.xml"),
    "CHARMM36 in its water": lambda: by_force_field(
        "charmm36.xml",
        "charmm36/water.xml",
        water="tip3p",
        switchDistance=0.8,
        useDispersionCorrection=True,
        **BOX,
    ),
    "ff19SB": lambda: by_force_field("amber19-all.xml"),
}


@cache
def case(name):
    system, positions, topology = CASES[name]()
    return system, positions, DiffSystem.from_openmm(system, topology, positions=positions, tie_equal="ff19" in name)


# a program takes seconds to compile: CHARMM36 is compared in water, and without it on the way back to OpenMM
@pytest.mark.parametrize("name", [name for name in CASES if name != "CHARMM36"])
def test_energy_and_forces(name):
    system, positions, ours = case(name)
    neighbors = None if ours.box_vectors is None else ours.neighbor_list(positions)
    wanted, forces = evaluate(system, positions)
    theta = ours.force_field_parameters
    energy, (slope, slopes) = jax.value_and_grad(ours.to_jax_potential(), argnums=(0, 1))(
        positions, theta, None, neighbors
    )
    assert float(energy) == pytest.approx(wanted, **ENERGY)
    assert_same_forces(-slope, forces)
    # the weights of a spline add up to one
    n_terms = len(ours.indices("CMAPTorsions"))
    assert float(slopes["CMAPTorsions"]["energy"].sum()) == pytest.approx(n_terms, abs=1e-12) and n_terms >= 4
    if neighbors is None:
        _against_differences(ours, positions, theta, slopes)


def _against_differences(ours, positions, theta, slopes):
    """In the parameters of what CHARMM and ff19SB have and others have not, the largest slope of each attribute."""
    by_attribute: dict = {}
    for i, component in enumerate(theta.layout.components):
        by_attribute.setdefault((component.section, component.attribute), []).append(i)
    slopes = np.asarray(slopes.vector)
    for (section, attribute), members in by_attribute.items():
        if section in ("CMAPTorsions", "CustomTorsions", "LennardJones14") or attribute == "sigma":
            i = max(members, key=lambda j: abs(slopes[j]))
            step = 1e-5 * max(0.1, abs(float(theta.vector[i])))
            low, high = (evaluate(ours.to_openmm(theta.vector.at[i].add(s * step)), positions)[0] for s in (-1, 1))
            # central differences: rounding of energies of 1e3 kJ/mol over the step, and the third derivative
            assert slopes[i] == pytest.approx((high - low) / (2 * step), rel=1e-5, abs=1e-5), theta.labels[i]


@pytest.mark.parametrize("name", CASES)
def test_back_to_openmm(name):
    system, positions, ours = case(name)
    energy, forces = evaluate(ours.to_openmm(), positions)
    wanted, wanted_forces = evaluate(system, positions)
    assert energy == pytest.approx(wanted, **ENERGY)
    assert_same_forces(forces, wanted_forces)


def test_a_table_of_types_becomes_parameters_of_particles():
    system, _, ours = case("CHARMM36")
    assert {"CustomNonbondedForce", "CustomBondForce"} <= {type(force).__name__ for force in system.getForces()}
    made = ours.to_openmm()
    assert "CustomNonbondedForce" not in {type(force).__name__ for force in made.getForces()}
    theta = ours.force_field_parameters
    # hydroxyl hydrogen of serine, type H in charmm36.xml: epsilon 0.192464 kJ/mol, sigma 0.040001 nm
    assert np.isclose(theta["vdW"]["epsilon"], 0.192464, rtol=1e-9).any()
    assert np.isclose(theta["vdW"]["sigma"], 0.0400013524445, rtol=1e-9).any()
    with pytest.raises(UnsupportedForceError, match="CustomNonbondedForce 'LennardJones' of the OpenMM System"):
        ours.update_openmm(system)
    ours.update_openmm(made, 1.01 * theta.vector)


def _with(change):
    system = copy.deepcopy(case("CHARMM36")[0])
    forces = {type(force).__name__: force for force in system.getForces()}
    change(forces["CustomNonbondedForce"], forces["NonbondedForce"])
    return system


def _repulsion_alone(table, _):
    """Between the first two types: no attraction."""
    size, _, values = table.getTabulatedFunction(1).getFunctionParameters()
    values = list(values)
    for at in (1, size):
        values[at] = 0.0
    table.getTabulatedFunction(1).setFunctionParameters(size, size, values)


REFUSED = {
    r"no Lennard-Jones interaction between atoms of the types of particles \d+ and \d+": _repulsion_alone,
    "both have Lennard-Jones": lambda _, force: force.setParticleParameters(3, 0.1, 0.3, 0.2),
    "leaves out other pairs": lambda table, _: table.addExclusion(0, 30),
    "end their interactions in different ways": lambda table, _: table.setNonbondedMethod(table.CutoffPeriodic),
    "is not a table of Lennard-Jones": lambda table, _: table.setEnergyFunction("acoef(type1, type2)/r^9"),
    "interaction groups": lambda table, _: table.addInteractionGroup([0], [1]),
}


@pytest.mark.parametrize("message", REFUSED)
def test_other_tables_are_refused_by_name(message):
    with pytest.raises(UnsupportedForceError, match=f"CustomNonbondedForce 'LennardJones'.*{message}"):
        DiffSystem.from_openmm(_with(REFUSED[message]))


def implicit(model, **options):
    topology, positions = peptide()
    force_field = openmm.app.ForceField("amber14-all.xml", f"implicit/{model}.xml")
    return force_field.createSystem(topology, **options), positions


@pytest.mark.parametrize("model, area", (("hct", "ACE"), ("obc1", None)))
def test_implicit_solvent(model, area):
    """And back to OpenMM, with other numbers, and read again.

    The Coulomb constant in these forces, 138.935485, is 1.97e-7 larger than OpenMM's; the surface makes up for a part
    of the energy that it multiplies.
    """
    system, positions = implicit(model, sasaMethod=area)
    ours = DiffSystem.from_openmm(system)
    assert ours.methods["GBSA"] == {"gb_model": model.upper(), "sa_model": area or "None"}
    wanted, forces = evaluate(system, positions)
    assert evaluate(ours.to_openmm(), positions)[0] == pytest.approx(wanted, rel=1e-12)
    theta = ours.force_field_parameters
    energy, slope = jax.jit(jax.value_and_grad(ours.to_jax_potential()))(positions, theta)
    solvation = abs(float(ours.energy_terms(positions)["GBSA"]))
    assert float(energy) == pytest.approx(wanted, abs=2.5e-7 * solvation)
    np.testing.assert_allclose(-slope, forces, rtol=0, atol=1e-6 * np.abs(forces).max())
    moved = np.array([1.05 if c.section == "GBSA" else 1.0 for c in theta.layout.components]) * theta.vector
    made = ours.to_openmm(moved)
    again = DiffSystem.from_openmm(made)
    wanted = evaluate(made, positions)[0]
    assert wanted != pytest.approx(float(energy), rel=1e-4)
    assert float(ours.to_jax_potential()(positions, moved)) == pytest.approx(wanted, abs=2.5e-7 * solvation)
    for name, column in again.force_field_parameters["GBSA"].items():
        if area or not name.startswith(("surface", "solvent_radius")):  # which are in the force with a surface only
            np.testing.assert_allclose(column, theta.to_vector()[1](moved)["GBSA"][name], rtol=1e-12)


@pytest.mark.parametrize(
    "model, options, message",
    (
        ("obc2", {}, "OBC2 as a GBSAOBCForce"),
        ("gbn2", {}, "CustomGBForce .*is not an implicit solvent that is covered.*not GBn or GBn2"),
        ("hct", {"implicitSolventKappa": 1.0}, "without salt"),
        ("hct", {"nonbondedMethod": openmm.app.CutoffNonPeriodic}, "with method CutoffNonPeriodic"),
    ),
)
def test_implicit_solvents_that_are_refused_by_name(model, options, message):
    with pytest.raises(UnsupportedForceError, match=message):
        DiffSystem.from_openmm(implicit(model, **options)[0])


ATOMS = (("C", "CX", 0.51, 12.011), ("O", "OX", -0.51, 15.999), ("N", "NX", -0.1, 14.007), ("H", "HX", 0.1, 1.008))
"""Formamide without the hydrogens of its amide: name, type, charge, mass."""

TOPOLOGY = (
    ("NBOND: bonds", ((1, 2), (1, 3), (1, 4))),
    ("NTHETA: angles", ((2, 1, 3), (2, 1, 4), (3, 1, 4))),
    ("NPHI: dihedrals", ()),
    ("NIMPHI: impropers", ((1, 3, 2, 4),)),
    ("NDON: donors", ()),
    ("NACC: acceptors", ()),
)


def psf_text(n_molecules):
    lines = ["PSF", "", f"{1:8d} !NTITLE", " REMARKS made for this test", "", f"{4 * n_molecules:8d} !NATOM"]
    for i in range(4 * n_molecules):
        name, kind, charge, mass = ATOMS[i % 4]
        lines.append(
            f"{i + 1:8d} A    {i // 4 + 1:<4d} FOR  {name:<4s} {kind:<4s} {charge:10.6f}    {mass:10.4f}           0"
        )
    for title, terms in TOPOLOGY:
        lines += ["", f"{n_molecules * len(terms):8d} !{title}"]
        lines += ["".join(f"{a + 4 * m:8d}" for a in term) for m in range(n_molecules) for term in terms] or [""]
    return "\n".join([*lines, "", f"{0:8d} !NNB", "", "0 " * 4 * n_molecules, ""])


PARAMETERS = """* made for this test
*

ATOMS
MASS 1 CX 12.011
MASS 2 OX 15.999
MASS 3 NX 14.007
MASS 4 HX  1.008

BONDS
CX OX 620.0 1.23
CX NX 430.0 1.36
CX HX 317.0 1.10

ANGLES
OX CX NX 75.0 122.5 50.0 2.37
OX CX HX 44.0 122.0
NX CX HX 44.0 111.0 50.0 1.98

IMPROPER
CX NX OX HX 66.0 0 170.0

NONBONDED nbxmod 5 atom cdiel fshift vatom vdistance vfswitch -
cutnb 14.0 ctofnb 12.0 ctonnb 10.0 eps 1.0 e14fac 1.0 wmin 1.5
CX 0.0 -0.110 2.00
OX 0.0 -0.120 1.70
NX 0.0 -0.200 1.85
HX 0.0 -0.046 0.90
{nbfix}
END
"""


def charmm_files(folder, nbfix=""):
    """Two molecules, so that some pairs interact."""
    (folder / "two.psf").write_text(psf_text(2))
    (folder / "all.prm").write_text(PARAMETERS.format(nbfix=nbfix))
    psf = openmm.app.CharmmPsfFile(str(folder / "two.psf"))
    return psf.createSystem(openmm.app.CharmmParameterSet(str(folder / "all.prm"))), psf.topology


def test_charmm_files(tmp_path):
    """Urey-Bradley terms, and an improper at 170 degrees whose deviation goes the short way round."""
    system, topology = charmm_files(tmp_path)
    ours = DiffSystem.from_openmm(system, topology)
    one = np.array([[0.0, 0.0, 0.0], [0.0, 0.12, 0.01], [0.11, -0.06, 0.0], [-0.09, -0.05, 0.0]])
    positions = np.concatenate([one, [0.1, 0.2, 0.35] - one])
    wanted, forces = evaluate(system, positions)
    energy, slope = jax.value_and_grad(ours.to_jax_potential())(positions, ours.force_field_parameters)
    assert float(energy) == pytest.approx(wanted, **ENERGY)
    assert_same_forces(-slope, forces)
    assert "CustomTorsions" in ours.sections and len(ours.indices("Bonds")) == 10  # with Urey-Bradley terms
    assert evaluate(ours.to_openmm(), positions)[0] == pytest.approx(wanted, **ENERGY)


@pytest.mark.skipif(shutil.which("antechamber") is None, reason="needs AmberTools")
def test_gaff(tmp_path):
    molecule = Molecule.from_smiles("CC(=O)Nc1ccc(O)cc1")
    molecule.generate_conformers(n_conformers=1)
    molecule.to_file(str(tmp_path / "ligand.sdf"), "sdf")
    (tmp_path / "leap.in").write_text(
        "source leaprc.gaff2\nm = loadmol2 ligand.mol2\nloadamberparams ligand.frcmod\n"
        "saveamberparm m m.prmtop m.inpcrd\nquit\n"
    )
    for command in (
        "antechamber -i ligand.sdf -fi sdf -o ligand.mol2 -fo mol2 -at gaff2 -c gas -pf y",
        "parmchk2 -i ligand.mol2 -f mol2 -o ligand.frcmod -s gaff2",
        "tleap -f leap.in",
    ):
        subprocess.run(command.split(), cwd=tmp_path, check=True, capture_output=True)
    prmtop = openmm.app.AmberPrmtopFile(str(tmp_path / "m.prmtop"))
    positions = openmm.app.AmberInpcrdFile(str(tmp_path / "m.inpcrd")).getPositions(asNumpy=True)._value
    system = prmtop.createSystem()
    ours = DiffSystem.from_openmm(system, prmtop.topology, positions=positions, tie_equal=True)
    wanted, forces = evaluate(system, positions)
    energy, slope = jax.value_and_grad(ours.to_jax_potential())(positions, ours.force_field_parameters)
    assert float(energy) == pytest.approx(wanted, **ENERGY)
    assert_same_forces(-slope, forces)
