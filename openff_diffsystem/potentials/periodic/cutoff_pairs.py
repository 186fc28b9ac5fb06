"""Lennard-Jones and Coulomb interactions within a cutoff, over the rows of a neighbour list.

Energy and every first derivative come from one sweep over the rows: each row gives the sums over its neighbours for
the eight particles of its block. Each pair is visited from both sides, so no derivative is scattered.
"""

from __future__ import annotations

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from openff_diffsystem._jax.hessian import energy_of
from openff_diffsystem._jax.summation import inner
from openff_diffsystem.potentials.pairs import CLOSEST
from openff_diffsystem.potentials.periodic.ewald_series import scaled_erfc_series, screened_dispersion_series
from openff_diffsystem.potentials.periodic.neighbors import BLOCK, NeighborList
from openff_diffsystem.potentials.periodic.rows import Rows, interacting
from openff_diffsystem.potentials.periodic.scheme import CutoffScheme, switching
from openff_diffsystem.units import COULOMB

OfPairs = Float[Array, "*pairs"]
"""A number of each pair."""


class Particles(NamedTuple):
    """The variables of the pair energy.

    Attributes
    ----------
    positions
        ``(n_particles, 3)``, nm, brought into the box.
    charges
        ``(n_particles,)``, e.
    root_epsilons
        sqrt(epsilon), ``(n_particles,)``, (kJ/mol)^(1/2).
    sizes
        sigma/2, ``(n_particles,)``, nm.
    dispersion
        Coefficients of the attraction that a mesh takes over, ``(n_particles,)``, (kJ/mol)^(1/2) nm^3; not used
        without one.
    box_vectors
        ``(3, 3)``, nm.
    """

    positions: Float[Array, "particles 3"]
    charges: Float[Array, " particles"]
    root_epsilons: Float[Array, " particles"]
    sizes: Float[Array, " particles"]
    dispersion: Float[Array, " particles"]
    box_vectors: Float[Array, "3 3"]


class PairTerms(NamedTuple):
    """Quantities of pairs, each zero where the pair does not interact.

    Attributes
    ----------
    coulomb
        Coulomb energy of unit charges.
    coulomb_slope
        Its derivative in r^2.
    lennard_jones
        Lennard-Jones energy for epsilon = 1.
    force
        (dE/dr)/r of the Lennard-Jones energy for epsilon = 1.
    size_slope
        Derivative of the Lennard-Jones energy for epsilon = 1 in sigma.
    dispersion, dispersion_slope
        For unit coefficients of dispersion, the energy that a mesh counts for the pair, with the opposite sign, and its
        derivative in r^2. ``None`` without a mesh.
    """

    coulomb: OfPairs
    coulomb_slope: OfPairs
    lennard_jones: OfPairs
    force: OfPairs
    size_slope: OfPairs
    dispersion: OfPairs | None = None
    dispersion_slope: OfPairs | None = None


