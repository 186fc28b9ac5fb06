"""What a system was made from, for exports that need molecules and not only arrays."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from openff.toolkit import ForceField, Molecule, Quantity, Topology

if TYPE_CHECKING:
    from openff.interchange import Interchange


@dataclass(frozen=True)
class SmirnoffOrigin:
    """The arguments of ``DiffSystem.from_smirnoff``, not copied."""

    force_field: ForceField
    topology: Topology | Molecule | Sequence[Molecule]
    partial_bond_orders_from_molecules: Sequence[Molecule] | None = None

    def interchange(self) -> Interchange:
        """A new ``Interchange`` with all terms of the system. Its charges are zero: no charge model is run again."""
        from openff.interchange.warnings import PresetChargesAndVirtualSitesWarning

        topology = self.topology
        if not isinstance(topology, Topology):
            molecules = [topology] if isinstance(topology, Molecule) else list(topology)
            topology = Topology.from_molecules(molecules)
        uncharged, force_field = [], self.force_field
        if "NeuralCharges" in force_field.registered_parameter_handlers:
            # a section of ours, which openff-interchange refuses
            force_field = copy.deepcopy(force_field)
            force_field.deregister_parameter_handler("NeuralCharges")
        charged = "Electrostatics" in force_field.registered_parameter_handlers
        for molecule in topology.unique_molecules if charged else ():
            one = Molecule(molecule)
            one.partial_charges = Quantity(np.zeros(one.n_atoms), "elementary_charge")
            uncharged.append(one)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PresetChargesAndVirtualSitesWarning)
            return force_field.create_interchange(
                topology,
                charge_from_molecules=uncharged or None,
                partial_bond_orders_from_molecules=self.partial_bond_orders_from_molecules,
                allow_nonintegral_charges=True,
            )


@dataclass(frozen=True)
class InterchangeOrigin:
    """The ``Interchange`` that ``DiffSystem.from_interchange`` was given."""

    original: Interchange

    def interchange(self) -> Interchange:
        """A copy of it."""
        return copy.deepcopy(self.original)


Origin = SmirnoffOrigin | InterchangeOrigin
