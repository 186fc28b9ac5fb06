"""Lennard-Jones interactions that OpenMM looks up by pairs of atom types, as it writes them for CHARMM force fields."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int

from openff_diffsystem.exceptions import UnsupportedForceError
from openff_diffsystem.interop.openmm.forces.at_theta import AtTheta
from openff_diffsystem.interop.openmm.forces.lookup import described, number, only, require_particles, single
from openff_diffsystem.interop.openmm.forces.nonbonded import settings_changed, with_settings
from openff_diffsystem.interop.openmm.forces.part import Change, Found
from openff_diffsystem.interop.openmm.forces.terms import ForceTerms
from openff_diffsystem.potentials.nbfix import SECTION as NBFIX
from openff_diffsystem.sections import SECTIONS
from openff_diffsystem.system.interactions import not_interacting

if TYPE_CHECKING:
    import openmm

CLASSES: tuple[str, ...] = ("CustomNonbondedForce",)

_Square = Float[np.ndarray, "types types"]

_EXPRESSIONS: dict[str, Callable[[_Square, _Square], tuple[_Square, _Square]]] = {
    "acoef(type1,type2)/r^12-bcoef(type1,type2)/r^6": lambda a, b: (a, b),
    "(a/r6)^2-b/r6;r6=r^6;a=acoef(type1,type2);b=bcoef(type1,type2)": lambda a, b: (a**2, b),
}
"""The expressions of ``openmm.app``, without blanks, and how both tables give the coefficients of r^-12 and r^-6."""

_OURS = (
    "4*depth*(x^12-x^6);x=size/r;"
    "depth=select(own(type1,type2),own_epsilon(type1,type2),sqrt(epsilon1*epsilon2));"
    "size=select(own(type1,type2),own_sigma(type1,type2),0.5*(sigma1+sigma2))"
)
"""The expression of :func:`write`: Lorentz-Berthelot rules, except for the pairs of types in the tables."""

_COLUMNS = (*SECTIONS["vdW"].columns, "type")

_ROUNDING = 1e-9
"""Relative rounding errors of twelfth powers, in OpenMM's tables and here."""

_Interactions = tuple[
    Float[np.ndarray, "particles 2"],
    Int[np.ndarray, " particles"],
    Int[np.ndarray, "pairs 2"],
    Float[np.ndarray, "pairs 2"],
]


def read(found: Found) -> None:
    """Lennard-Jones parameters of the particles, and of pairs of types to which no combining rule applies.

    Raises
    ------
    UnsupportedForceError
        If the force is something else, if a pair of types has no Lennard-Jones interaction (only one coefficient, or a
        negative one), or if no NonbondedForce has the same cutoff and excludes the same pairs.
    """
    force = single(found.openmm_system, "CustomNonbondedForce")
    if force is None:
        return
    nonbonded = single(found.openmm_system, "NonbondedForce")
    if nonbonded is None:
        raise UnsupportedForceError(f"{described(force)} without a NonbondedForce is not covered")
    values, types, pairs, own = _read(force, nonbonded)
    found.terms["vdW"].values = values[found.order]
    if len(pairs):
        found.terms["vdW"].static["type"] = types[found.order].astype(np.int32)
        # the first particle of a type stands for the type
        present, first = np.unique(types, return_index=True)
        found.terms[NBFIX] = ForceTerms(SECTIONS[NBFIX].columns, first[np.searchsorted(present, pairs)], own)
    found.settings.pop(("vdW", "switch_width"), None)
    if ("vdW", "cutoff") in found.settings and force.getUseSwitchingFunction():
        width = found.settings["vdW", "cutoff"] - number(force.getSwitchingDistance())
        found.settings["vdW", "switch_width"] = width
    found.engine_options = found.engine_options._replace(dispersion_correction=force.getUseLongRangeCorrection())


def write(at: AtTheta, openmm_system: openmm.System) -> None:
    """A CustomNonbondedForce of all Lennard-Jones interactions, where some types have parameters of their own."""
    if NBFIX not in at:
        return
    import openmm

    force = openmm.CustomNonbondedForce(_OURS)
    force.setName("LennardJones")
    for name in _COLUMNS:
        force.addPerParticleParameter(name)
    for name, square in _squares(at).items():
        force.addTabulatedFunction(name, openmm.Discrete2DFunction(*square.shape, square.ravel()))
    for row in _particles(at):
        force.addParticle(row)
    for pair in at.in_openmm(not_interacting(at.system)).tolist():
        force.addExclusion(*pair)
    _configure(force, at)
    openmm_system.addForce(force)