def pair_terms(r2: OfPairs, sigma: OfPairs, listed: Bool[Array, "*pairs"], scheme: CutoffScheme) -> PairTerms:
    """Radial functions of pairs and their first derivatives.

    The reaction field is OpenMM's (User Guide, "Coulomb Interaction With Cutoff").

    Parameters
    ----------
    r2
        Squared distances, nm2.
    sigma
        Combined sigma of each pair, nm.
    listed
        Whether the pair interacts if it is within the cutoff.
    """
    cutoff2 = scheme.cutoff**2
    inside = (r2 < cutoff2) & listed
    moving = inside & (r2 > CLOSEST**2)
    r2 = jnp.where(inside, jnp.maximum(r2, CLOSEST**2), cutoff2)
    inverse = jax.lax.rsqrt(r2)
    inverse2 = inverse * inverse
    if scheme.alpha is None:
        epsilon = scheme.dielectric
        k = (epsilon - 1.0) / (2.0 * epsilon + 1.0) / scheme.cutoff**3
        coulomb = inverse + k * r2 - 3.0 * epsilon / (2.0 * epsilon + 1.0) / scheme.cutoff
        slope = -0.5 * inverse * inverse2 + k
    else:
        # as a product: in the difference of 1/r and erf(x)/r, rounding errors are larger than what is left
        reach = scheme.alpha * scheme.cutoff
        x = scheme.alpha * (r2 * inverse)
        screened, _ = _polynomial(x * (2.0 / reach) - 1.0, scaled_erfc_series(reach, 0.1 * _tolerance(r2.dtype)))
        damping = jnp.exp(-x * x)
        coulomb = inverse * screened * damping
        slope = -0.5 * inverse2 * (coulomb + 2.0 * scheme.alpha / math.sqrt(math.pi) * damping)
    # nothing is divided by sigma: it may be zero
    x = sigma * inverse
    x5 = jnp.where(inside, (x * x) ** 2 * x, 0.0)
    x6 = x5 * x
    energy = 4.0 * x6 * (x6 - 1.0)
    slope_over_x5 = 48.0 * x6 - 24.0
    size_slope = slope_over_x5 * x5 * inverse
    force = jnp.where(moving, -slope_over_x5 * x6 * inverse2, 0.0)
    if scheme.switch_distance < scheme.cutoff:
        switch, switch_slope = switching(r2 * inverse, scheme)
        force = switch * force + energy * switch_slope * inverse
        energy, size_slope = switch * energy, switch * size_slope
    terms = PairTerms(jnp.where(inside, coulomb, 0.0), jnp.where(moving, slope, 0.0), energy, force, size_slope)
    return terms if scheme.dispersion_mesh is None else _on_mesh(terms, r2, sigma, inside, moving, scheme)


def _on_mesh(
    terms: PairTerms,
    r2: OfPairs,
    sigma: OfPairs,
    inside: Bool[Array, "*pairs"],
    moving: Bool[Array, "*pairs"],
    scheme: CutoffScheme,
) -> PairTerms:
    """Pairs whose attraction a mesh takes over; OpenMM shifts both energies to zero at the cutoff."""
    assert scheme.alpha is not None
    cutoff2 = scheme.cutoff**2
    x = sigma / scheme.cutoff
    x5 = jnp.where(inside, (x * x) ** 2 * x, 0.0)
    x6 = x5 * x
    coefficients = screened_dispersion_series(scheme.alpha, scheme.cutoff, _tolerance(r2.dtype))
    on_mesh, slope = _polynomial(r2 * (2.0 / cutoff2) - 1.0, coefficients)
    return terms._replace(
        lennard_jones=terms.lennard_jones - 4.0 * x6 * (x6 - 1.0),
        size_slope=terms.size_slope - (48.0 * x6 - 24.0) * x5 / scheme.cutoff,
        # at the cutoff the argument of the polynomial is 1
        dispersion=jnp.where(inside, on_mesh - math.fsum(coefficients), 0.0),
        dispersion_slope=jnp.where(moving, slope * (2.0 / cutoff2), 0.0),
    )


def _tolerance(dtype: jnp.dtype) -> float:
    """The largest error of a polynomial."""
    return 1e-7 if dtype == jnp.float32 else 1e-13


def _polynomial(x: OfPairs, coefficients: tuple[float, ...]) -> tuple[OfPairs, OfPairs]:
    """Value and slope of a polynomial. Coefficients are those of ascending powers."""
    value, slope = jnp.full_like(x, coefficients[-1]), jnp.zeros_like(x)
    for coefficient in coefficients[-2::-1]:
        slope = slope * x + value
        value = value * x + coefficient
    return value, slope


def pair_energy(particles: Particles, neighbors: NeighborList) -> Float[Array, ""]:
    """Energy of all listed pairs within the cutoff, kJ/mol; Coulomb and Lennard-Jones together.

    Differentiable in all of ``particles``, in every mode and to any order.
    """
    return energy_of(partial(_sweep, neighbors.scheme))(particles, Rows.of(neighbors))


