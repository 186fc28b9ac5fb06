"""Periodic systems against OpenMM's Reference platform: energies, forces, and every first derivative."""

from __future__ import annotations

import copy
from fnmatch import fnmatch

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from openff.toolkit import ForceField, Quantity

from openff_diffsystem import DiffSystem, ForceFieldParameters
from openff_diffsystem.units import COULOMB
from tests import boxes
from tests.differences import STEP, central_difference
from tests.force_fields import VIRTUAL_SITES, without_unused
from tests.openmm_reference import Reference

RELATIVE = 1e-8
"""Energies differ by the rounding of OpenMM's long-range correction, about 1e-10; forces by 1e-12 of their size."""

BOXES = {
    "TIP3P": lambda: boxes.water("tip3p.offxml"),
    "SPC/E": lambda: boxes.water("spce.offxml"),
    "OPC3": lambda: boxes.water("opc3.offxml"),
    "TIP4P-FB": lambda: boxes.water("tip4p_fb.offxml"),
    "OPC": lambda: boxes.water("opc.offxml"),
    "TIP5P": lambda: boxes.water("tip5p.offxml"),
    "TIP3P, triclinic": lambda: boxes.water("tip3p.offxml", 2.2, triclinic=True),
    "NaCl solution": boxes.salt,
    "imatinib in water": boxes.ligand,
    "ligand with sites in water": lambda: boxes.ligand(
        "COc1ccc(Cl)cc1C#N", ("openff_unconstrained-2.2.1.offxml", VIRTUAL_SITES), 2.3
    ),
    "dipeptide in water, ff14SB": boxes.protein,
    "OPC, LJ-PME": lambda: boxes.water("opc.offxml", 2.15)._replace(periodic_vdw="Ewald3D"),
    "ligand in water, LJ-PME": lambda: boxes.ligand("CC(=O)Nc1ccc(O)cc1", edge=2.2)._replace(periodic_vdw="Ewald3D"),
    "helix of 21 residues in water, ff14SB": boxes.solvated_helix,
}


@pytest.fixture(scope="module", params=BOXES)
def case(request):
    """A box, its OpenMM system on the Reference platform, and its DiffSystem."""
    box = BOXES[request.param]()
    force_field = box.load()
    reference = Reference(force_field.create_openmm_system(box.topology, **box.options))
    return box, reference, box.system(force_field)


@pytest.fixture(scope="module")
def evaluated(case):
    """Our energy, and its gradients in positions and box vectors."""
    box, _, system = case
    return jax.jit(jax.value_and_grad(system.to_jax_potential(), argnums=(0, 2)))(
        jnp.asarray(box.positions),
        system.force_field_parameters,
        jnp.asarray(box.box_vectors),
        system.neighbor_list(),
    )


@pytest.mark.filterwarnings("ignore:charge_from_molecules", "ignore:Preset charges")
class TestAgainstOpenMM:
    def test_energy_and_forces(self, case, evaluated):
        box, reference, _ = case
        energy, (gradient, _) = evaluated
        assert float(energy) == pytest.approx(reference.energy(box.positions), rel=RELATIVE)
        forces = reference.forces(box.positions)
        assert np.abs(forces + np.asarray(gradient)).max() < 1e-9 * np.sqrt(np.mean(forces**2))

    def test_sections(self, case):
        box, reference, system = case
        found = system.energy_terms()
        expected = reference.sections(box.positions)
        torsions = sum(float(found.get(tag, 0.0)) for tag in ("ProperTorsions", "ImproperTorsions"))
        assert torsions == pytest.approx(expected.pop("Torsions", 0.0), rel=RELATIVE, abs=1e-8)
        for section, energy in expected.items():
            assert float(found.get(section, 0.0)) == pytest.approx(energy, rel=RELATIVE, abs=1e-8), section

    @pytest.mark.parametrize("scaled", ["atoms", "molecules"])
    def test_box_gradient(self, case, evaluated, scaled):
        """The derivative along a strain of the box, with atoms or whole molecules moved along.

        Coulomb energies end at the cutoff with a step of 1e-3 kJ/mol, and a difference counts every pair that crosses
        it. Strains are therefore so small that almost none does, and the median of several is taken; rounding of
        the energy leaves 3e-5 of its parts.
        """
        box, reference, _ = case
        _, gradients = evaluated
        vectors, positions = box.box_vectors, box.positions
        strain = np.array([[0.7, 0, 0], [0.2, -0.4, 0], [0.1, 0.3, 0.5]])
        moved = positions if scaled == "atoms" else molecule_centers(box)
        found = np.vdot(gradients[0], moved @ strain) + np.vdot(gradients[1], vectors @ strain)
        differences = []
        for step in (3e-8, 6e-8, 1e-7, 2e-7, 3e-7):
            up, down = (
                reference.energy(positions + sign * step * moved @ strain, vectors + sign * step * vectors @ strain)
                for sign in (1, -1)
            )
            differences.append((up - down) / (2 * step))
        reference.energy(positions, vectors)
        scale = abs(np.vdot(gradients[0], moved @ strain)) + abs(found)
        assert found == pytest.approx(np.median(differences), abs=3e-5 * scale)


