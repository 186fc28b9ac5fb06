"""Molecules that the tests share."""

from __future__ import annotations

import tarfile
from functools import lru_cache
from pathlib import Path

import numpy as np
from openff.toolkit import Molecule, Quantity, Topology
from openff.toolkit.utils import get_data_file_path
from rdkit import Chem

IMATINIB = "Cc1ccc(cc1Nc2nccc(n2)c3cccnc3)NC(=O)c4ccc(cc4)CN5CCN(CC5)C"


@lru_cache
def with_charges(smiles: str, conformer: bool = True) -> Molecule:
    """A molecule with Gasteiger charges, and one conformer; callers must not change it."""
    molecule = Molecule.from_smiles(smiles, allow_undefined_stereo=True)
    if conformer:
        molecule.generate_conformers(n_conformers=1)
    molecule.assign_partial_charges("gasteiger")
    return molecule


def mini_drug_bank() -> list[Molecule]:
    """MiniDrugBank, which openff-toolkit ships, with conformers: 371 entries, of which RDKit accepts 352."""
    path = Path(get_data_file_path("molecules/MiniDrugBank.sdf"))
    return Molecule.from_file(str(path), allow_undefined_stereo=True)


def alk_eth_oh() -> list[Molecule]:
    """The AlkEthOH set that openff-toolkit ships: alkanes, ethers and alcohols with Tripos atom types."""
    molecules = []
    with tarfile.open(get_data_file_path("molecules/AlkEthOH_tripos.tar.gz")) as archive:
        for member in sorted(archive.getnames()):
            if member.endswith("_tripos.mol2"):
                block = archive.extractfile(member).read().decode()
                rdmol = Chem.MolFromMol2Block(block, removeHs=False)
                Chem.AssignStereochemistryFrom3D(rdmol)
                molecule = Molecule.from_rdkit(rdmol, allow_undefined_stereo=True, hydrogens_are_explicit=True)
                molecule.name = Path(member).stem.removesuffix("_tripos")
                molecules.append(molecule)
    return molecules


@lru_cache
def charged(every: int = 20) -> tuple[Molecule, ...]:
    """MiniDrugBank and every n-th molecule of AlkEthOH with Gasteiger charges; callers must not change them."""
    return tuple(gasteiger(molecule) for molecule in (*mini_drug_bank(), *alk_eth_oh()[::every]))


def gasteiger(molecule: Molecule) -> Molecule:
    """The molecule itself, with Gasteiger charges."""
    molecule.assign_partial_charges("gasteiger")
    return molecule


@lru_cache
def in_vacuum() -> tuple[Molecule, ...]:
    """The molecules of :func:`charged`, ions and water, at an RDKit conformer.

    Where RDKit finds no conformer (one molecule of MiniDrugBank), the one of the file is kept.
    """
    molecules = tuple(Molecule(molecule) for molecule in charged())
    for molecule in molecules:
        kept = molecule.conformers
        try:
            molecule.generate_conformers(n_conformers=1)
        except ValueError:
            molecule._conformers = kept
    return (*molecules, *ions_and_water())


def ions_and_water() -> list[Molecule]:
    """Monatomic ions and water, with their formal charges as partial charges where they are ions."""
    ions = ["[Li+]", "[Na+]", "[K+]", "[Rb+]", "[Cs+]", "[F-]", "[Cl-]", "[Br-]", "[I-]"]
    return [with_charges("O"), *(_ion(smiles) for smiles in ions)]


def _ion(smiles: str) -> Molecule:
    ion = Molecule.from_smiles(smiles)
    ion.add_conformer(Quantity(np.zeros((1, 3)), "angstrom"))
    ion.assign_partial_charges("formal_charge")
    return ion


def peptide() -> Topology:
    """A small capped peptide, from openff-toolkit's data."""
    topology = Topology.from_pdb(get_data_file_path("proteins/MainChain_ALA_ALA.pdb"))
    topology.box_vectors = None
    return topology
