"""The potential energy for PyTorch: compiled jax inside ``torch.autograd.Function``.

Every derivative that torch asks for is again such a function of a compiled program. So double backward, forward mode,
``torch.func`` and any nesting of them work, to any order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import chain, repeat
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from openff_diffsystem._jax.fork import require_own_process
from openff_diffsystem.exceptions import MissingStackError, UnsupportedInputError
from openff_diffsystem.interop.arrays import JaxFloats, from_jax, require_float, to_jax
from openff_diffsystem.interop.calls import EnergyCall, checked_theta, complete_inputs
from openff_diffsystem.interop.programs import GivenTheta, Program, Values, parameters_program
from openff_diffsystem.parameters.force_field import ForceFieldParameters, SelectedParameters
from openff_diffsystem.potentials.periodic.neighbors import NeighborList
from openff_diffsystem.system.data import SystemData
from openff_diffsystem.system.jax_potential import Potential, to_jax_potential
from openff_diffsystem.system.model import assignment_model

try:
    import torch
except ImportError as error:
    raise MissingStackError(
        "the bridge to PyTorch needs PyTorch: pip install 'openff-diffsystem[torch]', or with conda: "
        "conda install -c conda-forge pytorch"
    ) from error

Tensors = tuple[Float[torch.Tensor, "..."], ...]


class TorchPotential(torch.nn.Module):
    """``potential(positions, theta=None, box_vectors=None, neighbors=None, parameters=None)``, kJ/mol.

    Made by ``DiffSystem.to_torch_potential``. Theta may be an argument: a ``torch.nn.Parameter``, a part of one, or
    what a network returns. Or it is a parameter of this module, for ``optimizer(potential.parameters())``. The module
    can be pickled and copied, and its state can be saved.

    In a periodic system without ``neighbors`` it keeps the neighbour list of the last call and uses it as long as it
    is valid.

    Attributes
    ----------
    theta
        The trainable values, ``(n_values,)`` or ``(n_selected,)``, MD units, if ``trainable`` was given. In jax's
        precision, whatever torch's default is.
    """

    theta: torch.nn.Parameter | None

    def __init__(
        self,
        system: SystemData,
        *,
        trainable: object = None,
        chunk_size: int = 16,
        add_constrained_forces: bool = False,
    ) -> None:
        super().__init__()
        self.system = system
        self._options: dict[str, Any] = {"chunk_size": chunk_size, "add_constrained_forces": add_constrained_forces}
        # as it was read, not rounded by jax: a process that loads this module may set jax to double precision
        self._theta = np.array(system.force_field_parameters.vector)
        self.theta = None
        if trainable is not None:
            if not isinstance(trainable, ForceFieldParameters | SelectedParameters):
                raise UnsupportedInputError(
                    f"trainable must be force-field parameters or a selection of them, got {type(trainable).__name__}"
                )
            vector, self._unravel = jax.tree.map(np.array, checked_theta(system, trainable)).to_vector()
            self.theta = torch.nn.Parameter(torch.from_numpy(vector))
        self._potential: Potential | None = None
        self._started()

    def _started(self) -> Potential:
        require_own_process()
        if self._potential is None:
            self._potential = to_jax_potential(self.system, **self._options)
        return self._potential

    def forward(
        self,
        positions: object = None,
        theta: object = None,
        box_vectors: object = None,
        neighbors: NeighborList | None = None,
        parameters: Mapping[str, object] | None = None,
    ) -> Float[torch.Tensor, "*conformers"]:
        """The energy.

        Parameters
        ----------
        positions
            ``(n_atoms, 3)`` or ``(n_particles, 3)``, nm; isolated molecules also take ``(n_conformers, n, 3)``. By
            default the system's own.
        theta
            ``(n_values,)``, MD units; or force-field parameters, a selection or system parameters that hold a
            tensor, as ``selection.replace(tensor)`` does. By default the trainable values of this module, or the
            force field's own.
        box_vectors
            ``(3, 3)``, nm; by default those of the system.
        neighbors
            A ``DiffSystem.neighbor_list``; not differentiated. Under ``torch.func.vmap`` it must be given.
        parameters
            Values that replace those of some sections, in the shapes of :meth:`parameterize`:
            ``{"Electrostatics": charges}`` or ``{"Bonds": {"k": k}}``.

        Returns
        -------
        torch.Tensor
            kJ/mol: a scalar, or ``(n_conformers,)``.

        Raises
        ------
        PrecisionError
            If a tensor is float64 and jax is set to single precision.
        ForkedProcessError
            In a process that was forked from one in which a system was made or read.
        PositionsError, BoxError, ParameterMismatchError, InvalidInputError, UnsupportedInputError
            If an argument does not fit this system.
        """
        potential = self._started()
        theta = self._own_theta(positions, parameters) if theta is None else theta
        inputs = complete_inputs(self.system, positions, theta, box_vectors, parameters)
        call = EnergyCall(potential, inputs, neighbors).converted(_as_tensor)
        tensors = call.leaves
        wanted = tuple(tensor.requires_grad for tensor in tensors)
        ahead = wanted if call.is_scalar and any(wanted) and torch.is_grad_enabled() else None
        (energy,) = JaxFunction.apply(_Task(call.program, call.names, call.constants, ahead), *tensors)
        return energy

    def parameterize(self, theta: object = None) -> dict[str, Float[torch.Tensor, "_terms _columns"]]:
        """The values of each section, ``(n_unique_terms, n_columns)``, MD units: one copy of each unique molecule.

        Differentiable in theta. The order is that of ``SystemParameters.unique``.
        """
        require_own_process()
        theta = checked_theta(self.system, self._own_theta() if theta is None else theta)
        leaves, structure = jax.tree.flatten(theta)
        task = _Task(parameters_program(structure, True), ("theta",), lambda arrays: assignment_model(self.system))
        values = JaxFunction.apply(task, *(_as_tensor(leaf, "theta") for leaf in leaves))
        return dict(zip(self.system.sections, values, strict=True))

    def initial_theta(self, dtype: torch.dtype | None = None) -> Float[torch.Tensor, " parameters"]:
        """The force field's own values, ``(n_values,)``, MD units, as a new tensor; by default in jax's precision."""
        return torch.tensor(self._theta, dtype=dtype)

    def force_field_parameters(self, theta: Float[torch.Tensor, " parameters"] | None = None) -> ForceFieldParameters:
        """Force-field parameters for ``to_force_field`` and ``to_file``.

        Parameters
        ----------
        theta
            ``(n_values,)``, MD units; by default the current trainable values of this module.
        """
        unravel = self.system.force_field_parameters.to_vector()[1]
        if theta is None:
            theta, unravel = (self.initial_theta(), unravel) if self.theta is None else (self.theta, self._unravel)
        filled = unravel(theta.detach().cpu().numpy())
        return filled.merge() if isinstance(filled, SelectedParameters) else filled

    def extra_repr(self) -> str:
        return repr(self.system)

    def _own_theta(self, *given: object) -> GivenTheta:
        if self.theta is not None:
            return self._unravel(self.theta)
        tensors = [leaf for leaf in jax.tree.leaves(given) if isinstance(leaf, torch.Tensor)]
        own = torch.from_numpy(self._theta)
        return own.to(tensors[0].device, tensors[0].dtype) if tensors else own

    def __getstate__(self) -> dict[str, Any]:
        # arrays on a device, and their precision, belong to a process: the next one may set jax up after loading this
        return self.__dict__ | {"_potential": None}


class _Task:
    """What a :class:`JaxFunction` evaluates; opaque to torch.

    Parameters
    ----------
    program
        The compiled function.
    names
        The names of the first of its arrays in error messages.
    constants
        Returns its first argument, given the arrays of the first evaluation.
    ahead
        For a scalar result, the arrays whose gradients are likely to be needed: they are computed with the value.
    """

    def __init__(
        self,
        program: Program,
        names: Sequence[str],
        constants: Callable[[Sequence[JaxFloats]], object],
        ahead: tuple[bool, ...] | None = None,
    ) -> None:
        self.program = program
        self._names = names
        self._constants = constants
        self._ahead = ahead
        self._gradients: list[JaxFloats] = []

    def evaluate(self, tensors: Sequence[Float[torch.Tensor, "..."]]) -> list[JaxFloats]:
        names = chain(self._names, repeat("a cotangent or tangent"))
        arrays = [to_jax(tensor, name) for tensor, name in zip(tensors, names, strict=False)]
        constants = self._constants(arrays)
        if self._ahead is None:
            values: Values = self.program(constants, *arrays)
        else:
            value, *self._gradients = self.program.value_and_gradients(self._ahead)(constants, *arrays)
            values = (value,)
        # jax may return an argument itself, but no two tensors of torch may share memory
        return [jnp.copy(value) if any(value is array for array in arrays) else value for value in values]

    def gradients(
        self, needed: Sequence[bool], like: Float[torch.Tensor, "..."]
    ) -> list[Float[torch.Tensor, "..."] | None] | None:
        """The gradients that were computed with the value, if no others are needed."""
        if self._ahead is None or any(n and not a for n, a in zip(needed, self._ahead, strict=True)):
            return None
        found = iter(self._gradients)
        known = [next(found) if computed else None for computed in self._ahead]
        return [
            from_jax(gradient, like) if n and gradient is not None else None
            for n, gradient in zip(needed, known, strict=True)
        ]

    def derived(self, program: Program) -> _Task:
        return _Task(program, self._names, self._constants)


class JaxFunction(torch.autograd.Function):
    """A program as a differentiable function of tensors: ``JaxFunction.apply(task, *tensors) -> tuple of tensors``."""

    @staticmethod
    def forward(task: _Task, *tensors: Float[torch.Tensor, "..."]) -> Tensors:
        return tuple(from_jax(value, tensors[0]) for value in task.evaluate(tensors))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[object, ...], output: Tensors) -> None:
        ctx.task, *tensors = inputs
        ctx.save_for_backward(*tensors)
        ctx.save_for_forward(*tensors)

    @staticmethod
    def backward(ctx: Any, *cotangents: Float[torch.Tensor, "..."]) -> tuple[Float[torch.Tensor, "..."] | None, ...]:
        needed = ctx.needs_input_grad[1:]
        if not torch.is_grad_enabled():  # nobody differentiates the gradient
            known = ctx.task.gradients(needed, cotangents[0])
            if known is not None:
                return None, *(None if g is None else g * cotangents[0].to(g.dtype) for g in known)
        task = ctx.task.derived(ctx.task.program.vjp(needed))
        found = iter(JaxFunction.apply(task, *ctx.saved_tensors, *cotangents))
        return None, *(next(found) if n else None for n in needed)

    @staticmethod
    def jvp(ctx: Any, _: None, *tangents: Float[torch.Tensor, "..."] | None) -> Tensors:
        moving = tuple(tangent is not None for tangent in tangents)
        task = ctx.task.derived(ctx.task.program.jvp(moving))
        return JaxFunction.apply(task, *ctx.saved_tensors, *(t for t in tangents if t is not None))

    @staticmethod
    def vmap(
        info: object, in_dims: tuple[int | None, ...], task: _Task, *tensors: Float[torch.Tensor, "..."]
    ) -> tuple[Tensors, tuple[int, ...]]:
        values = JaxFunction.apply(task.derived(task.program.vmap(in_dims[1:])), *tensors)
        return values, (0,) * len(values)


def _as_tensor(value: object, name: str) -> Float[torch.Tensor, "..."]:
    """A tensor unchanged, if jax can use it; an array of another framework as a tensor."""
    if not isinstance(value, torch.Tensor):
        return from_jax(to_jax(value, name), _A_TENSOR)
    require_float(value, name)
    return value


_A_TENSOR = torch.empty(0)
