"""Run timemachine's own tests with its handlers, then with ours, and compare test by test.

The path of a checkout of proteneer/timemachine is an argument or the environment variable TIMEMACHINE; its other
requirements (pymbar, matplotlib, hypothesis, hilbertcurve, psutil, py3Dmol, networkx) have to be installed. OpenEye is
replaced by RDKit. Tests that need a GPU are left out. Fails on a regression.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from textwrap import indent

from tests.upstream.records import STOCK, SWAPPED, Comparison, Records, read_records

_REPOSITORY = Path(__file__).resolve().parents[2]

SUITES = {
    "handlers": ("test_handlers.py", "test_handler_utils.py", "test_serialization.py", "test_forcefields.py"),
    "potentials": (
        *("test_jax_bonded.py", "test_jax_utils.py", "test_bonded_stable.py", "nonbonded/test_nonbonded_jit.py"),
        "test_potential.py",
    ),
    "nonbonded": ("test_jax_nonbonded.py",),
    "topology": (
        *("test_topology.py", "test_single_topology.py", "test_single_topology_mol_utils.py"),
        *("test_dummy.py", "test_terminal_bond_maps.py"),
    ),
    "combined": ("test_single_topology_combined.py",),
    "interpolation": ("test_interpolate.py",),
    "chirality": ("test_chiral_restraints.py", "test_chiral_utils.py"),
}
"""timemachine's test files: what parameterizes, what evaluates, what combines two ligands, also with surroundings."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.upstream.timemachine", description=__doc__)
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=f"default all: {', '.join(SUITES)}")
    parser.add_argument("--checkout", type=Path, default=os.environ.get("TIMEMACHINE"), help="of timemachine")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keeps the records and pytest's output")
    parser.add_argument("--reuse", action="store_true", help="take stock records that the kept folder has")
    parser.add_argument("-k", dest="expression", default="", help="only these tests, as in pytest")
    parser.add_argument("--limit", type=float, default=3600, help="seconds per suite and run; then it is cut off")
    parser.add_argument("--test-limit", type=float, default=600, help="seconds per test; then it fails")
    options = parser.parse_args(arguments)
    if options.checkout is None or not (options.checkout / "timemachine" / "ff").is_dir():
        parser.error("no checkout of timemachine; pass --checkout or set TIMEMACHINE")
    if sys.version_info < (3, 12):
        parser.error("timemachine needs Python 3.12: make timemachine PYTHON=python3.12 VENV=.venv-3.12")
    if unknown := set(options.suites) - set(SUITES):
        parser.error(f"no suite of ours: {', '.join(sorted(unknown))}")
    with TemporaryDirectory() as temporary:
        options.keep = (options.keep or Path(temporary)).resolve()
        options.keep.mkdir(parents=True, exist_ok=True)
        stock, swapped = {}, {}
        for suite in options.suites or SUITES:
            stock |= _run(STOCK, suite, options)
            swapped |= _run(SWAPPED, suite, options)
    comparison = Comparison(stock, swapped)
    print(comparison.table())
    for title, records in (("regressions", comparison.regressions), ("new passes", comparison.new_passes)):
        print(f"{title}: {len(records)}")
        for record in records:
            print(f"  {record.test}: {record.outcome}\n{indent(record.message, '    ')}")
    print(f"passing tests that called one of our handlers: {len(comparison.proving)}")
    failing = [record for record in swapped.values() if record.outcome in ("failed", "error")]
    print(f"failing with both: {len(failing) - len(comparison.regressions)}")
    for record in failing:
        print(f"  {record.test}: {record.message.strip().splitlines()[-1] if record.message.strip() else ''}")
    return int(bool(comparison.regressions) or not comparison.proving)


def _run(mode: str, suite: str, options: argparse.Namespace) -> Records:
    records = options.keep / f"timemachine-{mode}-{suite}.jsonl"
    if mode == STOCK and options.reuse and records.exists():
        return read_records(records)
    command = [
        *(sys.executable, "-m", "pytest", *(f"tests/{name}" for name in SUITES[suite])),
        *("-p", "tests.upstream.timemachine_plugin", "-p", "no:cacheprovider"),
        *("-o", "addopts=--hypothesis-profile=no-deadline", "-m", "not nightly and (nocuda or nogpu)"),
        *(f"--upstream-handlers={mode}", f"--upstream-records={records}"),
        *(f"--upstream-limit={options.test_limit}", "--tb=short", "-rfE", "--durations=10"),
        *(["-k", options.expression] if options.expression else []),
    ]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "MPLBACKEND": "Agg"}
    # what jax compiles for the first run serves the second
    environment |= {"JAX_COMPILATION_CACHE_DIR": str(options.keep / "compiled")}
    # ours first: both repositories have a folder named tests, and pytest finds timemachine's helpers through conftest
    folders = (_REPOSITORY, options.checkout.resolve(), os.environ.get("PYTHONPATH"))
    environment["PYTHONPATH"] = os.pathsep.join(str(folder) for folder in folders if folder)
    with records.with_suffix(".txt").open("w") as output:
        try:
            subprocess.run(
                command,
                cwd=options.checkout,
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=options.limit,
                check=False,
            )
        except subprocess.TimeoutExpired:
            print(f"{suite}, {mode}: cut off after {options.limit:.0f} s", flush=True)
    if not records.exists():
        raise SystemExit(f"pytest did not start:\n{records.with_suffix('.txt').read_text()[-5000:]}")
    found = read_records(records)
    print(f"{suite}, {mode}: {len(found)} tests", flush=True)
    return found


if __name__ == "__main__":
    sys.exit(main())
