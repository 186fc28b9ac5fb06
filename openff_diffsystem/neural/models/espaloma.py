"""Charges from a network: espaloma-charge in JAX, with the weights that expaloma ships."""

from __future__ import annotations

import os
from functools import lru_cache, partial
from pathlib import Path
from types import ModuleType
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from openff_diffsystem._jax.types import AnyArray
from openff_diffsystem.exceptions import (
    ChargeAssignmentError,
    InvalidInputError,
    MissingStackError,
    UnsupportedForceFieldError,
)
from openff_diffsystem.neural.graph import RING_SIZES, MoleculeGraph, atom_outside
from openff_diffsystem.neural.symmetry import refine

ESPALOMA_ELEMENTS = (1, 6, 7, 8, 9, 15, 16, 17, 35, 53)
"""Atomic numbers that espaloma-charge was trained on."""

_NUMBERS = 100
"""espaloma-charge has one feature for each atomic number below this."""

BUNDLED = "espaloma-charge-0.0.8"
"""The model that expaloma ships, as the NeuralCharges section names it."""


def load_espaloma(path: str | os.PathLike[str] | None = None) -> EspalomaCharges:
    """espaloma-charge, with the weights that expaloma ships (version 0.0.8) or with others.

    Parameters
    ----------
    path
        A file that :meth:`EspalomaCharges.save` wrote, with its full name.

    Raises
    ------
    MissingStackError
        If expaloma is not installed.
    FileNotFoundError
        If there is no such file.
    InvalidInputError
        If the file holds something else.
    """
    expaloma = _expaloma()
    path = expaloma.bundled_eqx_path() if path is None else path
    # weights must not be traced, even if they are first needed inside a trace
    with jax.ensure_compile_time_eval():
        # the file is in single precision, and equinox needs a template in the same precision
        like = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), expaloma.template_model_v0_0_8())
        try:
            # opened here, because equinox appends .eqx to names without a suffix
            with open(path, "rb") as file:
                network = eqx.tree_deserialise_leaves(file, like)
        except (RuntimeError, ValueError, EOFError) as error:
            raise InvalidInputError(f"{path} does not hold weights of espaloma-charge: {error}") from error
        return EspalomaCharges(jax.tree.map(lambda leaf: leaf.astype(jnp.result_type(float)), network))


def charge_model(name: str) -> EspalomaCharges:
    """The model that a NeuralCharges section names: ``BUNDLED``, or a file of weights.

    Raises
    ------
    UnsupportedForceFieldError
        If there is no such model or file.
    """
    _expaloma()
    with jax.ensure_compile_time_eval():
        precision = str(jnp.result_type(float))
    return _read_once(name, model_version(name), precision)


def model_version(name: str) -> tuple[int, ...]:
    """Numbers that change when the file of a :func:`charge_model` is written again; empty for ``BUNDLED``.

    Raises
    ------
    UnsupportedForceFieldError
        If there is no such model or file.
    """
    if name == BUNDLED:
        return ()
    if not Path(name).is_file():
        raise UnsupportedForceFieldError(f"NeuralCharges: no model {name!r}; there is {BUNDLED!r}, or give a file")
    status = Path(name).stat()
    return status.st_mtime_ns, status.st_size, status.st_ino


@lru_cache(maxsize=8)
def _read_once(name: str, version: tuple[int, ...], precision: str) -> EspalomaCharges:
    return load_espaloma(None if name == BUNDLED else name)


