"""DiffSystem: transforms, the parameter matrix, copies, files, and what it refuses."""

from __future__ import annotations

import copy

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from openff.toolkit import ForceField, Molecule, Quantity, Topology

from openff_diffsystem import DiffSystem, ForceFieldParameters
from openff_diffsystem.exceptions import (
    BoxError,
    ChargeAssignmentError,
    CorruptFileError,
    InvalidInputError,
    ParameterMismatchError,
    PositionsError,
    UnassignedParameterError,
    UnsupportedForceFieldError,
    UnsupportedInputError,
)
from tests.force_fields import BOND_ORDERS, CHARGE_INCREMENTS, SITE_MOLECULE, VIRTUAL_SITES
from tests.handlers.test_handlers import with_bond_orders
from tests.interchange_reference import assert_same_parameters
from tests.molecules import with_charges


@pytest.fixture(scope="module")
def ethanol(sage):
    molecule = with_charges("CCO")
    return DiffSystem.from_smirnoff(sage, molecule, charge_from_molecules=[molecule])


def test_transforms(ethanol):
    theta = ethanol.force_field_parameters
    vector = theta.vector

    def values(t):
        return ethanol.parameterize(t).values

    out, pullback = jax.vjp(values, vector)
    tangent = jnp.asarray(np.random.default_rng(0).normal(size=vector.shape))
    cotangent = jnp.asarray(np.random.default_rng(1).normal(size=out.shape))
    pushed = jax.jvp(values, (vector,), (tangent,))[1]
    assert jnp.vdot(cotangent, pushed) == pytest.approx(float(jnp.vdot(pullback(cotangent)[0], tangent)), rel=1e-12)
    stacked = jnp.stack([vector, 2 * vector, 3 * vector])
    assert jax.vmap(values)(stacked).shape == (3, out.size)
    assert jax.vmap(lambda t: ethanol.parameterize(t)["Bonds"])(stacked).shape == (3, 8, 2)
    chosen = theta.select("Bonds", "k")
    hessian = jax.hessian(lambda v: jnp.sum(ethanol.parameterize(chosen.replace(v))["Bonds"][:, 0] ** 2))(chosen.vector)
    counts = np.asarray(jax.jacobian(lambda v: ethanol.parameterize(chosen.replace(v))["Bonds"][:, 0])(chosen.vector))
    np.testing.assert_allclose(hessian, 2 * counts.T @ counts)
    np.testing.assert_array_equal(jax.jit(values)(theta), values(vector))


def test_whole_selected_and_flat_are_the_same(ethanol):
    theta = ethanol.force_field_parameters
    expected = ethanol.parameterize().values
    for stand_in in (
        theta,
        theta.select("Bonds"),
        theta.vector,
        np.asarray(theta.vector),
        theta.to_vector()[0],
    ):
        np.testing.assert_array_equal(ethanol.parameterize(stand_in).values, expected)
    with pytest.raises(ParameterMismatchError, match="1290"):
        ethanol.parameterize(theta.vector[:-1])
    other = ForceFieldParameters.from_force_field(ForceField("openff-2.0.0.offxml"))
    with pytest.raises(ParameterMismatchError, match="another force field"):
        ethanol.parameterize(other)


def test_refit_parameters_of_an_equal_layout_fit(ethanol, sage):
    refit = ethanol.force_field_parameters.to_vector()[1](ethanol.force_field_parameters.vector * 1.01)
    reread = ForceFieldParameters.from_force_field(sage)
    assert ethanol.parameterize(reread).values.shape == ethanol.parameterize(refit).values.shape


def test_parameter_matrix(ethanol):
    theta = np.asarray(ethanol.force_field_parameters.vector)
    for section in ethanol.sections:
        assignment = ethanol.assignment(section)
        matrix = assignment.to_matrix()
        assert matrix.shape[1] == theta.size
        product = matrix @ theta + assignment.offset
        np.testing.assert_allclose(product, np.asarray(ethanol.parameterize()[section]).ravel(), rtol=1e-12, atol=1e-15)
        rows, columns = assignment.indices
        np.testing.assert_array_equal(matrix[rows, columns], assignment.weights)
        assert rows.dtype == columns.dtype == np.int32
    with pytest.raises(ParameterMismatchError, match="no section 'Bond'"):
        ethanol.assignment("Bond")


def test_both_precisions(sage):
    molecule = with_charges("CCO")
    with jax.enable_x64(False):
        system = DiffSystem.from_smirnoff(sage, molecule, charge_from_molecules=[molecule])
        parameters = system.parameterize()
        assert parameters.values.dtype == jnp.float32
        energy = system.to_jax_potential()(system.positions, system.force_field_parameters)
        assert energy.dtype == jnp.float32
    double = DiffSystem.from_smirnoff(sage, molecule, charge_from_molecules=[molecule])
    np.testing.assert_allclose(parameters.values, double.parameterize().values, rtol=1e-6)


