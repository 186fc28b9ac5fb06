"""Implicit solvent: generalised Born models with a surface-area term, between all atoms, as OpenMM computes them.

HCT: Hawkins, Cramer, Truhlar, Chem. Phys. Lett. 246, 122 (1995). OBC1 and OBC2: Onufriev, Bashford, Case, Proteins 55,
383 (2004). ACE surface area: Schaefer, Bartels, Karplus, J. Mol. Biol. 284, 835 (1998).
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from openff_diffsystem.potentials.geometry import safe_sqrt
from openff_diffsystem.units import COULOMB

OFFSET = 0.009
"""Intrinsic radii are smaller than the given ones by this much, nm."""

# the coefficients of psi, psi^2 and psi^3 in the rescaling of Onufriev et al.
_RESCALING = {"HCT": None, "OBC1": (0.8, 0.0, 2.909125), "OBC2": (1.0, 0.8, 4.85)}


class Solvent(NamedTuple):
    """Numbers of a GBSA section, scalars.

    Attributes
    ----------
    solvent_dielectric, solute_dielectric
        Relative permittivities.
    surface_area_penalty
        kJ/mol/nm2.
    solvent_radius
        nm.
    """

    solvent_dielectric: Float[Array, ""]
    solute_dielectric: Float[Array, ""]
    surface_area_penalty: Float[Array, ""]
    solvent_radius: Float[Array, ""]


def generalized_born(
    positions: Float[Array, "atoms 3"],
    charges: Float[Array, " atoms"],
    radii: Float[Array, " atoms"],
    scales: Float[Array, " atoms"],
    solvent: Solvent,
    model: str,
    surface_area: bool,
) -> Float[Array, " atoms"]:
    """Solvation energy per atom, ``(n_atoms,)``, kJ/mol; each atom of a pair has half of its energy.

    Parameters
    ----------
    positions
        ``(n_atoms, 3)``, nm.
    charges
        ``(n_atoms,)``, e.
    radii, scales
        ``(n_atoms,)``, nm and dimensionless. Atoms of radius zero take no part.
    model
        ``HCT``, ``OBC1`` or ``OBC2``.
    surface_area
        Whether to add the surface-area term.
    """
    present = radii > 0
    radii = jnp.where(present, radii, 1.0)
    pairs = present[:, None] & present[None, :]
    displacement = positions[None, :, :] - positions[:, None, :]
    r2 = jnp.where(pairs, jnp.sum(displacement**2, axis=-1), 0.0)
    born = _born_radii(safe_sqrt(r2), radii, scales, pairs & (r2 > 0), model)
    product = born[:, None] * born[None, :]
    f = jnp.sqrt(r2 + product * jnp.exp(-r2 / (4.0 * product)))
    charges = jnp.where(present, charges, 0.0)
    screening = 1.0 / solvent.solute_dielectric - 1.0 / solvent.solvent_dielectric
    energy = -0.5 * COULOMB * screening * charges * jnp.sum(charges[None, :] / f, axis=1)
    if surface_area:
        area = 4.0 * np.pi * (radii + solvent.solvent_radius) ** 2 * (radii / born) ** 6
        energy += jnp.where(present, solvent.surface_area_penalty * area, 0.0)
    return energy


def _born_radii(
    r: Float[Array, "atoms atoms"],
    radii: Float[Array, " atoms"],
    scales: Float[Array, " atoms"],
    others: Bool[Array, "atoms atoms"],
    model: str,
) -> Float[Array, " atoms"]:
    """Effective radii, ``(n_atoms,)``, nm, from pairwise descreening."""
    intrinsic = radii - OFFSET
    mine = intrinsic[:, None]
    theirs = (scales * intrinsic)[None, :]
    r = jnp.where(others, r, 1.0)
    upper = r + theirs
    lower = jnp.maximum(mine, jnp.abs(r - theirs))
    integral = (
        1.0 / lower
        - 1.0 / upper
        + 0.25 * (r - theirs**2 / r) * (1.0 / upper**2 - 1.0 / lower**2)
        + 0.5 * jnp.log(lower / upper) / r
    )
    if model == "OBC2":  # one atom inside another; OpenMM leaves this out in other models
        integral += jnp.where(mine < theirs - r, 2.0 * (1.0 / mine - 1.0 / lower), 0.0)
    descreening = 0.5 * jnp.sum(jnp.where(others & (mine < upper), integral, 0.0), axis=1)
    coefficients = _RESCALING[model]
    if coefficients is None:
        return 1.0 / (1.0 / intrinsic - descreening)
    psi = intrinsic * descreening
    a, b, c = coefficients
    return 1.0 / (1.0 / intrinsic - jnp.tanh(a * psi - b * psi**2 + c * psi**3) / radii)
