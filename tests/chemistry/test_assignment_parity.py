"""Assignment against stock openff-interchange, for the force fields and molecules that the stack ships."""

from __future__ import annotations

from collections import Counter

import pydantic
import pytest
from openff.toolkit import ForceField, Molecule, Topology
from openff.toolkit.typing.engines.smirnoff import get_available_force_fields

from openff_diffsystem import DiffSystem
from openff_diffsystem.exceptions import DiffSystemError
from tests.force_fields import with_twins_slow
from tests.interchange_reference import assert_same_parameters
from tests.molecules import IMATINIB, charged, gasteiger, ions_and_water, peptide, with_charges

UNLOADABLE = {f"ff14sb_0.0.{n}.offxml" for n in (1, 2, 3, 4)}
"""Files with a section (AmberImproperTorsions) that no handler of the toolkit reads."""

FORCE_FIELDS = sorted(set(get_available_force_fields()) - UNLOADABLE)


def compare(force_field: ForceField, topology: Topology, charged: list[Molecule]) -> Counter:
    """Compare one topology; both must assign the same or both refuse.

    Interchange cannot hold the Bonds sections of some old files (its model rejects the method that the toolkit fills
    in). That is no statement about parameters, so it is counted apart. It lets atoms without vdW parameters pass, and
    fails when it exports them; we refuse them at once.
    """
    try:
        interchange = force_field.create_interchange(topology, charge_from_molecules=charged or None)
    except pydantic.ValidationError:
        return Counter({"not representable by stock": 1})
    except Exception as error:
        with pytest.raises(DiffSystemError):
            DiffSystem.from_smirnoff(force_field, topology, charge_from_molecules=charged or None)
        return Counter({"refused by both": 1, f"stock: {type(error).__name__}": 1})
    if len(interchange["vdW"].key_map) < topology.n_atoms:
        with pytest.raises(DiffSystemError, match="vdW has no parameter"):
            DiffSystem.from_smirnoff(force_field, topology, charge_from_molecules=charged or None)
        return Counter({"refused by both": 1, "stock: at export": 1})
    system = DiffSystem.from_smirnoff(force_field, topology, charge_from_molecules=charged or None)
    return Counter(molecules=1) + assert_same_parameters(system, interchange)


@pytest.mark.parametrize("smiles", [IMATINIB, "CC(=O)[O-]", "C[N+](C)(C)CC#N", "OS(=O)(=O)c1ccccc1I", "C1CC1"])
def test_small_molecules(stock_sage, smiles):
    molecule = with_charges(smiles, conformer=False)
    compared = compare(stock_sage, molecule.to_topology(), [molecule])
    assert compared["Angles"] and compared["vdW"] == molecule.n_atoms


@pytest.mark.parametrize("name", sorted(UNLOADABLE & set(get_available_force_fields())))
def test_unloadable_force_fields(name):
    with pytest.raises(KeyError, match="AmberImproperTorsions"):
        ForceField(name)


@pytest.mark.parametrize("name", with_twins_slow(FORCE_FIELDS))
def test_every_force_field_on_a_few(name):
    """Every file is loaded; water models meet water and ions, the others also a drug and, for ff14SB, a peptide."""
    force_field = ForceField(name)
    compared = Counter()
    for molecule in ions_and_water():
        compared += compare(force_field, molecule.to_topology(), [])
    if name.startswith("openff"):
        molecule = with_charges(IMATINIB, conformer=False)
        compared += compare(force_field, molecule.to_topology(), [molecule])
        assert compared["ProperTorsions"] > 100
    elif name.startswith("ff14sb"):
        compared += compare(force_field, peptide(), [])
        if name == "ff14sb_off_impropers_0.0.1.offxml":  # its impropers match atoms that are not bonded
            assert compared["stock: NotBondedError"] == 1
        else:
            assert compared["ProperTorsions"] > 50 or compared["not representable by stock"]
    else:
        assert compared["molecules"] >= 1
    print(name, dict(compared))


def test_mixture(stock_sage):
    """Copies, interleaved, some with their atoms in another order."""
    water, ethanol = Molecule.from_smiles("O"), with_charges("CCO", conformer=False)
    reordered = ethanol.remap({i: ethanol.n_atoms - 1 - i for i in range(ethanol.n_atoms)})
    topology = Topology.from_molecules([water, ethanol, water, reordered, water, ethanol])
    compared = compare(stock_sage, topology, [ethanol])
    assert compared["Bonds"] == 3 * 2 + 3 * 8


@pytest.mark.slow
@pytest.mark.parametrize("name", FORCE_FIELDS)
def test_sweep(name):
    """Every force field on MiniDrugBank, AlkEthOH, ions, water and a peptide; counts are printed.

    AlkEthOH holds close to two thousand look-alikes: all of them with Sage 2.2.1, every twentieth with the others.
    """
    force_field = ForceField(name)
    compared = Counter()
    molecules = charged(1 if name == "openff-2.2.1.offxml" else 20)
    for molecule in molecules:
        compared += compare(force_field, molecule.to_topology(), [molecule])
    for molecule in ions_and_water():
        compared += compare(force_field, molecule.to_topology(), [])
    # ff14SB has library charges for it; with AM1-BCC, two runs of sqm may differ in the last digit they print
    topology = peptide()
    preset = [] if name.startswith("ff14sb") else [gasteiger(topology.molecule(0))]
    compared += compare(force_field, topology, preset)
    print(name, dict(compared), flush=True)
    outcomes = ("molecules", "refused by both", "not representable by stock")
    assert sum(compared[outcome] for outcome in outcomes) == len(molecules) + 10 + 1
    assert len(molecules) >= 352 + 100
