"""A DiffSystem as the arrays that timemachine's potentials take. Parameters are jax arrays, differentiable in theta.

``potential = timemachine.potentials.HarmonicBond(idxs)``, ``potential(positions, params, box)``. Bonds and angles that
constraints fix are included: timemachine counts them. Every function here refuses a system with terms that no
timemachine potential represents (:class:`~openff_diffsystem.exceptions.UnsupportedForceFieldError`), even if the
function is asked for other terms.
"""

from __future__ import annotations

from types import ModuleType
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from openff_diffsystem._jax.types import AnyArray
from openff_diffsystem.exceptions import InvalidInputError, UnsupportedForceFieldError
from openff_diffsystem.interop.timemachine.conventions import BETA, CHARGE_SCALE, CUTOFF, SCALE_14
from openff_diffsystem.interop.timemachine.pairs import combine_pairs
from openff_diffsystem.potentials.geometry import safe_sqrt
from openff_diffsystem.potentials.pairs import PADDING, SCALED_14
from openff_diffsystem.sections import SECTIONS
from openff_diffsystem.system.data import SystemData
from openff_diffsystem.system.interactions import isolated_interactions

Scale14 = Literal["timemachine", "smirnoff"]
"""0.5 for Coulomb and Lennard-Jones, or the force field's own."""

TorsionConvention = Literal["openff", "timemachine"]
"""Which convention torsions follow.

``"openff"`` gives OpenFF's energies: phases change their sign, because timemachine's dihedral angles have the opposite
sign, and the central atom of an improper torsion comes first. ``"timemachine"`` gives what timemachine's handlers give
and its alchemical topologies expect: phases as they are, and the central atom second. The energy is then a different
one where a phase is neither 0 nor 180 degrees, or the atoms around a centre are not in one plane.
"""

Torsions = tuple[Float[Array, "terms 3"], Int[np.ndarray, "terms 4"]]
"""Parameters and atoms of torsion terms."""

_KNOWN = frozenset(
    ("Bonds", "Angles", "ProperTorsions", "ImproperTorsions", "vdW", "Electrostatics", "Constraints", "VirtualSites")
)
"""Sections that the functions here return, leave out (Constraints) or refuse with their own error (VirtualSites)."""


class NonbondedArrays(NamedTuple):
    """What ``Nonbonded`` takes.

    Attributes
    ----------
    params
        ``(n_atoms, 4)``: charge times sqrt(138.935456), sigma/2 (nm), sqrt(epsilon), and a zero (fourth coordinate).
    exclusion_idxs
        ``(n_pairs, 2)``, int32.
    scale_factors
        ``(n_pairs, 2)``: the fraction of Coulomb and Lennard-Jones that is removed.
    beta, cutoff
        Ewald splitting parameter, 1/nm, and cutoff, nm.
    """

    params: Float[Array, "atoms 4"]
    exclusion_idxs: Int[np.ndarray, "pairs 2"]
    scale_factors: Float[AnyArray, "pairs 2"]
    beta: float
    cutoff: float


class PairListArrays(NamedTuple):
    """What ``NonbondedPairListPrecomputed`` takes.

    Attributes
    ----------
    params
        ``(n_pairs, 4)``: product of charges, sum of sigma/2, product of sqrt(epsilon), and a zero. The products of 1-4
        pairs are scaled.
    idxs
        ``(n_pairs, 2)``, int32.
    beta, cutoff
        Ewald splitting parameter, 1/nm, and cutoff, nm.
    """

    params: Float[Array, "pairs 4"]
    idxs: Int[np.ndarray, "pairs 2"]
    beta: float
    cutoff: float


def harmonic_bonds(
    system: SystemData, theta: object = None
) -> tuple[Float[Array, "bonds 2"], Int[np.ndarray, "bonds 2"]]:
    """``(n, 2)`` k and length, and ``(n, 2)`` atoms, the smaller first. Theta is as for ``DiffSystem.parameterize``."""
    return _harmonic(system, theta, "Bonds")


