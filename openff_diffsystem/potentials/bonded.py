"""Bonded terms of SMIRNOFF force fields, one energy per term."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from openff_diffsystem.potentials.geometry import angle, dihedral, norm


def harmonic_bonds(positions: jax.Array, indices: jax.Array, parameters: jax.Array) -> jax.Array:
    """k/2 (r - length)^2 per bond (SMIRNOFF specification, "Bonds").

    Parameters
    ----------
    positions
        ``(n_particles, 3)``, nm.
    indices
        ``(n_bonds, 2)``, int32.
    parameters
        ``(n_bonds, 2)``: k (kJ/mol/nm2), length (nm).

    Returns
    -------
    jax.Array
        ``(n_bonds,)``, kJ/mol.
    """
    ends = positions[indices]
    return 0.5 * parameters[:, 0] * (norm(ends[:, 1] - ends[:, 0]) - parameters[:, 1]) ** 2


def harmonic_angles(positions: jax.Array, indices: jax.Array, parameters: jax.Array) -> jax.Array:
    """k/2 (theta - angle)^2 per angle (SMIRNOFF specification, "Angles").

    Parameters
    ----------
    positions
        ``(n_particles, 3)``, nm.
    indices
        ``(n_angles, 3)``, int32, the vertex second.
    parameters
        ``(n_angles, 2)``: k (kJ/mol/rad2), angle (rad).

    Returns
    -------
    jax.Array
        ``(n_angles,)``, kJ/mol.
    """
    atoms = positions[indices]
    return 0.5 * parameters[:, 0] * (angle(atoms[:, 0], atoms[:, 1], atoms[:, 2]) - parameters[:, 1]) ** 2


def periodic_torsions(
    positions: jax.Array, indices: jax.Array, parameters: jax.Array, periodicity: jax.Array
) -> jax.Array:
    """k/idivf (1 + cos(periodicity phi - phase)) per term (SMIRNOFF specification, "ProperTorsions").

    Parameters
    ----------
    positions
        ``(n_particles, 3)``, nm.
    indices
        ``(n_terms, 4)``, int32. Improper torsions have the central atom first.
    parameters
        ``(n_terms, 3)``: k (kJ/mol), phase (rad), idivf.
    periodicity
        ``(n_terms,)``, int.

    Returns
    -------
    jax.Array
        ``(n_terms,)``, kJ/mol.
    """
    atoms = positions[indices]
    phi = dihedral(atoms[:, 0], atoms[:, 1], atoms[:, 2], atoms[:, 3])
    k, phase, idivf = parameters[:, 0], parameters[:, 1], parameters[:, 2]
    return k / idivf * (1.0 + jnp.cos(periodicity * phi - phase))
