"""DiffSystem: a force field applied to a topology, ready for derivatives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from openff_diffsystem.interop.interchange.read import from_interchange
from openff_diffsystem.interop.interchange.write import to_interchange
from openff_diffsystem.interop.openmm.read import from_openmm
from openff_diffsystem.interop.openmm.update import update_openmm
from openff_diffsystem.interop.openmm.write import to_openmm
from openff_diffsystem.interop.vjp import energy_vjp, vjp
from openff_diffsystem.parameters.force_field import ForceFieldParameters, SelectedParameters
from openff_diffsystem.system.batch import SystemBatch
from openff_diffsystem.system.construction import from_smirnoff
from openff_diffsystem.system.data import SystemData
from openff_diffsystem.system.frames import evaluate_frames
from openff_diffsystem.system.jax_potential import energy_terms, to_jax_potential
from openff_diffsystem.system.lists import neighbor_list, particle_positions
from openff_diffsystem.system.model import assignment_model, energy_model
from openff_diffsystem.system.storage import load, save

if TYPE_CHECKING:
    from openff_diffsystem.interop.torch import TorchPotential


class DiffSystem(SystemData):
    """A force field applied to a topology: indices and weights made once, and pure functions of arrays.

    Make one with :meth:`from_smirnoff`, :meth:`from_interchange` or :meth:`from_openmm`. Its attributes are those of
    :class:`~openff_diffsystem.system.data.SystemData`; its methods are functions of the modules below.
    """

    from_smirnoff = classmethod(from_smirnoff)  # type: ignore[var-annotated]
    from_interchange = classmethod(from_interchange)  # type: ignore[var-annotated]
    from_openmm = classmethod(from_openmm)  # type: ignore[var-annotated]
    load = classmethod(load)  # type: ignore[var-annotated]
    save = save

    model = energy_model
    assignment_model = assignment_model
    particle_positions = particle_positions
    neighbor_list = neighbor_list
    to_jax_potential = to_jax_potential
    energy_terms = energy_terms
    evaluate_frames = evaluate_frames

    vjp = vjp
    energy_vjp = energy_vjp
    to_openmm = to_openmm
    update_openmm = update_openmm
    to_interchange = to_interchange

    def to_torch_potential(
        self,
        *,
        trainable: ForceFieldParameters | SelectedParameters | None = None,
        chunk_size: int = 16,
        add_constrained_forces: bool = False,
    ) -> TorchPotential:
        """The potential energy as a function, and a module, for PyTorch.

        Parameters
        ----------
        trainable
            Make these values a parameter of the module, ``theta``, at which the energy is evaluated by default.
        chunk_size, add_constrained_forces
            As for :meth:`to_jax_potential`.

        Returns
        -------
        TorchPotential
            ``potential(positions, theta=None, box_vectors=None, neighbors=None, parameters=None)``, kJ/mol,
            differentiable to any order with ``torch.autograd`` and ``torch.func``.

        Raises
        ------
        MissingStackError
            If PyTorch is not installed.
        ParameterMismatchError
            If ``trainable`` belongs to another force field.
        UnsupportedForceFieldError
            If the system has interactions that this potential does not cover.
        """
        from openff_diffsystem.interop.torch import TorchPotential

        return TorchPotential(
            self, trainable=trainable, chunk_size=chunk_size, add_constrained_forces=add_constrained_forces
        )

    @staticmethod
    def concatenate(systems: Sequence[DiffSystem], *, add_constrained_forces: bool = False) -> SystemBatch:
        """Many systems of isolated molecules and one force field as one object, for which few programs are compiled.

        Raises
        ------
        ParameterMismatchError
            If the systems were made with different force fields, or with different values of the same parameters.
        InvalidInputError
            If the list is empty, if a system has a box, or if one was read from OpenMM with custom forces, correction
            maps or NBFIX.
        """
        return SystemBatch.from_systems(systems, add_constrained_forces=add_constrained_forces)
