"""ForceFieldParameters: every number there, back in the file bit for bit, and friendly to jax."""

from __future__ import annotations

import copy
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from openff.toolkit import ForceField, Quantity
from openff.toolkit.typing.engines.smirnoff import get_available_force_fields

from openff_diffsystem import ForceFieldParameters
from openff_diffsystem.exceptions import (
    NonFiniteParameterError,
    ParameterMismatchError,
    UnsupportedForceFieldError,
    UnsupportedInputError,
)
from tests.force_fields import BOND_ORDERS, CHARGE_INCREMENTS, VIRTUAL_SITES, with_twins_slow

FIXED = {"scale12", "scale13", "scale15", "switch_width"}
"""Numbers that openff-toolkit accepts with one value only (1-2, 1-3 and 1-5 scales, electrostatic switch width)."""

FILES = sorted(set(get_available_force_fields()) - {f"ff14sb_0.0.{n}.offxml" for n in (1, 2, 3, 4)})


@pytest.fixture
def theta(sage):
    return ForceFieldParameters.from_force_field(sage)


@pytest.mark.parametrize("name", with_twins_slow([*FILES, VIRTUAL_SITES, CHARGE_INCREMENTS, BOND_ORDERS]))
def test_round_trip(name):
    """Unchanged values give the text that the force field itself writes; a perturbation of every value comes back."""
    force_field = ForceField(name)
    theta = ForceFieldParameters.from_force_field(force_field)
    assert theta.to_force_field(force_field).to_string() == force_field.to_string()
    rng = np.random.default_rng(len(name))
    free = np.array([c.attribute not in FIXED for c in theta.layout.components])
    vector = np.array(theta.vector) * np.where(free, 1 + 0.01 * rng.normal(size=theta.layout.size), 1.0)
    # zeros get a value too, except sizes that must not change sign
    vector += np.where(free & (vector == 0), 1e-3, 0.0)
    back = ForceFieldParameters.from_force_field(theta.to_vector()[1](jnp.asarray(vector)).to_force_field(force_field))
    np.testing.assert_allclose(back.vector, vector, rtol=1e-12)


def test_units_against_the_toolkit(sage, theta):
    """Every value equals what the toolkit's own unit conversion gives."""
    for section in theta.layout.sections.values():
        handler = sage[section.tag]
        for column in section.columns.values():
            owners = [handler] if column.rows is None else [handler.parameters[row] for row in column.rows]
            values = np.atleast_1d(theta[section.tag][column.name])
            for owner, value in zip(owners, values, strict=True):
                quantity = column.attribute.get(owner)
                expected = quantity.m_as(column.unit) if isinstance(quantity, Quantity) else quantity
                assert value == pytest.approx(expected, rel=1e-14)


def test_nothing_numeric_is_left_out(theta):
    names = {(section, column) for section in theta.layout.sections for column in theta[section]}
    for expected in [
        ("Bonds", "k"), ("Bonds", "length"), ("Angles", "angle"), ("ProperTorsions", "k1"), ("ProperTorsions", "k4"),
        ("ProperTorsions", "phase2"), ("ProperTorsions", "idivf1"), ("ImproperTorsions", "k1"), ("vdW", "epsilon"),
        ("vdW", "rmin_half"), ("vdW", "sigma"), ("vdW", "scale14"), ("vdW", "cutoff"), ("vdW", "switch_width"),
        ("Electrostatics", "scale14"), ("Electrostatics", "cutoff"), ("LibraryCharges", "charge1"),
        ("Constraints", "distance"),
    ]:  # fmt: skip
        assert expected in names
    increments = ForceFieldParameters.from_force_field(ForceField(CHARGE_INCREMENTS))
    assert set(increments["ChargeIncrementModel"]) == {"charge_increment1", "charge_increment2"}
    orders = ForceFieldParameters.from_force_field(ForceField(BOND_ORDERS))
    assert {"k_bondorder1", "length_bondorder2"} <= set(orders["Bonds"])
    assert {"k1_bondorder1", "k2_bondorder2", "idivf2"} <= set(orders["ProperTorsions"])
    sites = ForceFieldParameters.from_force_field(ForceField(VIRTUAL_SITES))["VirtualSites"]
    assert {"distance", "outOfPlaneAngle", "inPlaneAngle", "sigma", "rmin_half", "charge_increment4"} <= set(sites)


def test_labels(theta):
    assert len(set(theta.labels)) == len(theta.labels) == theta.vector.size
    assert "Bonds/b83/k" in theta.labels
    assert "vdW//scale14" in theta.labels
    no_ids = ForceFieldParameters.from_force_field(ForceField(CHARGE_INCREMENTS))
    assert "ChargeIncrementModel/[#6:1]-[#1:2]/charge_increment1" in no_ids.labels
    assert theta.units[theta.labels.index("Bonds/b83/k")] == "kilojoule / mole / nanometer**2"


