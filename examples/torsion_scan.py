"""Make the data of ``refit_torsion.py``: a GFN2-xTB scan of the amide torsion of imatinib.

The torsion is turned in steps of 15 degrees, once forward and once backward. At each angle a harmonic
restraint holds it while everything else relaxes, and the lower of the two sweeps is kept. Energies are
without the restraint, at the angle that was reached. Writes to ``examples/data``:

``imatinib.sdf``
    the molecule with AM1-BCC charges, in the conformer of lowest energy;
``imatinib_scan.npz``
    ``positions`` (24, n_atoms, 3), nm; ``energies`` (24,), kJ/mol, relative to the lowest; ``angles`` (24,),
    degrees, from -90 on; ``torsion`` (4,), the atoms that are turned.

Needs tblite, scipy and AmberTools, and a quarter of an hour on one core (set OMP_NUM_THREADS=1: these
matrices are too small to share). The result is in the repository; run this to make another one.
"""

import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from openff.toolkit import ForceField, Molecule, Quantity
from rdkit import Chem
from rdkit.Chem import rdDistGeom, rdForceFieldHelpers, rdMolTransforms
from scipy.optimize import minimize
from tblite.interface import Calculator
from tqdm import tqdm

from openff_diffsystem import DiffSystem

jax.config.update("jax_enable_x64", True)

DATA = Path(__file__).parent / "data"

SMILES = "CN1CCN(CC1)Cc1ccc(cc1)C(=O)Nc1ccc(C)c(c1)Nc1nccc(n1)-c1cccnc1"
TORSION = "c-[CX3](=O)-[NX3]-c"
"""Aryl carbon, carbonyl carbon, oxygen, nitrogen, aryl carbon; the oxygen is not part of the torsion."""

STEP = 15
"""Degrees between frames."""

RESTRAINT = 4000.0
"""kJ/mol/rad^2: with a barrier of 40 kJ/mol the torsion stops less than a degree short."""

TOLERANCE = 5e-4
"""kJ/mol: how far above its minimum a frame may still be by its gradient and the model Hessian. The softest
modes are softer than the model, so it can be more: at ten times this value frames were 0.1 kJ/mol high."""

SOFTEST = 1000.0
"""kJ/mol/nm^2: the least curvature that the model Hessian is trusted with."""

NM_PER_BOHR = 0.0529177210903
KJ_PER_HARTREE = 2625.4996394799


def embed(smiles: str) -> Chem.Mol:
    """One conformer, relaxed with MMFF94."""
    molecule = Chem.AddHs(Chem.MolFromSmiles(smiles))
    rdDistGeom.EmbedMolecule(molecule, randomSeed=7)
    rdForceFieldHelpers.MMFFOptimizeMolecule(molecule, maxIters=5000)
    return molecule


def find_torsion(molecule: Chem.Mol) -> tuple[int, int, int, int]:
    """The atoms of the torsion to scan."""
    first, carbonyl, _, nitrogen, last = molecule.GetSubstructMatch(Chem.MolFromSmarts(TORSION))
    return first, carbonyl, nitrogen, last


def turned(molecule: Chem.Mol, positions: np.ndarray, torsion: tuple[int, ...], angle: float) -> np.ndarray:
    """``positions``, (n_atoms, 3), nm, with the torsion at ``angle``, degrees, and everything else rigid."""
    conformer = Chem.Mol(molecule).GetConformer()
    conformer.SetPositions(positions * 10)
    rdMolTransforms.SetDihedralDeg(conformer, *torsion, float(angle))
    return conformer.GetPositions() / 10


def measured(molecule: Chem.Mol, positions: np.ndarray, torsion: tuple[int, ...], near: float) -> float:
    """The torsion in degrees, less than half a turn from ``near``."""
    conformer = Chem.Mol(molecule).GetConformer()
    conformer.SetPositions(positions * 10)
    return near + math.remainder(rdMolTransforms.GetDihedralDeg(conformer, *torsion) - near, 360)


def restraint(positions: jax.Array, torsion: tuple[int, ...], angle: float) -> jax.Array:
    """Harmonic energy, kJ/mol, that holds the torsion at ``angle``, degrees."""
    a, b, c, d = positions[jnp.asarray(torsion)]
    u, v, w = b - a, c - b, d - c
    sine, cosine = jnp.linalg.norm(v) * jnp.dot(u, jnp.cross(v, w)), jnp.dot(jnp.cross(u, v), jnp.cross(v, w))
    phi = jnp.arctan2(sine, cosine)
    away = phi - jnp.deg2rad(angle)
    return RESTRAINT / 2 * jnp.arctan2(jnp.sin(away), jnp.cos(away)) ** 2


