"""Write ``docs/parity.md``: energies and forces in a box and in implicit solvent beside those of OpenMM."""

from __future__ import annotations

from pathlib import Path

import jax

jax.config.update("jax_enable_x64", True)

import jax.numpy as jnp  # noqa: E402  # x64 comes first
import numpy as np  # noqa: E402
from openff.toolkit import ForceField  # noqa: E402
from openff.toolkit.utils import get_data_file_path  # noqa: E402

from openff_diffsystem import DiffSystem  # noqa: E402
from tests import boxes  # noqa: E402
from tests.molecules import IMATINIB, with_charges  # noqa: E402
from tests.openmm_reference import Reference  # noqa: E402
from tests.potentials.periodic.test_periodic import BOXES  # noqa: E402

TABLE = Path(__file__).parents[1] / "docs" / "parity.md"

PACKED = {
    "cyclohexane_ethanol_0.4_0.6": ("C1CCCCC1", "CCO"),
    "propane_methane_butanol_0.2_0.3_0.5": ("CCC", "C", "CCCCO"),
    "ethanol_water": ("CCO", "O"),
    "cyclohexane_water": ("C1CCCCC1", "O"),
}


def main() -> None:
    """Print and write the table."""
    lines = [
        "# Parity with OpenMM",
        "",
        "Double precision, against OpenMM's Reference platform and the System that stock openff-interchange exports.",
        "Energies in kJ/mol; the largest deviation of a force in units of the rms force. Written by "
        "`python -m benchmarks.parity`.",
        "",
        "| system | particles | OpenMM | ours - OpenMM | vdW | Electrostatics | forces |",
        "|---|---|---|---|---|---|---|",
    ]
    cases = {
        **BOXES,
        "T4 lysozyme in water, ff14SB": boxes.solvated_lysozyme,
        **{name: lambda n=name, s=smiles: boxes.packed(n, *s) for name, smiles in PACKED.items()},
    }
    for name, make in cases.items():
        box = make()
        force_field = box.load()
        reference = Reference(force_field.create_openmm_system(box.topology, **box.options))
        lines.append(_line(name, box.system(force_field), reference, box.positions))
        print(lines[-1], flush=True)
    for model in ("HCT", "OBC1", "OBC2"):
        molecule = with_charges(IMATINIB)
        options = {"charge_from_molecules": [molecule]}
        path = get_data_file_path(f"test_forcefields/GBSA_{model}-1.0.offxml")
        force_field = ForceField("openff-2.2.1.offxml", path)
        reference = Reference(force_field.create_openmm_system(molecule.to_topology(), **options))
        system = DiffSystem.from_smirnoff(force_field, molecule, **options)
        lines.append(_line(f"imatinib, {model}", system, reference, system.positions))
        print(lines[-1], flush=True)
    TABLE.write_text("\n".join(lines) + "\n")


def _line(name: str, system: DiffSystem, reference: Reference, positions: np.ndarray) -> str:
    box = system.box_vectors
    neighbors = None if box is None else system.neighbor_list()
    energy, gradient = jax.value_and_grad(system.to_jax_potential())(
        jnp.asarray(positions), system.force_field_parameters, None, neighbors
    )
    expected, forces = reference.energy(positions), reference.forces(positions)
    sections, found = reference.sections(positions), system.energy_terms()
    deviations = [f"{float(found[tag]) - sections[tag]:.1e}" for tag in ("vdW", "Electrostatics")]
    force = np.abs(forces + np.asarray(gradient)).max() / np.sqrt(np.mean(forces**2))
    total = f"{expected:.6f} | {float(energy) - expected:.1e}"
    return f"| {name} | {system.n_particles} | {total} | {' | '.join(deviations)} | {force:.1e} |"


if __name__ == "__main__":
    main()
