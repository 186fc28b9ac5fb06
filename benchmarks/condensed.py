"""(d) Periodic systems: energy, forces and dU/dtheta, against energy and forces of OpenMM's CPU platform."""

from __future__ import annotations

import resource
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import openmm

from benchmarks.timing import Row, measure, show
from tests import boxes

SYSTEMS = {
    "TIP3P water": partial(boxes.water, "tip3p.offxml", 3.12),
    "TIP3P water, larger": partial(boxes.water, "tip3p.offxml", 5.29),
    "T4 lysozyme in water, ff14SB + TIP3P": boxes.solvated_lysozyme,
}


def run() -> list[Row]:
    """Every system in both precisions, the neighbour list reused, and built anew for every evaluation."""
    rows, sizes, times = [], [], []
    for name, make in SYSTEMS.items():
        box = make()
        force_field = box.load()
        system = box.system(force_field)
        peer = openmm_time(force_field.create_openmm_system(box.topology), box.positions)
        evaluate = jax.jit(jax.value_and_grad(system.to_jax_potential(), argnums=(0, 1)))
        neighbors = system.neighbor_list()
        build = measure(system.neighbor_list, 3).best
        label = f"{name}, {system.n_particles:,} particles"
        rows.append(Row(f"{label}: neighbour list", show(build)))
        for dtype, word in ((jnp.float32, "single"), (jnp.float64, "double")):
            positions, theta, vectors, cast = jax.tree.map(
                lambda a, dtype=dtype: jnp.asarray(a, dtype) if jnp.issubdtype(a.dtype, jnp.floating) else a,
                (box.positions, system.force_field_parameters.vector, system.box_vectors, neighbors),
            )
            ours = measure(partial(evaluate, positions, theta, vectors, cast), 10).median
            bar = dtype == jnp.float32 and 14000 < system.n_particles < 16000
            rows.append(
                Row(
                    f"{label}: energy + dU/dx + dU/dtheta, {word} precision, list reused",
                    show(ours),
                    f"{ours / peer:.2g}x of OpenMM CPU, energy + forces ({show(peer)})",
                    "<= 5x" if bar else "",
                    ours <= 5 * peer if bar else None,
                )
            )
            rows.append(
                Row(f"the same, {word} precision, list included", show(ours + build), f"{(ours + build) / peer:.2g}x")
            )
            if dtype == jnp.float32:
                sizes.append(system.n_particles)
                times.append(ours)
    growth = float(np.log(times[-1] / times[0]) / np.log(sizes[-1] / sizes[0]))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    rows.append(
        Row(
            f"growth from {sizes[0]:,} to {sizes[-1]:,} particles",
            f"n^{growth:.2f}",
            "",
            "<= n^1.2 (n log n)",
            growth <= 1.2,
        )
    )
    rows.append(Row("peak memory of the process", f"{memory:.2g} GiB", "", "<= 4 GiB", memory <= 4))
    return rows


def openmm_time(system: openmm.System, positions: np.ndarray) -> float:
    """Median seconds of energy and forces on OpenMM's CPU platform."""
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("CPU"))
    padded = np.zeros((system.getNumParticles(), 3))
    padded[: len(positions)] = positions
    context.setPositions(padded)
    context.computeVirtualSites()
    return measure(lambda: context.getState(getEnergy=True, getForces=True) and None, 20).median
