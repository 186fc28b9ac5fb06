"""The examples run as they are, and do what they say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from openff.toolkit import ForceField

EXAMPLES = Path(__file__).parent.parent / "examples"


def test_refit_torsion(tmp_path):
    """From any folder: the error falls, stock OpenFF and OpenMM agree, and only fitted k's change in the file."""
    script = EXAMPLES / "refit_torsion.py"
    output = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, check=True
    ).stdout
    before, after = (float(part.split()[0]) for part in output.split("RMSE before ")[1].split(" kJ/mol, after ")[:2])
    assert after < 0.25 * before
    assert float(output.split("at most ")[1].split()[0]) < 1e-6
    refit = ForceField(str(EXAMPLES / "output" / "refit.offxml")).to_string().splitlines()
    sage = ForceField("openff_unconstrained-2.2.1.offxml").to_string().splitlines()
    changed = [line for line, original in zip(refit, sage, strict=True) if line != original]
    assert 0 < len(changed) <= output.count("ProperTorsions/")
    assert (EXAMPLES / "output" / "refit.png").stat().st_size > 10_000
