"""The molecules of the benchmarks: drug-like ones from MiniDrugBank, which openff-toolkit ships."""

from __future__ import annotations

from openff.toolkit import Molecule
from openff.toolkit.utils import get_data_file_path
from rdkit import RDLogger

RDLogger.DisableLog("rdApp.*")

IMATINIB = "Cc1ccc(cc1Nc2nccc(n2)c3cccnc3)NC(=O)c4ccc(cc4)CN5CCN(CC5)C"


def drug_like(count: int, smallest: int = 35, largest: int = 65) -> list[Molecule]:
    """The first molecules of MiniDrugBank with a number of atoms in a range, with Gasteiger charges."""
    molecules = Molecule.from_file(get_data_file_path("molecules/MiniDrugBank.sdf"), allow_undefined_stereo=True)
    chosen = [molecule for molecule in molecules if smallest <= molecule.n_atoms <= largest][:count]
    for molecule in chosen:
        molecule.assign_partial_charges("gasteiger")
    return chosen


def imatinib() -> Molecule:
    """Imatinib, 68 atoms, with Gasteiger charges and a conformer."""
    molecule = Molecule.from_smiles(IMATINIB)
    molecule.generate_conformers(n_conformers=1)
    molecule.assign_partial_charges("gasteiger")
    return molecule
