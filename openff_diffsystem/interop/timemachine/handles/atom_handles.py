"""timemachine's handles of atoms: Lennard-Jones, and charges by SMIRKS."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from openff_diffsystem.exceptions import UnassignedParameterError
from openff_diffsystem.interop.timemachine.handles.handle import Handle
from openff_diffsystem.interop.timemachine.handles.smirks import apply, as_array, assign, cached, gather, molecule_key
from openff_diffsystem.parameters.affine import AffineMap


def atom_rows(mol: Any, key: bytes, smirks: Sequence[str]) -> np.ndarray:
    """The row of ``params`` of each atom, ``(n_atoms,)``; row 0 where nothing matches, as in timemachine."""
    idxs, rows = assign(mol, key, smirks, 1, tuple)
    result = np.zeros(mol.GetNumAtoms(), dtype=np.int64)
    result[idxs[:, 0]] = rows
    return result


class _AtomHandle(Handle):
    @classmethod
    def _linear(
        cls, params: Any, smirks: Sequence[str], mol: Any, weights: tuple[float, ...] | None = None
    ) -> AffineMap:
        cls._check_shape(params.shape, len(smirks))
        if not len(smirks) and mol.GetNumAtoms():
            raise UnassignedParameterError(
                f"{cls.__name__} has no SMIRKS: no atom has ({', '.join(cls.columns)}), not even the first row's"
            )
        key = molecule_key(mol)
        return cached(
            ("atoms", key, tuple(smirks), params.shape, weights),
            lambda: gather(atom_rows(mol, key, smirks), params.shape, weights=weights),
        )


class LennardJonesHandler(_AtomHandle):
    """Lennard-Jones: rows ``(sigma, sqrt(epsilon))``, nm and sqrt(kJ/mol).

    The square root is differentiable where epsilon is zero (hydrogens of TIP3P), epsilon is not.
    """

    columns = ("sigma", "sqrt(epsilon)")

    @classmethod
    def static_parameterize(cls, params: Any, smirks: Sequence[str], mol: Any) -> Any:
        """``(n_atoms, 2)``, a jax array: sigma/2 and sqrt(epsilon), so that sums and products combine pairs.

        Raises
        ------
        UnassignedParameterError
            If there are no SMIRKS.
        """
        params = as_array(params)
        return cls._linear(params, smirks, mol, weights=(0.5, 1.0))(params)


class LennardJonesIntraHandler(LennardJonesHandler):
    """Within the ligand."""


class LennardJonesSolventHandler(LennardJonesHandler):
    """Between ligand and solvent; timemachine reads it and no longer uses it."""


class SimpleChargeHandler(_AtomHandle):
    """A charge per SMIRKS: ``params`` is ``(n_smirks,)``; the last pattern that matches an atom wins."""

    columns = ("charge",)

    @classmethod
    def static_parameterize(cls, params: Any, smirks: Sequence[str], mol: Any) -> Any:
        """``(n_atoms,)``; an atom that nothing matches gets the first charge, as in timemachine.

        Raises
        ------
        UnassignedParameterError
            If there are no SMIRKS.
        """
        params = as_array(params)
        return apply(cls._linear(params, smirks, mol), params)


class SimpleChargeIntraHandler(SimpleChargeHandler):
    """Within the ligand."""


class SimpleChargeSolventHandler(SimpleChargeHandler):
    """Between ligand and solvent; timemachine reads it and no longer uses it."""
