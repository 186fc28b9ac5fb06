"""What the docs show of ``benchmarks/RESULTS.md``: a short table in ``docs/performance.md``, and the README's figure.

``make bench`` does this last. ``python -m benchmarks.report`` does it again from the results that are there, and takes
half a minute: the figure's left half is the refit of ``examples/refit_torsion.py``.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.timing import Row
from examples import refit_torsion

matplotlib.rcParams["svg.hashsalt"] = "openff_diffsystem"  # the same numbers give the same file

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "RESULTS.md"
PAGE = ROOT / "docs" / "performance.md"
FIGURE = ROOT / "docs" / "images" / "overview.svg"


class Entry(NamedTuple):
    """A row that the docs show: a part of its name in the results, its name in the docs, and the other tool."""

    pattern: str
    name: str
    peer: str = ""


TIMEMACHINE = "timemachine's eight handlers, parameterize + VJP, "

TABLE = (
    Entry("loading the plugin after", "load the plugin, openff-toolkit being loaded"),
    Entry("DiffSystem.parameterize + VJP, jitted", "parameters of a molecule and their pullback, compiled"),
    Entry("from_smirnoff, imatinib", "make a system of imatinib, charges given"),
    Entry("from_smirnoff, 2,000 waters", "make a system of 2,000 waters"),
    Entry("dU/dtheta, one molecule of 50 atoms", "energy, forces and dU/dθ, one molecule of 50 atoms"),
    Entry("200 molecules x 10 conformers", "the same in a batch of 200 molecules, 10 conformers each"),
    Entry(
        "14,739 particles: energy + dU/dx + dU/dtheta, single",
        "energy, forces and dU/dθ, water box of 14,739 particles, single precision",
    ),
    Entry("larger, 14,739 particles: neighbour list", "its neighbour list"),
    Entry(
        "24,198 particles: energy + dU/dx + dU/dtheta, single",
        "energy, forces and dU/dθ, T4 lysozyme in water, 24,198 particles, single precision",
    ),
    Entry("to_openmm, 2,000 waters", "write an OpenMM System of 2,000 waters"),
    Entry(
        TIMEMACHINE + "first call of a molecule, eager; whatever",
        "timemachine's handlers: parameters and pullback, first call",
    ),
    Entry(TIMEMACHINE + "later calls, ours jitted", "the same, later calls, compiled"),
)
"""The rows of the short table."""

PAIRS = (
    Entry("from_smirnoff, imatinib", "make a system of imatinib", "openff-interchange"),
    Entry("from_smirnoff, 2,000 waters", "make a system of 2,000 waters", "openff-interchange"),
    Entry("to_openmm, 2,000 waters", "write an OpenMM System\nof 2,000 waters", "openff-interchange"),
    Entry(TIMEMACHINE + "later calls, ours eager", "parameters of a molecule\nand their gradient", "timemachine"),
    Entry(
        "14,739 particles: energy + dU/dx + dU/dtheta, single",
        "energy and forces, and dU/dθ\nin ours: 14,739 particles",
        "OpenMM",
    ),
)
"""The lines of the figure: ours, and the other tool."""

TIME = r"([\d.]+) (s|ms|us)\b"

SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6}


def read_results() -> list[Row]:
    """The rows of ``RESULTS.md``; whether a bar is met is left out."""
    lines = [line for line in RESULTS.read_text().splitlines() if line.startswith("| ")]
    return [Row(*(cell.strip() for cell in line.split("|")[1:5])) for line in lines[1:]]


def find(rows: list[Row], entry: Entry) -> Row | None:
    """The one row that an entry names; ``None`` for a row of timemachine where that was not measured."""
    found = [row for row in rows if entry.pattern in row.what]
    if not found and "timemachine" in entry.pattern:
        return None
    if len(found) != 1:
        raise ValueError(f"{len(found)} rows of {RESULTS.name} have '{entry.pattern}' in their name; one is needed")
    return found[0]


def chosen(rows: list[Row], entries: tuple[Entry, ...]) -> list[tuple[Entry, Row]]:
    """Entries with their rows."""
    return [(entry, row) for entry in entries if (row := find(rows, entry))]


def seconds(text: str) -> float:
    """The first time in a text: ``0.33x of create_interchange (69.7 ms)`` is 0.0697."""
    number, unit = re.search(TIME, text).groups()  # type: ignore[union-attr]
    return float(number) * SECONDS[unit]


def write_table(rows: list[Row]) -> None:
    """Replace the table of ``docs/performance.md``."""
    lines = ["| what | time | compared with |", "|---|---|---|"]
    lines += [f"| {entry.name} | {row.figure} | {row.peer} |" for entry, row in chosen(rows, TABLE)]
    page, table = PAGE.read_text(), "\n".join(lines)
    start, end = "<!-- table -->\n\n", "\n\n<!-- end of table -->"
    before, rest = page.split(start)
    PAGE.write_text(before + start + table + end + rest.split(end)[1])


def draw_times(axes: Axes, rows: list[Row]) -> None:
    """A line per task, from our time to the other tool's, on a logarithmic axis."""
    pairs = chosen(rows, PAIRS)
    for i, (entry, row) in enumerate(pairs):
        ours, theirs = seconds(row.figure), seconds(row.peer)
        axes.plot([ours, theirs], [i, i], color="0.8", linewidth=2, zorder=1)
        axes.plot(ours, i, "o", color="tab:blue", markersize=9)
        axes.plot(theirs, i, "o", color="0.5", markersize=9)
        for time, colour, text in (
            (ours, "tab:blue", row.figure),
            (theirs, "0.35", f"{entry.peer}: {re.search(TIME, row.peer).group()}"),  # type: ignore[union-attr]
        ):
            side = -1 if time == min(ours, theirs) else 1
            style = {"ha": "right" if side < 0 else "left", "va": "center", "fontsize": 9, "color": colour}
            axes.annotate(text, (time, i), (8 * side, 0), textcoords="offset points", **style)
    axes.set_xscale("log")
    axes.set_xlim(2e-3, 250)
    axes.set_xticks([0.01, 0.1, 1, 10], ["10 ms", "0.1 s", "1 s", "10 s"])
    axes.set_yticks(range(len(pairs)), [entry.name for entry, _ in pairs], fontsize="small")
    axes.set_ylim(len(pairs) - 0.6, -0.6)
    axes.grid(axis="x", alpha=0.3)
    axes.set_title("What calls cost: ours in blue, 2 CPU cores")
    axes.set_xlabel("time")


def draw_figure(rows: list[Row]) -> None:
    """The README's figure: what a fit does, and what calls cost."""
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[1, 1.15])
    refit_torsion.draw(left, refit_torsion.main())
    left.set_xlabel("dihedral angle C–C(=O)–N–C (degrees)")
    left.set_xticks(range(-90, 271, 60))
    left.set_ylim(-2, 58)  # room for the legend
    left.legend(loc="upper center", frameon=False, fontsize="small")
    draw_times(right, rows)
    FIGURE.parent.mkdir(exist_ok=True)
    figure.savefig(FIGURE, metadata={"Date": None})


def main() -> None:
    """Write the table and draw the figure."""
    rows = read_results()
    write_table(rows)
    draw_figure(rows)


if __name__ == "__main__":
    main()
