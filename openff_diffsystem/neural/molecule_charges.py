"""Replacing the charges of one molecule in the parameters of a system."""

from __future__ import annotations

import operator

import jax.numpy as jnp
import numpy as np
from jaxtyping import Int
from openff.toolkit import Molecule

from openff_diffsystem.chemistry.molecule import as_molecule
from openff_diffsystem.exceptions import ParameterMismatchError, UnsupportedForceFieldError, UnsupportedInputError
from openff_diffsystem.neural.graph import check_molecules, molecule_of_smiles
from openff_diffsystem.neural.graph_rows import UniqueMolecules
from openff_diffsystem.parameters.system import SystemParameters
from openff_diffsystem.system.data import SystemData


def replace_charges(
    system: SystemData, parameters: SystemParameters, molecule: object, charges: object
) -> SystemParameters:
    """The same parameters with other charges in one unique molecule, and so in all its copies.

    A system made from an Interchange lists each copy as a molecule of its own.

    Parameters
    ----------
    parameters
        Returned by ``system.parameterize``.
    molecule
        Position in ``system.molecules``; or a ``Molecule``, a one-molecule ``Topology``, or an RDKit molecule with
        explicit hydrogens, whose order of atoms the charges then follow.
    charges
        ``(n_atoms,)``, e; may be traced. If their precision is higher than that of the parameters, the result has it.

    Raises
    ------
    ParameterMismatchError
        If the system has no such molecule, or charges have the wrong shape.
    UnsupportedInputError
        If ``molecule`` is something else.
    UnsupportedForceFieldError
        If the molecule has virtual sites, which take their charges from the atoms.
    """
    check_molecules(system)
    number, order = _find(system, molecule)
    unique = UniqueMolecules(system)
    name, n_atoms = system.molecules[number][0], unique.n_atoms[number]
    if unique.n_sites[number]:
        raise UnsupportedForceFieldError(
            f"{name} has virtual sites, which take their charges from the atoms; replace_charges cannot be used"
        )
    given = jnp.asarray(charges)
    if given.shape != (n_atoms,):
        raise ParameterMismatchError(f"charges of {name} must have shape ({n_atoms},), got {given.shape}")
    rows = unique.terms("Electrostatics", number)[0][:n_atoms]
    ordered = given if order is None else given[order]
    dtype = jnp.result_type(parameters.values, ordered)
    parameters = SystemParameters(jnp.asarray(parameters.values, dtype=dtype), parameters.layout)
    present = parameters.unique("Electrostatics")
    return parameters.replace({"Electrostatics": present.at[..., rows, 0].set(ordered)})


def _find(system: SystemData, molecule: object) -> tuple[int, Int[np.ndarray, " atoms"] | None]:
    """The number of a unique molecule, and for each of its atoms the corresponding atom of ``molecule``."""
    try:
        number = operator.index(molecule)  # type: ignore[arg-type]
    except TypeError:
        return _find_molecule(system, molecule)
    if not 0 <= number < len(system.molecules):
        raise ParameterMismatchError(f"there are {len(system.molecules)} unique molecules, none is number {number}")
    return number, None


def _find_molecule(system: SystemData, entity: object) -> tuple[int, Int[np.ndarray, " atoms"]]:
    try:
        molecule = as_molecule(entity)
    except UnsupportedInputError as error:
        raise UnsupportedInputError(f"{error}; or the position in system.molecules, an integer") from None
    matches = {
        smiles: Molecule.are_isomorphic(molecule_of_smiles(smiles), molecule, return_atom_map=True)[1]
        for smiles in {smiles for smiles, _ in system.molecules}
    }
    found = [(i, matches[smiles]) for i, (smiles, _) in enumerate(system.molecules) if matches[smiles]]
    if len(found) != 1:
        raise ParameterMismatchError(
            f"{len(found)} unique molecules of the system are {molecule.to_smiles(explicit_hydrogens=False)}; "
            "give the position in system.molecules"
        )
    number, atom_map = found[0]
    return number, np.array([atom_map[atom] for atom in range(molecule.n_atoms)])
