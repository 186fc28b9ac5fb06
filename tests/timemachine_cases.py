"""Molecules, charges and handles that the tests of timemachine's bridge share."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from openff.toolkit import ForceField, Molecule
from rdkit import Chem

from openff_diffsystem import DiffSystem
from openff_diffsystem.interop import timemachine as tm
from tests.molecules import with_charges

SMILES = ("CC(=O)Nc1ccccc1O", "C1CNCOC1F", "CS(=O)(=O)N", "c1ccc2[nH]ccc2c1", "C[N+](=O)[O-]")
BONDED = ("hb_handle", "ha_handle", "pt_handle", "it_handle")
NONBONDED = ("q_handle", "q_handle_intra", "lj_handle", "lj_handle_intra")


def rdkit(smiles: str) -> Chem.Mol:
    """An RDKit molecule with explicit hydrogens."""
    return Chem.AddHs(Chem.MolFromSmiles(smiles))


def openff(mol: Chem.Mol) -> Molecule:
    """The toolkit's molecule with the same atoms."""
    return Molecule.from_rdkit(mol, allow_undefined_stereo=True, hydrogens_are_explicit=True)


def gasteiger(mol: Chem.Mol) -> np.ndarray:
    """Gasteiger charges, e."""
    molecule = openff(mol)
    molecule.assign_partial_charges("gasteiger")
    return molecule.partial_charges.m_as("elementary_charge")


@lru_cache
def sage200() -> ForceField:
    """Sage 2.0.0, which timemachine ships too. Copy it to change it."""
    return ForceField("openff-2.0.0.offxml")


@lru_cache
def simple_handles() -> tm.Handles:
    """Handles of Sage 2.0.0 whose charges have parameters too: one per element."""
    smirks = ["[*:1]", "[#1:1]", "[#6:1]", "[#8:1]"]
    numbers = [0.0, 1.0, -2.0, -5.0]
    charges = (tm.SimpleChargeHandler(smirks, numbers, None), tm.SimpleChargeIntraHandler(smirks, numbers, None))
    return tm.Handles.from_smirnoff(sage200(), charges)


@lru_cache
def bent_amide() -> DiffSystem:
    """N-methylacetamide, bent: at a planar centre the two conventions of improper torsions agree."""
    return _distorted("CC(=O)NC", 0.01)


@lru_cache
def odd_phase() -> DiffSystem:
    """Cyclopropanecarbaldehyde, which has torsions with a phase of 320 degrees (t42), without its mirror plane."""
    return _distorted("O=CC1CC1", 0.03)


def _distorted(smiles: str, scale: float) -> DiffSystem:
    """A molecule in Sage 2.0.0, its coordinates with noise of a scale, nm."""
    molecule = Molecule(with_charges(smiles))
    system = DiffSystem.from_smirnoff(sage200(), molecule, charge_from_molecules=[molecule])
    system.positions = system.positions + np.random.default_rng(0).normal(scale=scale, size=system.positions.shape)
    return system


def torsion_energy(x: np.ndarray, params: Any, idxs: np.ndarray) -> float:
    """k (1 + cos(n phi - phase)), summed, kJ/mol; phi has timemachine's sign, the opposite of OpenMM's and IUPAC's."""
    p0, p1, p2, p3 = (x[idxs[:, i]] for i in range(4))
    n1, n2 = np.cross(p1 - p0, p2 - p1), np.cross(p2 - p1, p3 - p2)
    axis = p2 - p1
    sine = (np.cross(n1, n2) * axis).sum(1) / np.linalg.norm(axis, axis=1)
    k, phase, n = np.asarray(params).T
    return float((k * (1 + np.cos(n * np.arctan2(-sine, (n1 * n2).sum(1)) - phase))).sum())
