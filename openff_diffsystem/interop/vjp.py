"""Values and pullbacks for any framework: what ``DiffSystem.vjp`` and ``DiffSystem.energy_vjp`` return."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from openff_diffsystem._jax.fork import require_own_process
from openff_diffsystem.exceptions import NonFiniteParameterError, ParameterMismatchError
from openff_diffsystem.interop.arrays import ForeignArray, from_jax, to_jax
from openff_diffsystem.interop.calls import EnergyCall, checked_theta, complete_inputs, require_finite
from openff_diffsystem.interop.programs import GivenSections, GivenTheta, parameters_program
from openff_diffsystem.potentials.periodic.neighbors import NeighborList
from openff_diffsystem.system.data import SystemData
from openff_diffsystem.system.jax_potential import Potential
from openff_diffsystem.system.model import assignment_model


class EnergyGradients(NamedTuple):
    """What the pullback of an energy returns: each gradient has the framework and the shape of its argument.

    Attributes
    ----------
    positions
        Like the positions, kJ/mol/nm.
    theta
        Like theta: an array, or parameters.
    box_vectors
        ``(3, 3)``, kJ/mol/nm; ``None`` without a box.
    parameters
        By section, like the values that were given; ``None`` without any.
    """

    positions: Float[ForeignArray, "*conformers particles 3"]
    theta: GivenTheta
    box_vectors: Float[ForeignArray, "3 3"] | None
    parameters: GivenSections | None


def vjp(
    system: SystemData, theta: object = None, *, unique: bool = False
) -> tuple[dict[str, Float[ForeignArray, "_terms _columns"]], Callable[[Mapping[str, object]], GivenTheta]]:
    """System parameters and their pullback, for arrays of any framework.

    Parameters
    ----------
    theta
        As for :meth:`DiffSystem.parameterize`, where arrays may be of NumPy, JAX, PyTorch, or any framework with
        DLPack. Results have its precision.
    unique
        Return one copy of each unique molecule, as ``SystemParameters.unique`` does and as ``parameters=`` of
        :meth:`DiffSystem.energy_vjp` takes it, instead of all terms.

    Returns
    -------
    values
        By section, ``(n_terms, n_columns)``, MD units, in the order of :meth:`DiffSystem.indices`, in the framework of
        theta. Numbers that hold for a whole section (``scale14``) are not among them.
    pullback
        ``pullback({"Bonds": dL_dvalues, ...})`` returns dL/dtheta, like theta. A missing section counts as zero.

    Raises
    ------
    ParameterMismatchError
        If theta belongs to another force field or has the wrong shape.
    NonFiniteParameterError
        If theta holds a NaN; arrays of jax are not checked.
    PrecisionError
        If theta is in double precision and jax is set to single.
    """
    require_own_process()
    theta = checked_theta(system, system.force_field_parameters.vector if theta is None else theta)
    leaves, structure = jax.tree.flatten(theta)
    arrays = [to_jax(leaf, "theta") for leaf in leaves]
    for leaf, array in zip(leaves, arrays, strict=True):
        require_finite("theta", leaf, array, NonFiniteParameterError)
    model, program, sections = assignment_model(system), parameters_program(structure, unique), system.sections
    values = program(model, *arrays)
    # the map is affine: its pullback needs the shape and dtype of theta, but no numbers, which may change meanwhile
    like = [jnp.zeros_like(array) for array in arrays]
    shapes = {section: (value.shape, value.dtype) for section, value in zip(sections, values, strict=True)}
    transposed = program.vjp([True] * len(leaves))

    def pullback(cotangents: Mapping[str, object]) -> GivenTheta:
        for section in cotangents:
            if section not in shapes:
                raise ParameterMismatchError(f"no section {section!r} in this system; there are {', '.join(sections)}")
        full = []
        for section, (shape, dtype) in shapes.items():
            if section not in cotangents:
                full.append(jnp.zeros(shape, dtype))
                continue
            array = to_jax(cotangents[section], f"the cotangent of {section}")
            if array.shape != shape:
                raise ParameterMismatchError(f"the cotangent of {section} must have shape {shape}, got {array.shape}")
            full.append(array.astype(dtype))
        gradients = transposed(model, *like, *full)
        return jax.tree.unflatten(structure, map(from_jax, gradients, leaves))

    out = {section: from_jax(value, leaves[0]) for section, value in zip(sections, values, strict=True)}
    return out, pullback


def energy_vjp(
    system: SystemData,
    positions: object = None,
    theta: object = None,
    box_vectors: object = None,
    neighbors: NeighborList | None = None,
    *,
    parameters: Mapping[str, object] | None = None,
    chunk_size: int = 16,
    add_constrained_forces: bool = False,
) -> tuple[Float[ForeignArray, "*conformers"], Callable[..., EnergyGradients]]:
    """The energy and its pullback, for arrays of any framework.

    Memory is shared with the caller's framework where both sides can. NumPy arrays that are returned are read-only.

    Parameters
    ----------
    positions, theta, box_vectors, neighbors, chunk_size, add_constrained_forces
        As for :meth:`DiffSystem.to_jax_potential`; arrays may be of NumPy, JAX, PyTorch, or any framework with
        DLPack, float32 or float64. Those that are left out are the system's own.
    parameters
        Values that replace those of some sections, in the shapes of ``SystemParameters.unique``:
        ``{"Electrostatics": charges}`` or ``{"Bonds": {"k": k}}``.

    Returns
    -------
    energy
        kJ/mol, a scalar, or ``(n_conformers,)``, in the framework of the positions.
    pullback
        ``pullback(dL_dU=1)`` returns :class:`EnergyGradients`.

    Raises
    ------
    PrecisionError
        If an array is in double precision and jax is set to single.
    PositionsError, BoxError, ParameterMismatchError, InvalidInputError, UnsupportedInputError
        If an argument does not fit this system.
    NonFiniteParameterError
        If theta or ``parameters`` hold a NaN; for positions and box one of the errors above. Arrays of jax are not
        checked.
    """
    potential = Potential(system, chunk_size, add_constrained_forces)
    call = EnergyCall(potential, complete_inputs(system, positions, theta, box_vectors, parameters), neighbors)
    arrays = call.to_jax()
    constants = call.constants(arrays)
    everything = [True] * len(arrays)
    likes = _templates(call.leaves, positions, theta, box_vectors, parameters)
    # one configuration: gradients come with the energy. A stack: they need the cotangents, and the caller may write to
    # the memory before these are known
    if call.is_scalar:
        energy, *gradients = call.program.value_and_gradients(everything)(constants, *arrays)
    else:
        (energy,) = call.program(constants, *arrays)
        kept = [jnp.array(array, copy=True) for array in arrays]

    def pullback(cotangent: object = None) -> EnergyGradients:
        weight = jnp.ones_like(energy) if cotangent is None else _cotangent(cotangent, energy)
        if call.is_scalar:
            found = [(weight * gradient).astype(gradient.dtype) for gradient in gradients]
        else:
            found = list(call.program.vjp(everything)(constants, *kept, weight))
        return EnergyGradients(*jax.tree.unflatten(call.structure, map(from_jax, found, likes)))

    return from_jax(energy, likes[0]), pullback


def _cotangent(cotangent: object, energy: Float[Array, "*conformers"]) -> Float[Array, "*conformers"]:
    array = jnp.asarray(cotangent, energy.dtype) if isinstance(cotangent, int | float) else to_jax(cotangent, "dL/dU")
    if array.shape != energy.shape:
        raise ParameterMismatchError(f"the cotangent of the energy must have shape {energy.shape}, got {array.shape}")
    return array.astype(energy.dtype)


def _templates(leaves: list[Any], *arguments: object) -> list[Any]:
    """An array of the framework of each gradient: its argument or, where that was left out, the first one given."""
    given = jax.tree.leaves(arguments)
    ours = {id(leaf) for leaf in given}
    return [leaf if id(leaf) in ours or not given else given[0] for leaf in leaves]
