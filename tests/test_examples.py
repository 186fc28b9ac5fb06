"""The examples run as they are, and do what they say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from openff.toolkit import ForceField

EXAMPLES = Path(__file__).parent.parent / "examples"


def run(script: str, folder: Path, *arguments: str) -> str:
    """What an example prints, started in any folder."""
    command = [sys.executable, str(EXAMPLES / script), *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout


def test_refit_torsion(tmp_path):
    """From any folder: the error falls, stock OpenFF and OpenMM agree, and only fitted k's change in the file."""
    output = run("refit_torsion.py", tmp_path)
    before, after = (float(part.split()[0]) for part in output.split("RMSE before ")[1].split(" kJ/mol, after ")[:2])
    assert after < 0.25 * before
    assert float(output.split("at most ")[1].split()[0]) < 1e-6
    refit = ForceField(str(EXAMPLES / "output" / "refit.offxml")).to_string().splitlines()
    sage = ForceField("openff_unconstrained-2.2.1.offxml").to_string().splitlines()
    changed = [line for line, original in zip(refit, sage, strict=True) if line != original]
    assert 0 < len(changed) <= output.count("ProperTorsions/")
    assert (EXAMPLES / "output" / "refit.png").stat().st_size > 10_000


def test_train_valence(tmp_path):
    """A tenth of its steps already take a third off the error, on molecules it was not trained on as well."""
    pytest.importorskip("matplotlib")
    output = run("train_valence.py", tmp_path, "--steps", "30")
    for molecules in ("trained on", "held out"):
        errors = output.split(f"{molecules}: RMSE before ")[1].split(" kJ/mol, after ")
        before, after = (float(part.split()[0]) for part in errors[:2])
        assert after < 0.7 * before, molecules
    assert (EXAMPLES / "output" / "train_valence.png").stat().st_size > 10_000
    assert (EXAMPLES / "output" / "valence.eqx").exists()
