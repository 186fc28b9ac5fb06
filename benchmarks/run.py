"""Run every benchmark, write ``benchmarks/RESULTS.md``, and what the docs show of it."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path

import jax

jax.config.update("jax_enable_x64", True)

from benchmarks import (  # noqa: E402  # x64 comes first
    assignment,
    condensed,
    energy,
    frames,
    loading,
    openmm_export,
    parameterize,
    report,
    timemachine,
)
from benchmarks.timing import Row  # noqa: E402


def main() -> None:
    """Print and write the report."""
    lines = [
        "# Benchmarks",
        "",
        f"`make bench` on {os.cpu_count()} cores of {_processor()}, Python {platform.python_version()}, "
        f"jax {jax.__version__} ({jax.default_backend()}), double precision where nothing else is said. "
        f"openff-toolkit {_version('openff-toolkit')}, openff-interchange {_version('openff-interchange')}. "
        "`docs/performance.md` says what was measured.",
        "",
        "| what | time | compared | bar | met |",
        "|---|---|---|---|---|",
    ]
    print("\n".join(lines), flush=True)
    for module in (loading, parameterize, assignment, energy, condensed, frames, openmm_export, timemachine):
        for row in module.run():
            lines.append(_line(row))
            print(lines[-1], flush=True)
    report.RESULTS.write_text("\n".join(lines) + "\n")
    report.main()


def _line(row: Row) -> str:
    met = "" if row.met is None else "yes" if row.met else "**no**"
    return f"| {row.what} | {row.figure} | {row.peer} | {row.bar} | {met} |"


def _version(name: str) -> str:
    try:
        return version(name)
    except ImportError:
        return version(f"acellera-{name}")


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