def test_changed_values_keep_their_unit(sage, theta):
    vector, unravel = theta.to_vector()
    position = theta.labels.index("Bonds/b1/k")
    refit = unravel(vector.at[position].multiply(2.0)).to_force_field(sage)
    before, after = sage["Bonds"].parameters[0].k, refit["Bonds"].parameters[0].k
    assert after.units == before.units
    assert after.m == pytest.approx(2 * before.m, rel=1e-15)
    changed = [a for a, b in zip(refit.to_string().splitlines(), sage.to_string().splitlines(), strict=True) if a != b]
    assert len(changed) == 1 and 'id="b1"' in changed[0]


def test_to_file(tmp_path, stock_sage, theta):
    chosen = theta.select("Bonds", "k")
    chosen.replace(2 * chosen.vector).to_file(tmp_path / "refit.offxml", stock_sage)
    back = ForceFieldParameters.from_force_field(ForceField(str(tmp_path / "refit.offxml")))
    np.testing.assert_allclose(back["Bonds"]["k"], 2 * theta["Bonds"]["k"], rtol=1e-14)


def test_template_may_be_stock_or_swapped(sage, stock_sage, theta):
    assert type(theta.to_force_field(sage)["Bonds"]) is type(sage["Bonds"])
    assert type(theta.to_force_field(stock_sage)["Bonds"]) is type(stock_sage["Bonds"])


def test_float32_rounding_is_no_change(sage, theta):
    single = ForceFieldParameters(theta.vector.astype(jnp.float32), theta.layout)
    assert single.to_force_field(sage).to_string() == sage.to_string()


def test_pytree(theta):
    def loss(t):
        return jnp.sum(t["Bonds"]["k"] ** 2) + t["vdW"]["scale14"]

    gradient = jax.jit(jax.grad(loss))(theta)
    assert isinstance(gradient, ForceFieldParameters)
    np.testing.assert_allclose(gradient["Bonds"]["k"], 2 * theta["Bonds"]["k"])
    assert gradient["vdW"]["scale14"] == 1 and not np.any(gradient["Angles"]["k"])
    doubled = jax.tree.map(lambda x: 2 * x, theta)
    np.testing.assert_array_equal(doubled.vector, 2 * theta.vector)
    stacked = jax.tree.map(lambda x: jnp.stack([x, 2 * x]), theta)
    assert jax.vmap(loss)(stacked).shape == (2,)
    optimiser = optax.adam(1e-2)
    updates, _ = optimiser.update(gradient, optimiser.init(theta))
    assert optax.apply_updates(theta, updates).vector.shape == theta.vector.shape


def test_tree_for_optimisers_by_attribute(theta):
    tree = theta.to_tree()
    assert tree["Bonds"]["k"].shape == (len(theta.layout.sections["Bonds"].smirks),)
    tree["Bonds"]["k"] = tree["Bonds"]["k"] * 2
    back = theta.from_tree(tree)
    np.testing.assert_array_equal(back["Bonds"]["k"], 2 * theta["Bonds"]["k"])
    np.testing.assert_array_equal(back["Angles"]["k"], theta["Angles"]["k"])
    with pytest.raises(ParameterMismatchError, match="Bonds/k must have shape"):
        theta.from_tree({"Bonds": {"k": jnp.zeros(3)}})
    with pytest.raises(ParameterMismatchError, match="no attribute 'q'"):
        theta.from_tree({"Bonds": {"q": jnp.zeros(3)}})


def test_select(theta):
    chosen = theta.select("ProperTorsions", "k*", id=["t1", "t2"])
    assert chosen.labels == (
        "ProperTorsions/t1/k1",
        "ProperTorsions/t2/k1",
        "ProperTorsions/t2/k2",
        "ProperTorsions/t2/k3",
    )
    np.testing.assert_array_equal(chosen.merge().vector, theta.vector)
    vector, unravel = chosen.to_vector()
    moved = unravel(vector + 1).merge()
    difference = np.asarray(moved.vector - theta.vector)
    assert difference.sum() == pytest.approx(4) and np.count_nonzero(difference) == 4
    assert jax.grad(lambda s: jnp.sum(s.merge().vector))(chosen).vector.shape == (4,)
    by_smirks = theta.select("Bonds", "k", smirks=theta.layout.sections["Bonds"].smirks[5])
    assert by_smirks.labels == ("Bonds/b6/k",)
    assert [row.label for row in chosen.table()] == list(chosen.labels)
    assert [row.value for row in chosen.table()] == chosen.vector.tolist()
    assert len(theta.select(["Bonds", "Angles"]).labels) == 2 * (90 + 44)
    for arguments, culprit in [
        (("Bond",), "section 'Bond'"), (("Bonds", "K"), "attribute 'K'"), (("Bonds", "k", "b999"), "id 'b999'")
    ]:  # fmt: skip
        with pytest.raises(ParameterMismatchError, match=culprit):
            theta.select(*arguments[:2], id=arguments[2] if len(arguments) == 3 else None)
    with pytest.raises(ParameterMismatchError, match="no component has all"):
        theta.select("Bonds", "angle")