def harmonic_angles(
    system: SystemData, theta: object = None
) -> tuple[Float[Array, "angles 3"], Int[np.ndarray, "angles 3"]]:
    """``(n, 3)`` k, angle and a zero, and ``(n, 3)`` atoms, the smaller end first."""
    params, idxs = _harmonic(system, theta, "Angles")
    return jnp.pad(params, ((0, 0), (0, 1))), idxs


def proper_torsions(
    system: SystemData, theta: object = None, convention: TorsionConvention | str = "openff"
) -> Torsions:
    """``(n, 3)`` k, phase and periodicity, and ``(n, 4)`` atoms, the smaller end first."""
    params, idxs = _torsions(system, theta, "ProperTorsions", convention)
    return params, _smaller_end_first(idxs)


def improper_torsions(
    system: SystemData, theta: object = None, convention: TorsionConvention | str = "openff"
) -> Torsions:
    """``(n, 3)`` k, phase and periodicity, and ``(n, 4)`` atoms, the central one first, or second as in timemachine."""
    params, idxs = _torsions(system, theta, "ImproperTorsions", convention)
    return params, idxs if convention == "openff" else np.ascontiguousarray(idxs[:, [1, 0, 2, 3]])


def periodic_torsions(
    system: SystemData, theta: object = None, convention: TorsionConvention | str = "openff"
) -> Torsions:
    """Proper and improper torsions together, propers first."""
    propers, impropers = (function(system, theta, convention) for function in (proper_torsions, improper_torsions))
    return jnp.concatenate([propers[0], impropers[0]]), np.concatenate([propers[1], impropers[1]])


def nonbonded(
    system: SystemData,
    theta: object = None,
    scale14: Scale14 | str = "timemachine",
    *,
    beta: float = BETA,
    cutoff: float = CUTOFF,
) -> NonbondedArrays:
    """All pairs except the excluded ones, for ``Nonbonded(n_atoms, exclusion_idxs, scale_factors, beta, cutoff)``.

    If the system has no section vdW or Electrostatics, the columns of that section are zero.

    Parameters
    ----------
    system, theta
        As for ``DiffSystem.parameterize``.
    scale14
        ``"timemachine"`` halves 1-4 interactions, as timemachine's topologies do; ``"smirnoff"`` scales them as the
        force field says.
    beta, cutoff
        Ewald splitting parameter, 1/nm, and cutoff, nm. By default timemachine's.

    Raises
    ------
    UnsupportedForceFieldError
        If the system has virtual sites, pairs with parameters of their own (``NonbondedExceptions``), or an epsilon
        below zero, which has no square root. While jax traces, numbers cannot be checked: the square root is NaN.
    """
    charges, lennard_jones = _particles(system, theta)
    idxs = np.concatenate([system.excluded_pairs, system.pairs_14]).astype(np.int32)
    removed = 1.0 - _kept_14(system, theta, scale14)
    n_excluded, n_14 = len(system.excluded_pairs), len(system.pairs_14)
    xp: ModuleType = np if isinstance(removed, np.ndarray) else jnp
    scales = xp.concatenate([xp.ones((n_excluded, 2)), xp.broadcast_to(removed, (n_14, 2))])
    params = jnp.concatenate([charges[:, None], lennard_jones, jnp.zeros((len(charges), 1))], axis=1)
    return NonbondedArrays(params, idxs, scales, beta, cutoff)


def nonbonded_pair_list(
    system: SystemData,
    theta: object = None,
    scale14: Scale14 | str = "timemachine",
    *,
    beta: float = BETA,
    cutoff: float = CUTOFF,
) -> PairListArrays:
    """Every interacting pair, with its own parameters, for ``NonbondedPairListPrecomputed(idxs, beta, cutoff)``.

    The number of pairs grows with the square of the number of atoms, so this is for small systems. Arguments and errors
    are those of :func:`nonbonded`.
    """
    charges, lennard_jones = _particles(system, theta)
    interactions = isolated_interactions(system, True)
    real = interactions.pair_kinds != PADDING
    idxs, kinds = np.ascontiguousarray(interactions.pairs[real], dtype=np.int32), interactions.pair_kinds[real]
    kept = _kept_14(system, theta, scale14)
    kept = jnp.where((kinds == SCALED_14)[:, None], kept, 1.0)
    return PairListArrays(combine_pairs(idxs, kept, charges, lennard_jones), idxs, beta, cutoff)


