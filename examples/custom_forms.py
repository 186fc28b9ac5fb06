"""Two functional forms that SMIRNOFF does not have: Morse bonds, and a double exponential in place of Lennard-Jones.

A form takes one file: a ``ParameterHandler`` that reads the section, and a function that gives its energies.

    python examples/custom_forms.py

What it prints last is of a box of water: pair forms end at their cutoff there as smirnoff-plugins has OpenMM do.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from openff.toolkit import ForceField, Molecule, Quantity, Topology, unit
from openff.toolkit.typing.engines.smirnoff.parameters import (
    ElectrostaticsHandler,
    LibraryChargeHandler,
    ParameterAttribute,
    ParameterHandler,
    ParameterType,
    _NonbondedHandler,
)

from openff_diffsystem import DiffSystem
from openff_diffsystem.forms import PairForm, ValenceForm, register_form
from openff_diffsystem.potentials.geometry import columns, difference, norm, safe_sqrt


class MorseBondHandler(ParameterHandler):
    """depth (1 - exp(-width (r - length)))^2 (P. M. Morse, Phys. Rev. 34, 57 (1929))."""

    class MorseBondType(ParameterType):
        _ELEMENT_NAME = "Bond"
        depth = ParameterAttribute(unit=unit.kilojoule_per_mole)
        width = ParameterAttribute(unit=unit.nanometer**-1)
        length = ParameterAttribute(unit=unit.nanometer)

    _TAGNAME = "MorseBonds"
    _INFOTYPE = MorseBondType


class DoubleExponentialHandler(_NonbondedHandler):
    """epsilon (beta exp(alpha) / (alpha - beta) exp(-alpha r / r_min) - the same with alpha and beta exchanged).

    V. H. Man et al., J. Chem. Theory Comput. 17, 1086 (2021), doi:10.1021/acs.jctc.0c01267. The
    attributes are those of the handler in smirnoff-plugins: with that package installed, registering the form is all
    that is left to do.
    """

    class DoubleExponentialType(ParameterType):
        _ELEMENT_NAME = "Atom"
        r_min = ParameterAttribute(unit=unit.nanometer)
        epsilon = ParameterAttribute(unit=unit.kilojoule_per_mole)

    _TAGNAME = "DoubleExponential"
    _INFOTYPE = DoubleExponentialType
    scale14 = ParameterAttribute(default=0.5, converter=float)
    cutoff = ParameterAttribute(default=0.9 * unit.nanometer, unit=unit.nanometer)
    switch_width = ParameterAttribute(default=0.1 * unit.nanometer, unit=unit.nanometer)
    periodic_method = ParameterAttribute(default="cutoff", converter=str)
    nonperiodic_method = ParameterAttribute(default="no-cutoff", converter=str)
    alpha = ParameterAttribute(default=18.7, converter=float)
    beta = ParameterAttribute(default=3.3, converter=float)


def morse(corners, parameters, settings):
    depth, width, length = columns(parameters)
    a, b = corners
    return depth * (1.0 - jnp.exp(-width * (norm(difference(b, a)) - length))) ** 2


def double_exponential(r2, a, b, settings):
    alpha, beta = settings["alpha"], settings["beta"]
    (r_a, epsilon_a), (r_b, epsilon_b) = a, b
    x = jnp.sqrt(r2) / (0.5 * (r_a + r_b))
    repulsion = beta / (alpha - beta) * jnp.exp(alpha * (1.0 - x))
    attraction = alpha / (alpha - beta) * jnp.exp(beta * (1.0 - x))
    return safe_sqrt(epsilon_a) * safe_sqrt(epsilon_b) * (repulsion - attraction)


register_form(ValenceForm("MorseBonds", ("depth", "width", "length"), 2, morse))
register_form(
    PairForm("DoubleExponential", ("r_min", "epsilon"), double_exponential, sites="DoubleExponentialVirtualSites")
)

OFFXML = """<?xml version="1.0" encoding="utf-8"?>
<SMIRNOFF version="0.3" aromaticity_model="OEAroModel_MDL">
    <MorseBonds version="0.3">
        <Bond smirks="[*:1]~[*:2]" id="m1" depth="90 * kilocalorie_per_mole" width="2.0 * angstrom**-1"
              length="1.5 * angstrom"></Bond>
        <Bond smirks="[#1:1]-[*:2]" id="m2" depth="100 * kilocalorie_per_mole" width="1.9 * angstrom**-1"
              length="1.09 * angstrom"></Bond>
    </MorseBonds>
    <DoubleExponential version="0.3" alpha="18.7" beta="3.3" scale14="0.5">
        <Atom smirks="[*:1]" id="d1" r_min="3.8 * angstrom" epsilon="0.1 * kilocalorie_per_mole"></Atom>
        <Atom smirks="[#1:1]" id="d2" r_min="2.6 * angstrom" epsilon="0.02 * kilocalorie_per_mole"></Atom>
    </DoubleExponential>
