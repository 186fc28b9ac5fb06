"""Ryckaert-Bellemans torsions, which OpenMM has and SMIRNOFF has not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from openff_diffsystem.potentials.geometry import Vector, columns, dihedral


def ryckaert_bellemans(corners: Sequence[Vector], parameters: jax.Array, settings: Any) -> jax.Array:
    """The sum over n of c_n cos(phi - 180 degrees)^n per term (OpenMM User Guide, "RBTorsionForce").

    Parameters
    ----------
    corners
        Positions of the four atoms, components ``(n_terms, 1)``, nm.
    parameters
        ``(n_terms, 6)``: c0 to c5 (kJ/mol).
    settings
        None are used.

    Returns
    -------
    jax.Array
        ``(n_terms, 1)``, kJ/mol.
    """
    cosine = -jnp.cos(dihedral(*corners))
    energy = jnp.zeros_like(cosine)
    for coefficient in reversed(columns(parameters)):
        energy = energy * cosine + coefficient
    return energy