def test_stages_of_a_fit_compile_once_each(theta):
    """Bonds and angles in turn: what one stage changes is frozen in the next, and its number is an argument."""
    compiled = []

    @jax.jit
    def step(selected):
        compiled.append(selected.labels[0])  # runs when traced
        gradient = jax.grad(lambda s: jnp.sum(s.merge().vector ** 2))(selected)
        return jax.tree.map(lambda value, slope: value - 0.1 * slope, selected, gradient)

    stages, everything = ("Bonds", "Angles"), theta
    for _ in range(3):
        for section in stages:
            before = everything
            everything = step(everything.select(section, "k")).merge()
            for other in theta.layout.sections:
                expected = before[other]
                if other == section:
                    expected = expected | {"k": before[other]["k"] - 0.1 * (2 * before[other]["k"])}
                for name, values in everything[other].items():
                    # frozen numbers are the same numbers, not close ones
                    rtol = 1e-15 if (other, name) == (section, "k") else 0
                    np.testing.assert_allclose(values, expected[name], rtol=rtol, atol=0)
    assert compiled == ["Bonds/b1/k", "Angles/a1/k"]


def test_gradients_of_frozen_values_are_zero(theta):
    chosen = theta.select("Bonds", "k")

    def loss(selected):
        return jnp.sum(selected.merge().vector ** 2)

    gradient = jax.grad(loss)(chosen)
    assert jax.tree.structure(gradient) == jax.tree.structure(chosen)
    assert np.all(gradient.vector == 2 * chosen.vector) and not np.any(gradient.frozen)
    optimiser = optax.adam(1e-2)
    state = optimiser.init(chosen)
    moved = chosen
    for _ in range(3):
        updates, state = optimiser.update(jax.grad(loss)(moved), state, moved)
        moved = optax.apply_updates(moved, updates)
    assert np.all(moved.vector != chosen.vector)
    np.testing.assert_array_equal(moved.frozen, chosen.frozen)


def test_selections_are_stacked_pickled_and_taken_over(theta):
    chosen = theta.select("Bonds", "k")
    stacked = jax.tree.map(lambda x: jnp.stack([x, 2 * x]), chosen)
    merged = jax.vmap(lambda s: s.merge().vector)(stacked)
    np.testing.assert_array_equal(merged, jnp.stack([theta.vector, 2 * theta.vector]))
    back = pickle.loads(pickle.dumps(chosen))
    assert back.selection == chosen.selection and hash(back.selection) == hash(chosen.selection)
    assert back.selection != theta.select("Bonds", "length").selection
    np.testing.assert_array_equal(back.merge().vector, theta.vector)
    # a step may take over the memory of what it replaces
    jax.jit(lambda s: s.replace(2 * s.vector), donate_argnums=0)(chosen)
    assert np.isfinite(theta.vector).all()


def test_bad_values_are_named(sage, theta):
    vector, unravel = theta.to_vector()
    position = theta.labels.index("Angles/a3/k")
    for bad in (jnp.nan, jnp.inf):
        with pytest.raises(NonFiniteParameterError, match="Angles/a3/k"):
            unravel(vector.at[position].set(bad)).to_force_field(sage)
    with pytest.raises(ParameterMismatchError, match="1290"):
        unravel(vector[:-1])
    with pytest.raises(ParameterMismatchError, match="template has other parameters: it has no"):
        theta.to_force_field(ForceField("tip3p.offxml"))
    with pytest.raises(UnsupportedInputError, match="str"):
        ForceFieldParameters.from_force_field("openff-2.2.1.offxml")
    broken = copy.deepcopy(sage)
    broken["Bonds"].parameters[2].k = Quantity(float("nan"), "kilocalorie_per_mole/angstrom**2")
    with pytest.raises(NonFiniteParameterError, match="Bonds/b3/k = nan"):
        ForceFieldParameters.from_force_field(broken)


def test_a_refused_value_leaves_the_handler_as_it_was(sage):
    force_field = copy.deepcopy(sage)
    handler = force_field["vdW"]
    params = np.array(handler.params)
    names = handler.param_names
    params[names.index("/scale14")] = 0.25
    params[names.index("/scale13")] = 0.5  # the toolkit refuses this one
    params[-1] *= 2
    with pytest.raises(Exception, match="1-3 scaling"):
        handler.params = params
    assert force_field.to_string() == sage.to_string()


def test_exotic_unit_is_refused():
    from openff_diffsystem.units import md_unit

    with pytest.raises(UnsupportedForceFieldError, match="kelvin"):
        md_unit(Quantity(1.0, "kelvin"))


def test_table(theta):
    table = theta.select("Bonds").merge().table()
    assert len(table) == theta.vector.size
    text = str(table)
    assert "Bonds/b83/k" in text and "kilojoule / mole / nanometer**2" in text
    assert table._repr_html_().count("<tr>") == len(table) + 1
    row = next(row for row in table if row.label == "vdW//scale14")
    assert (row.value, row.smirks, row.section) == (0.5, None, "vdW")
