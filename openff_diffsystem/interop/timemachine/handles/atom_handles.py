"""timemachine's handles of atoms: Lennard-Jones parameters, and charges by SMIRKS."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from jaxtyping import Array, Float, Int
from rdkit import Chem

from openff_diffsystem._jax.types import AnyArray
from openff_diffsystem.exceptions import UnassignedParameterError
from openff_diffsystem.interop.timemachine.handles.handle import Handle
from openff_diffsystem.interop.timemachine.handles.smirks import apply, as_array, assign, cached, gather, molecule_key
from openff_diffsystem.parameters.affine import AffineMap


def atom_rows(mol: Chem.Mol, key: bytes, smirks: Collection[str]) -> Int[np.ndarray, " atoms"]:
    """The row of ``params`` of each atom, ``(n_atoms,)``; row 0 where nothing matches, as in timemachine."""
    idxs, rows = assign(mol, key, smirks, 1, tuple)
    result = np.zeros(mol.GetNumAtoms(), dtype=np.int64)
    result[idxs[:, 0]] = rows
    return result


class _AtomHandle(Handle[Float[AnyArray, "atoms ..."]]):
    @classmethod
    def _linear(
        cls,
        params: Float[AnyArray, "..."],
        smirks: Collection[str],
        mol: Chem.Mol,
        weights: tuple[float, ...] | None = None,
    ) -> AffineMap:
        cls._check_shape(params.shape, len(smirks))
        if not len(smirks) and mol.GetNumAtoms():
            raise UnassignedParameterError(
                f"{cls.__name__} has no SMIRKS, and no first row that atoms without a match could take"
            )
        key = molecule_key(mol)
        return cached(
            ("atoms", key, tuple(smirks), params.shape, weights),
            lambda: gather(atom_rows(mol, key, smirks), params.shape, weights=weights),
        )


class LennardJonesHandler(_AtomHandle):
    """Lennard-Jones: rows ``(sigma, sqrt(epsilon))``, nm and (kJ/mol)^(1/2).

    Energies are differentiable in the square root where epsilon is zero (hydrogens of TIP3P), and in epsilon not.
    """

    columns = ("sigma", "sqrt(epsilon)")

    @classmethod
    def static_parameterize(cls, params: object, smirks: Collection[str], mol: Chem.Mol) -> Float[Array, "atoms 2"]:
        """``(n_atoms, 2)``, a jax array: sigma/2 and sqrt(epsilon), so that sums and products combine pairs.

        Raises
        ------
        UnassignedParameterError
            If there are no SMIRKS.
        """
        params = as_array(params)
        return cls._linear(params, smirks, mol, weights=(0.5, 1.0))(params)


class LennardJonesIntraHandler(LennardJonesHandler):
    """The same within the ligand."""


class LennardJonesSolventHandler(LennardJonesHandler):
    """The same between ligand and solvent; timemachine reads it and no longer uses it."""


class SimpleChargeHandler(_AtomHandle):
    """A charge per SMIRKS: ``params`` is ``(n_smirks,)``; the last pattern that matches an atom wins."""

    columns = ("charge",)

    @classmethod
    def static_parameterize(cls, params: object, smirks: Collection[str], mol: Chem.Mol) -> Float[AnyArray, " atoms"]:
        """``(n_atoms,)``; an atom that no pattern matches gets the first charge, as in timemachine.

        Raises
        ------
        UnassignedParameterError
            If there are no SMIRKS.
        """
        params = as_array(params)
        return apply(cls._linear(params, smirks, mol), params)


class SimpleChargeIntraHandler(SimpleChargeHandler):
    """The same within the ligand."""


class SimpleChargeSolventHandler(SimpleChargeHandler):
    """The same between ligand and solvent; timemachine reads it and no longer uses it."""