@pytest.mark.slow
def test_protein_against_openmm():
    """T4 lysozyme in water, 24,000 atoms; stock openff-interchange takes most of the time."""
    box = boxes.solvated_lysozyme()
    force_field = box.load()
    reference = Reference(force_field.create_openmm_system(box.topology))
    system = box.system(force_field)
    energy, (gradient, slopes) = jax.value_and_grad(system.to_jax_potential(), argnums=(0, 1))(
        jnp.asarray(box.positions), system.force_field_parameters, None, system.neighbor_list()
    )
    assert float(energy) == pytest.approx(reference.energy(box.positions), rel=RELATIVE)
    forces = reference.forces(box.positions)
    assert np.abs(forces + np.asarray(gradient)).max() < 1e-9 * np.sqrt(np.mean(forces**2))
    assert np.isfinite(slopes.vector).all()


def molecule_centers(box: boxes.Box) -> np.ndarray:
    """For each atom the centre of its molecule."""
    centers, start = np.empty_like(box.positions), 0
    for molecule in box.topology.molecules:
        atoms = slice(start, start + molecule.n_atoms)
        centers[atoms] = box.positions[atoms].mean(axis=0)
        start += molecule.n_atoms
    return centers


SMALLER = {
    "amide with sites in water": lambda: boxes.ligand(
        "CC(=O)NCCCl", ("openff_unconstrained-2.2.1.offxml", VIRTUAL_SITES), 2.1
    ),
}
"""Boxes for derivatives alone."""

CLASSES = {
    "TIP5P": {
        "vdW": ["epsilon", "sigma"],
        "LibraryCharges": ["charge1"],
        "VirtualSites": ["distance", "outOfPlaneAngle", "charge_increment1", "charge_increment2"],
    },
    "imatinib in water": {
        "Angles": ["k", "angle"],
        "ProperTorsions": ["k1", "phase1"],
        "vdW": ["epsilon", "rmin_half", "sigma", "scale14"],
        "Electrostatics": ["scale14"],
        "LibraryCharges": ["charge1"],
    },
    "amide with sites in water": {
        "Bonds": ["k", "length"],
        "ImproperTorsions": ["k1"],
        "VirtualSites": ["distance", "inPlaneAngle", "outOfPlaneAngle", "charge_increment1", "epsilon", "rmin_half"],
    },
    "ligand in water, LJ-PME": {"vdW": ["epsilon", "rmin_half", "sigma", "scale14"], "LibraryCharges": ["charge1"]},
    "dipeptide in water, ff14SB": {
        "Bonds": ["k", "length"],
        "ProperTorsions": ["k1"],
        "vdW": ["epsilon", "sigma"],
        "LibraryCharges": ["charge1", "charge2"],
    },
}


@pytest.mark.parametrize("name", CLASSES)
def test_parameter_gradients_against_differences_of_openmm(name):
    """The largest derivative of every class; OpenMM gets the changed OFFXML through stock openff-interchange."""
    box = (BOXES | SMALLER)[name]()
    force_field = without_unused(box.load(), box.topology)
    system = box.system(force_field)
    theta = system.force_field_parameters
    gradient = jax.grad(system.to_jax_potential(), argnums=1)(
        jnp.asarray(box.positions), theta, None, system.neighbor_list()
    )
    vector = np.asarray(gradient.vector)
    for section, attributes in CLASSES[name].items():
        for attribute in attributes:
            column = theta.layout.column(section, attribute)
            position = column.start + int(np.argmax(np.abs(vector[column.slice])))
            assert vector[position], f"{section} {attribute} has no effect"
            component = theta.layout.components[position]
            # sites that move take pairs across the cutoff, where Coulomb energies end with a step
            step = 1e-7 if attribute in ("distance", "inPlaneAngle", "outOfPlaneAngle") else STEP
            difference = central_difference(
                force_field, component, column.attribute, box.topology, box.options, box.positions, step
            )
            # truncation: sigma^12 has a relative one of 144 STEP^2 / 6, and attraction cancels most of the derivative;
            # rounding: the energy carries 1e-16 of its largest part, about 1e5 kJ/mol
            rounding = 1e-10 / (step * abs(float(theta.vector[position])) or step)
            assert vector[position] == pytest.approx(difference, rel=2e-5, abs=rounding), f"{section} {attribute}"


