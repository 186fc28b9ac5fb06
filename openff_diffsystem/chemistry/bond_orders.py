"""Interpolation between the values that a force field gives for whole bond orders.

Linear, and extrapolated linearly beyond the first and last (SMIRNOFF specification, "Fractional bond
orders"), so the interpolated value is a weighted sum of parameters.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from openff.toolkit import Molecule
from openff.toolkit.typing.engines.smirnoff import ParameterHandler

from openff_diffsystem.exceptions import InvalidInputError, UnassignedParameterError


def interpolation_weights(keys: Iterable[int], bond_order: float) -> dict[int, float]:
    """Weights of the values at whole bond orders: two of them, or one if there is a value for this bond order."""
    keys = sorted(keys)
    if bond_order in keys:
        return {int(bond_order): 1.0}
    if len(keys) < 2:
        raise UnassignedParameterError(f"cannot interpolate to bond order {bond_order} from values at {keys}")
    above = min(max(int(np.searchsorted(keys, bond_order)), 1), len(keys) - 1)
    low, high = keys[above - 1], keys[above]
    fraction = (bond_order - low) / (high - low)
    return {low: 1.0 - fraction, high: fraction}


def uses_interpolation(handler: ParameterHandler) -> bool:
    """Whether any parameter of a Bonds or ProperTorsions handler depends on a bond order."""
    return any(
        getattr(parameter, name, None)
        for parameter in handler.parameters
        for name in ("k_bondorder", "length_bondorder")
    )


def fractional_bond_orders(
    molecule: Molecule, method: str, given: Sequence[Molecule] | None
) -> dict[tuple[int, int], float]:
    """The fractional bond order of every bond of a molecule, by atom indices in ascending order.

    Taken from the isomorphic molecule in ``given`` if there is one. Otherwise computed with ``method``, on a copy with
    one generated conformer, as openff-interchange does.

    Raises
    ------
    UnassignedParameterError
        If a bond of the molecule in ``given`` has none.
    """
    for other in given or []:
        isomorphic, atom_map = Molecule.are_isomorphic(other, molecule, return_atom_map=True)
        if isomorphic:
            return _read(other, atom_map)
    molecule = Molecule(molecule)
    molecule.generate_conformers(n_conformers=1)
    molecule.assign_fractional_bond_orders(bond_order_model=method.lower())
    return _read(molecule, {i: i for i in range(molecule.n_atoms)})


def check_unique(molecules: Sequence[Molecule] | None, argument: str) -> None:
    """Raise if two molecules of an argument are isomorphic, since it would be unclear which one counts."""
    for i, molecule in enumerate(molecules or []):
        for other in (molecules or [])[:i]:
            if molecule.is_isomorphic_with(other):
                raise InvalidInputError(f"{argument} holds {molecule.to_smiles(explicit_hydrogens=False)} twice")


def _read(molecule: Molecule, atom_map: dict[int, int]) -> dict[tuple[int, int], float]:
    orders = {}
    for bond in molecule.bonds:
        a, b = sorted((atom_map[bond.atom1_index], atom_map[bond.atom2_index]))
        if bond.fractional_bond_order is None:
            raise UnassignedParameterError(
                f"bond {a}-{b} of {molecule.to_smiles(explicit_hydrogens=False)} has no fractional bond order"
            )
        orders[a, b] = float(bond.fractional_bond_order)
    return orders
