"""Where a DiffSystem comes from: a force field and a topology, or an Interchange."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

from openff_diffsystem.configuration import host_box_vectors
from openff_diffsystem.layout import handlers_of
from openff_diffsystem.parameters import ForceFieldParameters
from openff_diffsystem.static import StaticArray
from openff_diffsystem.system_parameters import SectionBlocks, SystemLayout
from openff_diffsystem.units import nanometers

if TYPE_CHECKING:
    from openff_diffsystem.chemistry.build import Assembled
    from openff_diffsystem.chemistry.origin import Origin
    from openff_diffsystem.system import DiffSystem


def from_smirnoff(
    cls: type[DiffSystem],
    force_field: Any,
    topology: Any,
    box: Any = None,
    positions: Any = None,
    charge_from_molecules: Sequence[Any] | None = None,
    partial_bond_orders_from_molecules: Sequence[Any] | None = None,
    allow_nonintegral_charges: bool = False,
) -> DiffSystem:
    """Assign the parameters of a force field to a topology.

    Chemistry is done once per unique molecule; copies cost array filling. The arguments are those of
    ``Interchange.from_smirnoff``.

    Parameters
    ----------
    force_field
        ``ForceField``, swapped or stock.
    topology
        ``Topology``, ``Molecule`` or list of ``Molecule``.
    box
        Box vectors, ``(3, 3)``, a ``Quantity`` or nm; by default those of the topology.
    positions
        ``(n_atoms, 3)``, a ``Quantity`` or nm; by default the first conformer of each molecule, if all have one.
    charge_from_molecules
        Molecules whose partial charges are taken for isomorphic molecules of the topology.
    partial_bond_orders_from_molecules
        Likewise for fractional bond orders.
    allow_nonintegral_charges
        Accept molecules whose charges do not add up to their formal charge within 0.01 e.

    Raises
    ------
    UnsupportedForceFieldError
        If the force field holds something that cannot be represented.
    UnassignedParameterError, ChargeAssignmentError
        If a term or an atom gets no parameter; the message names the atoms.
    """
    from openff_diffsystem.chemistry.build import Options, assemble
    from openff_diffsystem.chemistry.copies import masses_of_species
    from openff_diffsystem.chemistry.methods import methods_of_handlers
    from openff_diffsystem.chemistry.origin import SmirnoffOrigin

    theta = ForceFieldParameters.from_force_field(force_field)
    handlers = {handler.TAGNAME: handler for handler in handlers_of(force_field)}
    assembled = assemble(
        handlers,
        theta.layout,
        np.asarray(theta.vector, dtype=float),
        topology,
        Options(charge_from_molecules, partial_bond_orders_from_molecules, allow_nonintegral_charges),
    )
    return _from_assembled(
        cls,
        theta,
        assembled,
        box=getattr(topology, "box_vectors", None) if box is None else box,
        positions=_first_conformers(topology) if positions is None else positions,
        methods=methods_of_handlers(handlers),
        molecules=tuple((s.prepared.molecule.to_smiles(mapped=True), len(s.starts)) for s in assembled.species),
        masses=masses_of_species(assembled.species, assembled.n_atoms),
        origin=SmirnoffOrigin(force_field, topology, partial_bond_orders_from_molecules),
    )


def from_interchange(cls: type[DiffSystem], interchange: Any, force_field: Any = None) -> DiffSystem:
    """Take over the assignments of a ready ``Interchange``; no chemistry is done again.

    Parameters
    ----------
    interchange
        An ``Interchange`` made with ``Interchange.from_smirnoff``.
    force_field
        The ``ForceField`` it was made with. With it, theta is all of that force field and can be written back
        to it; without it, theta holds the parameters that the Interchange uses, one row per SMIRKS.

    Raises
    ------
    UnsupportedForceFieldError
        If the Interchange holds something that cannot be represented.
    ParameterMismatchError
        If the force field lacks a parameter that the Interchange uses.
    """
    from openff_diffsystem.chemistry.from_interchange import assemble_interchange
    from openff_diffsystem.chemistry.methods import methods_of_interchange
    from openff_diffsystem.chemistry.origin import InterchangeOrigin

    layout, values, assembled = assemble_interchange(interchange, force_field)
    return _from_assembled(
        cls,
        ForceFieldParameters(jnp.asarray(values), layout),
        assembled,
        box=interchange.box,
        positions=interchange.positions,
        methods=methods_of_interchange(interchange),
        molecules=tuple((m.to_smiles(mapped=True), 1) for m in interchange.topology.molecules),
        masses=np.array([atom.mass.m_as("dalton") for atom in interchange.topology.atoms]),
        origin=InterchangeOrigin(interchange),
    )


def _from_assembled(
    cls: type[DiffSystem],
    theta: ForceFieldParameters,
    assembled: Assembled,
    box: Any,
    positions: Any,
    methods: dict[str, dict[str, str]],
    molecules: tuple,
    masses: np.ndarray,
    origin: Origin,
) -> DiffSystem:
    order = assembled.particle_order
    layout = SystemLayout(
        {tag: SectionBlocks(*blocks) for tag, blocks in assembled.blocks.items()},
        assembled.settings,
        None if np.array_equal(order, np.arange(len(order))) else StaticArray(order.astype(np.int32)),
    )
    return cls(
        force_field_parameters=theta,
        assignment_map=assembled.assignment,
        system_layout=layout,
        term_indices=assembled.indices,
        term_static=assembled.static,
        excluded_pairs=assembled.excluded,
        pairs_14=assembled.scaled_14,
        n_atoms=assembled.n_atoms,
        n_particles=assembled.n_particles,
        positions=nanometers(positions, "positions", (assembled.n_atoms, 3)),
        box_vectors=host_box_vectors(box),
        methods=methods,
        molecules=molecules,
        masses=masses,
        origin=origin,
    )


def _first_conformers(topology: Any) -> np.ndarray | None:
    molecules = getattr(topology, "molecules", topology if isinstance(topology, list | tuple) else [topology])
    conformers = [m.conformers for m in molecules]
    if not all(conformers):
        return None
    return np.concatenate([c[0].m_as("nanometer") for c in conformers])