def numbers(theta: ForceFieldParameters, *attributes: str) -> np.ndarray:
    """Positions in theta of attributes, in whichever sections have them."""
    labels = [label.rsplit("/", 1)[-1] for label in theta.labels]
    return np.array([i for i, name in enumerate(labels) if any(fnmatch(name, a) for a in attributes)], dtype=int)


def reaction_field() -> tuple:
    """TIP3P water with a reaction field: the box, our system and OpenMM's."""
    box = boxes.water("tip3p.offxml")
    interchange = ForceField("tip3p.offxml").create_interchange(box.topology)
    interchange["Electrostatics"].periodic_potential = "reaction-field"
    interchange.positions = Quantity(box.positions, "nanometer")
    return box, DiffSystem.from_interchange(interchange), interchange.to_openmm()


WATERS = ["TIP4P-FB", "OPC, LJ-PME", "reaction field"]
"""Boxes where all charges are parameters."""

of_waters = pytest.mark.parametrize("water", WATERS, indirect=True, scope="class")


class TestDerivatives:
    """Second derivatives and identities, with every treatment of what is far away, and with 1-4 pairs."""

    @pytest.fixture(scope="class", params=[*WATERS, "amide with sites in water"])
    @staticmethod
    def water(request):
        if request.param == "reaction field":
            box, system, _ = reaction_field()
        else:
            box = (BOXES | SMALLER)[request.param]()
            system = box.system()
        return system, system.to_jax_potential(), jnp.asarray(box.positions), system.neighbor_list()

    @pytest.fixture(scope="class")
    @staticmethod
    def gradient(water):
        """In positions, theta and the box: one program, whose differences several tests take."""
        _, potential, _, neighbors = water
        return jax.jit(lambda x, t, b: jax.grad(potential, argnums=(0, 1, 2))(x, t, b, neighbors))

    @of_waters
    def test_charges_scaled(self, water):
        """With Coulomb forces alone the sum of squared forces grows with the fourth power of the charges."""
        system, potential, positions, neighbors = water
        theta = system.force_field_parameters
        no_epsilon = theta.vector.at[numbers(theta, "epsilon", "k", "k1", "k2", "k3")].set(0.0)
        is_charge = jnp.zeros_like(no_epsilon).at[numbers(theta, "charge*")].set(1.0)

        def squared_forces(scale):
            vector = no_epsilon + no_epsilon * is_charge * (scale - 1.0)
            return jnp.sum(jax.grad(potential)(positions, vector, None, neighbors) ** 2)

        value, slope = jax.jit(jax.value_and_grad(squared_forces))(1.0)
        assert float(slope) == pytest.approx(4.0 * float(value), rel=1e-10)

    @of_waters
    def test_epsilons_scaled(self, water):
        """Lennard-Jones forces are linear in epsilon, so that their squared sum is quadratic in a common factor."""
        system, potential, positions, neighbors = water
        theta = system.force_field_parameters
        vector = theta.vector.at[numbers(theta, "charge*", "k", "k1", "k2", "k3")].set(0.0)
        is_epsilon = jnp.zeros_like(vector).at[numbers(theta, "epsilon")].set(1.0)

        def squared_forces(scale):
            scaled = vector + vector * is_epsilon * (scale - 1.0)
            return jnp.sum(jax.grad(potential)(positions, scaled, None, neighbors) ** 2)

        value, slope = jax.jit(jax.value_and_grad(squared_forces))(1.0)
        assert float(slope) == pytest.approx(2.0 * float(value), rel=1e-10)

    @pytest.mark.parametrize("mode", ["forward over reverse", "reverse over reverse"])
    def test_force_matching(self, water, gradient, mode):
        """Gradients of a loss on forces against differences of that loss, for every force-field parameter at once."""
        system, potential, positions, neighbors = water
        theta, box = system.force_field_parameters.vector, jnp.asarray(system.box_vectors)
        rng = np.random.default_rng(0)
        used = np.asarray(gradient(positions, theta, box)[1]) != 0
        direction = jnp.asarray(rng.normal(size=theta.shape) * np.abs(theta) * used)

        def loss(vector):
            forces = jax.grad(potential)(positions, vector, None, neighbors)
            return jnp.sum(forces**2)

        if mode == "forward over reverse":
            found = jax.jit(lambda vector: jax.jvp(loss, (vector,), (direction,))[1])(theta)
        else:
            found = jnp.vdot(jax.jit(jax.grad(loss))(theta), direction)
        step = 1e-5
        up, down = (jnp.sum(gradient(positions, theta + sign * step * direction, box)[0] ** 2) for sign in (1, -1))
        expected = (up - down) / (2 * step)
        assert float(found) == pytest.approx(float(expected), rel=1e-7)

    def test_hessian_product_in_all_arguments(self, water, gradient):
        system, _, positions, _ = water
        theta, box = system.force_field_parameters.vector, jnp.asarray(system.box_vectors)
        rng = np.random.default_rng(1)
        at = (positions, theta, box)
        along = (
            jnp.asarray(rng.normal(size=positions.shape)) * 0.01,
            jnp.asarray(rng.normal(size=theta.shape)) * jnp.abs(theta) * 0.01,
            jnp.asarray(np.tril(rng.normal(size=(3, 3)))) * 0.01,
        )
        product = jax.jvp(gradient, at, along)[1]
        # so small that no pair crosses the cutoff, where Coulomb forces end with a step
        step = 1e-5
        up, down = (gradient(*(a + sign * step * v for a, v in zip(at, along, strict=True))) for sign in (1, -1))
        for found, above, below in zip(product, up, down, strict=True):
            assert np.isfinite(found).all()
            scale = float(jnp.abs(found).max())
            np.testing.assert_allclose(found, (above - below) / (2 * step), atol=2e-6 * scale)

    def test_long_range_correction_depends_on_epsilon(self, water):
        """A correction that is treated as a constant leaves dE/d(ln epsilon) 3 percent off."""
        system, potential, positions, neighbors = water
        theta = system.force_field_parameters
        is_epsilon = jnp.zeros_like(theta.vector).at[numbers(theta, "epsilon")].set(1.0)

        def energy(log_factor):
            vector = theta.vector * jnp.exp(log_factor * is_epsilon)
            return potential(positions, vector, None, neighbors)

        terms = system.energy_terms()
        # the Lennard-Jones energy is linear in epsilon
        assert float(jax.grad(energy)(0.0)) == pytest.approx(float(terms["vdW"]), rel=1e-9)


