"""The swap: ours are there when asked for, every workflow gives the stock result, and nothing differs when not."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys

import numpy as np
import openmm
import pytest
from openff.interchange.smirnoff import SMIRNOFFBondCollection, SMIRNOFFConstraintCollection
from openff.toolkit import ForceField, Molecule
from openff.toolkit.typing.engines.smirnoff import get_available_force_fields
from openff.toolkit.typing.engines.smirnoff import parameters as stock

from openff_diffsystem.exceptions import UpstreamChangedError
from openff_diffsystem.handlers import HANDLERS, _swap
from tests.force_fields import SITE_MOLECULE, VIRTUAL_SITES, with_twins_slow
from tests.molecules import IMATINIB, with_charges


def xml(system: openmm.System) -> str:
    return openmm.XmlSerializer.serialize(system)


def test_every_stock_handler_is_replaced(sage, stock_sage):
    assert set(HANDLERS) == set(stock_sage._parameter_handler_classes)
    for tag, ours in HANDLERS.items():
        assert sage._parameter_handler_classes[tag] is ours
        assert stock_sage._parameter_handler_classes[tag] is getattr(stock, ours.__name__)
    assert list(sage._parameter_handler_classes) == [*stock_sage._parameter_handler_classes, "NeuralCharges"]


@pytest.mark.parametrize(
    "sources",
    [("openff-2.2.1.offxml", "tip4p_fb.offxml"), ("ff14sb_off_impropers_0.0.4.offxml",), (VIRTUAL_SITES,)],
)
def test_same_text_and_hash(sources):
    ours, theirs = ForceField(*sources, load_plugins=True), ForceField(*sources)
    assert ours.to_string() == theirs.to_string()
    assert hash(ours) == hash(theirs)


@pytest.mark.parametrize(
    ("sources", "smiles"),
    [
        (("openff-2.2.1.offxml",), IMATINIB),
        (("openff-1.0.0.offxml",), "CC(=O)[O-]"),
        (("openff-2.2.1.offxml", "tip5p.offxml"), "O"),
        (("openff-2.2.1.offxml", VIRTUAL_SITES), SITE_MOLECULE),
    ],
)
def test_same_openmm_system(sources, smiles):
    molecule = with_charges(smiles)
    charged = None if smiles == "O" else [molecule]
    systems = [
        ForceField(*sources, load_plugins=plugins).create_openmm_system(
            molecule.to_topology(), charge_from_molecules=charged
        )
        for plugins in (True, False)
    ]
    assert xml(systems[0]) == xml(systems[1])


def test_constraints_survive(sage, stock_sage):
    """openff-interchange compares exact types here and silently finds no constraints in others."""
    topology = with_charges("CCO").to_topology()
    counts = []
    for force_field in (sage, stock_sage):
        bonds = SMIRNOFFBondCollection.create(force_field["Bonds"], topology)
        constraints = SMIRNOFFConstraintCollection.create(
            [force_field["Bonds"], force_field["Constraints"]], topology, bonds
        )
        counts.append(len(constraints.key_map))
    assert counts == [6, 6]


@pytest.mark.parametrize("smiles", ["CCO", SITE_MOLECULE])
def test_same_labels(smiles):
    topology = Molecule.from_smiles(smiles).to_topology()
    labels = []
    for plugins in (True, False):
        force_field = ForceField("openff-2.2.1.offxml", VIRTUAL_SITES, load_plugins=plugins)
        (one,) = force_field.label_molecules(topology)
        labels.append(
            {
                tag: {
                    atoms: [p.smirks for p in value] if isinstance(value, list) else value.smirks
                    for atoms, value in found.items()
                }
                for tag, found in one.items()
            }
        )
    assert labels[0] == labels[1]
    assert (smiles == "CCO") == (len(labels[0]["VirtualSites"]) < 2)


def test_partial_charges(sage, stock_sage):
    water = Molecule.from_smiles("O")
    found, expected = (f.get_partial_charges(water).m for f in (sage, stock_sage))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.am1bcc
def test_partial_charges_am1bcc(sage, stock_sage):
    molecule = Molecule.from_smiles("CO")
    found, expected = (f.get_partial_charges(molecule).m for f in (sage, stock_sage))
    np.testing.assert_array_equal(found, expected)


def test_combine(sage):
    combined = sage.combine(ForceField("tip4p_fb.offxml", load_plugins=True))
    assert type(combined["VirtualSites"]) is HANDLERS["VirtualSites"]
    expected = ForceField("openff-2.2.1.offxml").combine(ForceField("tip4p_fb.offxml"))
    assert combined.to_string() == expected.to_string()


def test_interchange_combine(sage, stock_sage):
    first, second = with_charges("CCO"), with_charges("CC(=O)[O-]")
    systems = []
    for force_field in (sage, stock_sage):
        one, two = (force_field.create_interchange(m.to_topology(), charge_from_molecules=[m]) for m in (first, second))
        systems.append(xml(one.combine(two).to_openmm(combine_nonbonded_forces=True)))
    assert systems[0] == systems[1]


def test_copies_and_pickles(sage, tmp_path):
    for other in (copy.deepcopy(sage), pickle.loads(pickle.dumps(sage))):
        assert type(other["Bonds"]) is HANDLERS["Bonds"]
        assert other.to_string() == sage.to_string()
        other["Bonds"].parameters[0].k *= 2
        assert other["Bonds"].parameters[0].k != sage["Bonds"].parameters[0].k
    sage.to_file(str(tmp_path / "copy.offxml"))
    assert ForceField(str(tmp_path / "copy.offxml")).to_string() == sage.to_string()


def test_view_shares_state(sage):
    view = _swap.as_stock(sage["Bonds"])
    assert type(view) is stock.BondHandler
    assert view.__dict__ is sage["Bonds"].__dict__
    stock_handler = stock.BondHandler(version=0.4)
    assert _swap.as_stock(stock_handler) is stock_handler


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_nothing_differs_without_load_plugins():
    output = run(
        "import sys\n"
        "from openff.toolkit import ForceField\n"
        "register = ForceField._register_parameter_handler_classes\n"
        "force_field = ForceField('openff-2.2.1.offxml')\n"
        "print(type(force_field['Bonds']).__module__, 'openff_diffsystem' in sys.modules, 'jax' in sys.modules,\n"
        "      ForceField._register_parameter_handler_classes is register)\n"
    )
    assert output.split() == ["openff.toolkit.typing.engines.smirnoff.parameters", "False", "False", "True"]


def test_loading_the_plugin_imports_neither_jax_nor_interchange():
    output = run(
        "import sys\n"
        "from openff.toolkit import ForceField\n"
        "before = 'openff.interchange.smirnoff._valence' in sys.modules\n"
        "ForceField('openff-2.2.1.offxml', load_plugins=True)\n"
        "print('jax' in sys.modules, before or 'openff.interchange.smirnoff._valence' not in sys.modules)\n"
    )
    assert output.split() == ["False", "True"]


def test_interchange_imported_first_or_later():
    code = (
        "{first}\n"
        "from openff.toolkit import ForceField, Molecule\n"
        "force_field = ForceField('openff-2.2.1.offxml', load_plugins=True)\n"
        "molecule = Molecule.from_smiles('C')\n"
        "molecule.assign_partial_charges('gasteiger')\n"
        "interchange = force_field.create_interchange(molecule.to_topology(), charge_from_molecules=[molecule])\n"
        "print(len(interchange['Constraints'].key_map))\n"
    )
    for first in ("import openff.interchange.smirnoff._create", ""):
        assert run(code.format(first=first)).split() == ["4"]


def test_another_plugin_loads_beside_ours():
    """A handler for a tag of its own, as smirnoff-plugins has them, and one that specialises ours."""
    code = (
        "import openff_diffsystem.handlers\n"
        "from openff.toolkit import ForceField\n"
        "from openff.toolkit.typing.engines.smirnoff import plugins\n"
        "from openff.toolkit.typing.engines.smirnoff.parameters import ParameterHandler\n"
        "from openff.toolkit.typing.engines.smirnoff import forcefield\n"
        "class Buckingham(ParameterHandler):\n"
        "    _TAGNAME = 'Buckingham'\n"
        "load = plugins.load_handler_plugins\n"
        "forcefield.load_handler_plugins = lambda: [Buckingham, *load()]\n"
        "force_field = ForceField('openff-2.2.1.offxml', load_plugins=True)\n"
        "classes = force_field._parameter_handler_classes\n"
        "print(classes['Buckingham'] is Buckingham, type(force_field['vdW']).__module__)\n"
    )
    assert run(code).split() == ["True", "openff_diffsystem.handlers._classes"]


def test_changed_upstream_is_named():
    module = type(sys)("openff.interchange.smirnoff._gbsa")
    with pytest.raises(
        UpstreamChangedError, match=r"_gbsa.*SMIRNOFFGBSACollection.*installed are openff-toolkit 0\.18"
    ):
        _swap._wrap_collections(module)


# ff14sb_0.0.* have a section that no handler reads, see tests/chemistry/test_assignment_parity.py
LOADABLE = sorted(name for name in set(get_available_force_fields()) if not name.startswith("ff14sb_0"))


@pytest.mark.parametrize("name", with_twins_slow(LOADABLE))
def test_every_shipped_file_loads_swapped(name):
    force_field = ForceField(name, load_plugins=True)
    for tag in force_field.registered_parameter_handlers:
        assert type(force_field[tag]) is HANDLERS[tag], tag
