"""DiffSystem.from_interchange: the numbers of a ready Interchange, and the same theta as from_smirnoff."""

from __future__ import annotations

import numpy as np
import pytest
from openff.toolkit import ForceField, Molecule, Topology

from openff_diffsystem import DiffSystem
from openff_diffsystem.exceptions import ParameterMismatchError
from tests.interchange_reference import assert_same_parameters
from tests.molecules import IMATINIB, with_charges


def mixture(name: str) -> tuple[ForceField, Topology, list[Molecule]]:
    drug, water = with_charges(IMATINIB), with_charges("O")
    if name.startswith("openff"):
        return ForceField(name), Topology.from_molecules([water, drug, water]), [drug]
    return ForceField(name), Topology.from_molecules([water, water]), []


@pytest.mark.parametrize("name", ["openff-2.2.1.offxml", "tip3p.offxml", "tip4p_fb.offxml", "tip5p.offxml"])
@pytest.mark.parametrize("with_force_field", [False, True])
def test_same_numbers(name, with_force_field):
    force_field, topology, charged = mixture(name)
    interchange = force_field.create_interchange(topology, charge_from_molecules=charged or None)
    system = DiffSystem.from_interchange(interchange, force_field if with_force_field else None)
    compared = assert_same_parameters(system, interchange)
    assert compared["vdW"] >= topology.n_atoms
    np.testing.assert_allclose(system.positions, interchange.positions.m_as("nanometer"))


def test_same_theta_and_energy_as_from_smirnoff():
    force_field, topology, charged = mixture("openff-2.2.1.offxml")
    interchange = force_field.create_interchange(topology, charge_from_molecules=charged)
    ours = DiffSystem.from_smirnoff(force_field, topology, charge_from_molecules=charged)
    read = DiffSystem.from_interchange(interchange, force_field)
    assert read.parameter_layout == ours.parameter_layout
    positions = np.asarray(ours.positions) + np.repeat([[0, 0, 0], [1, 0, 0], [2, 0, 0]], [3, 68, 3], axis=0)
    theta = ours.force_field_parameters
    expected = ours.energy_terms(positions, theta)
    for section, energy in read.energy_terms(positions, theta).items():
        assert float(energy) == pytest.approx(float(expected[section]), rel=1e-12), section


def test_other_force_field_is_refused():
    force_field, topology, charged = mixture("openff-2.2.1.offxml")
    interchange = force_field.create_interchange(topology, charge_from_molecules=charged)
    with pytest.raises(ParameterMismatchError, match="has no"):
        DiffSystem.from_interchange(interchange, ForceField("openff-1.0.0.offxml"))
