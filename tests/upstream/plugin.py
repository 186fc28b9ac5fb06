"""The pytest plugin that runs OpenFF's suites with stock handlers or with ours, and records each test.

Load it with ``-p tests.upstream.plugin``. It works alike with and without pytest-xdist: what a worker counts
travels in the reports, and only the main process writes records.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Generator
from pathlib import Path

import pytest

from tests.upstream.records import STOCK, SWAPPED, Record

_STAND_INS = Path(__file__).with_name("stand_ins")
_BUILT = "handlers_built"
_WORST_LAST = ("passed", "skipped", "failed", "error")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("upstream")
    group.addoption("--upstream-handlers", choices=(STOCK, SWAPPED), required=True, help="which to run with")
    group.addoption("--upstream-records", metavar="FILE", required=True, help="gets a line of JSON per test")


def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    # Last on the path, so that an installed package takes precedence.
    sys.path.append(str(_STAND_INS))
    # Now, because the suites' conftest modules import stock handlers by name.
    if early_config.known_args_namespace.upstream_handlers == SWAPPED:
        early_config.pluginmanager.register(_SwappedHandlers())


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Recorder(Path(config.option.upstream_records)))


def pytest_collectstart() -> None:
    # A module that draws random numbers into its parametrize lists must draw the same ones in both runs.
    random.seed(0)


class _SwappedHandlers:
    """Swaps our handlers in, and reports how many of them a test and its fixtures built."""

    def __init__(self) -> None:
        # A stock run does not import our package unless a test loads plugins.
        from tests.upstream import rebinding

        self._built = 0
        rebinding.load_plugins_by_default()
        rebinding.rebind_imports()
        rebinding.on_handler_built(self._count)

    def _count(self) -> None:
        self._built += 1

    def pytest_runtest_logstart(self) -> None:
        self._built = 0

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        report.user_properties.append((_BUILT, self._built))
        return report


class _Recorder:
    """Writes the record of each test when its last report has come."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", encoding="utf-8", buffering=1)
        self._reports: dict[str, list[pytest.TestReport]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        reports = self._reports.setdefault(report.nodeid, [])
        reports.append(report)
        # "???" is how pytest-xdist reports that a worker died.
        if report.when in ("teardown", "???"):
            del self._reports[report.nodeid]
            self._write(reports)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self._write([report])

    def pytest_sessionfinish(self) -> None:
        self._file.close()

    def _write(self, reports: list) -> None:
        worst = max(reports, key=lambda report: _WORST_LAST.index(_outcome(report)))
        built = dict(getattr(reports[-1], "user_properties", ())).get(_BUILT, 0)
        print(Record(worst.nodeid, _outcome(worst), built, _message(worst)).to_json(), file=self._file)


def _outcome(report: pytest.TestReport | pytest.CollectReport) -> str:
    if report.failed and report.when not in ("call", "???"):
        return "error"
    return report.outcome


def _message(report: pytest.TestReport | pytest.CollectReport) -> str:
    if not report.failed:
        return ""
    crash = getattr(report.longrepr, "reprcrash", None)
    return (crash.message if crash else report.longreprtext).strip()
