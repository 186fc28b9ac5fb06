"""The potential energy, a space to move in and masses, as the integrators of jax-md want them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from openff_diffsystem.exceptions import (
    InvalidInputError,
    MissingStackError,
    ParameterMismatchError,
    UnsupportedForceFieldError,
    UnsupportedInputError,
)
from openff_diffsystem.potentials.periodic.neighbors import NeighborList
from openff_diffsystem.system.data import SystemData
from openff_diffsystem.system.jax_potential import to_jax_potential

try:
    from jax_md import space
except ImportError as error:
    raise MissingStackError(
        f"the adapter needs jax-md and what it imports ({error}): pip install 'openff-diffsystem[jax-md]'"
    ) from error

BOLTZMANN = 1.380649e-23 * 6.02214076e23 / 1000
"""kJ/mol/K, from the exact SI values. jax-md's ``kT`` is this number times the temperature."""


class JaxMD(NamedTuple):
    """What jax-md's simulations take. The unit of time is ps, that of energy kJ/mol.

    Attributes
    ----------
    energy_fn
        ``energy_fn(R, theta=None, box_vectors=None, neighbors=None)``: ``R`` is ``(n_atoms, 3)``, nm. Integrators
        hand their keyword arguments on to it.
    displacement_fn, shift_fn
        Free space. Molecules stay whole in a periodic system, too: atoms are never wrapped into the box.
    masses
        ``(n_atoms,)``, dalton.
    """

    energy_fn: Callable[..., Float[Array, ""]]
    displacement_fn: Callable[..., Float[Array, " 3"]]
    shift_fn: Callable[..., Float[Array, "atoms 3"]]
    masses: Float[Array, " atoms"]


def to_jax_md(system: SystemData, theta: object = None, *, masses: object = None) -> JaxMD:
    """A system for the integrators of jax-md.

    Only atoms are integrated; virtual sites follow them. jax-md has no constraints, so bonds and angles that
    the force field constrains move, under their own force constants: use time steps of 0.5 fs or less.

    Parameters
    ----------
    system
        Of isolated molecules or periodic. In a box, ``neighbors`` must be handed to each step:
        ``apply(state, neighbors=system.neighbor_list(state.position))``.
    theta
        As for ``DiffSystem.parameterize``; by default the force field's own values. ``energy_fn`` takes another theta
        as a keyword, and is differentiable in it.
    masses
        ``(n_atoms,)``, dalton; by default those of the system.

    Raises
    ------
    UnsupportedForceFieldError
        If constraints make three atoms rigid, as in water models, or one holds atoms together that no bond or angle
        does.
    ParameterMismatchError
        If there is not one mass per atom.
    InvalidInputError
        If the system holds no masses and none are given, or one is zero.
    """
    _require_flexible(system)
    potential = to_jax_potential(system, add_constrained_forces=True)
    own_theta = system.as_theta(theta)
    masses = system.masses if masses is None else masses
    if masses is None:
        raise InvalidInputError("the system holds no masses: it was saved without; pass masses")
    found = np.asarray(masses, dtype=float)
    if found.shape != (system.n_atoms,):
        raise ParameterMismatchError(f"masses must have shape ({system.n_atoms},), got {found.shape}")
    if not (found > 0).all():
        i = int(np.argmin(found > 0))
        raise InvalidInputError(f"atom {i} has a mass of {found[i]}; jax-md moves every atom: pass masses")

    def energy_fn(
        R: object,
        theta: object = None,
        box_vectors: object = None,
        neighbors: NeighborList | None = None,
        **other: object,
    ) -> Float[Array, ""]:
        for name in ("box", "perturbation"):
            if name in other:
                raise UnsupportedInputError(
                    f"energy_fn got {name!r}, which jax-md passes to change the box: only its simulations at "
                    "constant volume are covered"
                )
        return potential(R, own_theta if theta is None else theta, box_vectors, neighbors)

    displacement_fn, shift_fn = space.free()
    return JaxMD(energy_fn, displacement_fn, shift_fn, jnp.asarray(found))


def _require_flexible(system: SystemData) -> None:
    """Raise where bonds cannot move in place of constraints: in molecules whose angles are fixed as well."""
    joined = {
        tuple(sorted((int(atoms[0]), int(atoms[-1]))))
        for section in ("Bonds", "Angles")
        for atoms in system.term_indices.get(section, ())
    }
    constrained: dict[int, set[int]] = {}
    for a, b in system.constraints()[0].tolist():
        if (min(a, b), max(a, b)) not in joined:
            raise UnsupportedForceFieldError(
                f"only a constraint keeps atoms {a} and {b} together, no bond or angle does; jax-md has no "
                "constraints: use a flexible model"
            )
        common = constrained.setdefault(a, set()) & constrained.setdefault(b, set())
        if common:
            raise UnsupportedForceFieldError(
                f"constraints make atoms {', '.join(map(str, sorted({a, b, *common})))} rigid, as in a water model; "
                "jax-md has no constraints: use a flexible model, or a force field without these constraints"
            )
        constrained[a].add(b)
        constrained[b].add(a)