def change(at: AtTheta, openmm_system: openmm.System) -> Iterator[Change]:
    """New parameters for a force that :func:`write` wrote; other settings reinitialise a Context."""
    if NBFIX not in at:
        return
    force = only(openmm_system, "CustomNonbondedForce")
    squares, particles = _squares(at), _particles(at)

    def apply(_: openmm.Context | None) -> bool:
        for i in range(force.getNumTabulatedFunctions()):
            square = squares[force.getTabulatedFunctionName(i)]
            force.getTabulatedFunction(i).setFunctionParameters(*square.shape, square.ravel())
        for i, row in enumerate(particles):
            force.setParticleParameters(i, row)
        return settings_changed(force, lambda: _configure(force, at))

    yield Change(apply, force)


def is_typed(force: openmm.Force) -> bool:
    """Whether a force is one that :func:`write` writes."""
    return type(force).__name__ == "CustomNonbondedForce" and force.getEnergyFunction().replace(" ", "") == _OURS


def _read(force: openmm.CustomNonbondedForce, nonbonded: openmm.NonbondedForce) -> _Interactions:
    """Parameters of particles, and of pairs of types to which no combining rule applies.

    Returns
    -------
    values
        epsilon (kJ/mol) and sigma (nm), ``(n_particles, 2)``.
    types
        ``(n_particles,)``: the number of a type that has parameters of its own with another type; -1 for all others.
    pairs, own
        ``(n_pairs, 2)`` each: two such types, the smaller number first, and their epsilon and sigma.
    """
    name = described(force)
    text = force.getEnergyFunction().replace(" ", "").rstrip(";")
    tables = {force.getTabulatedFunctionName(i): i for i in range(force.getNumTabulatedFunctions())}
    per_particle = tuple(force.getPerParticleParameterName(i) for i in range(force.getNumPerParticleParameters()))
    ours = is_typed(force)
    if not ours and (text not in _EXPRESSIONS or set(tables) != {"acoef", "bcoef"} or per_particle != ("type",)):
        raise UnsupportedForceError(
            f"{name} is not covered: its energy, {force.getEnergyFunction()!r}, is not a table of Lennard-Jones "
            "coefficients by type as openmm.app writes it for CHARMM; openff-interchange writes a single "
            "NonbondedForce with to_openmm(combine_nonbonded_forces=True)"
        )
    if force.getNumInteractionGroups() or force.getNumGlobalParameters() or force.getNumComputedValues():
        raise UnsupportedForceError(f"{name} has interaction groups, global parameters or computed values")
    require_particles(force, nonbonded.getNumParticles())
    _require_alike(force, nonbonded)
    squares = {key: _square(force, table) for key, table in tables.items()}
    particles = np.array([force.getParticleParameters(i) for i in range(force.getNumParticles())])
    if not ours:
        return _of_coefficients(
            name, particles[:, 0].astype(np.int64), *_EXPRESSIONS[text](squares["acoef"], squares["bcoef"])
        )
    types = particles[:, 2].astype(np.int64)
    types[types == len(squares["own"]) - 1] = -1
    pairs = np.argwhere(np.triu(squares["own"], 1))
    own = np.stack([squares[name][tuple(pairs.T)] for name in ("own_epsilon", "own_sigma")], axis=1)
    return particles[:, :2], types, pairs, own


