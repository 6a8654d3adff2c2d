"""A run goes on from its newest whole checkpoint."""

from __future__ import annotations

import os
import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from grokscope import Run

SETTINGS = ("trainer.max_epochs=12", "schedule.checkpoint='at 0 2 5'")


@pytest.fixture
def half(command, tiny) -> Path:
    """A run of 8 epochs, in ``logs/runs/half/<date>``."""
    result = command("train", *tiny, *SETTINGS, "trainer.max_epochs=8", "name=half")
    assert (result.err, result.code) == ("", 0)
    return result.run


def cut(path: Path, share: float = 0.5) -> None:
    os.truncate(path, int(share * path.stat().st_size))


def garble(path: Path) -> None:
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 400] = bytes(400)
    path.write_bytes(content)


def weights(run: Path) -> list[torch.Tensor]:
    path = run / "checkpoints" / "last.ckpt"
    return list(torch.load(path, weights_only=True)["state_dict"].values())


def assert_equals_an_uninterrupted_one(command, tiny, run: Path) -> None:
    result = command("train", *tiny, *SETTINGS, "hydra.run.dir=straight")
    assert (result.err, result.code) == ("", 0)
    straight = Path("straight")
    assert all(map(torch.equal, weights(run), weights(straight)))
    ours, theirs = Run.open(run).metrics, Run.open(straight).metrics
    assert set(ours) == set(theirs)
    for name in ours:
        np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)


EMPTY = partial(cut, share=0)


@pytest.mark.parametrize(
    ("key", "spoil"),
    [("ckpt_path=last", cut), ("run=last", garble), ("run=FOLDER", EMPTY)],
    ids=["cut", "zeros", "empty"],
)
def test_a_torn_last_checkpoint_gives_way_to_the_one_before(command, tiny, half, key, spoil):
    spoil(half / "checkpoints" / "last.ckpt")
    key = key.replace("FOLDER", str(half))
    result = command("train", *tiny, *SETTINGS, "name=half", key)
    assert result.code == 0
    (line,) = [line for line in result.out.splitlines() if "WARNING" in line]
    assert "last.ckpt cannot be used (" in line
    assert re.search(r"going on from .*/checkpoints/epoch_5\.ckpt\.$", line)
    assert "going on from" in (half / "train.log").read_text()
    assert_equals_an_uninterrupted_one(command, tiny, half)


def test_two_torn_checkpoints_are_both_named(command, tiny, half):
    for name in ("last", "epoch_5"):
        cut(half / "checkpoints" / f"{name}.ckpt")
    result = command("train", *tiny, *SETTINGS, "name=half", "ckpt_path=last")
    assert result.code == 0
    assert "last.ckpt, epoch_5.ckpt cannot be used" in result.out
    assert "epoch_2.ckpt" in result.out
    assert_equals_an_uninterrupted_one(command, tiny, half)


def test_a_run_that_was_killed_before_its_first_last_checkpoint_goes_on(command, tiny, half):
    (half / "checkpoints" / "last.ckpt").unlink()
    result = command("train", *tiny, *SETTINGS, "name=half", "run=last")
    assert (result.err, result.code) == ("", 0)
    assert_equals_an_uninterrupted_one(command, tiny, half)


@pytest.mark.refusal
def test_without_a_whole_checkpoint_one_line_says_so(command, tiny, half):
    for path in (half / "checkpoints").iterdir():
        cut(path)
    before = {p: p.read_bytes() for p in half.rglob("*") if p.is_file()}
    result = command("train", *tiny, *SETTINGS, "name=half", "ckpt_path=last")
    assert result.code == 1
    assert result.err.startswith("error: ckpt_path must lead to a whole checkpoint, got ")
    assert "last.ckpt: it cannot be read" in result.err
    assert result.err.count("\n") == 1
    assert {p: p.read_bytes() for p in half.rglob("*") if p.is_file()} == before


@pytest.mark.refusal
def test_a_torn_file_that_was_named_is_refused(command, tiny, half):
    path = half / "checkpoints" / "last.ckpt"
    cut(path)
    result = command("train", *tiny, *SETTINGS, "name=half", f"ckpt_path={path}")
    assert result.code == 1
    assert "ckpt_path must be a checkpoint of a run, got " in result.err
    result = command("eval", f"run={half}")
    assert result.code == 1
    assert result.err.startswith("error: checkpoint must be a whole one, got ")
