"""Theta and models together: who gives which number, gradients in both, and which numbers are one."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from openff.toolkit import ForceField, Molecule, Topology

from openff_diffsystem import DiffSystem
from openff_diffsystem.exceptions import ParameterMismatchError, UnsupportedForceFieldError, UnsupportedInputError
from openff_diffsystem.neural import (
    MoleculeGraph,
    ValenceNetwork,
    generic_valence,
    lambda_module,
    linkage,
    replace_charges,
)
from openff_diffsystem.neural import graph as graph_module
from tests.force_fields import SITE_MOLECULE, VIRTUAL_SITES
from tests.molecules import with_charges


class PerElement(eqx.Module):
    """A number for each of hydrogen, carbon, nitrogen and oxygen."""

    values: jax.Array

    def __call__(self, graph):
        return graph.node("H", "C", "N", "O") @ self.values


class BondLengths(eqx.Module):
    """The sum of a radius per element."""

    radii: PerElement

    def __call__(self, graph):
        return self.radii(graph)[graph.bonds].sum(axis=1)


@pytest.fixture(scope="module")
def ethanol(sage):
    molecule = with_charges("CCO")
    return DiffSystem.from_smirnoff(sage, molecule, charge_from_molecules=[molecule])


@pytest.fixture
def models():
    return {
        "Bonds/length": BondLengths(PerElement(jnp.array([0.033, 0.076, 0.071, 0.066]))),
        "Electrostatics": PerElement(jnp.array([0.1, -0.15, -0.3, -0.3])),
    }


def test_models_replace_their_columns_and_nothing_else(ethanol, models):
    base = ethanol.parameterize()
    found = lambda_module(ethanol, models)(None, models)
    np.testing.assert_allclose(found["Electrostatics"][:, 0], [-0.15, -0.15, -0.3, *[0.1] * 6], rtol=1e-14)
    pairs = [{(6, 6): 0.152, (1, 6): 0.109, (6, 8): 0.142, (1, 8): 0.099}]
    numbers = np.array([6, 6, 8, *[1] * 6])
    expected = [pairs[0][tuple(sorted(numbers[pair]))] for pair in ethanol.indices("Bonds")]
    np.testing.assert_allclose(found["Bonds"][:, 1], expected, rtol=1e-14)
    np.testing.assert_array_equal(found["Bonds"][:, 0], base["Bonds"][:, 0])
    for section in ("Angles", "ProperTorsions", "ImproperTorsions", "vdW"):
        np.testing.assert_array_equal(found[section], base[section])
    assert found.setting("vdW", "scale14") == base.setting("vdW", "scale14")


def test_keys_are_sections_columns_or_names(ethanol, models):
    length, charge = models.values()
    reference = lambda_module(ethanol, models)(None, models)
    for other in (
        {("Bonds", "length"): length, ("Electrostatics", "charge"): charge},
        {"mine": lambda graph: {"Bonds": {"length": length(graph)}, "Electrostatics": charge(graph)}},
        {"Bonds": lambda graph: {"length": length(graph)}, "Electrostatics": charge},
    ):
        found = lambda_module(ethanol, other)(None, other)
        np.testing.assert_array_equal(found.values, reference.values)


def test_gradients_in_theta_and_models_together(ethanol, models):
    """In one jax.grad, against central differences of energies in double precision, step 1e-5: truncation and rounding
    are below 1e-9 of the energy over its scale, 1e-6 of the gradients is allowed."""
    compose, potential = lambda_module(ethanol, models), ethanol.to_jax_potential()

    @jax.jit
    def energy(vector, models):
        return potential(ethanol.positions, compose(vector, models))

    theta = ethanol.force_field_parameters.vector
    gradient = jax.grad(energy, argnums=(0, 1))(theta, models)
    rng, step = np.random.default_rng(1), 1e-5
    scale = (np.maximum(np.abs(theta), 1e-3) * (np.asarray(gradient[0]) != 0), jax.tree.map(jnp.ones_like, models))
    for _ in range(4):
        direction = jax.tree.map(lambda leaf: leaf * rng.normal(size=np.shape(leaf)), scale)
        up, down = (jax.tree.map(lambda x, d, s=s: x + s * step * d, (theta, models), direction) for s in (1, -1))
        expected = float(energy(*up) - energy(*down)) / (2 * step)
        both = [float(np.vdot(g, d)) for g, d in zip(*map(jax.tree.leaves, (gradient, direction)), strict=True)]
        assert sum(both) == pytest.approx(expected, rel=1e-6)
        assert both[0] != 0 and all(both[1:])
    filtered = eqx.filter_grad(lambda both: energy(*both))((theta, models))
    np.testing.assert_allclose(filtered[0], gradient[0], rtol=1e-9, atol=1e-9)
    # theta's own lengths are covered by the model, its force constants are not
    layout = ethanol.parameter_layout
    assert not np.any(gradient[0][layout.column("Bonds", "length").slice])
    assert np.any(gradient[0][layout.column("Bonds", "k").slice])


def test_single_precision(ethanol, models):
    expected = lambda_module(ethanol, models)(None, models)
    with jax.enable_x64(False):
        single = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), models)
        theta = jnp.asarray(ethanol.force_field_parameters.vector, dtype=jnp.float32)
        found = lambda_module(ethanol, single)(theta, single)
        assert found.values.dtype == jnp.float32
    np.testing.assert_allclose(found.values, expected.values, rtol=1e-6)  # a few roundings of 6e-8


def test_some_molecules_only(sage, models):
    ethanol, water, amide = with_charges("CCO"), with_charges("O"), with_charges("CC(=O)N")
    system = DiffSystem.from_smirnoff(
        sage, [water, ethanol, water, amide, ethanol], charge_from_molecules=[ethanol, amide]
    )
    compose = lambda_module(system, models, molecules={"Electrostatics": [2, 1]})
    assert compose.graphs["Electrostatics"].n_atoms == 9 + 9 and compose.graphs["Bonds/length"].n_atoms == 3 + 9 + 9
    base, found = system.parameterize(), compose(None, models)
    charges = np.asarray(found["Electrostatics"][:, 0])
    waters = [0, 1, 2, 12, 13, 14]
    np.testing.assert_array_equal(charges[waters], base["Electrostatics"][waters, 0])
    mine = [-0.15, -0.15, -0.3, *[0.1] * 6]
    np.testing.assert_allclose(charges[3:12], mine, rtol=1e-14)
    np.testing.assert_allclose(charges[24:33], mine, rtol=1e-14)
    np.testing.assert_allclose(charges[15:24], [-0.15, -0.15, -0.3, -0.3, *[0.1] * 5], rtol=1e-14)
    rows = np.asarray(found["Bonds"][:, 1])
    assert len(rows) == 2 * 2 + 2 * 8 + 8 and not np.any(rows == base["Bonds"][:, 1])


def test_several_systems_share_one_graph_and_batches_take_the_result(sage):
    """A batch pads and gathers; energies are those of the systems alone, to the order of summation.

    Gradients in theta and weights are those of these energies, to the 1e-6 that central differences allow as above.
    """
    generic = generic_valence(sage)
    molecules = [with_charges(smiles) for smiles in ("O", "CC(=O)Nc1ccccc1", "CO")]
    systems = [DiffSystem.from_smirnoff(generic, one, charge_from_molecules=[one]) for one in molecules]
    network = {"valence": ValenceNetwork(width=8, n_layers=2, key=jax.random.key(0), spread=1.0)}
    compose = lambda_module(systems, network)
    batch = DiffSystem.concatenate(systems)
    packed = batch.pack([system.positions for system in systems])
    assert batch.n_programs == 2

    @jax.jit
    def energies(theta, models):
        return batch.potential(packed, compose(theta, models))

    theta = jnp.asarray(systems[0].force_field_parameters.vector)
    together, found = jax.jit(compose)(theta, network), energies(theta, network)
    for i, system in enumerate(systems):
        alone = jax.jit(lambda_module(system, network))(theta, network)
        np.testing.assert_allclose(alone.values, together[i].values, rtol=1e-12, atol=1e-12)
        energy = system.to_jax_potential()(system.positions, alone)
        assert float(found[i]) == pytest.approx(float(energy), rel=1e-10)

    weights = jnp.array([1.0, -0.5, 2.0])
    gradient = jax.grad(lambda *both: jnp.vdot(weights, energies(*both)), argnums=(0, 1))(theta, network)
    rng, step = np.random.default_rng(0), 1e-6
    scale = (jnp.abs(theta) * (gradient[0] != 0), jax.tree.map(jnp.ones_like, network))
    direction = jax.tree.map(lambda leaf: leaf * rng.normal(size=leaf.shape), scale)
    up, down = (
        energies(*jax.tree.map(lambda x, d, s=sign: x + s * step * d, (theta, network), direction)) for sign in (1, -1)
    )
    both = [float(np.vdot(g, d)) for g, d in zip(*map(jax.tree.leaves, (gradient, direction)), strict=True)]
    assert sum(both) == pytest.approx(float(jnp.vdot(weights, up - down)) / (2 * step), rel=1e-6) and all(both)
    with pytest.raises(ParameterMismatchError, match="entry 0 holds no parameters of system 0"):
        batch.potential(packed, compose(theta, network)[::-1])
    with pytest.raises(ParameterMismatchError, match="2 systems, the batch has 3"):
        batch.potential(packed, compose(theta, network)[:2])


def test_linkage_by_smirks_and_by_output(ethanol, models):
    by_smirks = {link.origin: link.rows.tolist() for link in linkage(ethanol, "Bonds") if link.column == "k"}
    assert sorted(map(len, by_smirks.values())) == [1, 1, 1, 5]
    assert all(origin.startswith("Bonds/b") and origin.endswith("/k") for origin in by_smirks)
    (charges,) = {link.origin for link in linkage(ethanol, "Electrostatics")}
    assert charges == "constant"

    network = {"valence": ValenceNetwork(width=8, n_layers=3, key=jax.random.key(0), spread=1.0)}
    molecule = with_charges("CCO")
    system = DiffSystem.from_smirnoff(
        generic_valence(ForceField("openff-2.2.1.offxml", load_plugins=True)),
        molecule,
        charge_from_molecules=[molecule],
    )
    compose = lambda_module(system, network)
    parameters = compose(None, network)
    for section, columns in (("Bonds", ("k", "length")), ("Angles", ("k", "angle")), ("ProperTorsions", ("k",))):
        links = [link for link in linkage(compose, section) if link.column in columns]
        values = np.asarray(parameters.unique(section))
        seen = []
        for link in links:
            own = values[link.rows, system.assignment(section).columns.index(link.column)]
            np.testing.assert_allclose(own, own[0], rtol=1e-12)
            assert link.origin.startswith(f"valence emits {section}/{link.column}")
            seen.append((link.column, link.origin, round(float(own[0]), 9)))
        assert len(set(seen)) == len(seen)  # what is not linked differs
        assert sorted(r for link in links if link.column == "k" for r in link.rows) == list(range(len(values)))
    groups = {tuple(link.rows) for link in linkage(compose, "Bonds") if link.column == "k"}
    assert sorted(map(len, groups)) == [1, 1, 1, 2, 3]  # C-C, C-O, O-H, CH2, CH3
    phases = [link for link in linkage(compose, "ProperTorsions") if link.column == "phase"]
    assert {link.origin for link in phases} == {f"ProperTorsions/generic-ProperTorsions/phase{n}" for n in range(1, 7)}


def test_linkage_tells_bonds_apart_that_have_equal_ends(sage):
    """Cyclooctatetraene has one carbon and two bonds between it; what a model reads of them is another number."""
    molecule = with_charges("C1=CC=CC=CC=C1")
    system = DiffSystem.from_smirnoff(sage, molecule, charge_from_molecules=[molecule])

    def torsion(graph):
        i, j = graph.bonds.T
        double = jnp.zeros((graph.n_atoms, graph.n_atoms)).at[i, j].set(graph.bond("double"))
        _, a, b, _ = graph.propers.T
        return 1.0 + double[a, b] + double[b, a]

    models = {
        "Bonds/length": lambda g: 0.15 - 0.02 * g.bond("double"),
        "ProperTorsions/k": torsion,
    }
    compose = lambda_module(system, models)
    parameters = compose(None, models)
    for section, column, sizes in (("Bonds", "length", [4, 4, 8]), ("ProperTorsions", "k", None)):
        values = np.asarray(parameters.unique(section))[:, system.assignment(section).columns.index(column)]
        links = [link for link in linkage(compose, section) if link.column == column]
        assert sizes is None or sorted(len(link.rows) for link in links) == sizes
        for link in links:
            assert len(set(values[link.rows])) == 1
        assert sorted(r for link in links for r in link.rows) == list(range(len(values)))


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ({"Bends": lambda graph: graph.nodes[:, 0]}, "'Bends' is no section"),
        ({"Bends/k": lambda graph: graph.nodes[:, 0]}, "no section 'Bends'"),
        ({"Bonds/width": lambda graph: graph.bonds[:, 0] * 1.0}, "Bonds has no column 'width'; there are k, length"),
        (
            {"Bonds": lambda graph: graph.bonds[:, 0] * 1.0},
            "the model must return values by column; Bonds has the columns k, length",
        ),
        ({"Bonds/k": lambda graph: graph.nodes[:, 0]}, r"Bonds/k must have shape \(8,\), got \(9,\)"),
        ({"Constraints": lambda graph: graph.bonds[:, 0] * 1.0}, "no model can emit them"),
        (
            {"a": lambda g: {"Bonds": {"k": g.bonds[:, 0] * 1.0}}, "Bonds/k": lambda g: g.bonds[:, 0] * 1.0},
            "by two models",
        ),
    ],
)
def test_errors_name_the_culprit(ethanol, sources, message):
    with pytest.raises(ParameterMismatchError, match=message):
        lambda_module(ethanol, sources)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda g: {"k": jnp.ones(12)}, r"nothing for ProperTorsions/phase, and shape \(12,\)"),
        (
            lambda g: {"k": jnp.ones((12, 6)), "phase": jnp.ones(12)},
            r"shape \(12, 6\) for ProperTorsions/k, and shape \(12,\) when",
        ),
        (lambda g: {"k": jnp.ones(3), "phase": jnp.ones(12)}, r"shape \(3,\) for ProperTorsions/k, and shape \(12,\)"),
        (
            lambda g: {"k": jnp.ones(12), "phase": jnp.ones(12), "idivf": jnp.ones(12)},
            r"shape \(12,\) for ProperTorsions/idivf, and nothing when",
        ),
    ],
)
def test_models_that_emit_something_else_later_are_refused(ethanol, model, message):
    """Positions of their numbers were fixed before; jax would read others in their place."""
    promised = {"ProperTorsions": lambda g: {"k": jnp.ones(12), "phase": jnp.ones(12)}}
    compose = lambda_module(ethanol, promised)
    assert np.all(np.asarray(compose(None, promised)["ProperTorsions"][:, :2]) == 1)
    for call in (compose, lambda theta, models: jax.eval_shape(lambda: compose(theta, models).values)):
        with pytest.raises(ParameterMismatchError, match=f"ProperTorsions emits .*{message}"):
            call(None, {"ProperTorsions": model})


def test_every_system_must_have_what_is_emitted(sage):
    """Those of whose molecules the model is asked; which one is missing something, the message says."""
    without = ForceField(sage.to_string(), load_plugins=True)
    without.deregister_parameter_handler("Angles")
    ethanol, water = with_charges("CCO"), with_charges("O")
    systems = [
        DiffSystem.from_smirnoff(sage, ethanol, charge_from_molecules=[ethanol]),
        DiffSystem.from_smirnoff(without, water),
    ]
    models = {"Angles/k": lambda g: jnp.full(len(g.angles), 700.0)}
    for order, culprit in ((systems, 1), (systems[::-1], 0)):
        for sources in (models, {"Angles": lambda g: {"k": models["Angles/k"](g)}}):
            with pytest.raises(
                ParameterMismatchError, match=f"no section 'Angles' in system {culprit}; there are Bonds"
            ):
                lambda_module(order, sources)
        some = {"Angles/k": [1 - culprit]}
        found = lambda_module(order, models, molecules=some)(None, models)
        assert np.all(found[1 - culprit]["Angles"][:, 0] == 700.0)
        np.testing.assert_array_equal(found[culprit].values, order[culprit].parameterize().values)


def test_copies_from_an_interchange_are_read_once(stock_sage, monkeypatch):
    """Each copy is a molecule by itself there; no SMILES is read twice, and none at all for a position."""
    waters = Topology.from_molecules([Molecule.from_smiles("O")] * 20)
    system = DiffSystem.from_interchange(stock_sage.create_interchange(waters))
    assert len(system.molecules) == 20
    read = []
    original = Molecule.from_mapped_smiles
    monkeypatch.setattr(Molecule, "from_mapped_smiles", lambda *a, **k: read.append(a[0]) or original(*a, **k))
    graph_module._graph_of_smiles.cache_clear()
    graph_module.molecule_of_smiles.cache_clear()
    charges = [-0.8, 0.4, 0.4]
    found = replace_charges(system, system.parameterize(), 7, charges)
    np.testing.assert_array_equal(found["Electrostatics"][21:24, 0], charges)
    assert read == []
    models = {"Electrostatics": PerElement(jnp.array([0.4, 0.0, 0.0, -0.8]))}
    composed = lambda_module(system, models)(None, models)
    np.testing.assert_array_equal(composed["Electrostatics"][:, 0], charges * 20)
    with pytest.raises(ParameterMismatchError, match="20 unique molecules"):
        replace_charges(system, system.parameterize(), Molecule.from_smiles("O"), charges)
    assert len(read) == 1


def test_systems_made_from_an_interchange(stock_sage):
    """Every copy is a molecule of its own there; theta, rows and emitted numbers are those of from_smirnoff."""
    ethanol, water, amide = with_charges("CCO"), with_charges("O"), with_charges("CC(=O)N")
    generic = generic_valence(stock_sage)
    topology = Topology.from_molecules([water, ethanol, amide, ethanol])
    charged = {"charge_from_molecules": [ethanol, amide]}
    ours = DiffSystem.from_smirnoff(generic, topology, **charged)
    read = DiffSystem.from_interchange(generic.create_interchange(topology, **charged), generic)
    assert (len(ours.molecules), len(read.molecules)) == (3, 4)
    models = {
        "Electrostatics": PerElement(jnp.array([0.1, -0.15, -0.3, -0.3])),
        "valence": ValenceNetwork(width=8, n_layers=2, key=jax.random.key(0), spread=1.0),
    }
    some = {"Electrostatics": [1, 2, 3]}
    found = lambda_module(read, models, molecules=some)(None, models)
    wanted = lambda_module(ours, models, molecules={"Electrostatics": [1, 2]})(None, models)
    for section, columns in (("Bonds", 2), ("Angles", 2), ("ProperTorsions", 3), ("ImproperTorsions", 3)):
        rows = [
            sorted(
                (*atoms, *periodicity, *np.round(row, 9))
                for atoms, periodicity, row in zip(
                    system.indices(section).tolist(),
                    np.stack([*system.term_static[section].values(), np.zeros(len(values))], axis=1).tolist(),
                    np.asarray(values).tolist(),
                    strict=True,
                )
            )
            for system, values in ((read, found[section]), (ours, wanted[section]))
        ]
        assert len(rows[0][0]) >= columns + 2
        np.testing.assert_allclose(rows[0], rows[1], rtol=0, atol=2e-9)  # of the rounding to nine digits
    np.testing.assert_allclose(found["Electrostatics"], wanted["Electrostatics"], rtol=1e-14)
    # charges of one copy alone
    charges = np.arange(9.0)
    replaced = np.array(read.parameterize()["Electrostatics"][:, 0])
    replaced[3:12] = charges
    changed = replace_charges(read, read.parameterize(), 1, charges)
    np.testing.assert_array_equal(changed["Electrostatics"][:, 0], replaced)
    compose = lambda_module(read, {"Electrostatics": models["Electrostatics"]})
    sizes = [len(link.rows) for link in linkage(compose, "Electrostatics")]
    assert sorted(sizes) == sorted([1, 2, *[1, 1, 1, 1, 2, 3], *[2, 2, 2, 2, 4, 6]])  # water, amide, ethanol twice


def test_systems_made_from_an_interchange_with_virtual_sites():
    """Four-site water, twice: sites are no terms of a graph and keep theta's numbers."""
    water = Molecule.from_smiles("O")
    interchange = ForceField("tip4p_fb.offxml").create_interchange(Topology.from_molecules([water, water]))
    system = DiffSystem.from_interchange(interchange)
    models = {"vdW/epsilon": PerElement(jnp.array([0.1, 0.0, 0.0, 0.6]))}
    found = lambda_module(system, models, molecules={"vdW/epsilon": [1]})(None, models)["vdW"][:, 0]
    wanted = np.array(system.parameterize()["vdW"][:, 0])
    wanted[3:6] = [0.6, 0.1, 0.1]
    np.testing.assert_array_equal(found, wanted)
    with pytest.raises(UnsupportedForceFieldError, match="virtual sites"):
        lambda_module(system, {"Electrostatics": PerElement(jnp.zeros(4))})