def test_copies(sage):
    water = with_charges("O")
    box = DiffSystem.from_smirnoff(sage, Topology.from_molecules([water] * 50))
    assert box.molecules[0][1] == 50
    one = DiffSystem.from_smirnoff(sage, water)
    assert box.assignment_map.source.size == one.assignment_map.source.size
    parameters = box.parameterize()
    np.testing.assert_array_equal(parameters["vdW"].reshape(50, 3, 2)[7], parameters["vdW"][:3])
    gradient = jax.grad(lambda t: jnp.sum(box.parameterize(t)["Electrostatics"] ** 2))(box.force_field_parameters)
    expected = jax.grad(lambda t: jnp.sum(one.parameterize(t)["Electrostatics"] ** 2))(box.force_field_parameters)
    np.testing.assert_allclose(gradient.vector, 50 * expected.vector, rtol=1e-12)


def test_charge_increments():
    """Increments on formal charges, an implied last one, and their derivatives."""
    force_field = ForceField("openff-2.2.1.offxml", CHARGE_INCREMENTS)
    molecule = with_charges("CCO")
    system = DiffSystem.from_smirnoff(force_field, molecule)
    theta = system.force_field_parameters
    charges = np.asarray(system.parameterize()["Electrostatics"][:, 0])
    assert charges.sum() == pytest.approx(0, abs=1e-12)
    # CH3, CH2 next to O, O, H on C, H on O
    np.testing.assert_allclose(charges[[0, 1, 2, 3, 8]], [-0.3, -0.2 + 0.2, -0.2 - 0.35, 0.1, 0.35], atol=1e-12)
    implied = theta.layout.labels.index("ChargeIncrementModel/[#8:1]-[#1:2]/charge_increment1")
    jacobian = jax.jacobian(lambda t: system.parameterize(t)["Electrostatics"][:, 0])(theta.vector)[:, implied]
    np.testing.assert_array_equal(jacobian, [0, 0, 1, 0, 0, 0, 0, 0, -1])
    # stock comes last: it writes the implied increment into the force field
    assert_same_parameters(system, force_field.create_interchange(molecule.to_topology()))


def test_bond_orders_against_stock():
    force_field = ForceField(BOND_ORDERS)
    molecule = with_bond_orders("c1ccccc1C(=O)N")
    given = {"partial_bond_orders_from_molecules": [molecule]}
    interchange = force_field.create_interchange(molecule.to_topology(), **given)
    system = DiffSystem.from_smirnoff(force_field, molecule, **given)
    compared = assert_same_parameters(system, interchange)
    assert compared["ProperTorsions"] > 20
    assert len(system.assignment_map.further_row) > 10


@pytest.mark.am1bcc
def test_bond_orders_computed():
    force_field = ForceField(BOND_ORDERS)
    molecule = Molecule.from_smiles("C=C")
    system = DiffSystem.from_smirnoff(force_field, molecule)
    # two runs of sqm on one conformer agree to the digits that it prints, not to the last bit
    assert_same_parameters(system, force_field.create_interchange(molecule.to_topology()), relative=1e-6)


def test_bond_orders_missing():
    force_field = ForceField(BOND_ORDERS)
    with pytest.raises(UnassignedParameterError, match="no fractional bond order"):
        DiffSystem.from_smirnoff(
            force_field, with_charges("C=C"), partial_bond_orders_from_molecules=[with_charges("C=C")]
        )


def test_interpolation_beyond_two_points():
    """Piecewise linear between points and extrapolated outside, against the toolkit's own function."""
    from openff.toolkit.typing.engines.smirnoff.parameters import _linear_inter_or_extrapolate

    from openff_diffsystem.chemistry.bond_orders import interpolation_weights

    points = {1: 3.0, 2: 5.0, 3: 4.0}
    for bond_order in (0.7, 1.0, 1.3, 2.0, 2.9, 3.4):
        weights = interpolation_weights(points, bond_order)
        found = sum(weight * points[key] for key, weight in weights.items())
        assert found == pytest.approx(_linear_inter_or_extrapolate(points, bond_order), rel=1e-12)


def test_preset_charges_follow_the_atom_map(sage):
    molecule = with_charges("CC(=O)[O-]")
    order = {i: (i + 3) % molecule.n_atoms for i in range(molecule.n_atoms)}
    reordered = molecule.remap(order)
    system = DiffSystem.from_smirnoff(sage, reordered, charge_from_molecules=[molecule])
    expected = reordered.partial_charges.m
    np.testing.assert_allclose(system.parameterize()["Electrostatics"][:, 0], expected, atol=1e-12)


def test_nonintegral_charges(sage):
    molecule = copy.deepcopy(with_charges("CCO"))
    molecule.partial_charges = Quantity(molecule.partial_charges.m + 0.05, "elementary_charge")
    with pytest.raises(ChargeAssignmentError, match=r"0\.4500 e but a formal charge of 0"):
        DiffSystem.from_smirnoff(sage, molecule, charge_from_molecules=[molecule])
    DiffSystem.from_smirnoff(sage, molecule, charge_from_molecules=[molecule], allow_nonintegral_charges=True)


