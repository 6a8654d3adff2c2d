"""What the README says of results is what their pages say."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("readme", ROOT / "scripts" / "readme.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["verdicts", "headlines"])
def test_its_sections_are_what_the_script_writes(script, name: str) -> None:
    assert script.replaced(README, name, getattr(script, name)()) == README


def test_every_claim_is_counted(script) -> None:
    """All but the set-ups that belong to no experiment: there is none."""
    counted = [row.split("|")[2:5] for row in script.verdicts().splitlines()[2:]]
    total = [sum(int(row[k]) for row in counted) for k in range(3)]
    page = (ROOT / "docs" / "replications.md").read_text(encoding="utf-8")
    (everything,) = (line for line in page.splitlines() if line.startswith("| all |"))
    assert total == [int(x) for x in everything.split("|")[2:5]]


def test_pictures_are_there_and_small() -> None:
    pictures = list((ROOT / "docs" / "images").glob("*.png"))
    assert pictures
    assert all(f"docs/images/{path.name}" in README for path in pictures)
    assert all(path.stat().st_size < 200_000 for path in pictures)
