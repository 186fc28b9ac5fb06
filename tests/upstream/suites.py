"""The suites of OpenFF that we run, and which of their tests may fail with our handlers."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

SUITES: dict[str, tuple[str, ...]] = {
    "openff.toolkit._tests": (
        "test_forcefield.py",
        "test_parameters.py",
        "test_topology.py",
        "test_energies.py",
        "test_nagl.py",
        "test_mm_molecule.py",
        "test_interchange.py",
    ),
    "openff.interchange._tests": (".",),
}
"""Package -> the files and folders of it to run. All of Interchange's, as most of them build handlers."""

WHITELIST = {
    "openff/toolkit/_tests/test_forcefield.py::TestForceField::test_load_section_without_section_version": (
        "expects an error message that names the stock class with its module"
    ),
}
"""Test -> why it cannot pass with our handlers. At most two: a third is a bug of ours."""

MINIMUM_PROVING = 690
"""How many passing tests must have built one of our handlers in a run of everything, or it shows nothing."""


def folder(package: str) -> Path:
    """Where a package of tests is installed.

    Raises
    ------
    SystemExit
        If it is not.
    """
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit(f"{package} is not installed")
    return Path(spec.submodule_search_locations[0])
