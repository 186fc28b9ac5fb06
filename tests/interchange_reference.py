"""System parameters as stock openff-interchange has them, in the form of a DiffSystem's, and their comparison."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from openff.interchange import Interchange
from openff.interchange.components.potentials import WrappedPotential

from openff_diffsystem import DiffSystem, SystemParameters

RELATIVE = 1e-12
"""Parameters are copied or summed over at most four numbers; double precision leaves this much room."""

_UNITS = {
    "Bonds": {"k": "kilojoule/mole/nanometer**2", "length": "nanometer"},
    "Angles": {"k": "kilojoule/mole/radian**2", "angle": "radian"},
    "ProperTorsions": {"k": "kilojoule/mole", "phase": "radian", "idivf": "dimensionless"},
    "ImproperTorsions": {"k": "kilojoule/mole", "phase": "radian", "idivf": "dimensionless"},
    "Constraints": {"distance": "nanometer"},
    "GBSA": {"radius": "nanometer", "scale": "dimensionless"},
}

Terms = dict[tuple, tuple[float, ...]]


def reference_terms(interchange: Interchange, section: str) -> Terms:
    """Parameters by atom indices (and periodicity, for torsions), in MD units."""
    collection = interchange.collections[section]
    numbers = {key: _parameters(potential, _UNITS[section]) for key, potential in collection.potentials.items()}
    terms: Terms = {}
    for key, potential_key in collection.key_map.items():
        potential, parameters = collection.potentials[potential_key], numbers[potential_key]
        atoms = tuple(key.atom_indices)
        if section in ("ProperTorsions", "ImproperTorsions"):
            atoms = (*atoms, key.mult, _periodicity(potential))
        terms[atoms] = parameters
    return terms


def on_host(system: DiffSystem) -> SystemParameters:
    """The system parameters with NumPy values: picking them apart compiles nothing."""
    return SystemParameters(np.asarray(system.parameterize().values), system.system_layout)


def system_terms(system: DiffSystem, parameters: SystemParameters, section: str) -> Terms:
    """The same of a DiffSystem."""
    values = parameters[section]
    indices = system.indices(section).tolist()
    if section not in ("ProperTorsions", "ImproperTorsions"):
        return {tuple(atoms): tuple(row) for atoms, row in zip(indices, values.tolist(), strict=True)}
    seen: Counter = Counter()
    terms: Terms = {}
    for atoms, row, n in zip(indices, values.tolist(), system.term_static[section]["periodicity"], strict=True):
        key = tuple(atoms)
        terms[(*key, seen[key], int(n))] = tuple(row)
        seen[key] += 1
    return terms


def _parameters(potential: Any, units: dict[str, str]) -> tuple[float, ...]:
    if isinstance(potential, WrappedPotential):
        parts = [(_parameters(p, units), weight) for p, weight in potential._inner_data.items()]
        return tuple(sum(float(weight) * values[i] for values, weight in parts) for i in range(len(units)))
    return tuple(float(potential.parameters[name].m_as(unit)) for name, unit in units.items())


def _periodicity(potential: Any) -> int:
    if isinstance(potential, WrappedPotential):
        potential = next(iter(potential._inner_data))
    return int(potential.parameters["periodicity"].m)


def site_order(interchange: Interchange) -> list:
    """Virtual sites of an Interchange in the order of its OpenMM export: molecule by molecule."""
    if "VirtualSites" not in interchange.collections:
        return []
    owner = {}
    for i, molecule in enumerate(interchange.topology.molecules):
        for atom in molecule.atoms:
            owner[interchange.topology.atom_index(atom)] = i
    return sorted(interchange["VirtualSites"].key_map, key=lambda key: owner[key.orientation_atom_indices[0]])


def particle_reference(interchange: Interchange, section: str) -> np.ndarray:
    """epsilon and sigma, or charge, of every particle, ``(n_particles, n_columns)``."""
    collection = interchange.collections[section]
    n_atoms = interchange.topology.n_atoms
    sites = site_order(interchange)
    rows = np.full((n_atoms + len(sites), 2 if section == "vdW" else 1), np.nan)
    if section == "vdW":
        for key, potential_key in collection.key_map.items():
            row = n_atoms + sites.index(key) if key in sites else key.atom_indices[0]
            p = collection.potentials[potential_key].parameters
            rows[row] = p["epsilon"].m_as("kilojoule/mole"), p["sigma"].m_as("nanometer")
    else:
        for key, charge in collection.charges.items():
            row = n_atoms + sites.index(key) if key in sites else key.atom_indices[0]
            rows[row] = charge.m_as("elementary_charge")
    return rows


def assert_same_parameters(system: DiffSystem, interchange: Interchange, relative: float = RELATIVE) -> Counter:
    """Every term and number of a DiffSystem equals that of a stock Interchange. Returns how many were compared."""
    compared: Counter = Counter()
    parameters = on_host(system)
    for section in interchange.collections:
        if section in _UNITS:
            expected = reference_terms(interchange, section)
            found = system_terms(system, parameters, section) if section in system.sections else {}
            assert found.keys() == expected.keys(), f"{section}: {set(found) ^ set(expected)}"
            in_order = np.array([found[key] for key in expected])
            values = np.array(list(expected.values()))
            np.testing.assert_allclose(in_order, values, rtol=relative, atol=1e-15, err_msg=section)
            compared[section] += len(expected)
        elif section in ("vdW", "Electrostatics"):
            expected = particle_reference(interchange, section)
            found = parameters[section]
            assert not np.isnan(expected).any()
            # charges of sites are sums that may cancel, hence the absolute part
            np.testing.assert_allclose(found, expected, rtol=relative, atol=1e-14, err_msg=section)
            compared[section] += len(expected)
            scale = parameters.setting(section, "scale14")
            assert float(scale) == interchange.collections[section].scale_14
        elif section == "VirtualSites":
            _assert_same_sites(system, parameters, interchange)
            compared[section] += len(interchange[section].key_map)
        else:
            raise AssertionError(f"section {section} was not compared")
    return compared


def _assert_same_sites(system: DiffSystem, parameters: SystemParameters, interchange: Interchange) -> None:
    collection = interchange["VirtualSites"]
    values = parameters["VirtualSites"]
    sites = site_order(interchange)
    assert len(sites) == len(values)
    for key, atoms, row in zip(sites, system.indices("VirtualSites").tolist(), values, strict=True):
        assert tuple(a for a in atoms if a >= 0) == tuple(key.orientation_atom_indices)
        p = collection.potentials[collection.key_map[key]].parameters
        expected = [p["distance"].m_as("nanometer")]
        for angle in ("outOfPlaneAngle", "inPlaneAngle"):
            value = p.get(angle)
            expected.append(0.0 if value is None else value.m_as("radian"))
        np.testing.assert_allclose(row, expected, rtol=RELATIVE, atol=1e-15)
