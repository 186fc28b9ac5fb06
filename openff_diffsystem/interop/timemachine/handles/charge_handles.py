"""timemachine's charge handles. Charges are multiplied by the square root of 138.935456. None of this needs OpenEye."""

from __future__ import annotations

import base64
import io
import pickle
from collections.abc import Collection

import numpy as np
from jaxtyping import Array, Float
from rdkit import Chem

from openff_diffsystem._jax.types import AnyArray
from openff_diffsystem.exceptions import ChargeAssignmentError, ParameterMismatchError, UnsupportedElementError
from openff_diffsystem.interop.timemachine.conventions import CHARGE_SCALE
from openff_diffsystem.interop.timemachine.handles.charge_sources import ChargeSource, ToolkitCharges, check_charges
from openff_diffsystem.interop.timemachine.handles.handle import Handle
from openff_diffsystem.interop.timemachine.handles.increments import directed_bonds, increment_map
from openff_diffsystem.interop.timemachine.handles.smirks import as_array, cached, molecule_key


class _WithoutParameters(Handle[Float[np.ndarray, " atoms"]]):
    """Charges that do not depend on the force field: ``params`` is an empty list."""

    def __init__(self, smirks: Collection[str] = (), params: Collection[float] = (), props: object = None) -> None:
        if len(smirks) or len(params) or props is not None:
            raise ParameterMismatchError(f"{type(self).__name__} takes no SMIRKS, no params and no props")
        self.smirks = []
        self.params = []
        self.props = None


class PrecomputedChargeHandler(_WithoutParameters):
    """Charges that come with the molecule: the property ``PartialCharge`` of each atom, e."""

    def partial_parameterize(self, params: object, mol: Chem.Mol) -> Float[np.ndarray, " atoms"]:
        """``(n_atoms,)``; ``params`` is ignored.

        Raises
        ------
        ChargeAssignmentError
            If an atom has no charge, or one that is not a finite number.
        """
        return np.array([_own_charge(atom) * CHARGE_SCALE for atom in mol.GetAtoms()])


class PrecomputedChargeIntraHandler(PrecomputedChargeHandler):
    """The same within the ligand."""


class AM1BCCHandler(_WithoutParameters):
    """AM1-BCC charges, computed once per molecule and stored in the property of the molecule that timemachine uses.

    Attributes
    ----------
    source
        Where charges come from; by default AM1-BCC of the registered toolkits. A function that is set on the class
        needs ``staticmethod``.
    property_name
        The molecule's property that holds known charges.
    """

    source: ChargeSource = ToolkitCharges("am1bcc")
    property_name = "AM1BCCELF10Cache"

    def partial_parameterize(self, params: object, mol: Chem.Mol) -> Float[np.ndarray, " atoms"]:
        """``(n_atoms,)``; ``params`` is ignored."""
        return base_charges(mol, self.source, self.property_name)

    @classmethod
    def static_parameterize(cls, mol: Chem.Mol) -> Float[np.ndarray, " atoms"]:
        """``(n_atoms,)``."""
        return base_charges(mol, cls.source, cls.property_name)


class AM1BCCIntraHandler(AM1BCCHandler):
    """The same within the ligand."""


class AM1BCCSolventHandler(AM1BCCHandler):
    """The same between ligand and solvent; timemachine reads it and no longer uses it."""


class AM1CCCHandler(Handle[Float[Array, " atoms"]]):
    """Bond charge increments on AM1 charges: ``params`` is ``(n_smirks,)``, times the square root of 138.935456.

    A pattern tags the atom that gains (``:1``) and the atom that loses (``:2``). The first pattern that matches a
    directed bond wins. Bonds are matched in the aromaticity model of AM1-BCC.

    Attributes
    ----------
    source
        Where base charges come from; by default AM1 of the registered toolkits. See :class:`AM1BCCHandler`.
    property_name
        The molecule's property that holds known base charges.
    supported_elements
        Atomic numbers that the increments cover.
    """

    columns = ("increment",)
    source: ChargeSource = ToolkitCharges("am1-mulliken")
    property_name = "AM1ELF10Cache"
    supported_elements = frozenset({1, 6, 7, 8, 9, 14, 16, 17, 35, 53})

    def partial_parameterize(self, params: object, mol: Chem.Mol) -> Float[Array, " atoms"]:
        """``(n_atoms,)``, a jax array, as a function of the increments.

        Raises
        ------
        UnsupportedElementError
            If the molecule has an element that the increments do not cover.
        """
        key = molecule_key(mol)
        self._check_elements(mol, key)
        params = as_array(params)
        self._check_shape(params.shape, len(self.smirks))
        return _with_increments(params, self.smirks, mol, key, self.source, self.property_name)

    @classmethod
    def static_parameterize(cls, params: object, smirks: Collection[str], mol: Chem.Mol) -> Float[Array, " atoms"]:
        """The same for other SMIRKS and any element."""
        params = as_array(params)
        cls._check_shape(params.shape, len(smirks))
        return _with_increments(params, smirks, mol, molecule_key(mol), cls.source, cls.property_name)

    def validate_input(self, mol: Chem.Mol) -> None:
        """Raise an :class:`UnsupportedElementError` if the increments do not cover an element of the molecule."""
        self._check_elements(mol, molecule_key(mol))

    def _check_elements(self, mol: Chem.Mol, key: bytes) -> None:
        present = cached(("elements", key), lambda: frozenset(atom.GetAtomicNum() for atom in mol.GetAtoms()))
        unsupported = present - self.supported_elements
        if unsupported:
            raise UnsupportedElementError(
                f"{type(self).__name__}: unsupported elements (no increments), atomic numbers {sorted(unsupported)}"
            )


