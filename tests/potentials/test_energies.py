"""Energies and forces of isolated molecules against OpenMM's Reference platform."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from openff.toolkit import ForceField, Molecule, Topology
from openff.toolkit.utils import get_data_file_path

from openff_diffsystem import DiffSystem, ForceFieldParameters
from openff_diffsystem.exceptions import BoxError, PositionsError, UnsupportedForceFieldError
from tests.differences import central_difference
from tests.force_fields import SITE_MOLECULE, VIRTUAL_SITES
from tests.molecules import IMATINIB, in_vacuum, peptide, with_charges
from tests.openmm_reference import ENERGY_TOLERANCE, Reference

FLOAT32_RELATIVE = 2e-5
"""Of the sum of the magnitudes of all term energies: a few hundred float32 roundings of 6e-8, amplified by r^-12."""


def check(force_field: ForceField, topology: Topology, charged: list[Molecule], positions=None) -> None:
    system = DiffSystem.from_smirnoff(force_field, topology, charge_from_molecules=charged or None)
    positions = system.positions if positions is None else positions
    reference = Reference(force_field.create_openmm_system(topology, charge_from_molecules=charged or None))
    theta = system.force_field_parameters
    found = {name: float(energy) for name, energy in system.energy_terms(positions, theta).items()}
    found["Torsions"] = found.pop("ProperTorsions", 0.0) + found.pop("ImproperTorsions", 0.0)
    for name, energy in reference.sections(positions).items():
        assert found.get(name, 0.0) == pytest.approx(energy, **ENERGY_TOLERANCE), name
    potential = system.to_jax_potential()
    energy, gradient = jax.value_and_grad(potential)(jnp.asarray(positions), theta)
    assert float(energy) == pytest.approx(reference.energy(positions), **ENERGY_TOLERANCE)
    forces = reference.forces(positions)
    scale = np.sqrt(np.mean(forces**2))
    np.testing.assert_allclose(-np.asarray(gradient), forces, rtol=1e-7, atol=1e-6 + 1e-9 * scale)


@pytest.mark.parametrize(
    "smiles", [IMATINIB, "CC(=O)[O-]", "C[N+](C)(C)CC#N", "OS(=O)(=O)c1ccccc1I", "C1CC1", "C#CC#N"]
)
def test_ligands(stock_sage, smiles):
    molecule = with_charges(smiles)
    check(stock_sage, molecule.to_topology(), [molecule])


@pytest.mark.parametrize("name", ["tip3p", "spce", "opc3", "tip4p_fb", "opc", "tip4p_ew", "tip5p"])
def test_water_clusters(name):
    """Three waters of each model, sites included."""
    force_field, water = ForceField(f"{name}.offxml"), with_charges("O")
    topology = Topology.from_molecules([water] * 3)
    first = water.conformers[0].m_as("nanometer")
    check(force_field, topology, [], np.concatenate([first, first + [0.3, 0, 0.02], first + [0.1, 0.28, 0]]))


def test_all_virtual_site_types():
    force_field = ForceField("openff-2.2.1.offxml", VIRTUAL_SITES)
    molecule = with_charges(SITE_MOLECULE)
    with pytest.warns(UserWarning, match="VirtualSites"):
        check(force_field, molecule.to_topology(), [molecule])


def test_mixture_with_interleaved_copies(stock_sage):
    water, ethanol = with_charges("O"), with_charges("CCO")
    topology = Topology.from_molecules([water, ethanol, water, ethanol])
    shifts = np.repeat([[0, 0, 0], [0.5, 0, 0], [0, 0.5, 0.1], [0.5, 0.6, 0]], [3, 9, 3, 9], axis=0)
    positions = np.concatenate([m.conformers[0].m_as("nanometer") for m in (water, ethanol, water, ethanol)])
    check(stock_sage, topology, [ethanol], positions + shifts)


def test_peptide():
    force_field = ForceField("ff14sb_off_impropers_0.0.4.offxml")
    check(force_field, peptide(), [])


def test_unconstrained_equals_added_constrained_forces(stock_sage):
    molecule = with_charges("CCO")
    free = ForceField("openff_unconstrained-2.2.1.offxml")
    expected = DiffSystem.from_smirnoff(free, molecule, charge_from_molecules=[molecule]).energy_terms()
    constrained = DiffSystem.from_smirnoff(stock_sage, molecule, charge_from_molecules=[molecule])
    found = constrained.energy_terms(add_constrained_forces=True)
    assert float(found["Bonds"]) == pytest.approx(float(expected["Bonds"]), rel=1e-12)
    assert float(constrained.energy_terms()["Bonds"]) < float(found["Bonds"])


def test_float32(stock_sage):
    """Single precision within its stated bound, energies and forces, on a drug-size molecule."""
    molecule = with_charges(IMATINIB)
    system = DiffSystem.from_smirnoff(stock_sage, molecule, charge_from_molecules=[molecule])
    potential, theta = system.to_jax_potential(), system.force_field_parameters
    positions = jnp.asarray(system.positions)
    expected, slope = jax.value_and_grad(potential)(positions, theta)
    single = jax.tree.map(lambda x: x.astype(jnp.float32), theta)
    energy, slope32 = jax.value_and_grad(potential)(positions.astype(jnp.float32), single)
    assert energy.dtype == slope32.dtype == jnp.float32
    magnitude = sum(abs(float(e)) for e in system.energy_terms(positions, theta).values())
    assert abs(float(energy) - float(expected)) < FLOAT32_RELATIVE * magnitude
    assert np.abs(slope32 - slope).max() < 1e-4 * np.abs(slope).max()


def test_conformers_in_chunks(stock_sage):
    molecule = with_charges("CCO")
    system = DiffSystem.from_smirnoff(stock_sage, molecule, charge_from_molecules=[molecule])
    theta = system.force_field_parameters
    stack = system.positions + np.random.default_rng(0).normal(scale=0.005, size=(7, molecule.n_atoms, 3))
    one_by_one = [float(system.to_jax_potential()(frame, theta)) for frame in stack]
    for chunk_size in (1, 3, 7, 100):
        energies = system.to_jax_potential(chunk_size=chunk_size)(stack, theta)
        np.testing.assert_allclose(energies, one_by_one, rtol=1e-12)


def test_sites_are_placed_where_openmm_places_them():
    force_field = ForceField("openff-2.2.1.offxml", VIRTUAL_SITES)
    molecule = with_charges(SITE_MOLECULE)
    with pytest.warns(UserWarning):
        system = DiffSystem.from_smirnoff(force_field, molecule, charge_from_molecules=[molecule])
        openmm_system = force_field.create_openmm_system(molecule.to_topology(), charge_from_molecules=[molecule])
    context = Reference(openmm_system)._contexts["total"]
    completed = np.asarray(system.particle_positions())
    context.setPositions(completed)
    context.computeVirtualSites()
    expected = context.getState(getPositions=True).getPositions(asNumpy=True)._value
    assert system.n_particles > system.n_atoms + 4
    np.testing.assert_allclose(completed, expected, atol=1e-12)
    # sites that a caller passes along are placed anew
    potential, theta = system.to_jax_potential(), system.force_field_parameters
    moved = completed.copy()
    moved[system.n_atoms :] += 1.0
    assert float(potential(moved, theta)) == float(potential(system.positions, theta))


def test_bad_input(stock_sage):
    molecule = with_charges("CCO")
    system = DiffSystem.from_smirnoff(stock_sage, molecule, charge_from_molecules=[molecule])
    potential, theta = system.to_jax_potential(), system.force_field_parameters
    with pytest.raises(PositionsError, match=r"\(9, 3\)"):
        potential(np.zeros((5, 3)), theta)
    with pytest.raises(PositionsError, match="NaN"):
        potential(np.full((9, 3), np.nan), theta)
    with pytest.raises(BoxError, match="twice the cutoff"):
        potential(system.positions, theta, np.eye(3))
    with pytest.raises(PositionsError, match="no positions"):
        DiffSystem.from_smirnoff(
            stock_sage, with_charges("CCO", conformer=False), charge_from_molecules=[molecule]
        ).energy_terms()


@pytest.mark.parametrize("model", ["HCT", "OBC1", "OBC2"])
def test_implicit_solvent(model):
    """OpenMM's HCT and OBC1 have a Coulomb constant that differs from its own elsewhere by 2e-7, hence the bound."""
    force_field = ForceField("openff-2.2.1.offxml", get_data_file_path(f"test_forcefields/GBSA_{model}-1.0.offxml"))
    molecule = with_charges(IMATINIB)
    options = {"charge_from_molecules": [molecule]}
    reference = Reference(force_field.create_openmm_system(molecule.to_topology(), **options))
    system = DiffSystem.from_smirnoff(force_field, molecule, **options)
    theta, potential = system.force_field_parameters, system.to_jax_potential()
    energy, gradient = jax.value_and_grad(potential)(jnp.asarray(system.positions), theta)
    assert float(energy) == pytest.approx(reference.energy(system.positions), rel=1e-7)
    forces = reference.forces(system.positions)
    assert np.abs(forces + np.asarray(gradient)).max() < 1e-6 * np.sqrt(np.mean(forces**2))
    # a second derivative, and a batch, in which atoms are filled up
    product = jax.jvp(
        jax.grad(potential, argnums=1), (system.positions, theta.vector), (system.positions, theta.vector)
    )
    assert np.isfinite(product[1]).all()
    other = with_charges("CCO")
    batch = DiffSystem.concatenate(
        [system, DiffSystem.from_smirnoff(force_field, other, charge_from_molecules=[other])]
    )
    energies = batch.potential(batch.pack([system.positions, other.conformers[0].m_as("nanometer")]), theta)
    assert float(energies[0]) == pytest.approx(float(energy), rel=1e-12)


