"""Molecules that the tests share."""

from __future__ import annotations

import io
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


def lysozyme() -> Topology:
    """T4 lysozyme, 2,634 atoms with a net charge of 8, from openff-toolkit's data."""
    topology = Topology.from_pdb(get_data_file_path("proteins/T4-protein.pdb"))
    topology.box_vectors = None
    return topology


def helix(first: int = 59, last: int = 79) -> Topology:
    """A stretch of T4 lysozyme, by default its third helix, with the residues before and after it cut down to caps.

    The alpha carbons of those two become the methyl groups of acetyl and N-methyl; where they had a heavy substituent
    they get a hydrogen. Neither may be glycine, nor the one after proline.
    """
    residues = _residues(Path(get_data_file_path("proteins/T4-protein.pdb")).read_text())
    before, after = residues[first - 1][1], residues[last + 1][1]
    acetyl = {"CH3": before["CA"], "C": before["C"], "O": before["O"]}
    methyl = {"N": after["N"], "H": after["H"], "C": after["CA"]}
    acetyl |= zip(("HH31", "HH32", "HH33"), (before["HA"], *_shortened(before, "N", "CB")), strict=True)
    methyl |= zip(("H1", "H2", "H3"), (after["HA"], *_shortened(after, "C", "CB")), strict=True)
    kept = [("ACE", acetyl), *(residues[i] for i in range(first, last + 1)), ("NME", methyl)]
    lines = [
        f"ATOM  {0:5d} {name:^4s} {residue} A{number:4d}    {x:8.3f}{y:8.3f}{z:8.3f}  1.00  0.00          {name[0]:>2s}"
        for number, (residue, atoms) in enumerate(kept, start=1)
        for name, (x, y, z) in atoms.items()
    ]
    return Topology.from_pdb(io.StringIO("\n".join([*lines, "END", ""])))


def _residues(pdb: str) -> dict[int, tuple[str, dict[str, np.ndarray]]]:
    """Of each residue of a PDB file its name and its atoms: names and positions, angstrom."""
    residues: dict[int, tuple[str, dict[str, np.ndarray]]] = {}
    for line in pdb.splitlines():
        if line.startswith("ATOM"):
            _, atoms = residues.setdefault(int(line[22:26]), (line[17:20], {}))
            atoms[line[12:16].strip()] = np.array([float(line[i : i + 8]) for i in (30, 38, 46)])
    return residues


def _shortened(atoms: dict[str, np.ndarray], *names: str) -> list[np.ndarray]:
    """Places for hydrogens of the alpha carbon, along its bonds to other atoms, angstrom."""
    bonds = (atoms[name] - atoms["CA"] for name in names)
    return [atoms["CA"] + 1.09 * bond / np.linalg.norm(bond) for bond in bonds]