@pytest.mark.parametrize("positions_and_box", [False, True])
def test_save_and_load(tmp_path, sage, positions_and_box):
    force_field = ForceField("openff-2.2.1.offxml", VIRTUAL_SITES)
    sites, water = with_charges(SITE_MOLECULE), with_charges("O")
    topology = Topology.from_molecules([water, sites, water])
    options = {"box": Quantity(np.eye(3) * 4, "nanometer")} if positions_and_box else {}
    with pytest.warns(UserWarning):
        system = DiffSystem.from_smirnoff(force_field, topology, charge_from_molecules=[sites], **options)
    system.save(tmp_path / "system.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["system.npz"]
    loaded = DiffSystem.load(tmp_path / "system.npz")
    assert loaded.system_layout == system.system_layout and loaded.parameter_layout == system.parameter_layout
    np.testing.assert_array_equal(loaded.parameterize().values, system.parameterize().values)
    for section in system.sections:
        np.testing.assert_array_equal(loaded.indices(section), system.indices(section))
    assert loaded.molecules == system.molecules
    assert (loaded.box_vectors is None) != positions_and_box
    assert float(loaded.energy_terms()["Bonds"]) == float(system.energy_terms()["Bonds"])
    loaded.force_field_parameters.to_force_field(force_field)


def test_corrupt_files(tmp_path, ethanol):
    path = tmp_path / "system.npz"
    ethanol.save(path)
    whole = path.read_bytes()
    for content in (b"", b"nonsense", whole[: len(whole) // 2], whole[:200] + b"\0" * 200 + whole[400:]):
        path.write_bytes(content)
        with pytest.raises(CorruptFileError, match=r"system\.npz"):
            DiffSystem.load(path)
    np.savez(path, something=np.zeros(3))
    with pytest.raises(CorruptFileError, match="not written by openff_diffsystem"):
        DiffSystem.load(path)
    with pytest.raises(FileNotFoundError):
        DiffSystem.load(tmp_path / "missing.npz")


def test_refused_input(sage):
    molecule = with_charges("CCO")
    for wrong, error, culprit in (
        ("CCO", UnsupportedInputError, "str"),
        ([], InvalidInputError, "no molecule"),
        ([1], UnsupportedInputError, "int"),
    ):
        with pytest.raises(error, match=culprit):
            DiffSystem.from_smirnoff(sage, wrong)
    with pytest.raises(InvalidInputError, match="CCO in charge_from_molecules has no partial charges"):
        DiffSystem.from_smirnoff(sage, molecule, charge_from_molecules=[Molecule.from_smiles("CCO")])
    with pytest.raises(InvalidInputError, match="charge_from_molecules holds CCO twice"):
        DiffSystem.from_smirnoff(sage, molecule, charge_from_molecules=[molecule, Molecule(molecule)])
    with pytest.raises(PositionsError, match=r"\(9, 3\)"):
        DiffSystem.from_smirnoff(sage, molecule, positions=np.zeros((8, 3)), charge_from_molecules=[molecule])
    with pytest.raises(BoxError, match="box vectors"):
        DiffSystem.from_smirnoff(sage, molecule, box=np.zeros((2, 3)), charge_from_molecules=[molecule])


def test_refused_force_fields(sage):
    from openff.toolkit.typing.engines.smirnoff.parameters import ParameterHandler

    class Unknown(ParameterHandler):
        _TAGNAME = "Buckingham"

    force_field = copy.deepcopy(sage)
    force_field.register_parameter_handler(Unknown(version=0.3))
    with pytest.raises(UnsupportedForceFieldError, match="Buckingham"):
        DiffSystem.from_smirnoff(force_field, with_charges("CCO"))
    sites = ForceField("openff-2.2.1.offxml", VIRTUAL_SITES)
    sites["VirtualSites"].exclusion_policy = "all"
    with pytest.warns(UserWarning), pytest.raises(UnsupportedForceFieldError, match="exclusion_policy 'all'"):
        DiffSystem.from_smirnoff(sites, with_charges("CCO"), charge_from_molecules=[with_charges("CCO")])
    no_electrostatics = copy.deepcopy(sage)
    no_electrostatics.deregister_parameter_handler("Electrostatics")
    with pytest.raises(UnsupportedForceFieldError, match="no Electrostatics"):
        DiffSystem.from_smirnoff(no_electrostatics, with_charges("CCO"))


def test_ambiguous_virtual_sites_are_refused():
    """openff-interchange would take the first parameter where the last one matched."""
    other = VIRTUAL_SITES.replace('distance="0.8 * angstrom"', 'distance="0.9 * angstrom"')
    force_field = ForceField("openff-2.2.1.offxml", VIRTUAL_SITES, other)
    molecule = with_charges("CCl")
    with pytest.warns(UserWarning), pytest.raises(UnsupportedForceFieldError, match=r"\[#17:1\]-\[#6:2\]"):
        DiffSystem.from_smirnoff(force_field, molecule, charge_from_molecules=[molecule])
