"""Positions of virtual sites, functions of their atoms and of their own parameters.

The local frames are those of the SMIRNOFF specification ("VirtualSites") as openff-interchange hands
them to OpenMM's ``LocalCoordinatesSite``: the origin is the parent atom, x points along the weighted
sum of the orientation atoms, z is normal to x and the y direction. Weighted sums of atoms are OpenMM's
``TwoParticleAverageSite``, ``ThreeParticleAverageSite`` and ``OutOfPlaneSite``.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from openff_diffsystem._jax.types import AnyArray
from openff_diffsystem.potentials.geometry import safe_sqrt
from openff_diffsystem.sections import SITE_TYPES, WEIGHTED_SITE_TYPES

_X_WEIGHTS = {
    "BondCharge": (-1.0, 1.0, 0.0, 0.0),
    "MonovalentLonePair": (-1.0, 1.0, 0.0, 0.0),
    "DivalentLonePair": (-1.0, 0.5, 0.5, 0.0),
    "TrivalentLonePair": (-1.0, 1 / 3, 1 / 3, 1 / 3),
}
_Y_WEIGHTS = {
    "BondCharge": (-1.0, 1.0, 0.0, 0.0),
    "MonovalentLonePair": (-1.0, 0.0, 1.0, 0.0),
    "DivalentLonePair": (-1.0, 1.0, 0.0, 0.0),
    "TrivalentLonePair": (-1.0, 1.0, 0.0, 0.0),
}
# MonovalentLonePair measures the in-plane angle from +x; the other types point away from their neighbours, along -x.
_IN_PLANE_SIGN = {
    "BondCharge": -1.0,
    "MonovalentLonePair": 1.0,
    "DivalentLonePair": -1.0,
    "TrivalentLonePair": -1.0,
}

_X = np.array([_X_WEIGHTS[name] for name in SITE_TYPES])
_Y = np.array([_Y_WEIGHTS[name] for name in SITE_TYPES])
_SIGN = np.array([_IN_PLANE_SIGN[name] for name in SITE_TYPES])


def place_sites(
    positions: Float[Array, "atoms 3"],
    atoms: Int[AnyArray, "sites 4"],
    types: Int[AnyArray, " sites"],
    parameters: Float[Array, "sites 3"],
    *,
    weighted: bool = False,
) -> Float[Array, "sites 3"]:
    """Positions of virtual sites.

    Parameters
    ----------
    positions
        ``(n_atoms, 3)``, nm.
    atoms
        ``(n_sites, 4)``, int32: orientation atoms, the parent first; -1 where a type has fewer.
    types
        ``(n_sites,)``, int32: positions in ``SITE_TYPES`` followed by ``WEIGHTED_SITE_TYPES``.
    parameters
        ``(n_sites, 3)``: distance (nm), out-of-plane and in-plane angle (rad), zero where a type has none. For
        weighted types: the weights of the atoms, or of both differences to the first atom and of their cross product
        (1/nm).
    weighted
        Whether there are sites of weighted types.

    Returns
    -------
    array
        ``(n_sites, 3)``, nm.
    """
    corners = positions[jnp.maximum(atoms, 0)]
    if not weighted:
        return _in_frames(corners, types, parameters)
    local = types < len(SITE_TYPES)
    framed = _in_frames(corners, jnp.where(local, types, 0), parameters)
    return jnp.where(local[:, None], framed, _weighted_sums(corners, types - len(SITE_TYPES), parameters))


def _weighted_sums(
    corners: Float[Array, "sites 4 3"], types: Int[AnyArray, " sites"], weights: Float[Array, "sites 3"]
) -> Float[Array, "sites 3"]:
    """Sites of ``WEIGHTED_SITE_TYPES`` from their atoms, ``(n_sites, 4, 3)``, and weights, ``(n_sites, 3)``."""
    average = jnp.einsum("si,sid->sd", weights, corners[:, :3])
    a, b = (corners[:, i] - corners[:, 0] for i in (1, 2))
    first, second, normal = (weights[:, i, None] for i in range(3))
    out_of_plane = corners[:, 0] + first * a + second * b + normal * jnp.cross(a, b)
    return jnp.where((types == WEIGHTED_SITE_TYPES.index("OutOfPlane"))[:, None], out_of_plane, average)


def _in_frames(
    corners: Float[Array, "sites 4 3"], types: Int[AnyArray, " sites"], parameters: Float[Array, "sites 3"]
) -> Float[Array, "sites 3"]:
    """Sites of ``SITE_TYPES`` from their orientation atoms, ``(n_sites, 4, 3)``."""
    dtype = corners.dtype
    x = _unit(jnp.einsum("si,sid->sd", jnp.asarray(_X, dtype)[types], corners))
    z = _unit(jnp.cross(x, jnp.einsum("si,sid->sd", jnp.asarray(_Y, dtype)[types], corners)))
    y = jnp.cross(z, x)
    distance, out_of_plane, in_plane = parameters[:, 0], parameters[:, 1], parameters[:, 2]
    flat = jnp.cos(out_of_plane)
    local = (
        jnp.asarray(_SIGN, dtype)[types] * jnp.cos(in_plane) * flat,
        jnp.sin(in_plane) * flat,
        jnp.sin(out_of_plane),
    )
    offset = sum(part[:, None] * axis for part, axis in zip(local, (x, y, z), strict=True))
    return corners[:, 0] + distance[:, None] * offset


def _unit(vectors: Float[Array, "sites 3"]) -> Float[Array, "sites 3"]:
    length = safe_sqrt(jnp.sum(vectors * vectors, axis=-1))
    # Rounding leaves a tiny vector where x and y are parallel; such a frame has no z axis.
    flat = length <= 1e-12
    return jnp.where(flat[:, None], 0.0, vectors) / jnp.where(flat, 1.0, length)[:, None]


def local_frame(site_type: int) -> tuple[Float[np.ndarray, "4"], Float[np.ndarray, "4"], float]:
    """Weights of the orientation atoms in the x and y directions, ``(4,)`` each, and the sign of x."""
    return _X[site_type], _Y[site_type], float(_SIGN[site_type])