def test_systems_without_molecules_are_refused_by_name(ethanol, models):
    system = DiffSystem.from_openmm(ethanol.to_openmm())
    for refused in (
        lambda: lambda_module(system, models),
        lambda: replace_charges(system, system.parameterize(), 0, np.zeros(9)),
        lambda: MoleculeGraph.from_system(system),
    ):
        with pytest.raises(ParameterMismatchError, match=r"molecules of this system are not known.*from_smirnoff"):
            refused()


def test_molecules_that_are_not_there_and_what_is_no_array_are_refused(ethanol):
    for outside in ([1], [-1], [0, 3]):
        with pytest.raises(ParameterMismatchError, match="molecules must be numbers from 0 to 0"):
            MoleculeGraph.from_system(ethanol, outside)
    with pytest.raises(UnsupportedInputError, match="see from_molecule"):
        MoleculeGraph.from_molecules(with_charges("CCO"))
    with pytest.raises(ParameterMismatchError, match="vdW/sigma must be an array, the model returns a list"):
        lambda_module(ethanol, {"vdW/sigma": lambda graph: [1.0] * graph.n_atoms})


def test_numbers_without_a_row_are_refused(sage):
    """Sage has a row for few of the periodicities that the network emits; it has one for each bond and angle."""
    molecule = with_charges("CC(=O)N")
    system = DiffSystem.from_smirnoff(sage, molecule, charge_from_molecules=[molecule])
    network = {"valence": ValenceNetwork(width=8, n_layers=2, key=jax.random.key(0))}
    with pytest.raises(
        ParameterMismatchError, match=r"ImproperTorsions/k.* of 60 of ProperTorsions/k.*generic_valence"
    ):
        lambda_module(system, network)
    compose = lambda_module(system, network, partial=True)
    for section in ("Bonds", "Angles", "ProperTorsions", "ImproperTorsions"):
        b = system.system_layout.sections[section]
        output = compose.outputs[0][b.start : b.start + b.n_values].reshape(-1, len(b.columns))
        assert (output[:, b.columns.index("k")] >= 0).all()  # every k of the system is the network's
    impropers = {"ImproperTorsions/k": lambda graph: jnp.ones(len(graph.impropers))}
    lambda_module(system, impropers)  # both planar centres have a row
    amine = with_charges("CN")
    system = DiffSystem.from_smirnoff(sage, [molecule, amine], charge_from_molecules=[molecule, amine])
    with pytest.raises(ParameterMismatchError, match=r"1 of 3 of ImproperTorsions/k \(atoms .*generic_valence"):
        lambda_module(system, impropers)
    lambda_module(system, impropers, molecules={"ImproperTorsions/k": [0]})


