"""Periodic systems that the tests share: topologies with a box, and positions of their atoms."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from openff.toolkit import ForceField, Molecule, Quantity, Topology
from openff.toolkit.utils import get_data_file_path
from scipy.spatial import cKDTree

from openff_diffsystem import DiffSystem
from tests.molecules import IMATINIB, helix, lysozyme, peptide, with_charges

WATERS_PER_NM3 = 33.3

TRICLINIC = np.array([[1.0, 0, 0], [0.2, 1.0, 0], [-0.15, 0.3, 1.0]])
"""A reduced shape, to be scaled."""


class Box(NamedTuple):
    """A periodic system: how to make it, and where its atoms are."""

    force_field: tuple[str, ...]
    topology: Topology
    positions: np.ndarray
    preset: tuple[Molecule, ...] = ()
    periodic_vdw: str = "cutoff"

    def load(self) -> ForceField:
        """The force field."""
        force_field = ForceField(*self.force_field)
        force_field["vdW"].periodic_method = self.periodic_vdw
        return force_field

    @property
    def options(self) -> dict:
        """Keyword arguments of ``create_openmm_system`` and ``from_smirnoff``."""
        return {"charge_from_molecules": list(self.preset)} if self.preset else {}

    @property
    def box_vectors(self) -> np.ndarray:
        return self.topology.box_vectors.m_as("nanometer")

    def system(self, force_field: ForceField | None = None) -> DiffSystem:
        """The system, with its own force field or another one."""
        return DiffSystem.from_smirnoff(
            force_field or self.load(), self.topology, positions=self.positions, **self.options
        )


def solvate(
    solutes: list[tuple[Molecule, np.ndarray]], box: np.ndarray, spacing: float = WATERS_PER_NM3 ** (-1 / 3)
) -> tuple[Topology, np.ndarray]:
    """Solutes with their positions, and water in random orientations on a lattice around them."""
    rng = np.random.default_rng(0)
    counts = np.floor(np.diag(box) / spacing).astype(int)
    grid = np.stack(np.meshgrid(*map(np.arange, counts), indexing="ij"), axis=-1).reshape(-1, 3) / counts
    centers = (grid + 0.5 / counts) @ box
    if solutes:
        atoms = np.concatenate([positions for _, positions in solutes])
        centers = centers[cKDTree(atoms).query(centers)[0] > 0.3]
    water = with_charges("O", conformer=False)
    shape = np.array([[0, 0, 0], [0.09572, 0, 0], [-0.023999, 0.092663, 0]])
    waters = [shape @ _rotation(rng).T + center for center in centers]
    topology = Topology.from_molecules([*(molecule for molecule, _ in solutes), *[water] * len(waters)])
    topology.box_vectors = Quantity(box, "nanometer")
    return topology, np.concatenate([*(positions for _, positions in solutes), *waters])


def _rotation(rng: np.random.Generator) -> np.ndarray:
    q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    return q if np.linalg.det(q) > 0 else -q


def centered(molecule: Molecule, box: np.ndarray) -> tuple[Molecule, np.ndarray]:
    """A molecule at its first conformer, in the middle of a box."""
    positions = molecule.conformers[0].m_as("nanometer")
    return molecule, positions - positions.mean(axis=0) + box.sum(axis=0) / 2


@lru_cache
def water(force_field: str, edge: float = 2.0, triclinic: bool = False) -> Box:
    """Water."""
    box = edge * (TRICLINIC if triclinic else np.eye(3))
    return Box((force_field,), *solvate([], box))


@lru_cache
def salt(edge: float = 2.0) -> Box:
    """Two ion pairs in TIP3P water."""
    box = edge * np.eye(3)
    ions = [(with_charges(smiles, conformer=False), np.array([place]) * edge) for smiles, place in
            (("[Na+]", (0.2, 0.2, 0.3)), ("[Cl-]", (0.7, 0.3, 0.8)), ("[Na+]", (0.6, 0.8, 0.1)), ("[Cl-]", (0.1, 0.6, 0.6)))]  # fmt: skip # noqa: E501
    return Box(("openff-2.2.1.offxml",), *solvate(ions, box))


@lru_cache
def ligand(smiles: str = IMATINIB, force_field: tuple[str, ...] = ("openff-2.2.1.offxml",), edge: float = 2.6) -> Box:
    """A ligand in water."""
    box = edge * np.eye(3)
    molecule = with_charges(smiles)
    return Box(force_field, *solvate([centered(molecule, box)], box), preset=(molecule,))


@lru_cache
def protein(edge: float = 2.4) -> Box:
    """A capped dipeptide with the port of ff14SB, in TIP3P water."""
    return _solvated_protein(peptide().molecule(0), edge * np.eye(3))


@lru_cache
def solvated_helix(margin: float = 0.8) -> Box:
    """A helix of T4 lysozyme, 21 residues and two caps, with the port of ff14SB in TIP3P water."""
    molecule = _along_axes(helix().molecule(0))
    box = np.diag(np.ptp(molecule.conformers[0].m_as("nanometer"), axis=0) + 2 * margin)
    return _solvated_protein(molecule, box)


@lru_cache
def solvated_lysozyme(edges: tuple[float, float, float] = (6.25, 6.25, 6.55)) -> Box:
    """T4 lysozyme with the port of ff14SB in TIP3P water, about 24,000 atoms."""
    return _solvated_protein(lysozyme().molecule(0), np.diag(edges))


def _solvated_protein(molecule: Molecule, box: np.ndarray) -> Box:
    return Box(("ff14sb_off_impropers_0.0.3.offxml", "tip3p.offxml"), *solvate([centered(molecule, box)], box))


def _along_axes(molecule: Molecule) -> Molecule:
    """The molecule turned so that it is longest along z and shortest along x, which saves water around it."""
    turned = Molecule(molecule)
    positions = molecule.conformers[0].m_as("nanometer")
    axes = np.linalg.svd(positions - positions.mean(axis=0), full_matrices=False)[2][::-1]
    axes[0] *= np.linalg.det(axes)  # a mirror image would be another molecule
    turned._conformers = [Quantity(positions @ axes.T, "nanometer")]
    return turned


@lru_cache
def packed(name: str, *smiles: str) -> Box:
    """One of the boxes that openff-toolkit ships."""
    molecules = tuple(with_charges(one, conformer=False) for one in smiles)
    topology = Topology.from_pdb(
        get_data_file_path(f"systems/packmol_boxes/{name}.pdb"), unique_molecules=list(molecules)
    )
    positions = topology.get_positions().m_as("nanometer")
    return Box(("openff-2.2.1.offxml",), topology, positions, preset=molecules)
