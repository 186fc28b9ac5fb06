"""Make the data of ``train_valence.py``: GFN2-xTB energies of small molecules, as heat bends and stretches them.

Each frame starts at its own conformer from RDKit, relaxed with MMFF94, with velocities of twice the temperature,
of which the bonds and angles take half. After a short stretch of Langevin dynamics on the GFN2-xTB surface its
positions are rounded to single precision, and the energy is evaluated there. Writes
``examples/data/conformer_energies.npz``:

``smiles``, ``held_out``
    (n_molecules,): mapped SMILES, and whether training must not see the molecule;
``charges/I``
    (n_atoms,), e: AM1-BCC charges of molecule I;
``positions/I``, ``energies/I``
    (n_frames, n_atoms, 3), nm; (n_frames,), kJ/mol, relative to the mean.

Needs tblite and AmberTools, and several minutes on one core (set OMP_NUM_THREADS=1: these matrices are too small to
share). The result is in the repository; run this to make another one.
"""

from pathlib import Path

import numpy as np
from openff.toolkit import Molecule
from rdkit import Chem
from rdkit.Chem import rdDistGeom, rdForceFieldHelpers
from tblite.interface import Calculator
from tqdm import tqdm

DATA = Path(__file__).parent / "data"

TRAINED_ON = (
    *("CCCC", "CCO", "CCOC", "OCCO", "CC(=O)N", "CC(=O)NC", "CC(=O)OC", "CCC(C)=O"),
    *("CCC(=O)O", "CCCN", "CCNC", "CCC#N", "C/C=C/C", "Cc1ccccc1", "Oc1ccccc1", "Cc1ccccn1"),
)
HELD_OUT = ("CCCO", "CCC(N)=O", "COCCO", "Cc1ccc(O)cc1")
"""Made of the same groups, put together in another way."""

FRAMES = 16
STEPS = 120
"""Between the relaxed conformer and the frame."""

TIME_STEP = 5e-4
FRICTION = 20.0
"""ps, and 1/ps: a frame is 60 fs, more than one friction time, away from its minimum."""

TEMPERATURE = 400.0
BOLTZMANN = 0.00831446261815324
"""K, and kJ/mol/K."""

NM_PER_BOHR = 0.0529177210903
KJ_PER_HARTREE = 2625.4996394799


class XTB:
    """GFN2-xTB energies of one molecule."""

    def __init__(self, numbers: np.ndarray, positions: np.ndarray) -> None:
        self.calculator = Calculator("GFN2-xTB", numbers, positions / NM_PER_BOHR)
        self.calculator.set("verbosity", 0)
        self.calculator.set("accuracy", 0.1)

    def __call__(self, positions: np.ndarray) -> tuple[float, np.ndarray]:
        """Energy, kJ/mol, and gradient, kJ/mol/nm, at ``positions``, (n_atoms, 3), nm."""
        self.calculator.update(positions / NM_PER_BOHR)
        found = self.calculator.singlepoint()
        return found.get("energy") * KJ_PER_HARTREE, found.get("gradient") * (KJ_PER_HARTREE / NM_PER_BOHR)


def conformers(smiles: str) -> tuple[Chem.Mol, np.ndarray]:
    """The molecule, and starting points, (FRAMES, n_atoms, 3), nm."""
    molecule = Chem.AddHs(Chem.MolFromSmiles(smiles))
    rdDistGeom.EmbedMultipleConfs(molecule, FRAMES, randomSeed=11)
    rdForceFieldHelpers.MMFFOptimizeMoleculeConfs(molecule, maxIters=2000)
    return molecule, np.array([conformer.GetPositions() / 10 for conformer in molecule.GetConformers()])


def shaken(xtb: XTB, positions: np.ndarray, masses: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """``positions``, (n_atoms, 3), nm, after Langevin dynamics (the splitting BAOAB)."""
    spread = np.sqrt(BOLTZMANN * TEMPERATURE / masses)[:, None]
    kept = np.exp(-FRICTION * TIME_STEP)
    velocities = np.sqrt(2) * spread * rng.normal(size=positions.shape)
    gradient = xtb(positions)[1]
    for _ in range(STEPS):
        velocities = velocities - TIME_STEP / 2 * gradient / masses[:, None]
        positions = positions + TIME_STEP / 2 * velocities
        velocities = kept * velocities + np.sqrt(1 - kept**2) * spread * rng.normal(size=positions.shape)
        positions = positions + TIME_STEP / 2 * velocities
        gradient = xtb(positions)[1]
        velocities = velocities - TIME_STEP / 2 * gradient / masses[:, None]
    return positions


def main() -> None:
    """Make the frames of every molecule and write them."""
    rng = np.random.default_rng(5)
    every = (*TRAINED_ON, *HELD_OUT)
    arrays: dict[str, np.ndarray] = {"held_out": np.array([smiles in HELD_OUT for smiles in every])}
    mapped = []
    with tqdm(total=len(every) * FRAMES, desc="shaking", unit="frame") as progress:
        for i, smiles in enumerate(every):
            rdmol, starts = conformers(smiles)
            molecule = Molecule.from_rdkit(rdmol, allow_undefined_stereo=True)
            molecule.assign_partial_charges("am1bcc")
            mapped.append(molecule.to_smiles(mapped=True))
            xtb = XTB(np.array([atom.GetAtomicNum() for atom in rdmol.GetAtoms()]), starts[0])
            masses = np.array([atom.GetMass() for atom in rdmol.GetAtoms()])
            frames, energies = [], []
            for start in starts:
                frame = shaken(xtb, start, masses, rng).astype(np.float32)
                frames.append(frame)
                energies.append(xtb(frame.astype(float))[0])
                progress.update()
            arrays[f"charges/{i}"] = molecule.partial_charges.m_as("elementary_charge")
            arrays[f"positions/{i}"] = np.array(frames)
            arrays[f"energies/{i}"] = np.array(energies) - np.mean(energies)
    np.savez_compressed(DATA / "conformer_energies.npz", smiles=np.array(mapped), **arrays)


if __name__ == "__main__":
    main()
