"""Refit the torsion parameters of Sage 2.2.1 that turn the amide of imatinib, and write the force field back.

The reference is the GFN2-xTB scan that ``torsion_scan.py`` made: 24 geometries and their energies. The
geometries stay fixed: Sage's energy is evaluated on them and compared up to a constant. What comes out:

``output/refit.offxml``
    Sage with other torsion k's, an ordinary force field. At the end the stock toolkit loads it without
    plugins, and OpenMM's energies are compared with ours.
``output/refit.png``
    reference, before and after.

GFN2-xTB is quick, and one molecule is little: for a force field to keep, fit many molecules, and to better
energies.

Run ``python examples/refit_torsion.py``; it takes about half a minute.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import openmm
import optax
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from openff.toolkit import ForceField, Molecule
from tqdm import tqdm

from openff_diffsystem import DiffSystem, SelectedParameters

jax.config.update("jax_enable_x64", True)

HERE = Path(__file__).parent
OUTPUT = HERE / "output"

Loss = Callable[[SelectedParameters], jax.Array]

STEPS = 400
LEARNING_RATE = 0.3
"""kJ/mol per step at the start; it falls to zero along half a cosine."""

RESTRAINT = 0.02
"""Weight of the squared changes of the k's against the mean squared error; both are in (kJ/mol)^2."""


def torsion_ids(force_field: ForceField, ligand: Molecule, bond: tuple[int, int]) -> list[str]:
    """Ids of the torsion parameters that turn about a bond."""
    torsions = force_field.label_molecules(ligand.to_topology())[0]["ProperTorsions"]
    return sorted({parameter.id for atoms, parameter in torsions.items() if set(atoms[1:3]) == set(bond)})


def errors(energies: jax.Array, reference: jax.Array) -> jax.Array:
    """Deviations after the best constant is added, (n_frames,), kJ/mol."""
    deviations = energies - reference
    return deviations - jnp.mean(deviations)


def rmse(energies: jax.Array, reference: jax.Array) -> float:
    """Root mean square of the deviations, kJ/mol."""
    return float(jnp.sqrt(jnp.mean(errors(energies, reference) ** 2)))


def minimise(loss: Loss, theta: SelectedParameters) -> SelectedParameters:
    """Adam, under a progress bar."""
    optimiser = optax.adam(optax.cosine_decay_schedule(LEARNING_RATE, STEPS))

    @jax.jit
    def step(theta: SelectedParameters, state: optax.OptState) -> tuple:
        value, gradient = jax.value_and_grad(loss)(theta)
        updates, state = optimiser.update(gradient, state)
        return optax.apply_updates(theta, updates), state, value

    state = optimiser.init(theta)
    progress = tqdm(range(STEPS), desc="refitting", unit="step")
    for _ in progress:
        theta, state, value = step(theta, state)
        progress.set_postfix(loss=f"{value:.4f}", refresh=False)
    return theta


def print_changes(before: SelectedParameters, after: SelectedParameters) -> None:
    """A table of the changed parameters."""
    print(f"\n{'parameter':<24}{'unit':<20}{'before':>10}{'after':>10}")
    columns = before.labels, before.units, before.vector, after.vector
    for label, unit, old, new in zip(*columns, strict=True):
        print(f"{label:<24}{unit:<20}{old:>10.4f}{new:>10.4f}")


class Curves(NamedTuple):
    """Angles of the frames in degrees; energies of the reference and of both force fields, (n_frames,), kJ/mol."""

    angles: np.ndarray
    reference: np.ndarray
    before: jax.Array
    after: jax.Array


def draw(axes: Axes, curves: Curves) -> None:
    """The three curves, each force field shifted by its best constant."""
    angles, reference, before, after = curves
    axes.plot(angles, reference, "o", color="black", label="reference, GFN2-xTB", zorder=3)
    for energies, name, style in (
        (before, "before, Sage 2.2.1", {"linestyle": "--", "color": "tab:orange"}),
        (after, "after the refit", {"linestyle": "-", "color": "tab:blue"}),
    ):
        name = f"{name}: RMSE {rmse(energies, reference):.1f} kJ/mol"
        axes.plot(angles, reference + errors(energies, reference), label=name, linewidth=2, **style)
    axes.set_title("Imatinib, rotation about the amide bond")
    axes.set_xlabel("dihedral angle C–C(=O)–N–C (degrees): cis at 0, trans at 180")
    axes.set_ylabel("relative energy (kJ/mol)")
    axes.set_xticks(range(-90, 271, 30))
    axes.grid(alpha=0.3)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=3, frameon=False, fontsize="small")


def plot(path: Path, curves: Curves) -> None:
    """The curves as a picture."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    draw(figure.subplots(), curves)
    figure.savefig(path, dpi=150)


def openmm_energies(force_field: ForceField, ligand: Molecule, positions: np.ndarray) -> np.ndarray:
    """Energies of the frames through the stock toolkit and OpenMM, (n_frames,), kJ/mol."""
    system = force_field.create_openmm_system(ligand.to_topology(), charge_from_molecules=[ligand])
    platform = openmm.Platform.getPlatformByName("Reference")
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), platform)
    energies = []
    for frame in positions:
        context.setPositions(frame)
        energies.append(context.getState(getEnergy=True).getPotentialEnergy()._value)
    return np.array(energies)


def main() -> Curves:
    """Refit, write, plot, and check with OpenMM."""
    OUTPUT.mkdir(exist_ok=True)
    ligand = Molecule.from_file(str(HERE / "data" / "imatinib.sdf"))
    scan = np.load(HERE / "data" / "imatinib_scan.npz")
    positions, reference = jnp.asarray(scan["positions"]), scan["energies"]

    force_field = ForceField("openff_unconstrained-2.2.1.offxml", load_plugins=True)
    system = DiffSystem.from_smirnoff(force_field, ligand, charge_from_molecules=[ligand])
    potential = system.to_jax_potential()

    ids = torsion_ids(force_field, ligand, bond=tuple(scan["torsion"][1:3]))
    sage = system.force_field_parameters.select("ProperTorsions", "k*", id=ids)
    print(f"{ligand.name}: {ligand.n_atoms} atoms, {len(reference)} frames; fitting {', '.join(sage.labels)}")

    def loss(theta: SelectedParameters) -> jax.Array:
        """Mean squared error plus the restraint to Sage, (kJ/mol)^2."""
        misfit = jnp.mean(errors(potential(positions, theta), reference) ** 2)
        return misfit + RESTRAINT * jnp.sum((theta.vector - sage.vector) ** 2)

    refit = minimise(loss, sage)

    before, after = potential(positions, sage), potential(positions, refit)
    print(f"RMSE before {rmse(before, reference):.2f} kJ/mol, after {rmse(after, reference):.2f} kJ/mol")
    print_changes(sage, refit)
    curves = Curves(scan["angles"], reference, before, after)
    plot(OUTPUT / "refit.png", curves)

    refit.to_force_field(force_field).to_file(str(OUTPUT / "refit.offxml"))
    stock = ForceField(str(OUTPUT / "refit.offxml"))
    difference = np.max(np.abs(openmm_energies(stock, ligand, scan["positions"]) - after))
    print(f"\nStock ForceField and OpenMM differ from us by at most {difference:.1e} kJ/mol")
    assert difference < 1e-6 + 1e-7 * np.max(np.abs(after))
    return curves


if __name__ == "__main__":
    main()
