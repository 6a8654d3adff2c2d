"""The scripts behind docs/reliability.md, in their small form."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def section(tmp_path: Path, script: str, *arguments: str) -> dict[str, list[str]]:
    """First cell -> the others, of every line of the tables that the script writes."""
    page = tmp_path / "page.md"
    path = ROOT / "scripts" / "reliability" / f"{script}.py"
    command = [sys.executable, str(path), "--quick", f"--page={page}", f"--dir={tmp_path}"]
    done = subprocess.run(
        [*command, *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    text = page.read_text(encoding="utf-8")
    assert re.search(rf"<!-- {script} -->.*<!-- /{script} -->", text, re.DOTALL)
    assert [path.name for path in tmp_path.iterdir()] == ["page.md"]
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]
    return {cells[0]: cells[1:] for cells in lines if cells}


@pytest.mark.slow
def test_killed_processes_lose_nothing_and_go_on(tmp_path) -> None:
    cells = section(tmp_path, "kills")
    assert int(cells["processes killed"][-1]) >= 6
    assert cells["rows acknowledged; **lost**"][-1].endswith("; **0**")
    assert cells["runs brought to their end"][-1] == "6"


def test_a_reader_of_a_running_run_does_not_fail(tmp_path) -> None:
    cells = section(tmp_path, "reader")
    assert int(cells["reads"][1]) >= 20
    assert cells["failures"][1] == "0"


def test_the_cost_of_the_store_is_measured(tmp_path) -> None:
    cells = section(tmp_path, "row_cost")
    assert {"6,000", "85,000", "945,000", "finalising, s"} <= cells.keys()
    assert re.search(r"holds|MISSED", cells["6,000"][-1])