</SMIRNOFF>
"""

WATER = """<SMIRNOFF version="0.3" aromaticity_model="OEAroModel_MDL">
    <Electrostatics version="0.4" cutoff="9.0 * angstrom"></Electrostatics>
    <LibraryCharges version="0.3">
        <LibraryCharge smirks="[#1:1]-[#8X2H2:2]-[#1:3]" charge1="0.417 * elementary_charge"
            charge2="-0.834 * elementary_charge" charge3="0.417 * elementary_charge"></LibraryCharge>
    </LibraryCharges>
    <DoubleExponential version="0.3" alpha="18.7" beta="3.3" scale14="0.5">
        <Atom smirks="[#1:1]-[#8X2H2]" id="d3" r_min="1.0 * angstrom" epsilon="0.001 * kilocalorie_per_mole"></Atom>
        <Atom smirks="[#8X2H2:1]" id="d4" r_min="3.54 * angstrom" epsilon="0.152 * kilocalorie_per_mole"></Atom>
    </DoubleExponential>
</SMIRNOFF>
"""

HANDLERS = [MorseBondHandler, DoubleExponentialHandler]
"""In a package: entry points of the group openff.toolkit.plugins.handlers, found with load_plugins=True."""


def water_box(edge: float = 1.9, n_edge: int = 6) -> tuple[Topology, np.ndarray]:
    """Water on a lattice, each turned another way: a topology with its box, and positions of its atoms, nm."""
    water = Molecule.from_smiles("O")
    water.generate_conformers(n_conformers=1)
    shape, rng = water.conformers[0].m_as("nanometer"), np.random.default_rng(0)
    rotations = [np.linalg.qr(rng.normal(size=(3, 3)))[0] for _ in range(n_edge**3)]
    centers = (np.indices((n_edge,) * 3).reshape(3, -1).T + 0.5) * edge / n_edge
    topology = Topology.from_molecules([water] * len(centers))
    topology.box_vectors = Quantity(edge * np.eye(3), "nanometer")
    positions = [shape @ rotation + center for rotation, center in zip(rotations, centers, strict=True)]
    return topology, np.concatenate(positions)


def liquid() -> None:
    """The same forms in a box, with charges: what a fit to a liquid differentiates."""
    classes = [*HANDLERS, ElectrostaticsHandler, LibraryChargeHandler]
    force_field = ForceField(OFFXML, WATER, parameter_handler_classes=classes)
    topology, positions = water_box()
    system = DiffSystem.from_smirnoff(force_field, topology, positions=positions)
    theta, neighbors = system.force_field_parameters, system.neighbor_list()
    gradient = jax.jit(jax.value_and_grad(system.to_jax_potential(), argnums=(1, 2)))
    energy, (slopes, of_box) = gradient(positions, theta, system.box_vectors, neighbors)
    print(f"{topology.n_molecules} waters in a box: {float(energy):.3f} kJ/mol")
    for label, unit_, slope in zip(theta.labels, theta.units, slopes.vector, strict=True):
        if label.startswith("DoubleExponential/") and slope:
            print(f"dU/d({label}): {float(slope):.4g} kJ/mol per {unit_}")
    print(f"dU/d(edges of the box): {jnp.diagonal(of_box)} kJ/mol per nm")


def main() -> None:
    """Energies and derivatives of ethanol, the file with one number changed, and a box of water."""
    force_field = ForceField(OFFXML, parameter_handler_classes=HANDLERS)
    molecule = Molecule.from_smiles("CCO")
    molecule.generate_conformers(n_conformers=1)
    system = DiffSystem.from_smirnoff(force_field, molecule)
    theta = system.force_field_parameters
    for section, energy in system.energy_terms().items():
        print(f"{section}: {float(energy):.3f} kJ/mol")
    slopes = jax.grad(system.to_jax_potential(), argnums=1)(system.positions, theta)
    for label, unit_, slope in zip(theta.labels, theta.units, slopes.vector, strict=True):
        print(f"dU/d({label}): {float(slope):.4g} kJ/mol per {unit_}")
    wider = theta.select("MorseBonds", "width", id="m1")
    refit = wider.replace(1.01 * wider.vector).to_force_field(force_field)
    print(refit["MorseBonds"].parameters[0])
    liquid()


if __name__ == "__main__":
    main()
