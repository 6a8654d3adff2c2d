"""Signals while a run waits for processes on other machines that never come."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SETTINGS = (
    *(
        "experiment=none",
        "data.modulus=7",
        "net.widths=[14,16,7]",
        "threads=1",
        "hydra.run.dir=run",
    ),
    *("trainer=ddp", "trainer.devices=1", "+trainer.num_nodes=2", "trainer.accelerator=cpu"),
)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_run_that_waits_for_its_peers_can_be_ended(tmp_path, number, code):
    process = subprocess.Popen(
        [sys.executable, ROOT / "src" / "train.py", *SETTINGS],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"MASTER_PORT": "29731"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        _wait_for(tmp_path / "run" / "train.log", "Predicted size", process)
        time.sleep(2)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == code, err
    assert b"Traceback" not in out + err
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "stopped"
    name = signal.Signals(number).name
    log = (tmp_path / "run" / "train.log").read_text()
    assert f"Ended by {name}: other processes of the run are missing." in log


def _wait_for(path: Path, words: str, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.1)
        if path.exists() and words in path.read_text():
            return
    process.kill()
    pytest.fail(f"no start: {process.communicate()}")
