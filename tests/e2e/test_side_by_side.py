"""New runs that start in the same second."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TINY = ("experiment=none", "data.modulus=7", "net.widths=[14,16,7]", "threads=1", "report=false")
SETTINGS = (*TINY, "trainer.max_epochs=2", "measures=none", "logger=none")


@pytest.mark.slow
@pytest.mark.parametrize("sweep", [(), ("--multirun", "seed=0,1")], ids=["runs", "sweeps"])
def test_each_gets_a_folder_of_its_own(tmp_path, sweep):
    command = [sys.executable, ROOT / "src" / "train.py", *SETTINGS, *sweep]
    started = [
        subprocess.Popen(
            command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    ended = [process.communicate(timeout=600)[1] for process in started]
    assert ended == [""] * 4
    assert [process.returncode for process in started] == [0] * 4
    found = [json.loads(path.read_text())["status"] for path in tmp_path.rglob("run.json")]
    assert found == ["finished"] * (8 if sweep else 4)
