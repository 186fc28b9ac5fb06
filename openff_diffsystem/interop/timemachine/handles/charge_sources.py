"""Where charges come from: the toolkit, a function, or the charge sections of a SMIRNOFF force field."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped
from numpy.typing import ArrayLike
from openff.toolkit import ForceField
from openff.toolkit.typing.engines.smirnoff import ParameterHandler
from rdkit import Chem

from openff_diffsystem._jax.types import AnyArray
from openff_diffsystem.chemistry.charges.models import charges_from_method, registered_toolkits
from openff_diffsystem.chemistry.charges.sections import CHARGE_SECTIONS, atom_charges
from openff_diffsystem.chemistry.molecule import PreparedMolecule, as_molecule
from openff_diffsystem.exceptions import (
    ChargeAssignmentError,
    ParameterMismatchError,
    UnsupportedForceFieldError,
)
from openff_diffsystem.interop.timemachine.conventions import CHARGE_SCALE
from openff_diffsystem.interop.timemachine.handles.handle import Handle
from openff_diffsystem.interop.timemachine.handles.smirks import as_array, cached, molecule_key
from openff_diffsystem.neural import EspalomaCharges, MoleculeGraph, espaloma_charges, load_espaloma
from openff_diffsystem.neural.models.espaloma import model_version
from openff_diffsystem.parameters.affine import AffineMap
from openff_diffsystem.parameters.layout import ParameterLayout
from openff_diffsystem.parameters.offxml import handlers_of, read_handlers

ChargeSource = Callable[[Chem.Mol], ArrayLike]
"""From an RDKit molecule to charges, ``(n_atoms,)``, elementary charges."""


@dataclass(frozen=True)
class ToolkitCharges:
    """Charges by a method of the registered OpenFF toolkits, for molecules with explicit hydrogens.

    Attributes
    ----------
    method
        ``"am1bcc"``, ``"am1-mulliken"``, ``"gasteiger"``, or the name of a NAGL model.
    """

    method: str

    def __call__(self, mol: Chem.Mol) -> Float[np.ndarray, " atoms"]:
        """``(n_atoms,)``, e.

        Raises
        ------
        ChargeAssignmentError
            If no registered toolkit has the method, or the method fails.
        """
        return cached(
            ("toolkit charges", self.method, molecule_key(mol), registered_toolkits()),
            lambda: charges_from_method(as_molecule(mol), self.method),
        )


def check_charges(charges: Shaped[AnyArray, "..."], mol: Chem.Mol, source: object) -> None:
    """Raise an error that names the source, and the atom, unless there is one finite charge per atom.

    While jax traces, only the shape is checked.
    """
    name = getattr(source, "__qualname__", None) or repr(source)
    if charges.shape != (mol.GetNumAtoms(),):
        raise ChargeAssignmentError(
            f"{name} gave charges of shape {charges.shape} for a molecule of {mol.GetNumAtoms()} atoms"
        )
    if isinstance(charges, jax.core.Tracer):
        return
    if (bad := np.flatnonzero(~np.isfinite(charges))).size:
        atom = mol.GetAtomWithIdx(int(bad[0]))
        raise ChargeAssignmentError(
            f"{name} gave {bad.size} charges that are not finite numbers, the first one {charges[bad[0]]} for atom "
            f"{atom.GetIdx()} ({atom.GetSymbol()})"
        )


class FunctionChargeHandler(Handle[Float[Array, " atoms"]]):
    """Charges from a function: a network, or another program.

    Parameters
    ----------
    function
        ``function(mol)``, or ``function(params, mol)`` if ``params`` are given. Returns charges, ``(n_atoms,)``, e. If
        jax can trace the function, gradients reach ``params``. The handle can be pickled if the function can.
    params
        Any pytree, for example the weights of a network; ``None`` for a function without parameters.
    """

    def __init__(self, function: Callable[..., Any], params: Any = None) -> None:
        self.function = function
        self.smirks = []
        self.params = [] if params is None else params
        self.props = None
        self._has_params = params is not None

    def partial_parameterize(self, params: Any, mol: Chem.Mol) -> Float[Array, " atoms"]:
        """``(n_atoms,)``, a jax array, times the square root of 138.935456.

        Raises
        ------
        ChargeAssignmentError
            If the function does not give one finite charge per atom. While jax traces, only the shape is checked.
        """
        charges = jnp.asarray(self.function(params, mol) if self._has_params else self.function(mol))
        check_charges(charges, mol, self.function)
        return charges * CHARGE_SCALE

    def serialize(self) -> dict[str, dict[str, Any]]:
        """Not possible: the format has literals only."""
        raise UnsupportedForceFieldError(_NOT_IN_FILES.format("charges from a function"))


class NeuralChargeHandler(FunctionChargeHandler):
    """Charges by espaloma-charge, with gradients of its weights; molecules need explicit hydrogens.

    Parameters
    ----------
    network
        What :func:`~openff_diffsystem.neural.load_espaloma` returns. It becomes the ``params``.

    Raises
    ------
    MissingStackError
        If expaloma is not installed.
    """

    def __init__(self, network: EspalomaCharges | None = None) -> None:
        """Take a network; by default the one with the weights that expaloma ships."""
        super().__init__(_network_charges, load_espaloma() if network is None else network)

    @classmethod
    def from_force_field(cls, force_field: ForceField) -> NeuralChargeHandler:
        """The network that the NeuralCharges section of a swapped ``ForceField`` names, for every molecule.

        Library charges, which take precedence in a SMIRNOFF force field, are not used.

        Raises
        ------
        UnsupportedForceFieldError
            If there is no such section, or it names no model.
        """
        for handler in handlers_of(force_field):
            if handler.TAGNAME == "NeuralCharges":
                return cls(handler.params)
        raise UnsupportedForceFieldError(
            "charges='neural' takes the network of a NeuralCharges section, and the force field has none; add one, or "
            "pass a pair of NeuralChargeHandler"
        )


def _network_charges(network: EspalomaCharges, mol: Chem.Mol) -> Float[Array, " atoms"]:
    graph = cached(("graph", molecule_key(mol)), lambda: MoleculeGraph.from_molecule(mol))
    return espaloma_charges(network, graph)


class ForceFieldChargeHandler(Handle[Float[Array, " atoms"]]):
    """Charges as a SMIRNOFF force field assigns them: library, network, NAGL, increments, AM1-BCC, in that order.

    ``params``, ``(n_values,)``, are library charges and increments, times the square root of 138.935456;
    ``smirks`` has the pattern of each. Charges of a network (NeuralCharges) are constants here. To have its weights as
    ``params``, use :class:`NeuralChargeHandler`.

    Parameters
    ----------
    force_field
        ``ForceField``, swapped or stock.
    """

    def __init__(self, force_field: ForceField) -> None:
        charges_only = copy.deepcopy(force_field)
        for tag in list(charges_only.registered_parameter_handlers):
            if tag not in CHARGE_SECTIONS:
                charges_only.deregister_parameter_handler(tag)
        self.offxml = charges_only.to_string()
        _, layout, values = _charge_handlers(self.offxml)
        self.smirks = [component.smirks or "" for component in layout.components]
        self.params = values * CHARGE_SCALE
        self.props = None

    def partial_parameterize(self, params: object, mol: Chem.Mol) -> Float[Array, " atoms"]:
        """``(n_atoms,)``, a jax array, times the square root of 138.935456.

        Raises
        ------
        ChargeAssignmentError
            If no section covers every atom, or a toolkit cannot compute charges.
        """
        params = as_array(params)
        if params.shape != (len(self.smirks),):
            raise ParameterMismatchError(
                f"ForceFieldChargeHandler: params must have shape {(len(self.smirks),)}; they have {params.shape}"
            )
        linear = cached(
            ("force field charges", self.offxml, molecule_key(mol), registered_toolkits(), _model_version(self.offxml)),
            lambda: _force_field_map(self.offxml, mol),
        )
        return linear(params)

    def serialize(self) -> dict[str, dict[str, Any]]:
        """Not possible: timemachine has no such section."""
        raise UnsupportedForceFieldError(_NOT_IN_FILES.format("the charge sections of a SMIRNOFF force field"))


_NOT_IN_FILES = (
    "timemachine's files cannot hold {}; replace the charge handles, for example by charges='am1bcc' or 'precomputed'"
)


@lru_cache(maxsize=64)
def _charge_handlers(offxml: str) -> tuple[dict[str, ParameterHandler], ParameterLayout, Float[np.ndarray, " values"]]:
    handlers = handlers_of(ForceField(offxml, load_plugins=True))
    layout, values = read_handlers(handlers)
    return {handler.TAGNAME: handler for handler in handlers}, layout, values


def _model_version(offxml: str) -> tuple[int, ...]:
    """A value that changes when the file of weights that a NeuralCharges section names is written again."""
    section = _charge_handlers(offxml)[0].get("NeuralCharges")
    if section is None:
        return ()
    return model_version(section.model)


def _force_field_map(offxml: str, mol: Chem.Mol) -> AffineMap:
    handlers, layout, _ = _charge_handlers(offxml)
    rows = atom_charges(PreparedMolecule(as_molecule(mol)), handlers, layout)
    rows.offset = rows.offset * CHARGE_SCALE
    return AffineMap(rows.flatten(), (mol.GetNumAtoms(),), layout.size)