@pytest.mark.parametrize("model", ["HCT", "OBC1", "OBC2"])
def test_implicit_solvent_parameter_gradients(model):
    force_field = ForceField(
        "openff_unconstrained-2.2.1.offxml", get_data_file_path(f"test_forcefields/GBSA_{model}-1.0.offxml")
    )
    molecule = with_charges("CC(=O)Nc1ccccc1O")
    options = {"charge_from_molecules": [molecule]}
    system = DiffSystem.from_smirnoff(force_field, molecule, **options)
    theta = system.force_field_parameters
    gradient = jax.grad(system.to_jax_potential(), argnums=1)(jnp.asarray(system.positions), theta).vector
    names = ["radius", "scale", "solvent_dielectric", "solute_dielectric"]
    # stock openff-interchange hands the surface area penalty to OpenMM for OBC2 only
    for name in [*names, "surface_area_penalty"] if model == "OBC2" else names:
        column = theta.layout.column("GBSA", name)
        position = column.start + int(np.argmax(np.abs(np.asarray(gradient)[column.slice])))
        difference = central_difference(
            force_field,
            theta.layout.components[position],
            column.attribute,
            molecule.to_topology(),
            options,
            system.positions,
        )
        assert float(gradient[position]) == pytest.approx(difference, rel=1e-5, abs=2e-6), name