class EspalomaCharges(eqx.Module):
    """A model for :func:`~openff_diffsystem.neural.lambda_module` that emits charges. All leaves are arrays.

    Attributes
    ----------
    network
        ``expaloma.EspalomaModel``.
    """

    network: Any  # expaloma is optional

    def __call__(self, graph: MoleculeGraph) -> Float[Array, " atoms"]:
        """Charges of the atoms, ``(n_atoms,)``, e; see :func:`espaloma_charges`."""
        return espaloma_charges(self, graph)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the weights in single precision, for :func:`load_espaloma` and expaloma's own ``load_eqx``.

        The file has exactly the name that is given, but ``load_eqx`` appends ``.eqx`` to names without a suffix.
        """
        with open(path, "wb") as file:
            eqx.tree_serialise_leaves(file, jax.tree.map(lambda leaf: leaf.astype(jnp.float32), self.network))

    def atom_classes(self, graph: MoleculeGraph) -> Int[np.ndarray, " atoms"]:
        """Numbers that are equal for atoms the network cannot tell apart, whatever its weights, ``(n_atoms,)``."""
        nothing = np.empty((graph.n_bonds, 0))
        known = refine(graph, graph.node("atomic_number", *_FEATURES), nothing, rounds=len(self.network.gnn.sages))
        # charge equilibration sees the whole molecule
        return np.unique(np.stack([known, np.asarray(graph.molecule)], axis=1), axis=0, return_inverse=True)[1].ravel()


def espaloma_charges(model: EspalomaCharges, molecule: object) -> Float[Array, " atoms"]:
    """Charges by espaloma-charge: a network predicts electronegativities and hardnesses, and charges equilibrate.

    The charges q of a molecule minimise the sum of ``e q + s q^2 / 2`` over its atoms, with electronegativities e and
    hardnesses s, under the condition that they add up to the formal charge of the molecule (Gilson et al., J. Chem.
    Inf. Comput. Sci. 43, 1982 (2003)).

    Parameters
    ----------
    model
        Returned by :func:`load_espaloma`; differentiable.
    molecule
        A :class:`MoleculeGraph`, ``Molecule``, or RDKit molecule with explicit hydrogens.

    Returns
    -------
    jax.Array
        ``(n_atoms,)``, e. They add up to the formal charge of each molecule.

    Raises
    ------
    ChargeAssignmentError
        If espaloma-charge was not trained on an element of the molecule.
    """
    graph = molecule if isinstance(molecule, MoleculeGraph) else MoleculeGraph.from_molecule(molecule)
    array = jnp if isinstance(graph.nodes, jax.Array) else np
    n_atoms = graph.n_atoms
    fillers = _GRANULARITY - n_atoms % _GRANULARITY
    # edges from filler to filler
    unused = np.full(-2 * graph.n_bonds % (2 * _GRANULARITY), n_atoms)
    a, b = graph.bonds.T
    charges = _equilibrated(
        model.network,
        # fillers repeat the last atom, so that their charges are finite
        array.pad(_features(graph), ((0, fillers), (0, 0)), mode="edge"),
        array.concatenate([a, b, unused]),
        array.concatenate([b, a, unused]),
        array.pad(graph.molecule, (0, fillers), constant_values=graph.n_molecules),
        array.pad(graph.node("formal_charge"), (0, fillers)),
        graph.n_molecules + 1,
    )
    return charges[:n_atoms]


_GRANULARITY = 32
"""The number of atoms is filled up to a multiple of this, so that molecules of similar size share a program."""


@partial(jax.jit, static_argnames="n_molecules")
def _equilibrated(
    network: Any,
    features: Float[Array, "atoms features"],
    senders: Int[Array, " edges"],
    receivers: Int[Array, " edges"],
    molecule: Int[Array, " atoms"],
    formal_charges: Float[Array, " atoms"],
    n_molecules: int,
) -> Float[Array, " atoms"]:
    """Charges of all atoms, ``(n_atoms,)``, e, by expaloma's own forward pass, compiled."""
    dtype = network.w_readout.dtype
    charges = formal_charges.astype(dtype)[:, None]
    # an atom without neighbours gives 0 / 0 there, but that reaches neither its charge nor a derivative
    return network(features.astype(dtype), senders, receivers, molecule, n_molecules, 0.0, q_ref=charges)[:, 0]


_FEATURES = (
    *("degree", "valence", "aromatic", "mass"),
    *(f"ring{size}" for size in RING_SIZES),
    *("SP", "SP2", "SP3", "SP3D", "SP3D2"),
)


def _features(graph: MoleculeGraph) -> Float[AnyArray, "atoms 116"]:
    """The atom features of espaloma-charge, ``(n_atoms, 116)``."""
    numbers = graph.node("atomic_number")
    if strange := atom_outside(graph, ESPALOMA_ELEMENTS):
        raise ChargeAssignmentError(
            f"espaloma-charge does not know the element of atom {strange[0]}, of atomic number {strange[1]}; use "
            "library charges or charge_from_molecules for this molecule"
        )
    array = jnp if isinstance(numbers, jax.Array) else np
    one_hot = numbers[:, None] == np.arange(_NUMBERS)
    # with explicit hydrogens, explicit and total valence are the same
    degree, valence = graph.node("degree"), graph.node("valence")
    first = array.stack([degree, valence, valence], axis=1)
    return array.concatenate([one_hot, first, graph.node(*_FEATURES[2:])], axis=1)


def _expaloma() -> ModuleType:
    try:
        import expaloma
    except ImportError as error:
        raise MissingStackError(
            "expaloma, which contains espaloma-charge in JAX, is not installed: pip install openff-diffsystem[neural]"
        ) from error
    return expaloma
