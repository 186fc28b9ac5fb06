"""A registered pair form within a cutoff, over the rows of a neighbour list.

As in ``cutoff_pairs``, every pair is visited from both sides. The derivative of all energies with respect to one side
of a row is therefore the whole derivative for the particles of that block: jax computes it row by row, and nothing is
scattered.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from openff_diffsystem._jax.hessian import energy_of
from openff_diffsystem.forms.form import PairForm, checked_energies
from openff_diffsystem.potentials.pairs import CLOSEST
from openff_diffsystem.potentials.periodic.neighbors import BLOCK, NeighborList
from openff_diffsystem.potentials.periodic.rows import Rows, interacting
from openff_diffsystem.potentials.periodic.scheme import CutoffScheme, switching


class FormParticles(NamedTuple):
    """The variables of the energy of a pair form.

    Attributes
    ----------
    positions
        ``(n_particles, 3)``, nm, brought into the box.
    columns
        The parameters of every particle, ``(n_particles, n_columns)``, MD units.
    settings
        The numbers of the section itself, ``(n_settings,)``, MD units.
    box_vectors
        ``(3, 3)``, nm.
    """

    positions: Float[Array, "particles 3"]
    columns: Float[Array, "particles columns"]
    settings: Float[Array, " settings"]
    box_vectors: Float[Array, "3 3"]


def form_energy(
    form: PairForm, names: tuple[str, ...], particles: FormParticles, neighbors: NeighborList
) -> Float[Array, ""]:
    """Energy of all listed pairs within the cutoff, switched off where the list's scheme says so, kJ/mol.

    Differentiable in all of ``particles``, in every mode and to any order; memory is that of a chunk of rows.

    Parameters
    ----------
    form
        The form.
    names
        Names of the settings.
    """
    return energy_of(partial(_sweep, form, names, neighbors.scheme))(particles, Rows.of(neighbors))


def pair_energies(
    form: PairForm,
    names: tuple[str, ...],
    r2: Float[Array, ""],
    a: Float[Array, " columns"],
    b: Float[Array, " columns"],
    settings: Float[Array, " settings"],
) -> Float[Array, ""]:
    """The energy of one pair. Callers map this over pairs, so that values which pairs share are not copied.

    The form sees arrays ``(1, 1)``.
    """
    mine, theirs = ([value.reshape(1, 1) for value in side] for side in (a, b))
    named = dict(zip(names, settings, strict=True))
    return checked_energies(form, form.energy(r2.reshape(1, 1), mine, theirs, named), (1, 1)).reshape(())


def _sweep(
    form: PairForm, names: tuple[str, ...], scheme: CutoffScheme, variables: tuple, rows: Rows
) -> tuple[Float[Array, ""], FormParticles]:
    """Energy and gradient from one pass over all rows."""
    particles = FormParticles(*variables)
    dtype = particles.positions.dtype
    table = jnp.concatenate([particles.positions, particles.columns], axis=1)
    # incomplete blocks and rows are filled up with a real particle: its parameters are some that the form allows
    table = jnp.concatenate([table, table[:1]])
    in_blocks = jnp.concatenate([table[rows.blocks], jnp.broadcast_to(table[:1], (1, BLOCK, table.shape[1]))])

    def chunk(sums: Float[Array, "blocks 8 width"], some: tuple) -> tuple[Float[Array, "blocks 8 width"], tuple]:
        block, image, neighbor, lane = some
        image = image.astype(dtype)
        listed = interacting(lane)
        energies, pull = jax.vjp(
            lambda mine, settings: _row_energies(
                form, names, scheme, mine, table[neighbor], image @ particles.box_vectors, settings, listed
            ),
            in_blocks[block],
            particles.settings,
        )
        mine, settings = pull(jnp.ones_like(energies))
        virial = jnp.einsum("rk,rl->kl", image, jnp.sum(mine[:, :, :3], axis=1))
        return sums.at[block].add(mine), (energies, settings, virial)

    sums, (energies, settings, virials) = jax.lax.scan(chunk, jnp.zeros_like(in_blocks), rows.chunks())
    gradient = rows.per_particle(sums[:-1], len(particles.positions))
    # each pair is visited twice: half of the energies, and of derivatives that do not belong to a particle
    return 0.5 * jnp.sum(energies), FormParticles(
        gradient[:, :3], gradient[:, 3:], 0.5 * jnp.sum(settings, axis=0), -0.5 * jnp.sum(virials, axis=0)
    )


def _row_energies(
    form: PairForm,
    names: tuple[str, ...],
    scheme: CutoffScheme,
    block: Float[Array, "rows 8 width"],
    neighbor: Float[Array, "rows 64 width"],
    shift: Float[Array, "rows 3"],
    settings: Float[Array, " settings"],
    listed: Bool[Array, "rows 64 8"],
) -> Float[Array, " rows"]:
    """Sums over the pairs of rows, ``(n_rows,)``.

    Parameters
    ----------
    block
        Position and columns of the particles of each row's block, ``(n_rows, 8, 3 + n_columns)``.
    neighbor
        Those of the neighbours, ``(n_rows, 64, 3 + n_columns)``.
    shift
        Translation of the neighbours, ``(n_rows, 3)``, nm.
    settings
        ``(n_settings,)``.
    listed
        ``(n_rows, 64, 8)``, bool: which pairs interact if they are within the cutoff.
    """
    dx, dy, dz = (neighbor[:, :, k, None] + shift[:, None, k, None] - block[:, None, :, k] for k in range(3))
    r2 = dx * dx + dy * dy + dz * dz
    inside = (r2 < scheme.cutoff**2) & listed
    r2 = jnp.where(inside, jnp.maximum(r2, CLOSEST**2), 1.0)
    one = partial(pair_energies, form, names)
    lanes = jax.vmap(one, in_axes=(0, 0, None, None))
    rows = jax.vmap(jax.vmap(lanes, in_axes=(0, None, 0, None)), in_axes=(0, 0, 0, None))
    energies = rows(r2, block[:, :, 3:], neighbor[:, :, 3:], settings)
    if scheme.switch_distance < scheme.cutoff:
        energies *= switching(jnp.sqrt(r2), scheme)[0]
    # beyond the cutoff and in fillers the energy may be anything, also infinite
    return jnp.sum(jnp.where(inside, energies, 0.0), axis=(1, 2))
