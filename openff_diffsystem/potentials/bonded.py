"""Bonded terms of SMIRNOFF force fields, one energy per term."""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from openff_diffsystem._jax.types import AnyArray, Vector
from openff_diffsystem.forms.form import Settings
from openff_diffsystem.potentials.geometry import angle, columns, difference, dihedral, norm


def bond_energies(
    corners: Sequence[Vector], parameters: Float[Array, "terms 2"], settings: Settings
) -> Float[Array, "terms 1"]:
    """k/2 (r - length)^2 per bond (SMIRNOFF specification, "Bonds").

    Parameters
    ----------
    corners
        Positions of both atoms, components ``(n_bonds, 1)``, nm.
    parameters
        ``(n_bonds, 2)``: k (kJ/mol/nm2), length (nm).
    settings
        Not used.

    Returns
    -------
    array
        ``(n_bonds, 1)``, kJ/mol.
    """
    k, length = columns(parameters)
    a, b = corners
    return 0.5 * k * (norm(difference(b, a)) - length) ** 2


def angle_energies(
    corners: Sequence[Vector], parameters: Float[Array, "terms 2"], settings: Settings
) -> Float[Array, "terms 1"]:
    """k/2 (theta - angle)^2 per angle (SMIRNOFF specification, "Angles").

    Parameters
    ----------
    corners
        Positions of the three atoms, the vertex second, components ``(n_angles, 1)``, nm.
    parameters
        ``(n_angles, 2)``: k (kJ/mol/rad2), angle (rad).
    settings
        Not used.

    Returns
    -------
    array
        ``(n_angles, 1)``, kJ/mol.
    """
    k, equilibrium = columns(parameters)
    return 0.5 * k * (angle(*corners) - equilibrium) ** 2


def torsion_energies(
    corners: Sequence[Vector], parameters: Float[Array, "terms 3"], periodicity: Int[AnyArray, " terms"]
) -> Float[Array, "terms 1"]:
    """k/idivf (1 + cos(periodicity phi - phase)) per term (SMIRNOFF specification, "ProperTorsions").

    Parameters
    ----------
    corners
        Positions of the four atoms, components ``(n_terms, 1)``, nm. Improper torsions have the central atom first.
    parameters
        ``(n_terms, 3)``: k (kJ/mol), phase (rad), idivf.
    periodicity
        ``(n_terms,)``, int.

    Returns
    -------
    array
        ``(n_terms, 1)``, kJ/mol.
    """
    k, phase, idivf = columns(parameters)
    return k / idivf * (1.0 + jnp.cos(periodicity[:, None] * dihedral(*corners) - phase))
