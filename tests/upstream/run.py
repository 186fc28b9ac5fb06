"""Run OpenFF's own test suites with stock handlers, then with ours, and compare test by test.

Fails on a regression that is not whitelisted, and when too few of the passing tests built one of our handlers
for the run to show anything. Half an hour on two cores.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from textwrap import indent

import pytest

from tests.upstream.records import STOCK, SWAPPED, Comparison, Records, read_records
from tests.upstream.suites import MINIMUM_PROVING, SUITES, WHITELIST, folder

_REPOSITORY = Path(__file__).resolve().parents[2]
_COMPLETED = (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.NO_TESTS_COLLECTED)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    options = _parse(arguments)
    with TemporaryDirectory() as temporary:
        results = options.keep or Path(temporary)
        results.mkdir(parents=True, exist_ok=True)
        stock = run_suites(STOCK, options.packages, results, options.pytest)
        swapped = run_suites(SWAPPED, options.packages, results, options.pytest)
    comparison = Comparison(stock, swapped)
    required = MINIMUM_PROVING if options.complete else 0
    print(summary(comparison, required))
    unexplained = [record for record in comparison.regressions if record.test not in WHITELIST]
    return int(bool(unexplained) or len(comparison.proving) < required)


def run_suites(mode: str, packages: Sequence[str], results: Path, extra: Sequence[str] = ()) -> Records:
    """Run suites with one kind of handlers, each package in a Python of its own.

    Of its own because the toolkit's conftest would skip slow tests of Interchange's as well.

    Parameters
    ----------
    mode
        ``STOCK`` or ``SWAPPED``.
    packages
        Keys of ``SUITES``.
    results
        Gets, per package, the records ``MODE-PACKAGE.jsonl`` and what pytest printed, ``MODE-PACKAGE.txt``.
    extra
        More options for pytest.

    Returns
    -------
    records
        By test.

    Raises
    ------
    SystemExit
        If pytest did not complete.
    """
    records: Records = {}
    for package in packages:
        path = results.resolve() / f"{mode}-{package}.jsonl"
        log = path.with_suffix(".txt")
        started = time.monotonic()
        with TemporaryDirectory() as empty, log.open("w", encoding="utf-8") as output:
            done = subprocess.run(
                _command(mode, package, path) + list(extra),
                cwd=empty,
                env=_environment(),
                stdout=output,
                stderr=subprocess.STDOUT,
                check=False,
            )
        if done.returncode not in _COMPLETED:
            printed = log.read_text(encoding="utf-8")
            raise SystemExit(f"pytest ended with {done.returncode}:\n{printed[-5000:]}")
        print(f"{package}, {mode}: {time.monotonic() - started:.0f} s", flush=True)
        records |= read_records(path)
    return records


def summary(comparison: Comparison, required: int) -> str:
    """What the runs show, to print."""
    regressions, new_passes = comparison.regressions, comparison.new_passes
    lines = [comparison.table(), "", f"regressions: {len(regressions)}"]
    for record in regressions:
        whitelisted = WHITELIST.get(record.test)
        why = f"whitelisted: {whitelisted}" if whitelisted else record.message
        lines += [f"  {record.test}: {record.outcome}", indent(why, " " * 4)]
    lines.append(f"new passes: {len(new_passes)}")
    lines += [f"  {record.test}: {record.outcome} with stock handlers" for record in new_passes]
    built = f"passing tests that built one of our handlers: {len(comparison.proving)}"
    return "\n".join([*lines, f"{built} (at least {required})" if required else built])


def _command(mode: str, package: str, records: Path) -> list[str]:
    tests = folder(package)
    return [
        *(sys.executable, "-m", "pytest", *(str(tests / path) for path in SUITES[package])),
        # This repository's configuration does not apply, nothing is written beside the suites, and tests are
        # named relative to the folder that holds the openff package.
        *("-c", os.devnull, f"--rootdir={tests.parents[2]}", "-p", "no:cacheprovider"),
        # Modules get their full names, so that a suite's helpers are not imported twice.
        *("-o", "consider_namespace_packages=true"),
        *("-p", "tests.upstream.plugin", f"--upstream-handlers={mode}", f"--upstream-records={records}"),
        *("--continue-on-collection-errors", "--tb=short", "-rfE", "--durations=20"),
    ]


def _environment() -> dict[str, str]:
    """This Python's environment activated, as AmberTools is found on PATH; this repository importable."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"}
    for name, first in (("PATH", Path(sys.executable).parent), ("PYTHONPATH", _REPOSITORY)):
        environment[name] = os.pathsep.join([str(first), *filter(None, [environment.get(name)])])
    return environment


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.upstream.run", description=__doc__)
    parser.add_argument("packages", nargs="*", metavar="PACKAGE", help=f"default all: {', '.join(SUITES)}")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keeps the records and pytest's output")
    parser.add_argument("-n", dest="processes", type=int, default=0, help="pytest-xdist workers")
    parser.add_argument("-k", dest="expression", help="only these tests, as in pytest")
    options = parser.parse_args(arguments)
    if unknown := set(options.packages) - set(SUITES):
        parser.error(f"no suite of ours: {', '.join(sorted(unknown))}")
    options.packages = options.packages or list(SUITES)
    options.complete = set(options.packages) == set(SUITES) and not options.expression
    options.pytest = [f"-n{options.processes}"] if options.processes else []
    options.pytest += ["-k", options.expression] if options.expression else []
    return options


if __name__ == "__main__":
    sys.exit(main())
