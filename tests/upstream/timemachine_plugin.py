"""The pytest plugin that runs timemachine's tests with its own handlers or with ours, without OpenEye.

Load it with ``-p tests.upstream.timemachine_plugin``. Charges are Gasteiger's, for every model and in both runs, and
what OpenEye does for bond charge increments RDKit does here.
"""

from __future__ import annotations

import inspect
import signal
import sys
import types
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from tests.upstream.records import STOCK, SWAPPED, Record

_built = 0


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("upstream")
    group.addoption("--upstream-handlers", choices=(STOCK, SWAPPED), required=True, help="which to run with")
    group.addoption("--upstream-records", metavar="FILE", required=True, help="gets a line of JSON per test")
    group.addoption("--upstream-limit", type=float, default=0, help="seconds after which a test fails; 0 for none")


def pytest_configure(config: pytest.Config) -> None:
    # before the stand-in for OpenEye, which the toolkit would take for the real one
    from openff.toolkit import ForceField, Molecule  # noqa: F401

    ForceField()
    replace_openeye()
    if config.option.upstream_handlers == SWAPPED:
        for handler in swap_handlers():
            _count_calls(handler)
    Path(config.option.upstream_records).write_text("")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, None, None]:
    global _built
    _built = 0
    item.stash[_OUTCOME] = ("passed", "")
    yield
    outcome, message = item.stash[_OUTCOME]
    record = Record(item.nodeid, outcome, _built, message[-2000:])
    with Path(item.config.option.upstream_records).open("a") as records:
        records.write(record.to_json() + "\n")


_OUTCOME: pytest.StashKey[tuple[str, str]] = pytest.StashKey()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    limit = item.config.option.upstream_limit

    def cut_off(*_: Any) -> None:
        raise TimeoutError(f"cut off after {limit:.0f} s")

    previous = signal.signal(signal.SIGALRM, cut_off)
    signal.setitimer(signal.ITIMER_REAL, limit)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, previous)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo) -> Generator[None, Any, None]:
    report = (yield).get_result()
    if report.failed:
        item.stash[_OUTCOME] = ("failed" if report.when == "call" else "error", str(report.longrepr))
    elif report.skipped:
        item.stash[_OUTCOME] = ("skipped", "")


def replace_openeye() -> None:
    """Put RDKit in the place of OpenEye in timemachine's charge handlers."""
    openeye = types.ModuleType("openeye")
    openeye.oechem = types.ModuleType("openeye.oechem")
    openeye.oechem.OEClearAromaticFlags = lambda molecule: None  # a stand-in has none from the start
    sys.modules.setdefault("openeye", openeye)
    sys.modules.setdefault("openeye.oechem", openeye.oechem)
    from timemachine.ff.handlers import bcc_aromaticity, nonbonded

    bcc_aromaticity.match_smirks = nonbonded.oe_match_smirks = _match
    nonbonded.convert_to_oe = _Molecule
    nonbonded.oe_assign_charges = lambda mol, charge_model=None: gasteiger(mol) * nonbonded.constants.ONE_4PI_EPS0**0.5


def gasteiger(mol: Any) -> Any:
    """Gasteiger charges that add up to the net charge, ``(n_atoms,)``, e; zero where RDKit has no parameters."""
    import numpy as np
    from rdkit import Chem
    from rdkit.Chem import AllChem

    copy = Chem.Mol(mol)
    AllChem.ComputeGasteigerCharges(copy, nIter=12, throwOnParamFailure=False)
    charges = np.nan_to_num([a.GetDoubleProp("_GasteigerCharge") for a in copy.GetAtoms()], posinf=0.0, neginf=0.0)
    return charges + (Chem.GetFormalCharge(copy) - charges.sum()) / len(charges)


def swap_handlers() -> list[type]:
    """Put our classes in the place of timemachine's, by name; return them."""
    from timemachine.ff import handlers
    from timemachine.ff.handlers import bonded as their_bonded
    from timemachine.ff.handlers import nonbonded as their_nonbonded

    from openff_diffsystem.interop.timemachine import pairs
    from openff_diffsystem.interop.timemachine.handles import atom_handles, bonded, charge_handles

    charge_handles.AM1BCCHandler.source = staticmethod(gasteiger)
    charge_handles.AM1CCCHandler.source = staticmethod(gasteiger)
    charge_handles.AM1BCCCCCHandler.source = staticmethod(gasteiger)
    swapped = []
    for ours, theirs in (
        (bonded, their_bonded),
        (atom_handles, their_nonbonded),
        (charge_handles, their_nonbonded),
    ):
        for name, cls in inspect.getmembers(ours, inspect.isclass):
            if name.endswith("Handler") and cls.__module__ == ours.__name__ and hasattr(theirs, name):
                for module in (theirs, handlers):
                    if hasattr(module, name):
                        setattr(module, name, cls)
                swapped.append(cls)
    their_nonbonded.generate_exclusion_idxs = pairs.generate_exclusion_idxs
    return swapped


def _count_calls(cls: type) -> None:
    """Count uses of a class of ours: that it is called, and not only that it is made, shows something."""
    for name in ("partial_parameterize", "static_parameterize", "serialize"):
        given = cls.__dict__.get(name)
        if given is None:
            continue
        function = given.__func__ if isinstance(given, (staticmethod, classmethod)) else given

        def counted(*arguments: Any, _function: Any = function, **named: Any) -> Any:
            global _built
            _built += 1
            return _function(*arguments, **named)

        kind = type(given) if isinstance(given, (staticmethod, classmethod)) else lambda f: f
        setattr(cls, name, kind(counted))


def _match(smirks: str, molecule: _Molecule, unique: bool = False) -> list[dict[int, int]]:
    from rdkit import Chem

    query = Chem.MolFromSmarts(smirks)
    tags = {atom.GetIdx(): atom.GetAtomMapNum() - 1 for atom in query.GetAtoms() if atom.GetAtomMapNum()}
    found = molecule.rdmol.GetSubstructMatches(query, uniquify=unique, maxMatches=10**6)
    return [{tag: match[i] for i, tag in tags.items()} for match in found]


class _Molecule:
    """An RDKit molecule with those methods of OpenEye's that timemachine's aromaticity model calls."""

    def __init__(self, mol: Any) -> None:
        from openff_diffsystem.interop.timemachine.handles.increments import kekulized_copy

        self.rdmol = kekulized_copy(mol)

    def GetAtoms(self) -> list[_Atom]:
        return [_Atom(atom) for atom in self.rdmol.GetAtoms()]

    def GetBonds(self) -> list[_Bond]:
        return [_Bond(bond) for bond in self.rdmol.GetBonds()]


class _Atom:
    def __init__(self, atom: Any) -> None:
        self.atom = atom

    def GetIdx(self) -> int:
        return self.atom.GetIdx()

    def SetAromatic(self, value: bool) -> None:
        self.atom.SetIsAromatic(value)


class _Bond:
    def __init__(self, bond: Any) -> None:
        self.bond = bond

    def GetBgnIdx(self) -> int:
        return self.bond.GetBeginAtomIdx()

    def GetEndIdx(self) -> int:
        return self.bond.GetEndAtomIdx()

    def IsInRing(self) -> bool:
        return self.bond.IsInRing()

    def SetAromatic(self, value: bool) -> None:
        from rdkit import Chem

        self.bond.SetIsAromatic(value)
        if value:
            self.bond.SetBondType(Chem.BondType.AROMATIC)
