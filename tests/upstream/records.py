"""What became of each test in a run, and the comparison of two runs."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

STOCK = "stock"
SWAPPED = "swapped"

Records = dict[str, "Record"]

_OUTCOMES = ("passed", "failed", "error", "skipped")


@dataclass(frozen=True)
class Record:
    """One test of one run."""

    test: str
    """The node id, relative to the folder that holds the ``openff`` package."""

    outcome: str
    """``passed``, ``failed``, ``skipped`` or ``error``; an expected failure counts as ``skipped``."""

    handlers_built: int = 0
    """How many handlers of our classes were initialised in the test and its fixtures."""

    message: str = ""
    """Why it failed."""

    def to_json(self) -> str:
        return json.dumps(asdict(self))


def read_records(path: Path) -> Records:
    """The records of one run by test."""
    records = (Record(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines())
    return {record.test: record for record in records}


@dataclass(frozen=True)
class Comparison:
    """A run with stock handlers and one with ours."""

    stock: Records
    swapped: Records

    @property
    def regressions(self) -> list[Record]:
        """What became with our handlers of each test that passes with stock ones only."""
        return _passed_only_in(self.stock, self.swapped)

    @property
    def new_passes(self) -> list[Record]:
        """What became with stock handlers of each test that passes with ours only."""
        return _passed_only_in(self.swapped, self.stock)

    @property
    def proving(self) -> list[Record]:
        """The tests that passed and built one of our handlers: only these say something about them."""
        return [one for one in self.swapped.values() if one.outcome == "passed" and one.handlers_built]

    def table(self) -> str:
        """How many tests came out how, in each run."""
        stock, swapped = (Counter(one.outcome for one in run.values()) for run in (self.stock, self.swapped))
        rows = [f"{outcome:8}{stock[outcome]:8}{swapped[outcome]:9}" for outcome in _OUTCOMES]
        return "\n".join([f"{'':8}{STOCK:>8}{SWAPPED:>9}", *rows])


def _passed_only_in(these: Records, others: Records) -> list[Record]:
    passed = [test for test, one in these.items() if one.outcome == "passed"]
    counterparts = [others.get(test, Record(test, "missing")) for test in passed]
    return [other for other in counterparts if other.outcome != "passed"]
