"""The handlers, as timemachine calls them: params, parameterize and its vjp, for one molecule."""

from __future__ import annotations

import copy

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from openff.toolkit import ForceField, Molecule, Topology
from rdkit import Chem

from openff_diffsystem import DiffSystem, ForceFieldParameters
from openff_diffsystem.chemistry import matching
from openff_diffsystem.exceptions import (
    ChargeAssignmentError,
    DiffSystemError,
    InvalidInputError,
    ParameterMismatchError,
    UnassignedParameterError,
    UnsupportedInputError,
)
from openff_diffsystem.handlers import HANDLERS
from tests.force_fields import BOND_ORDERS, CHARGE_INCREMENTS, SITE_MOLECULE, VIRTUAL_SITES
from tests.molecules import IMATINIB, with_charges

VALENCE = ("Bonds", "Angles", "ProperTorsions", "ImproperTorsions")


def with_bond_orders(smiles: str) -> Molecule:
    """A molecule with made-up fractional bond orders between 1 and 2."""
    molecule = copy.deepcopy(with_charges(smiles))
    for i, bond in enumerate(molecule.bonds):
        bond.fractional_bond_order = 1.05 + 0.07 * (i % 11)
    return molecule


def water(name: str) -> ForceField:
    return ForceField(name, load_plugins=True)


def cases():
    """Every handler class with a force field, a molecule and options that exercise it."""
    sage = ("openff-2.2.1.offxml",)
    for tag in (*VALENCE, "vdW", "Electrostatics"):
        yield pytest.param(sage, tag, IMATINIB, id=tag)
    yield pytest.param(sage, "LibraryCharges", "O", id="LibraryCharges")
    yield pytest.param(sage, "Constraints", "O", id="Constraints")
    yield pytest.param((CHARGE_INCREMENTS,), "ChargeIncrementModel", "CCO", id="ChargeIncrementModel")
    yield pytest.param((*sage, VIRTUAL_SITES), "VirtualSites", SITE_MOLECULE, id="VirtualSites")
    yield pytest.param(("GBSA",), "GBSA", "CCO", id="GBSA")


def load(sources: tuple[str, ...]) -> ForceField:
    from openff.toolkit.utils import get_data_file_path

    files = [get_data_file_path("test_forcefields/GBSA_OBC2-1.0.offxml") if s == "GBSA" else s for s in sources]
    return ForceField(*files, load_plugins=True)


@pytest.mark.parametrize(("sources", "tag", "smiles"), list(cases()))
def test_parameterize_and_derivatives(sources, tag, smiles):
    handler, molecule = load(sources)[tag], with_charges(smiles)
    params, idxs = handler.parameterize(molecule)
    assert params.shape[0] == idxs.shape[0] > 0 and params.ndim == 2
    assert idxs.dtype == np.int32 and idxs.flags.c_contiguous and isinstance(idxs, np.ndarray)
    assert handler.params.shape == (len(handler.param_names),) == (len(handler.param_units),)

    def partial(p):
        return handler.partial_parameterize(p, molecule)

    out, pullback, aux = jax.vjp(partial, handler.params, has_aux=True)
    np.testing.assert_allclose(out, params, rtol=1e-15)
    np.testing.assert_array_equal(aux, idxs)
    cotangent = np.random.default_rng(0).normal(size=out.shape)
    (gradient,) = pullback(jnp.asarray(cotangent))
    # the map is affine, so its derivative is exact: <c, J v> = <J^T c, v>
    direction = np.random.default_rng(1).normal(size=handler.params.shape)
    moved, _ = handler.partial_parameterize(np.asarray(handler.params) + direction, molecule)
    assert np.vdot(cotangent, np.asarray(moved) - np.asarray(out)) == pytest.approx(
        np.vdot(gradient, direction), rel=1e-9
    )
    jitted = jax.jit(lambda p: partial(p)[0])
    np.testing.assert_allclose(jitted(handler.params), params, rtol=1e-15)
    assert jax.jvp(lambda p: partial(p)[0], (handler.params,), (jnp.asarray(direction),))[1].shape == out.shape


@pytest.mark.parametrize("tag", [*VALENCE, "vdW", "Electrostatics"])
def test_same_as_the_system(sage, tag):
    molecule = with_charges(IMATINIB)
    system = DiffSystem.from_smirnoff(sage, molecule, charge_from_molecules=[molecule])
    params, idxs = sage[tag].parameterize(molecule)
    if tag == "Electrostatics":
        assert np.all(params == system.parameterize().setting(tag, "scale14"))
        np.testing.assert_array_equal(idxs, system.pairs_14)
    else:
        np.testing.assert_allclose(params, system.parameterize()[tag], rtol=1e-15)
        np.testing.assert_array_equal(idxs, system.indices(tag))


