"""Where runs of a sweep go, and what of Hydra's own settings holds there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

SHORT = ("trainer.max_epochs=2", "report=false", "measures=none", "logger=none", "threads=1")
WHERE = "hydra.sweep.dir=sweep"


def folders() -> list[str]:
    return sorted(
        str(path.parent.relative_to("sweep")) for path in Path("sweep").rglob("run.json")
    )


def test_hydra_s_own_name_of_a_run_s_folder_holds(command, tiny):
    sweep = ("--multirun", *tiny, *SHORT, WHERE, "seed=0,1", "hydra.sweep.subdir='s/seed=${seed}'")
    assert command("train", *sweep).code == 0
    assert folders() == ["s/seed=0", "s/seed=1"]
    done = command("train", *sweep, "resume=true")
    assert (done.code, done.err) == (0, "")
    listed = json.loads(Path("sweep/sweep.json").read_text())["runs"]
    assert [run["folder"] for run in listed] == folders()


@pytest.mark.refusal
@pytest.mark.parametrize(
    ("subdir", "words"),
    [
        ("same", "must give each run a folder of its own, got 'same' for runs 0 and 1"),
        ("'${seed}/../x'", "it is not below the sweep's folder"),
        ("/tmp/${seed}", "it is not below the sweep's folder"),
        ("sweep.json/${seed}", "the sweep itself has a file of that name"),
        ("'x/${data.nothing}'", "data.nothing"),
    ],
)
def test_a_name_that_cannot_hold_is_refused(command, tiny, subdir, words):
    sweep = ("--multirun", *tiny, *SHORT, WHERE, "seed=0,1", f"hydra.sweep.subdir={subdir}")
    done = command("train", *sweep)
    assert done.code == 1
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1
    assert words in done.err
    assert folders() == []


@pytest.mark.refusal
def test_a_setting_that_the_launcher_has_not_is_refused(command, tiny):
    done = command("train", "--multirun", *tiny, *SHORT, WHERE, "+hydra.launcher.jobs=2", "seed=0")
    assert done.err.startswith("error: hydra.launcher.jobs is not a setting")
    assert folders() == []


@pytest.mark.refusal
def test_two_sweeps_do_not_share_a_folder(command, tiny):
    sweep = ("--multirun", *tiny, *SHORT, WHERE)
    assert command("train", *sweep, "seed=0").code == 0
    again = command("train", *sweep, "seed=1")
    assert "hydra.sweep.dir must not hold another sweep" in again.err
    assert command("train", *sweep, "seed=1", "resume=true").code == 0
    assert folders() == ["0", "1"]
