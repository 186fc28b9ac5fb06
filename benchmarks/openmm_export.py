"""(f) An OpenMM System of 2,000 waters, straight from arrays and through openff-interchange."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from openff.toolkit import ForceField, Molecule, Quantity, Topology

from benchmarks.timing import Row, once, show
from openff_diffsystem import DiffSystem

WATERS = 2000
EDGE = 3.92
"""nm, of water at its density."""


def run() -> list[Row]:
    """Each the median of three calls; the Interchange is made beforehand."""
    force_field = ForceField("openff-2.2.1.offxml")
    topology = Topology.from_molecules([Molecule.from_smiles("O")] * WATERS)
    topology.box_vectors = Quantity(EDGE * np.eye(3), "nanometer")
    system = DiffSystem.from_smirnoff(force_field, topology)
    interchange = force_field.create_interchange(topology)
    ours = _median(lambda: system.to_openmm().getNumParticles())
    stock = _median(lambda: interchange.to_openmm(combine_nonbonded_forces=True).getNumParticles())
    made = system.to_openmm()
    updated = _median(lambda: system.update_openmm(made))
    ratio = ours / stock
    return [
        Row(
            "to_openmm, 2,000 waters",
            show(ours),
            f"{ratio:.2g}x of Interchange.to_openmm ({show(stock)})",
            "<= 0.2x",
            ratio <= 0.2,
        ),
        Row("update_openmm, 2,000 waters", show(updated)),
    ]


def _median(function: Callable[[], Any]) -> float:
    return float(np.median([once(function) for _ in range(3)]))
