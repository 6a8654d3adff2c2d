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


def started(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, ROOT / "src" / "train.py", *SETTINGS, *arguments]
    return subprocess.Popen(
        command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.slow
@pytest.mark.parametrize("sweep", [(), ("--multirun", "seed=0,1")], ids=["runs", "sweeps"])
def test_each_gets_a_folder_of_its_own(tmp_path, sweep):
    processes = [started(tmp_path, *sweep) for _ in range(4)]
    ended = [process.communicate(timeout=600)[1] for process in processes]
    assert ended == [""] * 4
    assert [process.returncode for process in processes] == [0] * 4
    found = [json.loads(path.read_text())["status"] for path in tmp_path.rglob("run.json")]
    assert found == ["finished"] * (8 if sweep else 4)


@pytest.mark.slow
def test_one_gets_a_folder_that_several_name_and_the_others_write_nothing_there(tmp_path):
    processes = [started(tmp_path, "hydra.run.dir=one", f"seed={seed}") for seed in range(4)]
    ended = [process.communicate(timeout=600)[1] for process in processes]
    codes = [process.returncode for process in processes]
    assert sorted(codes) == [0, 1, 1, 1]
    refused = [line for line in ended if line]
    known = ("error: a run must have one writer", "error: hydra.run.dir must not hold")
    assert all(line.startswith(known) for line in refused)
    assert [line.count("\n") for line in refused] == [1, 1, 1]
    seed = codes.index(0)
    assert json.loads((tmp_path / "one" / "run.json").read_text())["seed"] == seed
    assert f"seed={seed}\n" in (tmp_path / "one" / ".hydra" / "overrides.yaml").read_text()