def _sweep(scheme: CutoffScheme, variables: tuple, rows: Rows) -> tuple[Float[Array, ""], Particles]:
    """Energy and gradient from one pass over all rows."""
    particles = Particles(*variables)
    dtype = particles.positions.dtype
    width = 6 if scheme.dispersion_mesh is None else 7
    # the last row fills up incomplete blocks and rows; its lanes are off
    table = jnp.concatenate([jnp.column_stack(particles[:5]), jnp.zeros((1, 7), dtype)])[:, :width]
    in_blocks = jnp.concatenate([table[rows.blocks].swapaxes(1, 2), jnp.zeros((1, width, BLOCK), dtype)])

    def chunk(carry: tuple, some: tuple) -> tuple[tuple, None]:
        sums, virial = carry
        block, image, neighbor, lane = some
        image = image.astype(dtype)
        one = _rows(scheme, in_blocks[block], table[neighbor], image @ particles.box_vectors, interacting(lane))
        virial += jnp.einsum("rk,rl->kl", image, jnp.sum(one[:, :3], axis=2))
        return (sums.at[block].add(one), virial), None

    (sums, virial), _ = jax.lax.scan(chunk, (jnp.zeros_like(in_blocks), jnp.zeros((3, 3), dtype)), rows.chunks())
    gradient = rows.per_particle(sums[:-1].swapaxes(1, 2), len(particles.charges))
    # each pair is visited twice: half of the sum is the energy
    energy = 0.5 * (inner(particles.charges, gradient[:, 3]) + inner(particles.root_epsilons, gradient[:, 4]))
    dispersion = jnp.zeros_like(particles.dispersion)
    if scheme.dispersion_mesh is not None:
        dispersion = gradient[:, 6]
        energy += 0.5 * inner(particles.dispersion, dispersion)
    # the image of a neighbour moves with the box: half of minus the force on the block, times the translation
    return energy, Particles(gradient[:, :3], gradient[:, 3], gradient[:, 4], gradient[:, 5], dispersion, -0.5 * virial)


def _rows(
    scheme: CutoffScheme,
    block: Float[Array, "rows width 8"],
    neighbor: Float[Array, "rows 64 width"],
    shift: Float[Array, "rows 3"],
    listed: Bool[Array, "rows 64 8"],
) -> Float[Array, "rows width 8"]:
    """Sums over the neighbours of rows, ``(n_rows, 6, 8)``: derivatives in x, y, z, charge, sqrt(epsilon), size.

    With a mesh for dispersion, ``(n_rows, 7, 8)``: the last one in its coefficient.
    """
    mine = [block[:, k, None, :] for k in range(block.shape[1])]
    theirs = [neighbor[:, :, k, None] for k in range(block.shape[1])]
    dx, dy, dz = (theirs[k] + shift[:, None, k, None] - mine[k] for k in range(3))
    terms = pair_terms(dx * dx + dy * dy + dz * dz, mine[5] + theirs[5], listed, scheme)
    epsilon = mine[4] * theirs[4]
    # charges are added up without a factor: rounding would give neutral molecules a net charge
    potential = theirs[3] * terms.coulomb
    force = 2.0 * COULOMB * (mine[3] * theirs[3] * terms.coulomb_slope) + epsilon * terms.force
    size_slope = epsilon * terms.size_slope
    if terms.dispersion_slope is not None:
        force += 2.0 * mine[6] * theirs[6] * terms.dispersion_slope
    force_x, force_y = _two_sums(force * dx, force * dy)
    force_z, potential = _two_sums(force * dz, potential)
    depth_slope, size_slope = _two_sums(theirs[4] * terms.lennard_jones, size_slope)
    sums = [-force_x, -force_y, -force_z, COULOMB * potential, depth_slope, size_slope]
    if terms.dispersion is not None:
        sums.append(jnp.sum(theirs[6] * terms.dispersion, axis=1))
    return jnp.stack(sums, axis=1)


def _two_sums(
    a: Float[Array, "rows 64 8"], b: Float[Array, "rows 64 8"]
) -> tuple[Float[Array, "rows 8"], Float[Array, "rows 8"]]:
    """Sums of two arrays over the neighbours of rows, in one loop.

    XLA compiles one loop per sum and repeats in each what the sums share. A complex number carries two sums at once.
    """
    both = jnp.sum(jax.lax.complex(a, b), axis=1)
    return both.real, both.imag
