"""(b) DiffSystem.from_smirnoff against stock create_interchange."""

from __future__ import annotations

import numpy as np
from openff.toolkit import ForceField, Molecule, Topology

from benchmarks.molecules import imatinib
from benchmarks.timing import Row, measure, once, show
from openff_diffsystem import DiffSystem


def run() -> list[Row]:
    """Imatinib with preset charges, and boxes of water."""
    force_field = ForceField("openff-2.2.1.offxml")
    molecule = imatinib()
    topology = molecule.to_topology()
    stock = measure(
        lambda: force_field.create_interchange(topology, charge_from_molecules=[molecule]).topology and None, 10
    )
    ours = measure(
        lambda: DiffSystem.from_smirnoff(force_field, topology, charge_from_molecules=[molecule]).positions, 10
    )
    ratio = ours.median / stock.median
    rows = [
        Row(
            "from_smirnoff, imatinib, preset charges",
            show(ours.median),
            f"{ratio:.2g}x of create_interchange ({show(stock.median)})",
            "<= 0.7x",
            ratio <= 0.7,
        )
    ]
    times = {}
    water = Molecule.from_smiles("O")
    for count in (2000, 20000):
        # the median of first calls, each on a topology that nobody has seen
        boxes = [Topology.from_molecules([water] * count) for _ in range(5)]
        ours_once = [once(lambda box=box: DiffSystem.from_smirnoff(force_field, box).term_indices) for box in boxes]
        times[count] = float(np.median(ours_once))
        if count == 2000:
            fresh = [Topology.from_molecules([water] * count) for _ in range(3)]
            peers = [once(lambda box=box: force_field.create_interchange(box).topology and None) for box in fresh]
            peer = float(np.median(peers))
            ratio = times[count] / peer
            rows.append(
                Row(
                    "from_smirnoff, 2,000 waters",
                    show(times[count]),
                    f"{ratio:.2g}x of create_interchange ({show(peer)})",
                    "<= 0.02x",
                    ratio <= 0.02,
                )
            )
    growth = np.log(times[20000] / times[2000]) / np.log(10)
    rows.append(
        Row(
            "from_smirnoff, 20,000 waters",
            show(times[20000]),
            f"grows as n^{growth:.2f} from 2,000",
            "<= n^1.1",
            growth <= 1.1,
        )
    )
    return rows
