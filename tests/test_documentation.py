"""The README and the docs do what they say: every Python block runs, in order, in one namespace per page.

A section that imports an optional package is left out where that is not installed.
"""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NEEDS = {"neural.md": "expaloma"}
"""Pages that need an extra."""
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def needs_missing_package(section: str) -> bool:
    needed = re.findall(r"^(?:import|from) (torch|jax_md)\b", section, flags=re.MULTILINE)
    needed += ["expaloma"] if "NeuralChargeHandler()" in section else []
    return any(find_spec(name) is None for name in needed)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_blocks_run(page, tmp_path, monkeypatch):
    if page.name in NEEDS:
        pytest.importorskip(NEEDS[page.name])
    monkeypatch.chdir(tmp_path)
    sections = re.split(r"^(?=## )", page.read_text(), flags=re.MULTILINE)
    runnable = "".join(section for section in sections if not needs_missing_package(section))
    blocks = re.findall(r"^```python\n(.*?)^```", runnable, flags=re.MULTILINE | re.DOTALL)
    namespace: dict = {}
    for block in blocks:
        exec(compile(block, str(page), "exec"), namespace)
    if page.name == "README.md":
        assert len(blocks) >= 5 and (tmp_path / "refit.offxml").exists()


START = (ROOT / "docs" / "start.md").read_text()
TITLES = re.findall(r"^## (.*)$", START, flags=re.MULTILINE)


@pytest.mark.parametrize("title", TITLES)
def test_blocks_of_the_first_page_need_nothing_but_its_first_lines(title, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sections = re.split(r"^## (.*)$", START, flags=re.MULTILINE)
    first, section = sections[0], sections[sections.index(title) + 1]
    if needs_missing_package(section):
        pytest.skip("an optional package is not installed")
    namespace: dict = {}
    for block in re.findall(r"^```python\n(.*?)^```", first + section, flags=re.MULTILINE | re.DOTALL):
        exec(compile(block, title, "exec"), namespace)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target
