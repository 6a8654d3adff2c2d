"""What a user gets from the two commands."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import pytest
import torch

from grokscope import runs

ROOT = Path(__file__).parents[2]
EPOCHS = "trainer.max_epochs=12"
FIGURES = {"curves.png", "gop.png"}
FILES = {
    *(".hydra/config.yaml", ".hydra/hydra.yaml", ".hydra/overrides.yaml", "config.yaml"),
    *("metrics.h5", "gop_full.h5", "gop_layers.h5", "metrics.csv", *FIGURES),
    "report.html",
    *("train.log", "run.json", "checkpoints/last.ckpt", "checkpoints/epoch_0.ckpt"),
}


def files(run: Path) -> set[str]:
    return {str(p.relative_to(run)) for p in run.rglob("*") if p.is_file()}


def info(run: Path) -> dict:
    return json.loads((run / "run.json").read_text())


def csv_rows(run: Path) -> list[dict]:
    with (run / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def tables(run: Path) -> dict[str, list]:
    """Every column of the three files, by file and path."""
    found = {}

    def take(name: str, node: object) -> None:
        if isinstance(node, h5py.Dataset):
            found[f"{file.name}:{name}"] = node[()].tobytes()

    for file in (run / n for n in ("metrics.h5", "gop_full.h5", "gop_layers.h5")):
        with h5py.File(file, "r") as opened:
            opened.visititems(take)
    return found


def weights(run: Path) -> dict[str, torch.Tensor]:
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


def assert_same_run(a: Path, b: Path) -> None:
    """Bit-equal weights, and the same rows in every file."""
    ours, theirs = weights(a), weights(b)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert csv_rows(a) == csv_rows(b)
    assert tables(a).keys() == tables(b).keys()
    assert [n for n, data in tables(a).items() if tables(b)[n] != data] == []


def succeed(command, *arguments: str, script: str = "train", **options):
    result = command(script, *arguments, **options)
    assert result.err == ""
    assert result.code == 0
    return result


def test_a_run_leaves_everything_that_describes_it(command, tiny):
    result = succeed(command, *tiny, EPOCHS, "seed=3", figures=True)
    run = result.run
    assert re.fullmatch(r"logs/runs/none/[\d-]{10}_[\d-]{8}", str(run.relative_to(result.folder)))
    assert files(run) >= FILES
    assert not [name for name in files(run) if name.endswith((".part", ".live", ".final"))]
    facts = info(run)
    assert (facts["status"], facts["seed"], facts["name"]) == ("finished", 3, "none")
    assert facts["overrides"] == [*tiny, EPOCHS, "seed=3"]
    assert [int(row["epoch"]) for row in csv_rows(run)] == [*range(13)]
    assert "Training none with seed 3" in (run / "train.log").read_text()
    assert "final loss" in result.out
    assert len(result.out.splitlines()) < 20


@pytest.mark.parametrize(
    ("override", "place"),
    [("paths.log_dir=there", r"there/runs/none/[\d_-]+"), ("hydra.run.dir=a/b", "a/b")],
)
def test_a_run_goes_where_it_is_told(command, tiny, override, place):
    result = succeed(command, *tiny, "trainer.max_epochs=2", "logger=none", override)
    assert re.fullmatch(place, str(result.run.relative_to(result.folder)))
    assert {name.split("/")[0] for name in result.files} == {place.split("/")[0]}


def test_two_runs_within_a_second_get_two_folders(command, tiny):
    for _ in range(2):
        result = succeed(command, *tiny, "trainer.max_epochs=1", "measures=none", "name=both")
    assert len(list((result.folder / "logs/runs/both").iterdir())) == 2


@pytest.mark.parametrize("kind", ["job", "hydra"])
def test_printing_the_configuration_makes_nothing(command, tiny, kind):
    result = succeed(command, *tiny, "--cfg", kind)
    assert ("modulus: 7" in result.out) == (kind == "job")
    assert result.files == set()


def test_a_sweep_makes_a_run_folder_a_job(command, tiny):
    result = succeed(
        command, *tiny, EPOCHS, "--multirun", "seed=0,1", "logger=csv", "paths.log_dir=x"
    )
    runs = sorted(p.parent for p in result.folder.rglob("run.json"))
    assert [
        re.sub(r"[\d-]{10}_[\d-]{8}", "DATE", str(r.relative_to(result.folder))) for r in runs
    ] == [
        "x/multiruns/none/DATE/0",
        "x/multiruns/none/DATE/1",
    ]
    assert [info(run)["seed"] for run in runs] == [0, 1]
    assert all(files(run) >= FILES - FIGURES for run in runs)
    assert csv_rows(runs[0]) != csv_rows(runs[1])


def test_values_that_fail_only_together_are_refused_by_their_job(command, tiny):
    axes = ["data.batch_size=5,30", "data.train_fraction=0.9,0.5"]
    result = command("train", "-m", *tiny, "trainer.max_epochs=1", "measures=none", *axes)
    assert result.code == 1
    assert result.err.count("\n") == 1
    words = (
        "error: 1 of 4 runs is not finished: run 3 (failed: data.batch_size must be at most the 24"
    )
    assert result.err.startswith(words)
    assert [run.status for run in runs(result.folder)] == [*(["finished"] * 3), "failed"]


@pytest.mark.parametrize("extra", [(), ("trainer.precision=64-true",), ("data.batch_size=5",)])
def test_evaluation_prints_the_last_row(command, tiny, extra):
    run = succeed(command, *tiny, EPOCHS, *extra).run
    out = succeed(command, f"run={run}", script="eval").out
    with h5py.File(run / "metrics.h5") as file:
        for split in ("train", "test"):
            loss, accuracy = (float(file[f"{split}_{kind}"][-1]) for kind in ("loss", "acc"))
            line = next(line for line in out.splitlines() if f" {split} " in line)
            assert f"{loss:.6g}" in line
            assert f"{accuracy:.4f}" in line
    assert "after 12" in " ".join(out.split())
    assert "after 3" in " ".join(
        succeed(command, f"run={run}", "checkpoint=epoch_3", script="eval").out.split()
    )


def test_every_command_takes_denormals_for_zero(command, tiny, monkeypatch):
    asked = []
    monkeypatch.setattr(torch, "set_flush_denormal", lambda mode: asked.append(mode))
    run = succeed(command, *tiny, EPOCHS).run
    for script in ("eval", "measure"):
        succeed(command, f"run={run}", script=script)
    assert asked == [True, False] * 3  # the second by the tests' own runner


@pytest.mark.parametrize("by_name", [True, False], ids=["last", "path"])
def test_a_resumed_run_equals_an_uninterrupted_one(command, tiny, by_name):
    straight = succeed(command, *tiny, "trainer.max_epochs=25", "name=straight").run
    half = succeed(command, *tiny, "trainer.max_epochs=10", "name=half").run
    ckpt = "last" if by_name else half / "checkpoints" / "last.ckpt"
    again = succeed(command, *tiny, "trainer.max_epochs=25", "name=half", f"ckpt_path={ckpt}")
    assert again.run == half
    assert info(half)["status"] == "finished"
    assert [int(row["epoch"]) for row in csv_rows(half)] == [*range(26)]
    assert_same_run(straight, half)


def test_an_older_checkpoint_drops_what_came_after_it(command, tiny):
    straight = succeed(command, *tiny, EPOCHS, "name=straight").run
    run = succeed(command, *tiny, EPOCHS, "name=again").run
    succeed(command, *tiny, EPOCHS, "name=again", f"ckpt_path={run}/checkpoints/epoch_5.ckpt")
    assert_same_run(straight, run)


@pytest.mark.parametrize(
    "extra",
    ["logger=none", "logger=tensorboard", "debug=default", "debug=steps", "measures=none"],
)
def test_a_choice_runs(command, tiny, extra):
    group = extra.split("=")[1]
    if group == "tensorboard":
        pytest.importorskip("tensorboard")
    result = succeed(command, *tiny, "trainer.max_epochs=5", extra)
    assert info(result.run)["status"] == "finished"
    names = files(result.run)
    assert ("metrics.csv" in names) == ("logger" not in extra)
    assert any("tfevents" in name for name in names) == (group == "tensorboard")


def test_a_run_without_callbacks_says_so(command, tiny):
    result = succeed(command, *tiny, "trainer.max_epochs=5", "callbacks=none")
    assert "No rows were recorded" in result.out


def test_wandb_works_without_a_network(command, tiny, monkeypatch):
    wandb = pytest.importorskip("wandb")
    for name, value in (("WANDB_SILENT", "true"), ("WANDB_MODE", "offline")):
        monkeypatch.setenv(name, value)
    result = command("train", *tiny, "trainer.max_epochs=5", "logger=wandb_offline")
    assert result.code == 0
    assert wandb.run is None
    assert any(re.search(r"wandb/offline-run-.*\.wandb$", name) for name in files(result.run))


def test_ctrl_c_stops_cleanly_and_the_run_goes_on(tmp_path, command, tiny):
    settings = [*tiny, "schedule=sparse", "model.optimizer.lr=1e-3", "data.train_fraction=0.7"]
    arguments = [*settings, "trainer.max_epochs=1000000", "hydra.run.dir=run"]
    process = subprocess.Popen(
        [sys.executable, ROOT / "src" / "train.py", *arguments],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"COLUMNS": "100"},
    )
    run = tmp_path / "run"
    try:
        _wait_for_rows(run, process)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert err == ""
    assert "Stopping after this pass" in out
    assert "none: stopped" in out
    assert "final loss" in out
    assert info(run)["status"] == "stopped"
    done = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["loops"]["fit_loop"]
    done = done["epoch_progress"]["current"]["processed"]
    last = done + 200
    settings.append(f"trainer.max_epochs={last}")
    succeed(command, *settings, "ckpt_path=run/checkpoints/last.ckpt")
    assert info(run)["status"] == "finished"
    straight = succeed(command, *settings, "name=straight").folder / "logs"
    assert all(
        torch.equal(a, b)
        for a, b in zip(
            weights(run).values(),
            weights(next(straight.rglob("run.json")).parent).values(),
            strict=True,
        )
    )
    epochs = [int(row["epoch"]) for row in csv_rows(run)]
    assert epochs == sorted(set(epochs))
    assert epochs[-1] == last


def _wait_for_rows(run: Path, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.05)
        if (run / "checkpoints" / "epoch_100.ckpt").exists():
            return
    process.kill()
    pytest.fail(f"no rows appeared: {process.communicate()}")


def test_resume_begins_a_run_in_a_folder_that_is_not_there(command, tiny):
    settings = (*tiny, "trainer.max_epochs=2", "report=false", "hydra.run.dir=new/deep")
    for words in ("", "is finished"):
        done = command("train", *settings, "resume=true")
        assert (done.code, done.err) == (0, "")
        assert words in done.out
    assert Path("new/deep/metrics.h5").exists()


def test_a_run_that_goes_on_with_another_processor_says_so(command, tiny, run):
    info = json.loads((run / "run.json").read_text())
    more = (*tiny, f"run={run}", "report=false")
    assert not said(command("train", *more, "trainer.max_epochs=3"))
    info["arithmetic"] |= {"processor": "another", "mkl": "SSE2", "environment": {}}
    (run / "run.json").write_text(json.dumps(info))
    (warning,) = said(command("train", *more, "trainer.max_epochs=4"))
    assert "with another processor and mkl than before" in warning
    assert not said(command("train", *more, "trainer.max_epochs=5"))


def said(result) -> list[str]:
    assert result.code == 0
    return [line for line in (result.out + result.err).splitlines() if "last digits" in line]
