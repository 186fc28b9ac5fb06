"""Charges computed by a toolkit: AM1-BCC, NAGL, and the base charges of increments. Constants, not parameters."""

from __future__ import annotations

import numpy as np
from cachetools import LRUCache
from jaxtyping import Float
from openff.toolkit import GLOBAL_TOOLKIT_REGISTRY, Molecule

from openff_diffsystem.exceptions import ChargeAssignmentError

_computed: LRUCache = LRUCache(maxsize=4096)
"""Charges by molecule, method and registered toolkits. AM1-BCC takes seconds to minutes."""


def am1bcc_method() -> str:
    """The AM1-BCC variant that openff-interchange would use with the registered toolkits."""
    return "am1bccelf10" if "OpenEye" in repr(GLOBAL_TOOLKIT_REGISTRY) else "am1bcc"


def registered_toolkits() -> str:
    """What charges depend on besides molecule and method, for keys of caches."""
    return repr(GLOBAL_TOOLKIT_REGISTRY)


def charges_from_method(molecule: Molecule, method: str, **arguments: str | None) -> Float[np.ndarray, " atoms"]:
    """Partial charges of a molecule, ``(n_atoms,)``, e, by a method of the registered toolkits.

    Raises
    ------
    ChargeAssignmentError
        If no registered toolkit can compute them. The message has the error of each toolkit.
    """
    key = (
        molecule.to_smiles(isomeric=True, explicit_hydrogens=True, mapped=True),
        method,
        tuple(sorted(arguments.items())),
        registered_toolkits(),
    )
    if key not in _computed:
        copy = Molecule(molecule)
        try:
            # an exception does not end the search: the next toolkit may know the method
            GLOBAL_TOOLKIT_REGISTRY.call(
                "assign_partial_charges",
                molecule=copy,
                partial_charge_method=method,
                raise_exception_types=(),
                **arguments,
            )
        except Exception as error:
            raise ChargeAssignmentError(
                f"no charges for {molecule.to_smiles(explicit_hydrogens=False)} with method {method!r}: {error} "
                "The extra openff-diffsystem[charges] installs AmberTools (am1bcc, am1-mulliken) and NAGL."
            ) from error
        _computed[key] = copy.partial_charges.m_as("elementary_charge")
    return _computed[key]
