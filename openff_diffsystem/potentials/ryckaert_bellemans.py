"""Ryckaert-Bellemans torsions, which OpenMM has and SMIRNOFF does not have."""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Float

from openff_diffsystem._jax.types import Vector
from openff_diffsystem.forms.form import Settings
from openff_diffsystem.potentials.geometry import columns, dihedral


def ryckaert_bellemans(
    corners: Sequence[Vector], parameters: Float[Array, "terms 6"], settings: Settings
) -> Float[Array, "terms 1"]:
    """The sum over n of c_n cos(phi - 180 degrees)^n per term (OpenMM User Guide, "RBTorsionForce").

    Parameters
    ----------
    corners
        Positions of the four atoms, components ``(n_terms, 1)``, nm.
    parameters
        ``(n_terms, 6)``: c0 to c5 (kJ/mol).
    settings
        Not used.

    Returns
    -------
    array
        ``(n_terms, 1)``, kJ/mol.
    """
    cosine = -jnp.cos(dihedral(*corners))
    energy = jnp.zeros_like(cosine)
    for coefficient in reversed(columns(parameters)):
        energy = energy * cosine + coefficient
    return energy
