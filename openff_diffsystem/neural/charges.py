"""Charges from a network: espaloma-charge in JAX, and putting charges of one molecule into a system."""

from __future__ import annotations

from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from openff.toolkit import Molecule

from openff_diffsystem.exceptions import (
    ChargeAssignmentError,
    MissingStackError,
    ParameterMismatchError,
    UnsupportedForceFieldError,
    UnsupportedInputError,
)
from openff_diffsystem.neural.graph import RING_SIZES, MoleculeGraph, check_molecules
from openff_diffsystem.neural.rows import UniqueMolecules
from openff_diffsystem.neural.symmetry import refine
from openff_diffsystem.system import DiffSystem
from openff_diffsystem.system_parameters import SystemParameters

ESPALOMA_ELEMENTS = (1, 6, 7, 8, 9, 15, 16, 17, 35, 53)
"""Atomic numbers that espaloma-charge was trained on."""

_NUMBERS = 100
"""Atomic numbers have a feature each, in espaloma-charge."""


BUNDLED = "espaloma-charge-0.0.8"
"""The model that expaloma ships, as the NeuralCharges section names it."""


def load_espaloma(path: Any = None) -> EspalomaCharges:
    """espaloma-charge, with the weights that expaloma ships (version 0.0.8) or other ones.

    Parameters
    ----------
    path
        A file that :meth:`EspalomaCharges.save` wrote.

    Raises
    ------
    MissingStackError
        If expaloma is not installed.
    UnsupportedInputError
        If the file holds something else.
    """
    expaloma = _expaloma()
    path = expaloma.bundled_eqx_path() if path is None else path
    # weights are concrete also when first needed inside a trace
    with jax.ensure_compile_time_eval():
        # the file is in single precision, and equinox wants the template to be
        like = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), expaloma.template_model_v0_0_8())
        try:
            network = eqx.tree_deserialise_leaves(str(path), like)
        except (RuntimeError, ValueError, EOFError) as error:
            raise UnsupportedInputError(f"{path} does not hold weights of espaloma-charge: {error}") from error
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
    """What changes when the file of a :func:`charge_model` is written anew; empty for ``BUNDLED``.

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

    network: Any

    def __call__(self, graph: MoleculeGraph) -> jax.Array:
        """Charges of the atoms, ``(n_atoms,)``, e; see :func:`espaloma_charges`."""
        return espaloma_charges(self, graph)

    def save(self, path: Any) -> None:
        """Write the weights in single precision, for :func:`load_espaloma` and expaloma's own ``load_eqx``."""
        eqx.tree_serialise_leaves(str(path), jax.tree.map(lambda leaf: leaf.astype(jnp.float32), self.network))

    def atom_classes(self, graph: MoleculeGraph) -> np.ndarray:
        """Numbers that are equal for atoms the network cannot tell apart, whatever its weights, ``(n_atoms,)``."""
        nothing = np.empty((graph.n_bonds, 0))
        known = refine(graph, graph.node("atomic_number", *_FEATURES), nothing, rounds=len(self.network.gnn.sages))
        # charge equilibration sees the whole molecule
        return np.unique(np.stack([known, np.asarray(graph.molecule)], axis=1), axis=0, return_inverse=True)[1].ravel()


def espaloma_charges(model: EspalomaCharges, molecule: Any) -> jax.Array:
    """Charges by espaloma-charge, a network whose electronegativities and hardnesses are equilibrated in each molecule.

    Parameters
    ----------
    model
        What :func:`load_espaloma` returned; differentiable.
    molecule
        A :class:`MoleculeGraph`, ``Molecule``, or RDKit molecule with explicit hydrogens.

    Returns
    -------
    jax.Array
        ``(n_atoms,)``, e. They add up to the formal charge of each molecule.

    Raises
    ------
    ChargeAssignmentError
        If an element is none of those that espaloma-charge was trained on.
    """
    graph = molecule if isinstance(molecule, MoleculeGraph) else MoleculeGraph.from_molecule(molecule)
    array = jnp if isinstance(graph.nodes, jax.Array) else np
    n_atoms = graph.n_atoms
    fillers = _GRANULARITY - n_atoms % _GRANULARITY
    index = np.arange(n_atoms + fillers)
    alone = array.pad(graph.node("degree") == 0, (0, fillers), constant_values=True)
    loops = array.where(alone, index, n_atoms)
    unused = np.full(-2 * graph.n_bonds % (2 * _GRANULARITY), n_atoms)
    a, b = graph.bonds.T
    charges = _equilibrated(
        model.network,
        # fillers repeat the last atom, which keeps them finite
        array.pad(_features(graph), ((0, fillers), (0, 0)), mode="edge"),
        array.concatenate([a, b, loops, unused]),
        array.concatenate([b, a, loops, unused]),
        array.pad(graph.molecule, (0, fillers), constant_values=graph.n_molecules),
        array.pad(graph.node("formal_charge"), (0, fillers)),
        graph.n_molecules + 1,
    )
    return charges[:n_atoms]


