"""(c) Energies and their gradients: one molecule, and a data set of 200 molecules with 10 conformers each."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from openff.toolkit import ForceField

from benchmarks.molecules import drug_like
from benchmarks.timing import Row, measure, once, show
from openff_diffsystem import DiffSystem

CONFORMERS = 10


def run() -> list[Row]:
    """Double precision, Sage 2.2.1."""
    force_field = ForceField("openff-2.2.1.offxml")
    return [*_one_molecule(force_field), *_data_set(force_field)]


def _one_molecule(force_field: ForceField) -> list[Row]:
    molecule = drug_like(1, 50, 50)[0]
    molecule.generate_conformers(n_conformers=1)
    system = DiffSystem.from_smirnoff(force_field, molecule, charge_from_molecules=[molecule])
    potential, theta, positions = (
        system.to_jax_potential(),
        system.force_field_parameters,
        jnp.asarray(system.positions),
    )
    rows = []
    for what, arguments, bar in (
        ("energy", None, None),
        ("energy + dU/dx", 0, None),
        ("energy + dU/dx + dU/dtheta", (0, 1), 200e-6),
    ):
        function = jax.jit(potential if arguments is None else jax.value_and_grad(potential, argnums=arguments))
        compiling = once(lambda f=function: f(positions, theta))
        best = measure(lambda f=function: f(positions, theta), 2000).best
        rows.append(
            Row(
                f"{what}, one molecule of {molecule.n_atoms} atoms",
                show(best),
                f"compiled in {show(compiling)}",
                "" if bar is None else f"<= {show(bar)}",
                None if bar is None else best <= bar,
            )
        )
    return rows


def _data_set(force_field: ForceField) -> list[Row]:
    rng = np.random.default_rng(0)
    systems, conformers = [], []
    for molecule in drug_like(400, 20, 70):
        try:
            system = DiffSystem.from_smirnoff(force_field, molecule, charge_from_molecules=[molecule])
        except ValueError:
            continue  # chemistry that Sage does not cover
        systems.append(system)
        conformers.append(system.positions + rng.normal(scale=0.002, size=(CONFORMERS, system.n_atoms, 3)))
        if len(systems) == 200:
            break
    rows = []
    for count in (20, 200):
        batch = DiffSystem.concatenate(systems[:count])
        packed = batch.pack(conformers[:count], conformers_per_row=CONFORMERS)
        theta = batch.force_field_parameters

        def loss(theta, positions, batch=batch, packed=packed):
            rows = type(packed)(positions, packed.systems, packed.order, packed.n_conformers)
            return jnp.sum(batch.potential(rows, theta))

        function = partial(jax.jit(jax.value_and_grad(loss, argnums=(0, 1))), theta, packed.positions)
        compiling = once(function)
        each = measure(function, 5).best / (count * CONFORMERS)
        rows.append(
            Row(
                f"energy + dU/dx + dU/dtheta, {count} molecules x {CONFORMERS} conformers",
                f"{show(each)} per conformer",
                f"{batch.n_programs} programs compiled in {show(compiling)}",
            )
        )
    return rows
