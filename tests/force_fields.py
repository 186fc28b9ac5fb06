"""Force fields made for tests: sections that the shipped files do not exercise on ligands."""

from __future__ import annotations

import re

import pytest
from openff.toolkit import ForceField, Topology

TWINS = re.compile(
    r"openff.*(rc|alpha|unconstrained)"  # candidates of releases; only the constraint of hydrogens differs
    r"|openff-(1\.\d\.0|2\.[12]\.0)\."  # releases that the next one corrects
    r"|ff14sb_off_impropers_0\.0\.[23]\.",  # the first has a refusal of its own, the last corrects
    re.IGNORECASE,
)
"""Force fields that differ little from others which are shipped as well."""


def with_twins_slow(names: list[str]) -> list:
    """Names as parameters of a test: look-alikes are left to the sweep, but for one without constraints."""
    slow = [name for name in names if TWINS.match(name) and name != "openff_unconstrained-2.2.1.offxml"]
    return [pytest.param(name, marks=pytest.mark.slow if name in slow else ()) for name in names]


def without_unused(force_field: ForceField, topology: Topology) -> ForceField:
    """The force field itself, without the SMIRKS parameters that the toolkit gives to no term of a topology.

    Stock openff-interchange matches every pattern again for every System that it makes; most of them match nothing.
    """
    kinds = Topology.from_molecules(list(topology.unique_molecules))
    labels = force_field.label_molecules(kinds)
    for tag in ("Bonds", "Angles", "ProperTorsions", "ImproperTorsions", "vdW", "LibraryCharges"):
        if tag in force_field.registered_parameter_handlers:
            used = {parameter.smirks for molecule in labels for parameter in molecule[tag].values()}
            parameters = force_field[tag].parameters
            for smirks in [parameter.smirks for parameter in parameters if parameter.smirks not in used]:
                del parameters[smirks]
    return force_field


VIRTUAL_SITES = """<SMIRNOFF version="0.3" aromaticity_model="OEAroModel_MDL">
  <VirtualSites version="0.3" exclusion_policy="parents">
    <VirtualSite type="BondCharge" name="EP" smirks="[#17:1]-[#6:2]" match="all_permutations" distance="0.8 * angstrom"
      charge_increment1="0.05 * elementary_charge" charge_increment2="0.02 * elementary_charge"
      sigma="1.5 * angstrom" epsilon="0.01 * kilocalorie_per_mole" />
    <VirtualSite type="MonovalentLonePair" name="EP" smirks="[#8X1:1]=[#6X3:2]-[#7:3]" match="all_permutations"
      distance="0.4 * angstrom" outOfPlaneAngle="10 * degree" inPlaneAngle="115 * degree"
      charge_increment1="0.1 * elementary_charge" charge_increment2="0.01 * elementary_charge"
      charge_increment3="0.02 * elementary_charge"
      rmin_half="0.7 * angstrom" epsilon="0.02 * kilocalorie_per_mole" />
    <VirtualSite type="DivalentLonePair" name="EP" smirks="[#6X3:2]:[#7X2:1]:[#6X3:3]" match="once"
      distance="0.35 * angstrom" outOfPlaneAngle="0 * degree"
      charge_increment1="0.2 * elementary_charge" charge_increment2="0.05 * elementary_charge"
      charge_increment3="0.05 * elementary_charge"
      sigma="1.0 * angstrom" epsilon="0.0 * kilocalorie_per_mole" />
    <VirtualSite type="DivalentLonePair" name="EP" smirks="[#1:2]-[#8X2:1]-[#6X4:3]" match="all_permutations"
      distance="0.3 * angstrom" outOfPlaneAngle="54 * degree"
      charge_increment1="0.04 * elementary_charge" charge_increment2="0.03 * elementary_charge"
      charge_increment3="0.02 * elementary_charge"
      sigma="1.2 * angstrom" epsilon="0.01 * kilocalorie_per_mole" />
    <VirtualSite type="TrivalentLonePair" name="EP" smirks="[#7X3:1](-[#6X4:2])(-[#6X4:3])-[#6X4:4]" match="once"
      distance="0.5 * nanometer" charge_increment1="0.1 * elementary_charge"
      charge_increment2="0.0 * elementary_charge" charge_increment3="0.01 * elementary_charge"
      charge_increment4="0.0 * elementary_charge"
      sigma="1.1 * angstrom" epsilon="0.015 * kilocalorie_per_mole" />
  </VirtualSites>
</SMIRNOFF>"""
"""All four types of sites and both match modes, on chlorides, amides, pyridines, alcohols and amines."""

SITE_MOLECULE = "Clc1ccnc(c1)C(=O)NCCN(C)CCO"
"""Meets each of the sites above."""

CHARGE_INCREMENTS = """<SMIRNOFF version="0.3" aromaticity_model="OEAroModel_MDL">
  <ChargeIncrementModel version="0.4" number_of_conformers="1" partial_charge_method="formal_charge">
    <ChargeIncrement smirks="[#6:1]-[#1:2]" charge_increment1="-0.1 * elementary_charge"
      charge_increment2="0.1 * elementary_charge" />
    <ChargeIncrement smirks="[#6:1]-[#8:2]" charge_increment1="0.2 * elementary_charge"
      charge_increment2="-0.2 * elementary_charge" />
    <ChargeIncrement smirks="[#8:1]-[#1:2]" charge_increment1="-0.35 * elementary_charge" />
  </ChargeIncrementModel>
</SMIRNOFF>"""
"""Increments on formal charges; the last parameter leaves its last increment implied."""

BOND_ORDERS = """<SMIRNOFF version="0.3" aromaticity_model="OEAroModel_MDL">
  <Bonds version="0.4" potential="(k/2)*(r-length)^2" fractional_bondorder_method="AM1-Wiberg"
    fractional_bondorder_interpolation="linear">
    <Bond smirks="[*:1]~[*:2]" id="b0" k="600 * kilocalorie_per_mole/angstrom**2" length="1.1 * angstrom" />
    <Bond smirks="[#6X3:1]~[#6X3:2]" id="bbo" k_bondorder1="820 * kilocalorie_per_mole/angstrom**2"
      k_bondorder2="1100 * kilocalorie_per_mole/angstrom**2" length_bondorder1="1.45 * angstrom"
      length_bondorder2="1.35 * angstrom" />
  </Bonds>
  <ProperTorsions version="0.4" potential="k*(1+cos(periodicity*theta-phase))" default_idivf="auto"
    fractional_bondorder_method="AM1-Wiberg" fractional_bondorder_interpolation="linear">
    <Proper smirks="[*:1]~[*:2]~[*:3]~[*:4]" id="t0" periodicity1="3" phase1="0 * degree"
      k1="0.3 * kilocalorie_per_mole" idivf1="1" />
    <Proper smirks="[*:1]~[#6X3:2]~[#6X3:3]~[*:4]" id="tbo" periodicity1="2" phase1="180 * degree"
      k1_bondorder1="1.0 * kilocalorie_per_mole" k1_bondorder2="8.0 * kilocalorie_per_mole" idivf1="1"
      periodicity2="4" phase2="0 * degree" k2_bondorder1="0.1 * kilocalorie_per_mole"
      k2_bondorder2="0.9 * kilocalorie_per_mole" idivf2="2" />
  </ProperTorsions>
</SMIRNOFF>"""
"""Interpolated bonds and torsions, two periodicities."""
