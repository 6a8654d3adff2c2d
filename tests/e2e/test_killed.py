"""Runs whose process was killed, and runs that are still written."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from grokscope import Run

ROOT = Path(__file__).parents[2]
TRAIN = ROOT / "src" / "train.py"
EPOCHS = 20
KILL = """
import os, runpy, signal, sys
from {module} import {owner}
before = {owner}.{name}
def killed(*arguments, **named):
    if {after}:
        before(*arguments, **named)
    os.kill(os.getpid(), signal.SIGKILL)
{owner}.{name} = killed
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
MOMENTS = {
    "before the closing row": ("grokscope.callbacks.waiting", "WaitingRows", "finish", False),
    "before the files are final": ("grokscope.store", "RunWriter", "finalise", False),
    "after the files are final": ("grokscope.store", "RunWriter", "finalise", True),
}


def settings(tiny, folder):
    frequent = "callbacks.checkpoints.last_every_seconds=0.000001"
    return [*tiny, frequent, f"trainer.max_epochs={EPOCHS}", f"hydra.run.dir={folder}"]


def contents(folder):
    """Every dataset of a run's files, and its last checkpoint."""
    found = {}
    for path in sorted(folder.glob("*.h5")):
        with h5py.File(path) as file:
            file.visititems(
                lambda name, node, path=path: (
                    found.update({f"{path.name}/{name}": node[()]})
                    if isinstance(node, h5py.Dataset)
                    else None
                )
            )
    last = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    weights = {name: tensor.numpy() for name, tensor in last["state_dict"].items()}
    return found | weights | {"rng": last["rng"]["cpu"].numpy()}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_run_killed_after_its_last_pass_can_be_brought_to_its_end(command, tiny, moment):
    module, owner, name, after = MOMENTS[moment]
    code = KILL.format(module=module, owner=owner, name=name, after=after)
    done = subprocess.run(
        [sys.executable, "-c", code, str(TRAIN), *settings(tiny, "killed")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert Run.open("killed").status == "killed"
    result = command("train", *settings(tiny, "killed"), "run=killed")
    assert (result.code, result.err) == (0, "")
    assert Run.open("killed").status == "finished"
    whole = command("train", *settings(tiny, "whole"))
    assert whole.code == 0
    ours, theirs = contents(Path("killed")), contents(Path("whole"))
    assert ours.keys() == theirs.keys()
    for key, value in theirs.items():
        np.testing.assert_array_equal(ours[key], value, err_msg=key)
    assert Path("killed/metrics.csv").read_bytes() == Path("whole/metrics.csv").read_bytes()


def test_a_finished_run_has_nothing_left(command, tiny, run):
    before = contents(run)
    result = command("train", *tiny, "trainer.max_epochs=2", f"run={run}")
    assert (result.code, result.err) == (0, "")
    assert "is finished: nothing to do; a larger trainer.max_epochs" in result.out
    assert contents(run).keys() == before.keys()


@pytest.fixture
def running(tmp_path, tiny):
    """A real process that trains in ``run`` until it is killed."""
    command = [*tiny, "trainer.max_epochs=1000000", "hydra.run.dir=run", "schedule=sparse"]
    process = subprocess.Popen(
        [sys.executable, str(TRAIN), *command, "callbacks.checkpoints.last_every_seconds=0.1"],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    stop = time.monotonic() + 60
    while not (tmp_path / "run/checkpoints/last.ckpt").exists() and time.monotonic() < stop:
        time.sleep(0.05)
    yield process
    process.kill()
    process.wait()


def state_of(folder):
    """Files that a resumed run writes first."""
    names = ("config.yaml", ".hydra/overrides.yaml", "train.log", "metrics.csv")
    return {name: (folder / name).read_bytes() for name in names if (folder / name).exists()}


@pytest.mark.refusal
def test_a_second_process_on_one_run_is_refused_and_changes_nothing(command, tiny, running):
    folder = Path("run")
    assert Run.open(folder).status == "running"
    before = state_of(folder)
    more = [*tiny, "trainer.max_epochs=2000000", "schedule=sparse", f"run={folder}"]
    result = command("train", *more)
    assert result.code == 1
    assert len(result.err.splitlines()) == 1
    assert f"is written by another process ({running.pid} on" in result.err
    after = state_of(folder)
    for grows in ("metrics.csv", "train.log"):  # by the process that runs
        assert after.pop(grows, b"").startswith(before.pop(grows, b""))
    assert after == before
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    assert Run.open(folder).status == "killed"
    done = len(Run.open(folder).metrics["epoch"])
    assert done > 10