def test_params_is_the_section_of_theta(sage):
    theta = ForceFieldParameters.from_force_field(sage)
    for tag in sage.registered_parameter_handlers:
        section = theta.layout.sections[tag]
        np.testing.assert_array_equal(sage[tag].params, theta.vector[section.slice])
        assert sage[tag].param_names == tuple(label.split("/", 1)[1] for label in theta.labels[section.slice])
        assert sage[tag].smirks == section.smirks


def test_setting_params_updates_the_handler(sage):
    force_field = copy.deepcopy(sage)
    bonds = force_field["Bonds"]
    bonds.params = bonds.params.at[bonds.param_names.index("b1/length")].set(0.2)
    assert bonds.parameters[0].length.m_as("nanometer") == pytest.approx(0.2)
    assert bonds.parameters[1].length == sage["Bonds"].parameters[1].length
    with pytest.raises(ParameterMismatchError, match="180"):
        bonds.params = np.zeros(3)


@pytest.mark.parametrize("kind", ["molecule", "topology", "rdkit"])
def test_kinds_of_molecules(sage, kind):
    molecule = with_charges("CCO")
    entity = {"molecule": molecule, "topology": molecule.to_topology(), "rdkit": molecule.to_rdkit()}[kind]
    params, idxs = sage["Bonds"].parameterize(entity)
    expected, _ = sage["Bonds"].parameterize(molecule)
    np.testing.assert_array_equal(params, expected)
    assert idxs.shape == (8, 2)


def test_refused_molecules(sage):
    with pytest.raises(InvalidInputError, match=r"atom 0 \(C\) has implicit hydrogens"):
        sage["Bonds"].parameterize(Chem.MolFromSmiles("CCO"))
    with pytest.raises(InvalidInputError, match="this topology has 2"):
        sage["Bonds"].parameterize(Topology.from_molecules([with_charges("O")] * 2))
    with pytest.raises(UnsupportedInputError, match="str"):
        sage["Bonds"].parameterize("CCO")
    with pytest.raises(UnsupportedInputError, match="no option bonds"):
        sage["Angles"].parameterize(with_charges("CCO"), bonds=sage["Bonds"])
    with pytest.raises(ParameterMismatchError, match="must have shape"):
        sage["Bonds"].partial_parameterize(np.zeros(3), with_charges("CCO"))


def test_empty_results(sage):
    atom = Molecule.from_smiles("[Na+]")
    for tag, width, arity in (
        ("Bonds", 2, 2),
        ("Angles", 2, 3),
        ("ProperTorsions", 3, 4),
        ("ImproperTorsions", 3, 4),
    ):
        params, idxs = sage[tag].parameterize(atom)
        assert params.shape == (0, width) and idxs.shape == (0, arity) and idxs.dtype == np.int32
        assert not np.any(
            jax.grad(lambda p, tag=tag: sage[tag].partial_parameterize(p, atom)[0].sum())(sage[tag].params)
        )


@pytest.mark.parametrize(
    ("tag", "culprit"),
    [
        ("Bonds", r"0\(C C\)-1\(C C\)"), ("Angles", r"1\(C C\)-0\(C C\)-3\(H H\)"), ("ProperTorsions", r"1\(C C\)"),
        ("vdW", r"0\(C C\)"), ("LibraryCharges", "every atom"),
    ],
)  # fmt: skip
def test_unassigned_terms_are_named(sage, tag, culprit):
    force_field = copy.deepcopy(sage)
    handler = force_field[tag]
    handler.parameters[:] = [p for p in handler.parameters if "#8" in p.smirks.split("]")[0]]
    with pytest.raises(UnassignedParameterError, match=culprit):
        handler.parameterize(with_charges("CCO"))


def test_a_sentinel_gets_exactly_zero_gradient(sage):
    """A pattern that matches nothing must not change a bit."""
    force_field = copy.deepcopy(sage)
    molecule = with_charges("CCO")
    for tag in ("Bonds", "Angles", "ProperTorsions", "vdW"):
        sentinel = copy.deepcopy(force_field[tag].parameters[0])
        sentinel.smirks = {"Bonds": "[#92:1]~[#92:2]", "Angles": "[#92:1]~[#92:2]~[#92:3]"}.get(tag) or {
            "ProperTorsions": "[#92:1]~[#92:2]~[#92:3]~[#92:4]", "vdW": "[#92:1]"
        }[tag]  # fmt: skip
        sentinel.id = "sentinel"
        force_field[tag].parameters.append(sentinel)
        handler = force_field[tag]
        gradient = jax.grad(lambda p, h=handler: jnp.sum(h.partial_parameterize(p, molecule)[0] ** 2))(handler.params)
        mine = [i for i, name in enumerate(handler.param_names) if name.startswith("sentinel/")]
        assert mine and not np.any(gradient[np.array(mine)])
        assert np.any(gradient)


