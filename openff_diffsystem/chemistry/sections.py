"""How the terms of each section are found in one molecule: one table for whole systems and for single handlers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import numpy as np

from openff_diffsystem.chemistry import nonbonded, valence
from openff_diffsystem.chemistry.bond_orders import fractional_bond_orders, uses_interpolation
from openff_diffsystem.chemistry.charges.sections import CHARGE_SECTIONS
from openff_diffsystem.chemistry.matching import AtomIndices, forward_or_reversed
from openff_diffsystem.chemistry.molecule import PreparedMolecule
from openff_diffsystem.chemistry.terms import Terms, index_array
from openff_diffsystem.chemistry.virtual_sites import add_charges, virtual_sites
from openff_diffsystem.exceptions import UnassignedParameterError, UnsupportedForceFieldError
from openff_diffsystem.forms.registry import pair_forms
from openff_diffsystem.parameters.assignment import AffineRows
from openff_diffsystem.parameters.layout import ParameterLayout
from openff_diffsystem.sections import SECTIONS, section_of


@dataclass
class Request:
    """One molecule, and the handlers that assign its parameters: all of a force field, or one alone.

    Attributes
    ----------
    molecule
        The molecule.
    handlers
        Parameter handlers by tag.
    layout
        Where each of their numbers stands in theta.
    partial_bond_orders
        Molecules from which fractional bond orders are taken.
    charges
        Charges of the atoms, ``(n_atoms, 1)``, if the force field assigns any.
    assigned
        The terms that have been found so far, by section.
    """

    molecule: PreparedMolecule
    handlers: Mapping[str, Any]
    layout: ParameterLayout
    partial_bond_orders: Sequence[Any] | None = None
    charges: AffineRows | None = None
    assigned: dict[str, Terms] = field(default_factory=dict)

    def terms(self, section: str) -> Terms | None:
        """The terms of a section; ``None`` where no handler assigns it.

        Raises
        ------
        UnassignedParameterError
            If an atom, bond, angle or proper torsion has no parameter.
        """
        if section not in self.assigned and section in self.handlers:
            self.assigned[section] = ASSIGNERS[section].assign(self)
            if section_of(section).complete:
                constrained = self.constrained
                valence.check_all_assigned(self.molecule, section, self.assigned[section], constrained)
        return self.assigned.get(section)

    @cached_property
    def constrained(self) -> frozenset[AtomIndices]:
        """The pairs of atoms that constraints fix."""
        constraints = self.terms("Constraints")
        pairs = [] if constraints is None else constraints.indices.tolist()
        return frozenset(forward_or_reversed(tuple(pair)) for pair in pairs)

    @cached_property
    def sites(self) -> Terms | None:
        """The virtual sites; with a form in place of ``vdW``, those of the section that the form names."""
        section = self.site_section
        return virtual_sites(self.molecule, self.handlers[section], self.layout) if section else None

    @cached_property
    def site_section(self) -> str | None:
        """The section that the virtual sites come from."""
        sections = ("VirtualSites", *(form.sites for form in pair_forms(self.handlers)))
        return next((section for section in sections if section in self.handlers), None)

    @cached_property
    def n_particles(self) -> int:
        """Number of atoms and virtual sites."""
        return self.molecule.n_atoms + (self.sites.n_terms if self.sites else 0)

    def every_particle(self) -> np.ndarray:
        """The index of each atom and virtual site, ``(n_particles, 1)``."""
        return index_array(list(range(self.n_particles)), 1)

    def bond_orders(self, section: str) -> valence.BondOrders | None:
        """Fractional bond orders, where a section interpolates between parameters."""
        if not uses_interpolation(self.handlers[section]):
            return None
        if self._bond_orders is None:
            method = self.handlers[section].fractional_bondorder_method
            self._bond_orders = fractional_bond_orders(self.molecule.molecule, method, self.partial_bond_orders)
        return self._bond_orders

    _bond_orders: valence.BondOrders | None = field(default=None, init=False, repr=False)


@dataclass(frozen=True)
class Assigner:
    """How the terms of a section are found.

    Attributes
    ----------
    assign
        Finds the terms that the section has in one molecule of a system.
    alone
        Finds what ``parameterize`` of a single handler returns, if that is something else.
    options
        Keyword arguments that a handler's ``parameterize`` takes.
    """

    assign: Callable[[Request], Terms]
    alone: Callable[[Request], Terms] | None = None
    options: frozenset[str] = frozenset()


def _bonds(request: Request) -> Terms:
    orders = request.bond_orders("Bonds")
    return valence.bonds(request.molecule, request.handlers["Bonds"], request.layout, orders)


def _constraints(request: Request) -> Terms:
    bonds = request.terms("Bonds")
    return valence.constraints(request.molecule, request.handlers["Constraints"], request.layout, bonds)


def _constraints_alone(request: Request) -> Terms:
    try:
        return _constraints(request)
    except UnassignedParameterError as error:
        if "Bonds" in request.assigned:
            raise
        raise UnassignedParameterError(
            f"{error}; pass bonds=force_field['Bonds'] to take the length of the bond as a constant, or use "
            "DiffSystem, which differentiates it"
        ) from None


def _angles(request: Request) -> Terms:
    return valence.angles(request.molecule, request.handlers["Angles"], request.layout)


def _proper_torsions(request: Request) -> Terms:
    orders = request.bond_orders("ProperTorsions")
    return valence.proper_torsions(request.molecule, request.handlers["ProperTorsions"], request.layout, orders)


def _improper_torsions(request: Request) -> Terms:
    return valence.improper_torsions(request.molecule, request.handlers["ImproperTorsions"], request.layout)


def _vdw(request: Request) -> Terms:
    rows = nonbonded.vdw(request.molecule, request.handlers["vdW"], request.layout)
    if request.sites:
        of_sites = nonbonded.lennard_jones(request.layout, "VirtualSites", request.sites.static["parameter"])
        rows = AffineRows.stack([rows, of_sites])
    return Terms(SECTIONS["vdW"].columns, request.every_particle(), rows)


def _electrostatics(request: Request) -> Terms:
    charges = request.charges
    assert charges is not None, "the charges of a whole force field are found before its terms"
    if request.sites and request.site_section:
        charges = add_charges(charges, request.sites, request.layout, request.site_section)
    return Terms(SECTIONS["Electrostatics"].columns, request.every_particle(), charges)


def _scale14(request: Request) -> Terms:
    """The ``scale14`` of each 1-4 pair: the only parameters that the Electrostatics handler has."""
    pairs = request.molecule.pairs_14
    source = np.full(len(pairs), request.layout.section_position("Electrostatics", "scale14"))
    return Terms(("scale14",), pairs, AffineRows.gather(source))


def _gbsa(request: Request) -> Terms:
    if request.sites and request.sites.n_terms:
        raise UnsupportedForceFieldError(
            f"GBSA with virtual sites: {request.molecule.name} has sites, and the section has no radii for them"
        )
    return nonbonded.gbsa(request.molecule, request.handlers["GBSA"], request.layout)


def _virtual_sites(request: Request) -> Terms:
    sites = request.sites
    assert sites is not None
    return sites


def _charges(section: str, request: Request) -> Terms:
    rows = CHARGE_SECTIONS[section](request.molecule, request.handlers[section], request.layout)
    if rows is None:
        raise UnassignedParameterError(f"{section} does not cover every atom of {request.molecule.name}")
    return Terms(SECTIONS[section].columns, index_array(list(range(request.molecule.n_atoms)), 1), rows)


ASSIGNERS: dict[str, Assigner] = {
    "Bonds": Assigner(_bonds, options=frozenset({"partial_bond_orders_from_molecules"})),
    "Constraints": Assigner(_constraints, alone=_constraints_alone, options=frozenset({"bonds"})),
    "Angles": Assigner(_angles),
    "ProperTorsions": Assigner(_proper_torsions, options=frozenset({"partial_bond_orders_from_molecules"})),
    "ImproperTorsions": Assigner(_improper_torsions),
    "vdW": Assigner(_vdw),
    "Electrostatics": Assigner(_electrostatics, alone=_scale14),
    "GBSA": Assigner(_gbsa),
    "VirtualSites": Assigner(_virtual_sites),
    **{section: Assigner(partial(_charges, section)) for section in CHARGE_SECTIONS},
}
"""By section. A system has its sections in this order, without those that only assign charges."""