class XTB:
    """GFN2-xTB energies of one molecule."""

    def __init__(self, numbers: np.ndarray, positions: np.ndarray) -> None:
        self.calculator = Calculator("GFN2-xTB", numbers, positions / NM_PER_BOHR)
        self.calculator.set("verbosity", 0)
        self.calculator.set("accuracy", 0.1)
        self.last = None

    def __call__(self, positions: np.ndarray) -> tuple[float, np.ndarray]:
        """Energy, kJ/mol, and gradient, kJ/mol/nm, at ``positions``, (n_atoms, 3), nm."""
        self.calculator.update(positions / NM_PER_BOHR)
        self.last = self.calculator.singlepoint(self.last)
        energy, gradient = self.last.get("energy"), self.last.get("gradient")
        return energy * KJ_PER_HARTREE, gradient * (KJ_PER_HARTREE / NM_PER_BOHR)


class Relaxation:
    """Relaxes frames with BFGS, in coordinates in which the Hessian of Sage is the unit matrix."""

    def __init__(self, ligand: Molecule, xtb: XTB, torsion: tuple[int, ...]) -> None:
        force_field = ForceField("openff_unconstrained-2.2.1.offxml", load_plugins=True)
        system = DiffSystem.from_smirnoff(force_field, ligand, charge_from_molecules=[ligand])
        potential, theta = system.to_jax_potential(), system.force_field_parameters

        def model(positions: jax.Array, angle: float) -> jax.Array:
            return potential(positions, theta) + restraint(positions, torsion, angle)

        self.xtb = xtb
        self.restraint = jax.jit(jax.value_and_grad(lambda frame, angle: restraint(frame, torsion, angle)))
        self.hessian = jax.jit(jax.hessian(model))

    def __call__(self, positions: np.ndarray, angle: float) -> tuple[np.ndarray, float]:
        """Relaxed positions, (n_atoms, 3), nm, and their energy without restraint, kJ/mol."""
        size = positions.size
        curvatures, modes = np.linalg.eigh(np.reshape(self.hessian(positions, angle), (size, size)))
        to_positions = modes / np.sqrt(np.maximum(np.abs(curvatures), SOFTEST))

        def place(scaled: np.ndarray) -> np.ndarray:
            return positions + (to_positions @ scaled).reshape(-1, 3)

        def energy(scaled: np.ndarray) -> tuple[float, np.ndarray]:
            value, gradient = self.xtb(place(scaled))
            held, pull = self.restraint(place(scaled), angle)
            return value + float(held), to_positions.T @ (gradient + np.asarray(pull)).ravel()

        tolerance = {"gtol": np.sqrt(2 * TOLERANCE), "norm": 2, "maxiter": 500}
        found = minimize(energy, np.zeros(size), jac=True, method="BFGS", options=tolerance)
        if not found.success:
            raise RuntimeError(f"the frame at {angle} degrees did not relax: {found.message}")
        return place(found.x), self.xtb(place(found.x))[0]


Frames = dict[int, tuple[np.ndarray, float]]
"""Positions, (n_atoms, 3), nm, and energy, kJ/mol, by restraint angle, degrees."""


def scan(molecule: Chem.Mol, relax: Relaxation, torsion: tuple[int, ...]) -> Frames:
    """The relaxed frames, in order, from -90 degrees on."""
    start = molecule.GetConformer().GetPositions() / 10
    first = STEP * round(measured(molecule, start, torsion, near=90) / STEP)
    best: Frames = {}
    with tqdm(total=2 * 360 // STEP, desc="relaxing", unit="frame") as progress:
        for direction in (1, -1):
            positions = start
            for turn in range(0, 360, STEP):
                angle = (first + direction * turn + 90) % 360 - 90
                positions, energy = relax(turned(molecule, positions, torsion, angle), angle)
                if angle not in best or energy < best[angle][1]:
                    best[angle] = positions, energy
                progress.update()
    return dict(sorted(best.items()))


def main() -> None:
    """Run the scan and write the data."""
    DATA.mkdir(exist_ok=True)
    molecule = embed(SMILES)
    torsion = find_torsion(molecule)
    ligand = Molecule.from_rdkit(molecule)
    ligand.name = "imatinib"
    ligand.assign_partial_charges("am1bcc")

    start = molecule.GetConformer().GetPositions() / 10
    xtb = XTB(np.array([atom.GetAtomicNum() for atom in molecule.GetAtoms()]), start)
    frames = scan(molecule, Relaxation(ligand, xtb, torsion), torsion)
    lowest, least = min(frames.values(), key=lambda frame: frame[1])

    ligand.conformers[0] = Quantity(lowest, "nanometer")
    ligand.to_file(str(DATA / "imatinib.sdf"), file_format="SDF")
    np.savez(
        DATA / "imatinib_scan.npz",
        positions=np.array([positions for positions, _ in frames.values()]),
        energies=np.array([energy - least for _, energy in frames.values()]),
        angles=np.array([measured(molecule, frame, torsion, near) for near, (frame, _) in frames.items()]),
        torsion=np.array(torsion),
    )


if __name__ == "__main__":
    main()
