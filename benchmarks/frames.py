"""(e) A trajectory: energies and dU/dtheta of many frames in one call, beside OpenMM's CPU platform."""

from __future__ import annotations

import multiprocessing
import resource
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import openmm
import openmm.unit
from openff.toolkit import ForceField

from benchmarks.timing import Row, show
from openff_diffsystem.system import lists
from tests import boxes

CLEAR_REFS = Path("/proc/self/clear_refs")

N_FRAMES = 1000
N_SHORT = 100
STEPS = 5
"""Steps of 2 fs between frames."""

SKIN = 0.02
"""Hydrogens move by more than half of any reasonable skin between two frames, so that a list serves one frame, nm."""


class Measured(NamedTuple):
    """Seconds of ``N_FRAMES`` in each way, and the memory of frames in one process."""

    ours: float
    openmm: float
    lists: int
    grown: float
    stored: float
    particles: int
    deviation: float


def run() -> list[Row]:
    """Frames in single precision, evaluated in a process of its own, whose peak memory is then theirs alone."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        measured = pool.apply(evaluate)
    label = f"{N_FRAMES:,} frames of TIP3P water, {measured.particles:,} particles"
    per_frame, peer = measured.ours / N_FRAMES, measured.openmm / N_FRAMES
    bound = 2 * measured.stored + 2**25
    return [
        Row(
            f"{label}: energy + dU/dtheta in one call, single precision, {measured.lists} neighbour lists",
            f"{show(per_frame)} per frame",
            f"{per_frame / peer:.2g}x of OpenMM CPU, energy + forces ({show(peer)})",
        ),
        Row(
            f"{label}: growth of peak memory from {N_SHORT} frames",
            f"{measured.grown / 2**20:.3g} MiB",
            f"results take {measured.stored / 2**20:.2g} MiB",
            "<= twice the results + 32 MiB",
            measured.grown <= bound,
        ),
        Row(f"{label}: largest relative deviation from OpenMM's energies", f"{measured.deviation:.1e}"),
    ]


def evaluate() -> Measured:
    """Make the trajectory, then evaluate it."""
    jax.config.update("jax_enable_x64", True)
    box = boxes.water("tip3p.offxml", 3.12)
    force_field = ForceField(*box.force_field)
    context = _context(force_field.create_openmm_system(box.topology), box.positions)
    frames = trajectory(context)
    expected, peer = _timed(partial(_openmm_energies, context, frames))
    system = box.system(force_field)
    theta = system.force_field_parameters.vector.astype(jnp.float32)
    built = _counted()
    call = partial(system.evaluate_frames, theta=theta, gradients=True, skin=SKIN)
    call(frames[:2])
    _reset_peak()
    call(frames[:N_SHORT])
    before = _peak()
    built.clear()
    _reset_peak()
    found, ours = _timed(partial(call, frames))
    stored = (found.energies.nbytes + found.gradients.nbytes) * (1 - N_SHORT / N_FRAMES)
    deviation = float(np.abs(found.energies / expected - 1).max())
    return Measured(ours, peer, len(built), _peak() - before, stored, system.n_particles, deviation)


def trajectory(context: openmm.Context) -> np.ndarray:
    """Frames of a Langevin run, ``(N_FRAMES, n_particles, 3)``, nm, of whole molecules, from the minimised start."""
    openmm.LocalEnergyMinimizer.minimize(context, maxIterations=100)
    context.setVelocitiesToTemperature(300.0, 1)
    frames = np.empty((N_FRAMES, context.getSystem().getNumParticles(), 3))
    for frame in frames:
        context.getIntegrator().step(STEPS)
        frame[:] = context.getState(getPositions=True).getPositions(asNumpy=True)._value
    return frames


def _context(system: openmm.System, positions: np.ndarray) -> openmm.Context:
    integrator = openmm.LangevinMiddleIntegrator(300.0, 1.0, 0.002)
    integrator.setRandomNumberSeed(1)
    context = openmm.Context(system, integrator, openmm.Platform.getPlatformByName("CPU"))
    context.setPositions(positions)
    return context


def _openmm_energies(context: openmm.Context, frames: np.ndarray) -> np.ndarray:
    energies = np.empty(len(frames))
    for i, frame in enumerate(frames):
        context.setPositions(frame)
        state = context.getState(getEnergy=True, getForces=True)
        energies[i] = state.getPotentialEnergy()._value
    return energies


def _counted() -> list[None]:
    """A list that grows by one item for every neighbour list that is built in this process."""
    built: list[None] = []
    build = lists.build_neighbor_list

    def counting(*args: Any, **kwargs: Any) -> Any:
        built.append(None)
        return build(*args, **kwargs)

    lists.build_neighbor_list = counting
    return built


def _timed(function: Callable[[], Any]) -> tuple[Any, float]:
    start = time.perf_counter()
    result = function()
    return result, time.perf_counter() - start


def _reset_peak() -> None:
    """Count peak memory from here on, where the system allows it (Linux); compiling takes more than evaluating."""
    if CLEAR_REFS.exists():
        CLEAR_REFS.write_text("5")


def _peak() -> int:
    """Peak memory of this process, bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