def test_matching_is_cached_by_content_not_by_value(sage, monkeypatch):
    force_field = copy.deepcopy(sage)
    bonds, molecule = force_field["Bonds"], Molecule.from_smiles("CCO")
    calls = []
    search = matching._all_atoms
    monkeypatch.setattr(matching, "_all_atoms", lambda *arguments: calls.append(1) or search(*arguments))
    bonds.parameterize(molecule)
    count = len(calls)
    assert count > 0
    bonds.parameters[5].k = bonds.parameters[5].k * 3
    bonds.parameterize(Molecule(molecule))
    assert len(calls) == count, "a changed number must not match again"
    bonds.parameters[0].smirks = "[#6:1]-[#6X4:2]"
    bonds.parameterize(molecule)
    assert len(calls) > count, "a changed SMIRKS must match again"
    again = len(calls)
    bonds.parameterize(Molecule.from_smiles("CCC"))
    assert len(calls) > again, "another molecule must match again"


def test_constraints_take_lengths_from_bonds(sage):
    molecule = with_charges("CCO")
    with pytest.raises(UnassignedParameterError, match="bonds=force_field"):
        sage["Constraints"].parameterize(molecule)
    params, idxs = sage["Constraints"].parameterize(molecule, bonds=sage["Bonds"])
    system = DiffSystem.from_smirnoff(sage, molecule, charge_from_molecules=[molecule])
    np.testing.assert_allclose(params, system.parameterize()["Constraints"], rtol=1e-15)
    np.testing.assert_array_equal(idxs, system.indices("Constraints"))


def test_interpolated_parameters_are_linear_in_theta():
    force_field = ForceField(BOND_ORDERS, load_plugins=True)
    molecule = with_bond_orders("c1ccccc1C(=O)N")
    given = {"partial_bond_orders_from_molecules": [molecule]}
    params, idxs = force_field["Bonds"].parameterize(molecule, **given)
    rows = {tuple(atoms): row for atoms, row in zip(idxs.tolist(), np.asarray(params), strict=True)}
    parameter = force_field["Bonds"].parameters[1]
    low, high = (parameter.k_bondorder[n].m_as("kilojoule/mole/nanometer**2") for n in (1, 2))
    checked = 0
    for bond in molecule.bonds:
        if {bond.atom1.atomic_number, bond.atom2.atomic_number} == {6}:
            fraction = bond.fractional_bond_order - 1
            expected = low + (high - low) * fraction
            assert rows[tuple(sorted((bond.atom1_index, bond.atom2_index)))][0] == pytest.approx(expected, rel=1e-12)
            checked += 1
    assert checked == 7
    with pytest.raises(DiffSystemError, match="twice"):
        DiffSystem.from_smirnoff(
            force_field, molecule, partial_bond_orders_from_molecules=[molecule, Molecule(molecule)]
        )


@pytest.mark.am1bcc
def test_am1bcc_charges_are_constants(sage):
    molecule = Molecule.from_smiles("CO")
    params, _ = sage["ToolkitAM1BCC"].parameterize(molecule)
    np.testing.assert_allclose(params[:, 0], sage.get_partial_charges(molecule).m, atol=1e-12)
    assert sage["ToolkitAM1BCC"].params.shape == (0,)
    out, pullback, _ = jax.vjp(
        lambda p: sage["ToolkitAM1BCC"].partial_parameterize(p, molecule),
        sage["ToolkitAM1BCC"].params,
        has_aux=True,
    )
    assert pullback(out)[0].shape == (0,)


@pytest.mark.nagl
def test_nagl_charges_are_constants():
    pytest.importorskip("openff.nagl")
    force_field = ForceField("openff-2.3.0.offxml", load_plugins=True)
    molecule = Molecule.from_smiles("CCO")
    params, _ = force_field["NAGLCharges"].parameterize(molecule)
    np.testing.assert_allclose(params[:, 0], force_field.get_partial_charges(molecule).m, atol=1e-12)


def test_charges_that_no_toolkit_can_compute(sage, monkeypatch):
    from openff_diffsystem.chemistry.charges import models

    class Empty:
        def call(self, *_, **__):
            raise ValueError("no toolkit")

    monkeypatch.setattr(models, "GLOBAL_TOOLKIT_REGISTRY", Empty())
    with pytest.raises(ChargeAssignmentError, match=r"CCCCO.*am1bcc.*no toolkit.*openff-diffsystem\[charges\]"):
        sage["ToolkitAM1BCC"].parameterize(Molecule.from_smiles("CCCCO"))


def test_every_handler_was_exercised():
    tested = {case.values[1] for case in cases()} | {"ToolkitAM1BCC", "NAGLCharges"}
    assert tested == set(HANDLERS)
