"""An Interchange of a system at any theta, for everything that openff-interchange writes: GROMACS, AMBER, LAMMPS."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from openff_diffsystem.exceptions import InvalidInputError, ParameterMismatchError, UnsupportedForceFieldError
from openff_diffsystem.interop.interchange.terms import SETTINGS, sites_of
from openff_diffsystem.parameters.system import SystemParameters
from openff_diffsystem.sections import NO_ATOM, SITE_TYPES
from openff_diffsystem.system.host import host_parameters
from openff_diffsystem.units import from_md

if TYPE_CHECKING:
    from openff_diffsystem.system.data import SystemData


def to_interchange(system: SystemData, theta: Any = None, *, interchange: Any = None) -> Any:
    """The system at some theta as an ``openff.interchange.Interchange``.

    Every term and particle gets its numbers, also where theta is system parameters that no OFFXML file could
    hold. Charges are those of the atoms, whatever section they come from. Terms, topology and methods are those of a
    stock Interchange of what the system was made from; positions and box are the system's.

    Parameters
    ----------
    theta
        As for :meth:`parameterize`.
    interchange
        An ``Interchange`` of the same force field and topology to take terms and topology from; it stays as it is. By
        default one is made from what :meth:`from_smirnoff` or :meth:`from_interchange` was given, which is not
        saved with a system.

    Returns
    -------
    openff.interchange.Interchange
        With ``to_top``, ``to_gro``, ``to_prmtop``, ``to_lammps_datafile`` and so on.

    Raises
    ------
    InvalidInputError
        If there is no Interchange to begin with, as for systems that were loaded or made from OpenMM.
    UnsupportedForceFieldError
        If the system has a section of a registered form.
    ParameterMismatchError
        If the Interchange has other terms than this system.
    """
    for section in system.forms:
        raise UnsupportedForceFieldError(f"openff-interchange has no collection for the custom section {section}")
    if interchange is not None:
        result = copy.deepcopy(interchange)
    elif system.origin is not None:
        result = system.origin.interchange()
    else:
        raise InvalidInputError(
            "the system was loaded, or made from an OpenMM System, and knows no topology: pass interchange=, made "
            "with the same force field and topology"
        )
    if result.topology.n_atoms != system.n_atoms:
        raise ParameterMismatchError(
            f"the Interchange has {result.topology.n_atoms} atoms, this system has {system.n_atoms}"
        )
    _check_terms(system, result)
    parameters = host_parameters(system, theta)
    sites = _site_rows(system, result)
    for section, collection in result.collections.items():
        if section not in system.sections:
            continue
        if section == "Electrostatics":
            _give_charges(collection, np.asarray(parameters[section])[:, 0], sites, system.n_atoms)
        elif section == "VirtualSites":
            _give(collection, section, parameters, lambda key: sites[key] - system.n_atoms)
        elif system.system_layout.sections[section].per_particle:
            _give(collection, section, parameters, lambda key: sites[key] if key in sites else key.atom_indices[0])
        else:
            _give(collection, section, parameters, _terms(system, section))
        _give_settings(collection, section, parameters)
    if system.positions is not None:
        result.positions = _quantity(system.positions, "nanometer")
    if system.box_vectors is not None:
        result.box = _quantity(system.box_vectors, "nanometer")
    return result


def _check_terms(system: SystemData, interchange: Any) -> None:
    theirs = {section: len(collection.key_map) for section, collection in interchange.collections.items()}
    ours = {section: len(indices) for section, indices in system.term_indices.items()}
    # of charges there can be several contributions to an atom
    for section in sorted((theirs.keys() | ours.keys()) - {"Electrostatics"}):
        if theirs.get(section, 0) != ours.get(section, 0):
            raise ParameterMismatchError(
                f"the Interchange has {theirs.get(section, 0)} terms in {section}, this system has "
                f"{ours.get(section, 0)}"
            )


def _quantity(value: Any, unit: str) -> Any:
    from openff.toolkit import Quantity

    return Quantity(value, unit)


def _terms(system: SystemData, section: str) -> Callable[[Any], int]:
    """The function that finds the row of a term by its topology key."""

    def canonical(atoms: tuple[int, ...]) -> tuple[int, ...]:
        # the order of an improper's atoms says which one is the centre
        return atoms if section == "ImproperTorsions" else min(atoms, atoms[::-1])

    rows: dict[tuple[int, ...], list[int]] = {}
    for row, atoms in enumerate(system.term_indices[section].tolist()):
        rows.setdefault(canonical(tuple(atoms)), []).append(row)

    def find(key: Any) -> int:
        found = rows.get(canonical(tuple(key.atom_indices)), [])
        # the terms of one set of atoms are in the order in which OFFXML numbers them
        number = getattr(key, "mult", None) or 0
        if number >= len(found):
            raise ParameterMismatchError(
                f"the Interchange has a term in {section} that this system has not: atoms {key.atom_indices}"
            )
        return found[number]

    return find


def _site_rows(system: SystemData, interchange: Any) -> dict[Any, int]:
    """The particle that each key of a virtual site is."""
    keys = sites_of(interchange)
    ours = system.term_indices.get("VirtualSites", np.empty((0, 4), dtype=np.int32)).tolist()
    types = system.term_static["VirtualSites"]["type"].tolist() if ours else []
    if len(keys) != len(ours):
        raise ParameterMismatchError(f"the Interchange has {len(keys)} virtual sites, this system has {len(ours)}")
    for key, atoms, kind in zip(keys, ours, types, strict=True):
        if [*key.orientation_atom_indices] != [a for a in atoms if a != NO_ATOM] or key.type != SITE_TYPES[kind]:
            raise ParameterMismatchError(f"this system has another virtual site where the Interchange has {key!r}")
    return {key: system.n_atoms + i for i, key in enumerate(keys)}


def _give(collection: Any, section: str, parameters: SystemParameters, row_of: Callable[[Any], int]) -> None:
    """Give every term of a collection its numbers; terms that shared a potential and still agree go on sharing one."""
    from openff.interchange.components.potentials import Potential

    columns = parameters.layout.sections[section].columns
    values = np.asarray(parameters[section]).tolist()
    shared: dict[Any, dict[tuple[float, ...], Any]] = {}
    key_map, potentials = {}, {}
    for topology_key, old in collection.key_map.items():
        numbers = tuple(values[row_of(topology_key)])
        variants = shared.setdefault(old, {})
        if numbers not in variants:
            new = old.model_copy(update={"id": f"{old.id} ({len(variants) + 1})"}) if variants else old
            had = collection.potentials[old].parameters
            given = {c: from_md(x, had[c]) for c, x in zip(columns, numbers, strict=True) if had.get(c) is not None}
            potentials[new] = Potential(parameters={name: value for name, value in had.items() if value is not None})
            potentials[new].parameters.update(had | given)  # sites have angles that are None, which no Potential takes
            variants[numbers] = new
        key_map[topology_key] = variants[numbers]
    _fill(collection, key_map, potentials)


def _fill(collection: Any, key_map: dict[Any, Any], potentials: dict[Any, Any]) -> None:
    # in place: pydantic would validate what is assigned as if it came from JSON
    for present, new in ((collection.key_map, key_map), (collection.potentials, potentials)):
        present.clear()
        present.update(new)


def _give_charges(collection: Any, charges: np.ndarray, sites: dict[Any, int], n_atoms: int) -> None:
    """Give every particle its charge. What a site carries is taken from its parent, which has that much more before."""
    from openff.interchange.components.potentials import Potential
    from openff.interchange.models import PotentialKey, SingleAtomChargeTopologyKey

    before = charges[:n_atoms].copy()
    key_map: dict[Any, Any] = {}
    potentials: dict[Any, Any] = {}

    def add(topology_key: Any, value: float, handler: str, parameter: str, content: Any) -> None:
        key = PotentialKey(
            id=f"{parameter} {value!r}",
            associated_handler=handler,
            mult=None,
            bond_order=None,
            virtual_site_type=None,
            cosmetic_attributes={},
        )
        if key not in potentials:
            potentials[key] = Potential(parameters={parameter: _quantity(content, "elementary_charge")})
        key_map[topology_key] = key

    site_keys: list[tuple[Any, float]] = []
    for key, row in sites.items():
        charge = float(charges[row])
        before[key.orientation_atom_indices[0]] += charge
        site_keys.append((key, charge))
    for i, charge in enumerate(before.tolist()):
        # interchange's own name for charges that no section of a force field stands for
        add(
            SingleAtomChargeTopologyKey(this_atom_index=i, extras={"handler": "preset"}),
            charge,
            "ExternalSource",
            "charge",
            charge,
        )
    for key, charge in site_keys:
        increments = np.zeros(len(key.orientation_atom_indices))
        increments[0] = -charge
        add(key, charge, f"Electrostatics{len(increments)}", "charge_increments", increments)
    _fill(collection, key_map, potentials)
    collection._charges_cached = False  # of a copied Interchange that was exported before


def _give_settings(collection: Any, section: str, parameters: SystemParameters) -> None:
    for ours, theirs in SETTINGS.get(section, {}).items():
        if (section, ours) in parameters.layout.settings:
            value = float(parameters.setting(section, ours))
            setattr(collection, theirs, from_md(value, getattr(collection, theirs)))
