"""Pair forms in periodic systems that the tests share, and the same in OpenMM's custom forces."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import openmm
from openff.toolkit import ForceField, unit
from openff.toolkit.typing.engines.smirnoff.parameters import (
    ElectrostaticsHandler,
    LibraryChargeHandler,
    ParameterAttribute,
    VirtualSiteHandler,
    _BaseVirtualSiteType,
)

from openff_diffsystem import DiffSystem
from tests.boxes import TRICLINIC, centered, solvate
from tests.forms.test_forms import custom_forms
from tests.molecules import with_charges
from tests.openmm_reference import context_of

CHARGES = """<SMIRNOFF version="0.3" aromaticity_model="OEAroModel_MDL">
    <Electrostatics version="0.4" scale14="0.8333333333" cutoff="9.0 * angstrom"
        periodic_potential="Ewald3D-ConductingBoundary" nonperiodic_potential="Coulomb"
        exception_potential="Coulomb"></Electrostatics>
    <LibraryCharges version="0.3">
        <LibraryCharge smirks="[#1:1]" charge1="0.05 * elementary_charge"></LibraryCharge>
        <LibraryCharge smirks="[#6X4:1]" charge1="-0.1 * elementary_charge"></LibraryCharge>
        <LibraryCharge smirks="[#6X4H2:1]-[#8]" charge1="-0.02 * elementary_charge"></LibraryCharge>
        <LibraryCharge smirks="[#8X2H1:1]-[#6]" charge1="-0.53 * elementary_charge"></LibraryCharge>
        <LibraryCharge smirks="[#1:1]-[#8]-[#6]" charge1="0.4 * elementary_charge"></LibraryCharge>
        <LibraryCharge smirks="[#1:1]-[#8X2H2:2]-[#1:3]" charge1="0.417 * elementary_charge"
            charge2="-0.834 * elementary_charge" charge3="0.417 * elementary_charge"></LibraryCharge>
    </LibraryCharges>
    <DoubleExponential version="0.3" {settings}>
        <Atom smirks="[*:1]" id="d1" r_min="3.8 * angstrom" epsilon="0.1 * kilocalorie_per_mole"></Atom>
        <Atom smirks="[#1:1]" id="d2" r_min="2.6 * angstrom" epsilon="0.02 * kilocalorie_per_mole"></Atom>
        <Atom smirks="[#8:1]" id="d3" r_min="3.5 * angstrom" epsilon="0.15 * kilocalorie_per_mole"></Atom>
        <Atom smirks="[#1:1]-[#8]" id="d4" r_min="1.0 * angstrom" epsilon="0.0 * kilocalorie_per_mole"></Atom>
    </DoubleExponential>
</SMIRNOFF>
"""
EXPRESSION = "sqrt(e1*e2)*(beta/(alpha-beta)*exp(alpha*(1-x))-alpha/(alpha-beta)*exp(beta*(1-x)));x=r/(0.5*(r1+r2));"

SITES = """<SMIRNOFF version="0.3" aromaticity_model="OEAroModel_MDL">
    <DoubleExponentialVirtualSites version="0.3" exclusion_policy="parents">
        <VirtualSite smirks="[#1:2]-[#8X2H2+0:1]-[#1:3]" r_min="3.6 * angstrom" epsilon="0.2 * kilocalorie_per_mole"
            type="DivalentLonePair" match="once" distance="-0.15 * angstrom" outOfPlaneAngle="0.0 * degree"
            charge_increment1="0.1 * elementary_charge" charge_increment2="0.3 * elementary_charge"
            charge_increment3="0.3 * elementary_charge"></VirtualSite>
    </DoubleExponentialVirtualSites>