def _check_sections(system: SystemData) -> None:
    for section in system.sections:
        if section not in _KNOWN and len(system.indices(section)):
            raise UnsupportedForceFieldError(
                f"timemachine's potentials have no place for {section}, and this system has "
                f"{len(system.indices(section))} such terms: without them the energy would be wrong"
            )


def _harmonic(
    system: SystemData, theta: object, section: str
) -> tuple[Float[Array, "terms 2"], Int[np.ndarray, "terms atoms"]]:
    _check_sections(system)
    if section not in system.sections:
        return jnp.empty((0, 2)), np.empty((0, SECTIONS[section].n_atoms), dtype=np.int32)
    return system.parameterize(theta)[section], _smaller_end_first(system.indices(section))


def _torsions(system: SystemData, theta: object, section: str, convention: str) -> Torsions:
    _check_sections(system)
    if convention not in ("openff", "timemachine"):
        raise InvalidInputError(f"convention must be 'openff' or 'timemachine', not {convention!r}")
    if section not in system.sections:
        return jnp.empty((0, 3)), np.empty((0, 4), dtype=np.int32)
    parameters = system.parameterize(theta)
    k, phase, idivf = (parameters.column(section, name) for name in ("k", "phase", "idivf"))
    periodicity = jnp.asarray(system.term_static[section]["periodicity"], dtype=k.dtype)
    phase = -phase if convention == "openff" else phase
    return jnp.stack([k / idivf, phase, periodicity], axis=1), system.indices(section)


def _smaller_end_first(idxs: Int[np.ndarray, "terms atoms"]) -> Int[np.ndarray, "terms atoms"]:
    return np.ascontiguousarray(np.where((idxs[:, 0] > idxs[:, -1])[:, None], idxs[:, ::-1], idxs), dtype=np.int32)


def _particles(system: SystemData, theta: object) -> tuple[Float[Array, " atoms"], Float[Array, "atoms 2"]]:
    """Charges times sqrt(138.935456), and sigma/2 (nm) with sqrt(epsilon)."""
    _check_sections(system)
    if system.n_particles != system.n_atoms:
        raise UnsupportedForceFieldError("timemachine has no virtual sites, and this system has some")
    parameters = system.parameterize(theta)
    epsilon = sigma = charges = jnp.zeros(system.n_atoms, dtype=parameters.values.dtype)
    if "vdW" in system.sections:
        epsilon, sigma = (parameters.column("vdW", name) for name in ("epsilon", "sigma"))
        _check_epsilon(epsilon)
    if "Electrostatics" in system.sections:
        charges = parameters.column("Electrostatics", "charge") * CHARGE_SCALE
    return charges, jnp.stack([0.5 * sigma, safe_sqrt(epsilon)], axis=1)


def _check_epsilon(epsilon: Float[Array, " atoms"]) -> None:
    if isinstance(epsilon, jax.core.Tracer):
        return
    if (negative := np.flatnonzero(np.asarray(epsilon) < 0)).size:
        raise UnsupportedForceFieldError(
            f"vdW: epsilon of atom {negative[0]} is {epsilon[negative[0]]} kJ/mol: it is negative and has no square "
            "root, which is what timemachine stores"
        )


def _kept_14(system: SystemData, theta: object, scale14: str) -> Float[AnyArray, "2"]:
    """The fraction of 1-4 interactions that is kept, ``(2,)``: Coulomb, Lennard-Jones."""
    if scale14 == "timemachine":
        return np.full(2, 1.0 - SCALE_14)
    if scale14 != "smirnoff":
        raise InvalidInputError(f"scale14 must be 'timemachine' or 'smirnoff', not {scale14!r}")
    parameters = system.parameterize(theta)
    kept = jnp.stack(
        [
            parameters.setting(section, "scale14") if section in system.sections else jnp.ones(())
            for section in ("Electrostatics", "vdW")
        ]
    )
    return kept if isinstance(kept, jax.core.Tracer) else np.asarray(kept)