def _of_coefficients(name: str, all_types: Int[np.ndarray, " particles"], a: _Square, b: _Square) -> _Interactions:
    """The interactions from the coefficients of r^-12 and r^-6 by pairs of types."""
    present, of_particle = np.unique(all_types, return_inverse=True)
    a, b = (coefficients[np.ix_(present, present)] for coefficients in (a, b))
    first = [int(np.flatnonzero(of_particle == i)[0]) for i in range(len(present))]
    silent = (a == 0) & (b == 0)
    refused = np.argwhere(~silent & ~((a > 0) & (b > 0)))
    if len(refused):
        i, j = refused[0]
        raise UnsupportedForceError(
            f"{name} has no Lennard-Jones interaction between atoms of the types of particles {first[i]} and "
            f"{first[j]}: its coefficients of r^-12 and r^-6 are {a[i, j]:.6g} and {b[i, j]:.6g}"
        )
    safe_a, safe_b = (np.where(silent, 1.0, coefficients) for coefficients in (a, b))
    sigma = np.where(silent, 1.0, (safe_a / safe_b) ** (1 / 6))
    epsilon = np.where(silent, 0.0, safe_b**2 / (4.0 * safe_a))
    one_epsilon, one_sigma = np.diag(epsilon), np.diag(sigma)
    mixed = 4.0 * np.sqrt(one_epsilon[:, None] * one_epsilon)
    mean = 0.5 * (one_sigma[:, None] + one_sigma)
    differs = ~np.isclose(a, mixed * mean**12, rtol=_ROUNDING, atol=0.0)
    differs |= ~np.isclose(b, mixed * mean**6, rtol=_ROUNDING, atol=0.0)
    # number the types that occur in NBFIX
    special = np.flatnonzero(differs.any(axis=0))
    number = np.full(len(present), -1)
    number[special] = np.arange(len(special))
    i, j = np.nonzero(np.triu(differs | differs.T, 1))
    own = np.stack([epsilon[i, j], sigma[i, j]], axis=1)
    values = np.stack([one_epsilon, one_sigma], axis=1)[of_particle]
    return values, number[of_particle], np.stack([number[i], number[j]], axis=1), own


def _pairs_of_types(at: AtTheta) -> Int[np.ndarray, "pairs 2"]:
    """The types of the pairs that have parameters of their own, ``(n_terms, 2)``."""
    return at.system.term_static["vdW"]["type"][at.system.term_indices[NBFIX]]


def _particles(at: AtTheta) -> list[tuple[float, ...]]:
    """The parameters of each. The last row of the tables is for all types without parameters of their own."""
    types = at.system.term_static["vdW"]["type"]
    types = np.where(types < 0, _pairs_of_types(at).max() + 1, types)
    return list(at.per_particle(*at.table("vdW").values, types).rows())


def _squares(at: AtTheta) -> dict[str, _Square]:
    """The symmetric tables by name. The last row and column are for all types without parameters of their own."""
    a, b = _pairs_of_types(at).T
    n = max(a.max(), b.max()) + 2
    squares = {name: np.zeros((n, n)) for name in ("own", "own_epsilon", "own_sigma")}
    squares["own_sigma"] += 1.0
    for square, values in zip(squares.values(), (1.0, *at.table(NBFIX).values), strict=True):
        square[a, b] = square[b, a] = values
    return squares


def _configure(force: openmm.Force, at: AtTheta) -> None:
    """Give the force the method, cutoff, switch and correction that a NonbondedForce would have."""
    like, periodic = with_settings(at), at.system.box_vectors is not None
    force.setNonbondedMethod(force.CutoffPeriodic if periodic else force.NoCutoff)
    for name in ("CutoffDistance", "UseSwitchingFunction", "SwitchingDistance"):
        getattr(force, f"set{name}")(getattr(like, f"get{name}")())
    force.setUseLongRangeCorrection(periodic and like.getUseDispersionCorrection())


def _square(force: openmm.Force, table: int) -> _Square:
    n, _, values = force.getTabulatedFunction(table).getFunctionParameters()
    return np.array(values).reshape(n, -1).T


def _require_alike(force: openmm.CustomNonbondedForce, nonbonded: openmm.NonbondedForce) -> None:
    """Raise unless both forces together are equal to one NonbondedForce."""
    name = described(force)
    methods = {
        force.NoCutoff: (nonbonded.NoCutoff,),
        force.CutoffPeriodic: (nonbonded.CutoffPeriodic, nonbonded.PME),
    }
    if nonbonded.getNonbondedMethod() not in methods.get(force.getNonbondedMethod(), ()):
        raise UnsupportedForceError(f"{name} and {described(nonbonded)} end their interactions in different ways")
    if force.getNonbondedMethod() != force.NoCutoff and force.getCutoffDistance() != nonbonded.getCutoffDistance():
        raise UnsupportedForceError(f"{name} and {described(nonbonded)} have different cutoffs")
    if any(nonbonded.getParticleParameters(i)[2]._value for i in range(nonbonded.getNumParticles())):
        raise UnsupportedForceError(f"{name} and {described(nonbonded)} both have Lennard-Jones interactions")
    excluded = {frozenset(force.getExclusionParticles(i)) for i in range(force.getNumExclusions())}
    exceptions = {frozenset(nonbonded.getExceptionParameters(i)[:2]) for i in range(nonbonded.getNumExceptions())}
    if excluded != exceptions:
        raise UnsupportedForceError(
            f"{name} leaves out other pairs than those with exceptions in {described(nonbonded)}"
        )