_GRANULARITY = 32
"""Atoms are filled up to a multiple of this, so that molecules of similar size share a program."""


@partial(jax.jit, static_argnames="n_molecules")
def _equilibrated(
    network: Any,
    features: jax.Array,
    senders: jax.Array,
    receivers: jax.Array,
    molecule: jax.Array,
    formal_charges: jax.Array,
    n_molecules: int,
) -> jax.Array:
    """Charges of all atoms, ``(n_atoms,)``, e. Every atom must receive something: expaloma divides by how many do."""
    dtype = network.w_readout.dtype
    formal = formal_charges.astype(dtype)[:, None]
    return network(features.astype(dtype), senders, receivers, molecule, n_molecules, 0.0, q_ref=formal)[:, 0]


def replace_charges(system: DiffSystem, parameters: SystemParameters, molecule: Any, charges: Any) -> SystemParameters:
    """The same parameters with other charges in one unique molecule, and so in all its copies.

    A system made from an Interchange lists each copy as a molecule of its own.

    Parameters
    ----------
    parameters
        What ``system.parameterize`` returned.
    molecule
        Position in ``system.molecules``, or a ``Molecule``; charges then are in the order of its atoms.
    charges
        ``(n_atoms,)``, e; may be traced.

    Raises
    ------
    ParameterMismatchError
        If the system has no such molecule, or charges have the wrong shape.
    UnsupportedForceFieldError
        If the molecule has virtual sites, whose charges are taken from those of its atoms.
    """
    check_molecules(system)
    number, order = _find(system, molecule)
    graphs = [MoleculeGraph.from_system(system, [i]) for i in range(len(system.molecules))]
    unique = UniqueMolecules(system, graphs)
    name, n_atoms = system.molecules[number][0], unique.n_atoms[number]
    if unique.n_sites[number]:
        raise UnsupportedForceFieldError(
            f"{name} has virtual sites, whose charges are taken from those of its atoms; replace_charges cannot be used"
        )
    if jnp.shape(charges) != (n_atoms,):
        raise ParameterMismatchError(f"charges of {name} must have shape ({n_atoms},), got {jnp.shape(charges)}")
    rows = unique.terms("Electrostatics", number)[0][:n_atoms]
    present = parameters.unique("Electrostatics")
    ordered = jnp.asarray(charges) if order is None else jnp.asarray(charges)[order]
    return parameters.replace({"Electrostatics": present.at[..., rows, 0].set(ordered)})


_FEATURES = (
    *("degree", "valence", "aromatic", "mass"),
    *(f"ring{size}" for size in RING_SIZES),
    *("SP", "SP2", "SP3", "SP3D", "SP3D2"),
)


def _features(graph: MoleculeGraph) -> Any:
    """What espaloma-charge reads of an atom, ``(n_atoms, 116)``."""
    numbers = graph.node("atomic_number")
    if not isinstance(numbers, jax.core.Tracer):
        strange = np.flatnonzero(~np.isin(np.asarray(numbers), ESPALOMA_ELEMENTS))
        if strange.size:
            raise ChargeAssignmentError(
                f"espaloma-charge does not know the element of atom {strange[0]}, of atomic number "
                f"{int(numbers[strange[0]])}; use library charges or charge_from_molecules for this molecule"
            )
    array = jnp if isinstance(numbers, jax.Array) else np
    one_hot = numbers[:, None] == np.arange(_NUMBERS)
    # explicit hydrogens: the explicit valence is the valence
    degree, valence = graph.node("degree"), graph.node("valence")
    first = array.stack([degree, valence, valence], axis=1)
    return array.concatenate([one_hot, first, graph.node(*_FEATURES[2:])], axis=1)


def _find(system: DiffSystem, molecule: Any) -> tuple[int, np.ndarray | None]:
    """The number of a unique molecule, and which atom of ``molecule`` each of its atoms is."""
    if not isinstance(molecule, Molecule):
        if not 0 <= molecule < len(system.molecules):
            raise ParameterMismatchError(
                f"there are {len(system.molecules)} unique molecules, none is number {molecule}"
            )
        return int(molecule), None
    candidates = []
    for i, (smiles, _) in enumerate(system.molecules):
        own = Molecule.from_mapped_smiles(smiles, allow_undefined_stereo=True)
        isomorphic, atom_map = Molecule.are_isomorphic(own, molecule, return_atom_map=True)
        if isomorphic:
            candidates.append((i, np.array([atom_map[a] for a in range(own.n_atoms)])))
    if len(candidates) != 1:
        raise ParameterMismatchError(
            f"{len(candidates)} unique molecules of the system are {molecule.to_smiles(explicit_hydrogens=False)}; "
            "give the position in system.molecules"
        )
    return candidates[0]


def _expaloma() -> Any:
    try:
        import expaloma
    except ImportError as error:
        raise MissingStackError(
            "expaloma is not installed, which has espaloma-charge in JAX: pip install openff-diffsystem[neural]"
        ) from error
    return expaloma