</SMIRNOFF>"""


class DoubleExponentialVirtualSiteHandler(VirtualSiteHandler):
    """Virtual sites with parameters of the form."""

    class DoubleExponentialVirtualSiteType(_BaseVirtualSiteType):
        r_min = ParameterAttribute(unit=unit.nanometer)
        epsilon = ParameterAttribute(unit=unit.kilojoule_per_mole)

    _TAGNAME = "DoubleExponentialVirtualSites"
    _INFOTYPE = DoubleExponentialVirtualSiteType


TAIL = 1e-5
"""OpenMM integrates beyond the cutoff until the result changes by no more than that, relative."""

SECTION = "DoubleExponential"

REACTION_FIELD = ElectrostaticsHandler._DEFAULT_REACTION_FIELD_EXPRESSION


class Case:
    """A periodic system, and what OpenMM makes of the same numbers.

    Parameters
    ----------
    edge
        Of the box, nm.
    cutoff, switch_width
        nm.
    solute
        SMILES of a molecule in the water.
    triclinic
        Whether the box is.
    potential
        Of Electrostatics in a box.
    sites
        Whether waters have virtual sites.
    """

    def __init__(
        self,
        edge: float = 1.6,
        cutoff: float = 0.7,
        switch_width: float = 0.1,
        solute: str = "CCO",
        triclinic: bool = False,
        potential: str = "Ewald3D-ConductingBoundary",
        sites: bool = False,
    ) -> None:
        settings = f'alpha="18.7" beta="3.3" scale14="0.5" cutoff="{cutoff} * nanometer"'
        settings += f' switch_width="{switch_width} * nanometer"'
        text = CHARGES.format(settings=settings).replace("9.0 * angstrom", f"{cutoff} * nanometer")
        self.force_field = ForceField(text, *([SITES] if sites else []), parameter_handler_classes=HANDLERS)
        self.force_field["Electrostatics"].periodic_potential = potential
        self.box = edge * (TRICLINIC if triclinic else np.eye(3))
        solutes = [centered(with_charges(solute), self.box)] if solute else []
        self.topology, self.positions = solvate(solutes, self.box)
        self.system = self.build(self.force_field)
        self.particles = np.asarray(self.system.particle_positions())
        self.theta = self.system.force_field_parameters
        self.reaction_field = potential != "Ewald3D-ConductingBoundary"

    def build(self, force_field: ForceField) -> DiffSystem:
        """The system with another force field."""
        return DiffSystem.from_smirnoff(force_field, self.topology, positions=self.positions)

    def columns(self, force_field: ForceField) -> np.ndarray:
        """r_min and epsilon of every particle, ``(n_particles, 2)``, nm and kJ/mol, as the toolkit assigns them."""
        rows: list = []
        labels: dict = {}
        for molecule in self.topology.molecules:
            smiles = molecule.to_smiles(mapped=True)
            if smiles not in labels:
                matches = force_field["DoubleExponential"].find_matches(molecule.to_topology())
                found = [matches[i,].parameter_type for i in range(molecule.n_atoms)]
                labels[smiles] = [(p.r_min.m_as("nanometer"), p.epsilon.m_as("kilojoule_per_mole")) for p in found]
            rows += labels[smiles]
        n_sites = self.system.n_particles - self.system.n_atoms
        if n_sites:
            site = force_field["DoubleExponentialVirtualSites"].parameters[0]
            rows += [(site.r_min.m_as("nanometer"), site.epsilon.m_as("kilojoule_per_mole"))] * n_sites
        return np.array(rows)

    def in_openmm(self, force_field: ForceField, columns: np.ndarray | None = None, correction: bool = True):
        """A context on the Reference platform, with the parameters of a force field, or others, of every particle.

        Virtual sites are particles like others there: what moves with them does not.
        """
        handler = force_field["DoubleExponential"]
        cutoff, width = (getattr(handler, name).m_as("nanometer") for name in ("cutoff", "switch_width"))
        columns = self.columns(force_field) if columns is None else columns
        engine = openmm.System()
        engine.setDefaultPeriodicBoxVectors(*self.box)
        pairs = openmm.CustomNonbondedForce(EXPRESSION)
        close = openmm.CustomBondForce(f"scale14*{EXPRESSION}")
        for name in ("r", "e"):
            pairs.addPerParticleParameter(name)
        for name in ("r1", "e1", "r2", "e2"):
            close.addPerBondParameter(name)
        for force, names in ((pairs, ("alpha", "beta")), (close, ("alpha", "beta", "scale14"))):
            for name in names:
                force.addGlobalParameter(name, float(getattr(handler, name)))
        pairs.setNonbondedMethod(openmm.CustomNonbondedForce.CutoffPeriodic)
        pairs.setCutoffDistance(cutoff)
        pairs.setUseLongRangeCorrection(correction)
        pairs.setUseSwitchingFunction(width > 0)
        pairs.setSwitchingDistance(cutoff - width)
        coulomb = openmm.NonbondedForce()
        coulomb.setNonbondedMethod(
            openmm.NonbondedForce.CutoffPeriodic if self.reaction_field else openmm.NonbondedForce.PME
        )
        coulomb.setCutoffDistance(cutoff)
        coulomb.setEwaldErrorTolerance(1e-4)
        system = self.build(force_field)
        charges = np.asarray(system.parameterize()["Electrostatics"])[:, 0]
        scale = force_field["Electrostatics"].scale14
        for charge, values in zip(charges, columns, strict=True):
            engine.addParticle(1.0)
            pairs.addParticle(values)
            coulomb.addParticle(charge, 1.0, 0.0)
        for a, b in system.excluded_pairs.tolist():
            pairs.addExclusion(a, b)
            coulomb.addException(a, b, 0.0, 1.0, 0.0)
        for a, b in system.pairs_14.tolist():
            pairs.addExclusion(a, b)
            coulomb.addException(a, b, scale * charges[a] * charges[b], 1.0, 0.0)
            close.addBond(a, b, [*columns[a], *columns[b]])
        for force in (pairs, close, coulomb):
            engine.addForce(force)
        return context_of(engine, self.particles)


HANDLERS = [
    ElectrostaticsHandler,
    LibraryChargeHandler,
    custom_forms.DoubleExponentialHandler,
    DoubleExponentialVirtualSiteHandler,
]

CASES = {
    "ethanol in water, triclinic": {"edge": 1.6, "triclinic": True},
    "water, as smirnoff-plugins has it": {"edge": 1.9, "cutoff": 0.9, "solute": ""},
    "reaction field, no switch": {"switch_width": 0.0, "potential": REACTION_FIELD},
}

case = lru_cache(lambda name: Case(**CASES[name]))


def number(one: Case, label: str) -> int:
    """The position of one number of the form's section in theta."""
    found = [i for i, name in enumerate(one.theta.labels) if name.startswith(f"{SECTION}/") and name.endswith(label)]
    assert len(found) == 1, (label, found)
    return found[0]