class AM1CCCIntraHandler(AM1CCCHandler):
    """The same within the ligand."""


class AM1CCCSolventHandler(AM1CCCHandler):
    """The same between ligand and solvent; timemachine reads it and no longer uses it."""


class AM1BCCCCCHandler(AM1CCCHandler):
    """Bond charge increments on AM1-BCC charges; phosphorus is covered."""

    source: ChargeSource = ToolkitCharges("am1bcc")
    property_name = "AM1BCCELF10Cache"
    supported_elements = AM1CCCHandler.supported_elements | {15}


class AM1BCCCCCIntraHandler(AM1BCCCCCHandler):
    """The same within the ligand."""


class AM1BCCCCCSolventHandler(AM1BCCCCCHandler):
    """The same between ligand and solvent; timemachine reads it and no longer uses it."""


def base_charges(mol: Chem.Mol, source: ChargeSource, property_name: str) -> Float[np.ndarray, " atoms"]:
    """Charges of a molecule, ``(n_atoms,)``, times the square root of 138.935456, from its property or the source.

    Charges from the source are stored in the property, in the form that timemachine reads.

    Raises
    ------
    ChargeAssignmentError
        If the property or the source does not give one finite charge per atom.
    """
    if mol.HasProp(property_name):
        return _decode(mol.GetProp(property_name), property_name, mol.GetNumAtoms()).copy()
    charges = np.asarray(source(mol), dtype=np.float64) * CHARGE_SCALE
    check_charges(charges, mol, source)
    mol.SetProp(property_name, base64.b64encode(pickle.dumps(charges.tolist())).decode("ascii"))
    return charges


def _decode(text: str, property_name: str, n_atoms: int) -> Float[np.ndarray, " atoms"]:
    return cached(("property", property_name, text, n_atoms), lambda: _read_property(text, property_name, n_atoms))


def _read_property(text: str, property_name: str, n_atoms: int) -> Float[np.ndarray, " atoms"]:
    try:
        charges = np.array(_NumbersOnly(io.BytesIO(base64.b64decode(text, validate=True))).load(), dtype=np.float64)
    except Exception as error:
        raise ChargeAssignmentError(f"the molecule's property {property_name} holds no charges: {error}") from error
    if charges.shape != (n_atoms,):
        raise ChargeAssignmentError(
            f"the molecule's property {property_name} must hold {n_atoms} charges, but has shape {charges.shape}"
        )
    if (bad := np.flatnonzero(~np.isfinite(charges))).size:
        raise ChargeAssignmentError(
            f"the molecule's property {property_name} has {charges[bad[0]]} for atom {bad[0]}; remove the property "
            "to assign charges again"
        )
    return charges


class _NumbersOnly(pickle.Unpickler):
    """Reads lists of Python's and NumPy's numbers, and refuses everything that could run code."""

    _ALLOWED = frozenset(
        (module, name)
        for module in ("numpy.core.multiarray", "numpy._core.multiarray", "numpy")
        for name in ("scalar", "dtype")
    )

    def find_class(self, module: str, name: str) -> object:
        if (module, name) not in self._ALLOWED:
            raise pickle.UnpicklingError(f"{module}.{name} is not a number")
        return super().find_class(module, name)


def _own_charge(atom: Chem.Atom) -> float:
    text = atom.GetProp("PartialCharge") if atom.HasProp("PartialCharge") else "none"
    try:
        charge = float(text)
    except ValueError:
        charge = np.nan
    if not np.isfinite(charge):
        raise ChargeAssignmentError(
            f"atom {atom.GetIdx()} ({atom.GetSymbol()}) needs a property PartialCharge, a number in e; it is {text}"
        )
    return charge


def _with_increments(
    params: Float[AnyArray, " smirks"],
    smirks: Collection[str],
    mol: Chem.Mol,
    key: bytes,
    source: ChargeSource,
    property_name: str,
) -> Float[Array, " atoms"]:
    base = base_charges(mol, source, property_name)
    matched = cached(("increments", key, tuple(smirks)), lambda: directed_bonds(mol, smirks))
    linear = cached(
        ("incremented", key, tuple(smirks), base.tobytes(), len(params)),
        lambda: increment_map(matched[0], matched[1], base, len(params)),
    )
    return linear(params)