@pytest.mark.filterwarnings("ignore:charge_from_molecules", "ignore:Preset charges")
def test_constraints_are_those_of_openmm(case):
    _, reference, system = case
    expected = {}
    for k in range(reference.system.getNumConstraints()):
        a, b, distance = reference.system.getConstraintParameters(k)
        expected[tuple(sorted((a, b)))] = distance._value
    pairs, distances = system.constraints()
    found = {tuple(sorted(pair)): d for pair, d in zip(pairs.tolist(), distances.tolist(), strict=True)}
    assert found == pytest.approx(expected, rel=1e-12)


def test_reaction_field_against_openmm():
    box, system, openmm_system = reaction_field()
    reference = Reference(openmm_system)
    energy, gradient = jax.value_and_grad(system.to_jax_potential())(
        jnp.asarray(box.positions), system.force_field_parameters, None, system.neighbor_list()
    )
    assert float(energy) == pytest.approx(reference.energy(box.positions), rel=RELATIVE)
    forces = reference.forces(box.positions)
    assert np.abs(forces + np.asarray(gradient)).max() < 1e-9 * np.sqrt(np.mean(forces**2))


def test_net_charge_against_openmm():
    """OpenMM adds the energy of the uniform background that neutralises a net charge."""
    edge = 2.0 * np.eye(3)
    sodium = boxes.with_charges("[Na+]", conformer=False)
    topology, positions = boxes.solvate([(sodium, np.array([[0.5, 0.5, 0.5]]))], edge)
    box = boxes.Box(("openff-2.2.1.offxml",), topology, positions)
    system = box.system()
    reference = Reference(ForceField("openff-2.2.1.offxml").create_openmm_system(topology))
    energy = system.to_jax_potential()(positions, system.force_field_parameters)
    assert float(energy) == pytest.approx(reference.energy(positions), rel=RELATIVE)


