"""States that a power cut could leave, behind docs/reliability.md, in their small form."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts" / "reliability"
sys.path.insert(0, str(SCRIPTS))

from findings import FAILURES, LINES  # noqa: E402
from shim import PRELOAD, why_not  # noqa: E402


@pytest.mark.slow
@pytest.mark.skipif(why_not() is not None, reason=f"calls cannot be recorded: {why_not()}")
def test_a_run_survives_every_state_that_a_power_cut_can_leave(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    command = [sys.executable, str(SCRIPTS / "cuts.py"), "--quick", f"--page={page}", "--jobs=2"]
    env = {name: value for name, value in os.environ.items() if name != PRELOAD}
    done = subprocess.run(
        [*command, f"--dir={tmp_path}"],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        env=env | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["page.md"]
    lines = [line.split("|")[1:-1] for line in page.read_text(encoding="utf-8").splitlines()]
    cells = {line[0].strip(): line[-1].strip() for line in lines if line}
    assert {cells[LINES[name]] for name in FAILURES} == {"0"}
    assert (cells["states"], cells[LINES["brought to their end"]]) == ("20", "4")
    assert int(cells[LINES["nothing of the run there"]]) < 10
