"""An Interchange of a system at any theta, for everything that openff-interchange writes: GROMACS, AMBER, LAMMPS."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike
from openff.toolkit import Quantity

from openff_diffsystem.exceptions import InvalidInputError, ParameterMismatchError, UnsupportedForceFieldError
from openff_diffsystem.interop.interchange.terms import SETTINGS, Collection, Key, sites_of
from openff_diffsystem.parameters.system import SystemParameters
from openff_diffsystem.sections import NO_ATOM, SITE_TYPES
from openff_diffsystem.system.data import SystemData
from openff_diffsystem.system.host import host_parameters
from openff_diffsystem.units import from_md

if TYPE_CHECKING:
    from openff.interchange import Interchange
    from openff.interchange.components.potentials import Potential
    from openff.interchange.models import PotentialKey


def to_interchange(system: SystemData, theta: object = None, *, interchange: Interchange | None = None) -> Interchange:
    """The system at some theta as an ``openff.interchange.Interchange``.

    Every term and particle gets its own numbers, so theta may be system parameters that no OFFXML file could hold.
    Charges are those of the atoms, whatever section they come from. Terms, topology and methods are those of a stock
    Interchange, made from what the system was made from; positions and box are the system's.

    Parameters
    ----------
    theta
        As for :meth:`parameterize`.
    interchange
        An ``Interchange`` of the same force field and topology, which provides terms and topology; it is not changed.
        By default one is made from the arguments of :meth:`from_smirnoff` or :meth:`from_interchange`, which are not
        saved with a system.

    Returns
    -------
    openff.interchange.Interchange
        With ``to_top``, ``to_gro``, ``to_prmtop``, ``to_lammps_datafile`` and so on.

    Raises
    ------
    InvalidInputError
        If there is no Interchange to start from, as for systems that were loaded or made from OpenMM.
    UnsupportedForceFieldError
        If the system has a section of a registered form.
    ParameterMismatchError
        If the Interchange has other terms than this system.
    """
    if system.forms:
        section = next(iter(system.forms))
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
        result.positions = Quantity(system.positions, "nanometer")
    if system.box_vectors is not None:
        result.box = Quantity(system.box_vectors, "nanometer")
    return result


def _check_terms(system: SystemData, interchange: Interchange) -> None:
    theirs = {section: len(collection.key_map) for section, collection in interchange.collections.items()}
    ours = {section: len(indices) for section, indices in system.term_indices.items()}
    # an atom's charge can have several contributions
    for section in sorted((theirs.keys() | ours.keys()) - {"Electrostatics"}):
        if theirs.get(section, 0) != ours.get(section, 0):
            raise ParameterMismatchError(
                f"the Interchange has {theirs.get(section, 0)} terms in {section}, this system has "
                f"{ours.get(section, 0)}"
            )


def _terms(system: SystemData, section: str) -> Callable[[Key], int]:
    """The function that finds the row of a term by its topology key."""

    def canonical(atoms: tuple[int, ...]) -> tuple[int, ...]:
        # the order of an improper's atoms says which one is the centre
        return atoms if section == "ImproperTorsions" else min(atoms, atoms[::-1])

    rows: dict[tuple[int, ...], list[int]] = {}
    for row, atoms in enumerate(system.term_indices[section].tolist()):
        rows.setdefault(canonical(tuple(atoms)), []).append(row)

    def find(key: Key) -> int:
        found = rows.get(canonical(tuple(key.atom_indices)), [])
        # the terms of one set of atoms are in the order in which OFFXML numbers them
        number = getattr(key, "mult", None) or 0
        if number >= len(found):
            raise ParameterMismatchError(
                f"the Interchange has a term in {section} that this system does not have: atoms {key.atom_indices}"
            )
        return found[number]

    return find


def _site_rows(system: SystemData, interchange: Interchange) -> dict[Key, int]:
    """The particle of each key of a virtual site."""
    keys = sites_of(interchange)
    ours = system.term_indices.get("VirtualSites", np.empty((0, 4), dtype=np.int32)).tolist()
    types = system.term_static["VirtualSites"]["type"].tolist() if ours else []
    if len(keys) != len(ours):
        raise ParameterMismatchError(f"the Interchange has {len(keys)} virtual sites, this system has {len(ours)}")
    for key, atoms, kind in zip(keys, ours, types, strict=True):
        if [*key.orientation_atom_indices] != [a for a in atoms if a != NO_ATOM] or key.type != SITE_TYPES[kind]:
            raise ParameterMismatchError(f"this system has another virtual site where the Interchange has {key!r}")
    return {key: system.n_atoms + i for i, key in enumerate(keys)}


def _give(collection: Collection, section: str, parameters: SystemParameters, row_of: Callable[[Key], int]) -> None:
    """Give every term of a collection its numbers. Terms that share a potential still do where their numbers agree."""
    from openff.interchange.components.potentials import Potential

    columns = parameters.layout.sections[section].columns
    values = np.asarray(parameters[section]).tolist()
    shared: dict[PotentialKey, dict[tuple[float, ...], PotentialKey]] = {}
    key_map: dict[Key, PotentialKey] = {}
    potentials: dict[PotentialKey, Potential] = {}
    for topology_key, old in collection.key_map.items():
        numbers = tuple(values[row_of(topology_key)])
        variants = shared.setdefault(old, {})
        if numbers not in variants:
            new = old.model_copy(update={"id": f"{old.id} ({len(variants) + 1})"}) if variants else old
            before = collection.potentials[old].parameters
            present = {name: value for name, value in before.items() if value is not None}
            given = {c: from_md(x, present[c]) for c, x in zip(columns, numbers, strict=True) if c in present}
            # virtual sites have angles that are None, which a Potential refuses when it is made
            potentials[new] = Potential(parameters=present)
            potentials[new].parameters.update(before | given)
            variants[numbers] = new
        key_map[topology_key] = variants[numbers]
    _fill(collection, key_map, potentials)


def _fill(collection: Collection, key_map: dict[Key, PotentialKey], potentials: dict[PotentialKey, Potential]) -> None:
    # in place: pydantic would validate what is assigned as if it came from JSON
    for present, new in ((collection.key_map, key_map), (collection.potentials, potentials)):
        present.clear()
        present.update(new)


def _give_charges(
    collection: Collection, charges: Float[np.ndarray, " particles"], sites: dict[Key, int], n_atoms: int
) -> None:
    """Give every particle its charge. An Interchange takes the charge of a site from its parent, so that is added."""
    from openff.interchange.components.potentials import Potential
    from openff.interchange.models import PotentialKey, SingleAtomChargeTopologyKey

    before = charges[:n_atoms].copy()
    key_map: dict[Key, PotentialKey] = {}
    potentials: dict[PotentialKey, Potential] = {}

    def add(topology_key: Key, value: float, handler: str, parameter: str, content: ArrayLike) -> None:
        key = PotentialKey(
            id=f"{parameter} {value!r}",
            associated_handler=handler,
            mult=None,
            bond_order=None,
            virtual_site_type=None,
            cosmetic_attributes={},
        )
        if key not in potentials:
            potentials[key] = Potential(parameters={parameter: Quantity(content, "elementary_charge")})
        key_map[topology_key] = key

    site_keys: list[tuple[Key, float]] = []
    for key, row in sites.items():
        charge = float(charges[row])
        before[key.orientation_atom_indices[0]] += charge
        site_keys.append((key, charge))
    for i, charge in enumerate(before.tolist()):
        # openff-interchange's own name for charges that no section of a force field gives
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
    collection._charges_cached = False  # a copied Interchange may have been exported before


def _give_settings(collection: Collection, section: str, parameters: SystemParameters) -> None:
    for ours, theirs in SETTINGS.get(section, {}).items():
        if (section, ours) in parameters.layout.settings:
            value = float(parameters.setting(section, ours))
            setattr(collection, theirs, from_md(value, getattr(collection, theirs)))