def test_other_errors(ethanol, models, sage):
    with pytest.raises(ParameterMismatchError, match="no source"):
        lambda_module(ethanol, models, molecules={"Angles": [0]})
    with pytest.raises(ParameterMismatchError, match="numbers from 0 to 0"):
        lambda_module(ethanol, models, molecules={"Electrostatics": [1]})
    with pytest.raises(ParameterMismatchError, match="models must be Bonds/length, Electrostatics"):
        lambda_module(ethanol, models)(None, {})
    with pytest.raises(ParameterMismatchError, match="several"):
        linkage(lambda_module([ethanol, ethanol], models), "Bonds")
    molecule = with_charges(SITE_MOLECULE)
    force_field = ForceField("openff-2.2.1.offxml", VIRTUAL_SITES, load_plugins=True)
    with pytest.warns(UserWarning, match="VirtualSites"):
        sites = DiffSystem.from_smirnoff(force_field, molecule, charge_from_molecules=[molecule])
    with pytest.raises(UnsupportedForceFieldError, match="virtual sites"):
        lambda_module(sites, {"Electrostatics": PerElement(jnp.zeros(4))})
    lengths = {"Bonds/length": BondLengths(PerElement(jnp.full(4, 0.07)))}
    numbers = np.array([atom.atomic_number for atom in molecule.atoms])
    known = np.isin(numbers[sites.indices("Bonds")], [1, 6, 7, 8]).sum(axis=1)  # chlorine has no radius here
    assert set(known) == {1, 2}
    np.testing.assert_allclose(lambda_module(sites, lengths)(None, lengths)["Bonds"][:, 1], 0.07 * known)
