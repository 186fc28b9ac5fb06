"""What loading the plugin adds to making a force field."""

from __future__ import annotations

import subprocess
import sys

from benchmarks.timing import Row, show

_CODE = """
import time
from openff.toolkit import ForceField
start = time.perf_counter()
import openff_diffsystem.handlers
print(time.perf_counter() - start)
"""


def run() -> list[Row]:
    """Import the plugin in fresh processes that have the toolkit loaded already."""
    times = [
        float(subprocess.run([sys.executable, "-c", _CODE], capture_output=True, text=True, check=True).stdout)
        for _ in range(3)
    ]
    best = min(times)
    return [Row("loading the plugin after openff-toolkit", show(best), "", "<= 50 ms", best <= 50e-3)]