def test_plain_ewald_is_the_limit_of_the_mesh():
    from openff_diffsystem.potentials.periodic.pme import reciprocal_energy
    from openff_diffsystem.potentials.periodic.scheme import mesh_points, splitting
    from tests.plain_ewald import ewald_reciprocal_energy

    box = boxes.water("tip3p.offxml", 1.9, triclinic=True)
    vectors = jnp.asarray(box.box_vectors)
    charges = jnp.asarray(np.tile([-0.834, 0.417, 0.417], len(box.positions) // 3))
    alpha = splitting(0.9, 1e-4)
    exact = ewald_reciprocal_energy(jnp.asarray(box.positions), charges, vectors, alpha, 10)
    self_energy = COULOMB * alpha / np.sqrt(np.pi) * float(charges @ charges)
    errors = []
    for tolerance in (1e-4, 1e-7):
        mesh = mesh_points(box.box_vectors, alpha, tolerance)
        found = reciprocal_energy(jnp.asarray(box.positions), charges, vectors, alpha, mesh)
        errors.append(abs(float(found - exact)) / abs(float(exact) - self_energy))
    assert errors[0] < 1e-5 and errors[1] < 1e-8


def test_single_precision():
    """Within 1e-6 of the self-energy of the charges, the largest part of the sum; forces within 1e-3 of their rms."""
    box = boxes.ligand()
    system = box.system()
    theta = system.force_field_parameters.vector
    neighbors = system.neighbor_list()
    potential = system.to_jax_potential()
    single = jax.tree.map(lambda a: a.astype(jnp.float32) if a.dtype == jnp.float64 else a, neighbors)
    evaluate = jax.value_and_grad(potential)
    expected, gradient = evaluate(jnp.asarray(box.positions), theta, jnp.asarray(system.box_vectors), neighbors)
    found, low = evaluate(
        jnp.asarray(box.positions, jnp.float32),
        theta.astype(jnp.float32),
        jnp.asarray(system.box_vectors, jnp.float32),
        single,
    )
    assert found.dtype == jnp.float32 and low.dtype == jnp.float32
    charges = np.asarray(system.parameterize()["Electrostatics"])
    self_energy = COULOMB * neighbors.scheme.alpha / np.sqrt(np.pi) * np.sum(charges**2)
    assert abs(float(found) - float(expected)) < 1e-6 * self_energy
    rms = float(jnp.sqrt(jnp.mean(gradient**2)))
    assert float(jnp.abs(low - gradient).max()) < 1e-3 * rms


@pytest.mark.slow
def test_single_precision_of_a_large_box():
    """15,000 atoms: the energy within 1e-7 of the self-energy of the charges, forces within 1e-4 of their rms.

    A sum of equal charges one by one is wrong by 1e-4. The oxygens are on a lattice, where they have a few distances
    only, whose rounding errors add up.
    """
    box = boxes.water("tip3p.offxml", 5.29)
    system = box.system()
    neighbors = system.neighbor_list()
    evaluate = jax.jit(jax.value_and_grad(system.to_jax_potential(), argnums=(0, 1)))
    arguments = (jnp.asarray(box.positions), system.force_field_parameters.vector, jnp.asarray(system.box_vectors))
    expected, gradients = evaluate(*arguments, neighbors)
    found, low = evaluate(
        *jax.tree.map(lambda a: a.astype(jnp.float32) if a.dtype == jnp.float64 else a, (*arguments, neighbors))
    )
    charges = np.asarray(system.parameterize()["Electrostatics"])
    self_energy = COULOMB * neighbors.scheme.alpha / np.sqrt(np.pi) * np.sum(charges**2)
    deviation = abs(float(found) - float(expected)) / self_energy
    forces = float(jnp.abs(low[0] - gradients[0]).max() / jnp.sqrt(jnp.mean(gradients[0] ** 2)))
    theta = float(jnp.abs(low[1] - gradients[1]).max() / jnp.abs(gradients[1]).max())
    print(f"{system.n_particles} particles, single precision: {deviation:.1e}, forces {forces:.1e}, theta {theta:.1e}")
    assert deviation < 1e-7 and forces < 1e-4 and theta < 1e-4


def test_theta_goes_back_to_offxml_and_gives_the_same_energy():
    """Changed parameters through stock openff-interchange and OpenMM."""
    box = boxes.water("opc.offxml")
    force_field = ForceField("opc.offxml")
    system = box.system(force_field)
    theta = system.force_field_parameters
    numbers = np.concatenate(
        [theta.select(*which).selection.positions for which in (("vdW", "epsilon"), ("VirtualSites", "distance"))]
    )
    changed = ForceFieldParameters(theta.vector.at[numbers].multiply(1.001), theta.layout)
    energy = system.to_jax_potential()(box.positions, changed)
    refit = changed.to_force_field(copy.deepcopy(force_field))
    reference = Reference(refit.create_openmm_system(box.topology, allow_nonintegral_charges=True))
    assert float(energy) == pytest.approx(reference.energy(box.positions), rel=RELATIVE)
