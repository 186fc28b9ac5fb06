"""Make a system from a force field and a topology."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Float
from openff.toolkit import Molecule

from openff_diffsystem._jax.static import StaticArray
from openff_diffsystem.chemistry.assemble import Assembled, Options, assemble
from openff_diffsystem.chemistry.origin import Origin, SmirnoffOrigin
from openff_diffsystem.chemistry.species import masses_of_species
from openff_diffsystem.forms.form import Form
from openff_diffsystem.forms.methods import methods_of_handlers
from openff_diffsystem.forms.registry import registered_forms
from openff_diffsystem.parameters.force_field import ForceFieldParameters
from openff_diffsystem.parameters.offxml import handlers_of
from openff_diffsystem.parameters.system import SystemLayout
from openff_diffsystem.system.arguments import host_box_vectors
from openff_diffsystem.system.data import System
from openff_diffsystem.units import nanometers


def from_smirnoff(
    cls: type[System],
    force_field: object,
    topology: object,
    box: object = None,
    positions: object = None,
    charge_from_molecules: Sequence[Molecule] | None = None,
    partial_bond_orders_from_molecules: Sequence[Molecule] | None = None,
    allow_nonintegral_charges: bool = False,
) -> System:
    """Assign the parameters of a force field to a topology.

    SMIRKS matching and charges are done once per unique molecule; its copies only repeat the result. The arguments are
    those of ``Interchange.from_smirnoff``.

    Parameters
    ----------
    force_field
        ``ForceField``, swapped or stock.
    topology
        ``Topology``, ``Molecule`` or list of ``Molecule``.
    box
        Box vectors, ``(3, 3)``, or edge lengths, ``(3,)``, a ``Quantity`` or nm; by default those of the topology.
    positions
        ``(n_atoms, 3)``, a ``Quantity`` or nm; by default the first conformer of each molecule, if all have one.
    charge_from_molecules
        Molecules with partial charges, which isomorphic molecules of the topology take over.
    partial_bond_orders_from_molecules
        Molecules with fractional bond orders, which isomorphic molecules of the topology take over.
    allow_nonintegral_charges
        Accept molecules whose charges do not add up to their formal charge within 0.01 e.

    Raises
    ------
    UnsupportedForceFieldError
        If the force field holds something that cannot be represented.
    UnassignedParameterError, ChargeAssignmentError
        If a term or an atom gets no parameter; the message names the atoms.
    """
    theta = ForceFieldParameters.from_force_field(force_field)
    handlers = {handler.TAGNAME: handler for handler in handlers_of(force_field)}
    assembled = assemble(
        handlers,
        theta.layout,
        np.asarray(theta.vector, dtype=float),
        topology,
        Options(charge_from_molecules, partial_bond_orders_from_molecules, allow_nonintegral_charges),
    )
    return from_assembled(
        cls,
        theta,
        assembled,
        box=getattr(topology, "box_vectors", None) if box is None else box,
        positions=_first_conformers(topology) if positions is None else positions,
        methods=methods_of_handlers(handlers),
        forms=registered_forms(handlers),
        molecules=tuple((s.prepared.molecule.to_smiles(mapped=True), len(s.starts)) for s in assembled.species),
        masses=masses_of_species(assembled.species, assembled.n_atoms),
        origin=SmirnoffOrigin(force_field, topology, partial_bond_orders_from_molecules),
    )


def from_assembled(
    cls: type[System],
    theta: ForceFieldParameters,
    assembled: Assembled,
    box: object,
    positions: object,
    methods: dict[str, dict[str, str]],
    forms: dict[str, Form],
    molecules: tuple[tuple[str, int], ...],
    masses: Float[np.ndarray, " atoms"] | None,
    origin: Origin,
) -> System:
    order = assembled.particle_order
    layout = SystemLayout(
        assembled.blocks,
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
        forms=forms,
        molecules=molecules,
        masses=masses,
        origin=origin,
    )


def _first_conformers(topology: object) -> Float[np.ndarray, "atoms 3"] | None:
    molecules: Iterable[Molecule] = getattr(
        topology, "molecules", topology if isinstance(topology, list | tuple) else [topology]
    )
    conformers = [m.conformers for m in molecules]
    if not all(conformers):
        return None
    return np.concatenate([c[0].m_as("nanometer") for c in conformers])
