"""The package itself: what importing it costs and says, and that each module keeps to its place."""

from __future__ import annotations

import subprocess
import sys

import pytest

import openff_diffsystem
from openff_diffsystem import exceptions


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_import_is_lazy():
    assert (
        run("import sys, openff_diffsystem; print([m for m in ('jax', 'openff.toolkit') if m in sys.modules])") == "[]"
    )


def test_public_names():
    for name in openff_diffsystem.__all__:
        assert getattr(openff_diffsystem, name).__name__ == name
        assert name in dir(openff_diffsystem)
    with pytest.raises(AttributeError, match="DiffSystm"):
        openff_diffsystem.DiffSystm  # noqa: B018


def test_importing_leaves_jax_settings_alone():
    code = (
        "import jax\n"
        "before = dict(jax.config.values)\n"
        "import openff_diffsystem.diffsystem\n"
        "print(all(jax.config.values[name] == value for name, value in before.items()))\n"
    )
    assert run(code) == "True"


def test_missing_stack_says_what_to_install():
    code = (
        "import sys\n"
        "sys.modules['openff.toolkit'] = None\n"
        "import importlib.util\n"
        "find = importlib.util.find_spec\n"
        "import openff_diffsystem\n"
        "openff_diffsystem.find_spec = lambda name: None if name.startswith('openff.') else find(name)\n"
        "try:\n"
        "    openff_diffsystem.DiffSystem\n"
        "except ImportError as error:\n"
        "    print(error)\n"
    )
    output = run(code)
    assert "conda install" in output and "pip install openff-diffsystem[pip]" in output


def test_errors_derive_from_one_class_and_a_builtin():
    for name, error in vars(exceptions).items():
        if isinstance(error, type) and error is not exceptions.DiffSystemError:
            assert issubclass(error, exceptions.DiffSystemError), name
            assert issubclass(error, ImportError | TypeError | ValueError | RuntimeError), name
            assert error.__doc__
