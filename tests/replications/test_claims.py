"""How claims are judged, and that every replication names runs that compose."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

import replicate  # noqa: E402
from replications.claims import (  # noqa: E402
    Claim,
    Replication,
    between,
    first,
    first_above,
    first_below,
    within,
)

KNOWN = replicate.known()
TRAINED = [each for each in KNOWN.values() if isinstance(each, Replication)]


def claim(values, why=""):
    found = iter(values)
    return Claim("loss", "Fig. 1", "2", lambda runs: next(found), within(2.0, 0.1), "10 %", why)


def test_the_median_over_seeds_is_judged():
    row = claim([1.0, 2.1, 2.2]).row([{}] * 3)
    assert row == ["loss", "Fig. 1", "2", "2.1 (1 to 2.2)", "10 %", "reproduced"]


@pytest.mark.parametrize(
    ("values", "ours"),
    [
        ([3.0, 2.3, 2.0], "2.3 (2 to 3)"),
        ([2.0, 2.0, None], "2 (2 to 2), 1 of 3 never"),
        ([None, None, None], "never (0 of 3 seeds)"),
    ],
)
def test_what_does_not_agree_says_why(values, ours):
    row = claim(values, why="another split").row([{}] * 3)
    assert row[3:] == [ours, "10 %", "differs: another split"]


def test_a_range_has_its_ends():
    assert [between(1, 2)(value) for value in (0.9, 1, 2, 2.1)] == [False, True, True, False]


@pytest.mark.parametrize("replication", TRAINED, ids=lambda each: each.name)
def test_every_run_of_a_replication_composes(replication):
    assert len(replication.seeds) >= 3
    for overrides in replication.runs.values():
        GlobalHydra.instance().clear()
        with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
            compose("train", overrides=[*overrides, "seed=1"])


def test_a_section_is_written_from_runs_that_are_used_again(tmp_path, monkeypatch):
    monkeypatch.setattr(replicate, "RUNS", tmp_path)
    runs = {"short": ("experiment=quickstart", "trainer.max_epochs=3", "threads=1")}
    seen = Claim(
        "epochs",
        "none",
        "3",
        lambda found: float(found["short"].metrics["epoch"][-1]),
        within(3, 0),
        "exactly",
    )
    what = Replication("tiny", runs, (seen,))
    text = replicate.section(what, [replicate.trained(what, 0)])
    assert "| epochs | none | 3 | 3 | exactly | reproduced |" in text
    assert "$ python src/train.py experiment=quickstart trainer.max_epochs=3 threads=1" in text

    def no_process(*arguments, **named):
        raise AssertionError("trained again")

    monkeypatch.setattr(subprocess, "run", no_process)
    assert replicate.section(what, [replicate.trained(what, 0)]) == text


def test_a_run_that_fails_is_named_and_the_others_are_written(tmp_path, monkeypatch):
    monkeypatch.setattr(replicate, "RUNS", tmp_path / "runs")
    one = Claim("one", "none", "1", lambda runs: 1.0, within(1, 0), "exactly")
    wrong = Replication("wrong", {"short": ("experiment=quickstart", "data.modulus=1")}, (one,))
    right = Replication("right", {}, (one,))
    page = tmp_path / "page.md"
    (line,) = replicate.replicate([wrong, right], [0, 1], 2, page)
    assert line.startswith("exit code 1: ")
    assert "data.modulus=1" in line
    assert "## right" in page.read_text()
    assert "## wrong" not in page.read_text()
    assert "| right | 1 | 0 | 0 |" in page.read_text()
    assert "| all | 1 | 0 | 0 |" in page.read_text()


def test_a_run_may_use_an_earlier_one_of_its_seed(tmp_path):
    folders = {"dense": tmp_path / "dense" / "seed_1"}
    given = ("ticket.run={dense}", "ticket.pruned=0.6")
    assert replicate.filled(given, folders) == (
        f"ticket.run={folders['dense']}",
        "ticket.pruned=0.6",
    )


@pytest.mark.parametrize("replication", TRAINED, ids=lambda each: each.name)
def test_names_of_runs_are_names_of_folders(replication):
    assert all(re.fullmatch(r"[\w .,%+-]+", name) for name in replication.runs)


def test_a_column_of_a_group_has_the_rows_of_its_group():
    metrics = {"epoch": np.arange(5), "loss": np.arange(5), "ipr/epoch": np.array([0, 4])}
    run = SimpleNamespace(metrics=metrics | {"ipr/step": np.array([0, 8]), "ipr/a": np.arange(2)})
    assert first_above(run, "ipr/a", 1.0) == 4.0
    assert first(run, "ipr/a", lambda values: values >= 1, "step") == 8.0
    assert first_below(run, "loss", -1.0) is None