def test_cutoffs_without_a_box_are_refused(stock_sage):
    molecule = with_charges("CCO")
    system = DiffSystem.from_smirnoff(stock_sage, molecule, charge_from_molecules=[molecule])
    system.methods["vdW"]["nonperiodic_method"] = "cutoff"
    with pytest.raises(UnsupportedForceFieldError, match="nonperiodic_method='cutoff'"):
        system.to_jax_potential()


def only(theta: ForceFieldParameters, section: str) -> ForceFieldParameters:
    """Parameters whose force constants and well depths are zero, but for those of one section."""
    strength = {
        "Bonds": "k",
        "Angles": "k",
        "ProperTorsions": "k*",
        "ImproperTorsions": "k*",
        "vdW": "epsilon",
    }
    vector = np.array(theta.vector)
    for tag, pattern in strength.items():
        if tag != section:
            vector[theta.select(tag, pattern).selection.positions] = 0.0
    return ForceFieldParameters(jnp.asarray(vector), theta.layout)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["openff-2.2.1.offxml", "openff_unconstrained-1.3.1.offxml"])
def test_sweep(name):
    """MiniDrugBank, a part of AlkEthOH, ions and water, at an RDKit conformer: total, forces and every section.

    All molecules are one batch. Preset charges are no force-field parameters, so the electrostatic energy is there
    for every theta, and a section is a difference.
    """
    force_field = ForceField(name)
    systems, references = [], []
    refused = 0
    for molecule in in_vacuum():
        try:
            system = force_field.create_openmm_system(molecule.to_topology(), charge_from_molecules=[molecule])
        except Exception:
            refused += 1
            continue
        systems.append(DiffSystem.from_smirnoff(force_field, molecule, charge_from_molecules=[molecule]))
        references.append(Reference(system))
    batch = DiffSystem.concatenate(systems)
    theta = batch.force_field_parameters
    positions = [system.positions for system in systems]
    packed = batch.pack(positions, conformers_per_row=1)
    potential = jax.jit(lambda theta: batch.potential(packed, theta))
    total, charges_only = np.asarray(potential(theta)), np.asarray(potential(only(theta, "")))
    sections = {tag: np.asarray(potential(only(theta, tag))) - charges_only for tag in ("Bonds", "Angles", "vdW")}
    torsions = [only(theta, tag) for tag in ("ProperTorsions", "ImproperTorsions")]
    sections["Torsions"] = sum(np.asarray(potential(one)) - charges_only for one in torsions)
    sections["Electrostatics"] = charges_only
    gradients = jax.grad(lambda x: jnp.sum(batch.potential(batch.pack(x, conformers_per_row=1), theta)))(
        [jnp.asarray(x) for x in positions]
    )
    worst = dict.fromkeys([*sections, "total", "forces"], 0.0)
    for i, (reference, x) in enumerate(zip(references, positions, strict=True)):
        expected = {**reference.sections(x), "total": reference.energy(x)}
        for tag, energy in expected.items():
            found = total[i] if tag == "total" else sections[tag][i]
            worst[tag] = max(worst[tag], abs(found - energy))
            assert found == pytest.approx(energy, **ENERGY_TOLERANCE), (i, tag)
        forces = reference.forces(x)
        error = np.abs(forces + np.asarray(gradients[i])).max() / max(1.0, np.sqrt(np.mean(forces**2)))
        worst["forces"] = max(worst["forces"], error)
        assert error < 1e-7
    print(f"{name}: {len(systems)} molecules, {refused} refused by stock, largest deviations {worst}")
    assert len(systems) > 300
