"""Sweeps on this machine, and what is left of them when they are disturbed."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing import resource_tracker
from pathlib import Path

import pytest
from same_run import assert_same

from grokscope import Run
from grokscope.app.resuming import earlier_run

ROOT = Path(__file__).parents[2]
SHORT = ("trainer.max_epochs=6", "report=false")
SWEEP = ("--multirun", *SHORT, "seed=0,1,2")
WHERE = "hydra.sweep.dir=sweep"
NAN = "model.optimizer.lr=1e-2,1e30"


def info(folder: Path | str) -> dict:
    return json.loads((Path(folder) / "run.json").read_text())


def table(folder: str = "sweep") -> list[dict[str, str]]:
    with (Path(folder) / "sweep.csv").open() as file:
        return list(csv.DictReader(file))


def begun(folder: Path | str) -> int:
    return (Path(folder) / "train.log").read_text().count("INFO Training ")


def words(text: str) -> str:
    """Without the folding of a terminal."""
    return " ".join(text.split())


def test_a_failing_run_stops_no_other_and_the_exit_code_says_so(command, tiny):
    """A learning rate of 1e30 gives NaN, which is no reason to refuse it beforehand."""
    stop = "measures.on_nonfinite=raise"
    done = command("train", "--multirun", *tiny, *SHORT, stop, NAN, "seed=0,1", WHERE)
    assert done.code == 1
    assert len(done.err.splitlines()) == 1
    assert done.err.startswith("error: 2 of 4 runs are not finished: run 2 (failed: ")
    assert "resume=true goes on with them" in done.err
    rows = table()
    assert [row["state"] for row in rows] == ["finished", "finished", "failed", "failed"]
    assert [row["seed"] for row in rows] == ["0", "1", "0", "1"]
    assert float(rows[2]["model.optimizer.lr"]) == 1e30
    assert float(rows[0]["test_loss"]) == Run.open("sweep/0").metrics["test_loss"][-1]
    assert "4 runs: 2 finished, 2 failed" in done.out


@pytest.mark.parametrize("at_once", [1, 2])
@pytest.mark.refusal
def test_a_run_without_a_folder_stops_no_other(command, tiny, at_once):
    Path("sweep").mkdir()
    Path("sweep/0").write_text("in the way")
    done = command("train", *SWEEP, *tiny, WHERE, f"hydra.launcher.runs_at_once={at_once}")
    assert done.code == 1
    assert len(done.err.splitlines()) == 1
    assert [row["state"] for row in table()] == ["missing", "finished", "finished"]


def test_resume_does_what_is_missing_or_unfinished_and_shows_it_first(command, tiny):
    assert command("train", *SWEEP, *tiny, "paths.log_dir=logs").code == 0
    (sweep,) = Path("logs/multiruns/none").iterdir()
    for seed in (1, 2):
        run = info(sweep / str(seed))
        (sweep / str(seed) / "run.json").write_text(json.dumps(run | {"status": "stopped"}))
    again = command(
        "train", *SWEEP[:-1], "seed=0,1,2,5", *tiny, "paths.log_dir=logs", "resume=true"
    )
    assert again.code == 0
    shown = words(again.out.partition("run 1")[0])
    assert "to do" in shown
    assert "begins" in shown
    assert [begun(sweep / str(n)) for n in range(4)] == [1, 2, 2, 1]
    assert [row["seed"] for row in table(str(sweep))] == ["0", "1", "2", "5"]
    assert list(Path("logs/multiruns/none").iterdir()) == [sweep]
    third = command(
        "train", *SWEEP[:-1], "seed=0,1,2,5", *tiny, "paths.log_dir=logs", "resume=true"
    )
    assert third.code == 0
    assert "to do" not in third.out
    assert begun(sweep / "3") == 1


def test_another_command_resumes_no_sweep_but_begins_one(command, tiny):
    for extra in ("net.widths=[14,16,7]", "net.widths=[14,12,7]"):
        assert (
            command("train", *SWEEP, *tiny, extra, "paths.log_dir=logs", "resume=true").code == 0
        )
    assert len(list(Path("logs/multiruns/none").iterdir())) == 2


@pytest.mark.refusal
def test_a_folder_with_a_sweep_is_not_written_over(command, tiny):
    assert command("train", *SWEEP, *tiny, WHERE).code == 0
    before = {path: path.read_bytes() for path in Path("sweep").rglob("*.json")}
    done = command("train", *SWEEP, *tiny, WHERE)
    assert done.code == 1
    assert done.err.startswith("error: hydra.sweep.dir must not hold another sweep, got sweep;")
    assert before == {path: path.read_bytes() for path in Path("sweep").rglob("*.json")}


@pytest.mark.refusal
def test_a_table_that_cannot_be_written_is_one_line_and_the_runs_are_done(command, tiny):
    Path("sweep/sweep.csv").mkdir(parents=True)
    done = command("train", *SWEEP, *tiny, WHERE)
    assert done.code == 1
    assert len(done.err.splitlines()) == 1
    assert "sweep.csv" in done.err
    assert [info(f"sweep/{n}")["status"] for n in range(3)] == ["finished"] * 3


@pytest.mark.refusal
def test_a_damaged_list_of_runs_is_one_line(command, tiny):
    Path("sweep").mkdir()
    Path("sweep/sweep.json").write_text("{}")
    done = command("train", *SWEEP, *tiny, WHERE, "resume=true")
    assert done.code == 1
    assert len(done.err.splitlines()) == 1
    assert "sweep.json is not the list of a sweep's runs" in done.err


@pytest.mark.parametrize("given", ["run=somewhere", "ckpt_path=last"])
@pytest.mark.refusal
def test_resume_and_a_run_that_is_named_are_too_much(command, tiny, given):
    done = command("train", *tiny, "resume=true", given)
    assert done.code == 1
    assert done.err.startswith("error: ")


@pytest.mark.refusal
def test_at_least_one_run_at_once(command, tiny):
    done = command("train", *SWEEP, *tiny, WHERE, "hydra.launcher.runs_at_once=0")
    assert done.code == 1
    assert "hydra.launcher.runs_at_once must be an integer >= 1, got 0." in done.err


def test_a_single_run_resumes_by_its_settings(command, tiny):
    first = (*tiny, *SHORT, "paths.log_dir=logs", "resume=true")
    assert command("train", *first).code == 0
    (run,) = Path("logs/runs/none").iterdir()
    done = command("train", *first)
    assert (done.code, done.out) == (0, f"{run} is finished.\n")
    entry = info(run) | {"status": "stopped"}
    (run / "run.json").write_text(json.dumps(entry))
    assert command("train", *first).code == 0
    assert begun(run) == 2
    assert command("train", *first, "seed=1").code == 0
    assert len(list(Path("logs/runs/none").iterdir())) == 2
    assert earlier_run(Path("logs/runs/none"), info(run)["overrides"]) == run


def test_a_run_without_a_whole_checkpoint_begins_anew(command, tiny):
    settings = (*tiny, *SHORT, "hydra.run.dir=run", "resume=true")
    assert command("train", *settings).code == 0
    whole = {path.name: path.read_bytes() for path in Path("run").glob("*.csv")}
    for path in Path("run/checkpoints").iterdir():
        path.write_bytes(b"torn")
    Path("run/run.json").write_text(json.dumps(info("run") | {"status": "running"}))
    assert command("train", *settings).code == 0
    assert info("run")["status"] == "finished"
    assert whole == {path.name: path.read_bytes() for path in Path("run").glob("*.csv")}


# -- processes and signals ----------------------------------------------------------------------


def start(folder: Path, *overrides: str) -> subprocess.Popen:
    command = [sys.executable, str(ROOT / "src" / "train.py"), "report=false", *overrides]
    with (folder / "output.log").open("ab") as log:
        return subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)


def until_rows(run: Path, rows: int = 200, seconds: float = 90) -> None:
    stop = time.monotonic() + seconds
    text = run / "metrics.csv"
    while not (text.exists() and text.read_bytes().count(b"\n") > rows):
        assert time.monotonic() < stop, f"no {rows} rows in {run}"
        time.sleep(0.05)


@pytest.fixture
def long(tiny) -> tuple[str, ...]:
    """Some seconds."""
    return *tiny, "trainer.max_epochs=4000", "schedule.checkpoint=at 0", "measures.kinds=[batch]"


def test_runs_at_once_survive_the_death_of_one(command, long, tmp_path):
    sweep = (*long, "seed=0,1,2", WHERE)
    process = start(tmp_path, "--multirun", *sweep, "hydra.launcher.runs_at_once=2")
    until_rows(tmp_path / "sweep/1")
    os.kill(info("sweep/1")["pid"], signal.SIGKILL)
    assert process.wait(120) == 1
    assert [row["state"] for row in table()] == ["finished", "killed", "finished"]
    assert table()[1]["reason"] == "its process ended with SIGKILL"
    assert "finished" in Path("sweep/0/console.log").read_text()
    again = command("train", "--multirun", *sweep, "resume=true", "report=false")
    assert again.code == 0
    assert [row["state"] for row in table()] == ["finished"] * 3
    assert command("train", *long, "seed=1", "hydra.run.dir=whole", "report=false").code == 0
    assert_same(Path("sweep/1"), Path("whole"), history=False)


@pytest.mark.parametrize(
    ("number", "code", "status"),
    [(signal.SIGUSR2, 75, "preempted"), (signal.SIGTERM, 143, "stopped")],
)
def test_a_run_makes_room_and_goes_on_as_if_nothing_had_been(
    command, long, tmp_path, number, code, status
):
    settings = (*long, "hydra.run.dir=run", "resume=true")
    process = start(tmp_path, *settings)
    until_rows(tmp_path / "run")
    process.send_signal(number)
    assert process.wait(30) == code
    assert info("run")["status"] == status
    assert info("run")["error"] is None
    first = info("run")["wall_seconds"]
    last = len(Run.open("run").metrics["epoch"])
    assert 200 <= last < 4000
    assert command("train", *settings, "report=false").code == 0
    assert info("run")["wall_seconds"] > first
    assert command("train", *long, "hydra.run.dir=whole", "report=false").code == 0
    assert_same(Path("run"), Path("whole"))


def test_a_sweep_makes_room_with_all_its_processes(command, long, tmp_path):
    endless = (*long, "trainer.max_epochs=1000000")
    sweep = (*endless, "seed=0,1,2", WHERE, "hydra.launcher.runs_at_once=2")
    process = start(tmp_path, "--multirun", *sweep)
    for number in (0, 1):
        until_rows(tmp_path / "sweep" / str(number))
    process.send_signal(signal.SIGUSR2)
    assert process.wait(30) == 75
    assert [info(f"sweep/{n}")["status"] for n in (0, 1)] == ["preempted"] * 2
    assert not Path("sweep/2").exists()


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux: /proc")
def test_a_signal_to_processes_that_are_only_starting_is_an_end_too(long, tmp_path):
    """Slurm sends it to all; one that is importing dies of it, and has read nothing yet."""
    command = ("--multirun", *long, "seed=0,1,2", WHERE, "hydra.launcher.runs_at_once=2")
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "src/train.py"), *command],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    stop = time.monotonic() + 60
    while not any(b"spawn_main" in line for line in command_lines(children)):
        assert time.monotonic() < stop
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGTERM)
    assert process.wait(60) == 143
    assert not list(tmp_path.glob("sweep/*/metrics.csv"))


def command_lines(children: Path) -> Iterator[bytes]:
    for number in children.read_text().split():
        with suppress(OSError):
            yield Path(f"/proc/{number}/cmdline").read_bytes()


@pytest.mark.refusal
def test_processes_that_cannot_start_are_runs_that_failed(command, tiny, monkeypatch):
    resource_tracker.ensure_running()
    monkeypatch.setattr("multiprocessing.spawn._python_exe", os.fsencode(shutil.which("false")))
    done = command("train", *SWEEP, *tiny, WHERE, "hydra.launcher.runs_at_once=2")
    assert done.code == 1
    assert [row["state"] for row in table()] == ["killed"] * 3
    assert "its process ended with exit code 1" in done.err


def test_ctrl_c_ends_a_sweep_of_processes_in_order(long, tmp_path):
    command = ("--multirun", *long, "trainer.max_epochs=1000000", "seed=0,1,2", WHERE)
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "src/train.py"), *command, "hydra.launcher.runs_at_once=2"],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    for number in (0, 1):
        until_rows(tmp_path / "sweep" / str(number))
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    assert process.wait(60) == 130
    assert [info(tmp_path / f"sweep/{n}")["status"] for n in (0, 1)] == ["stopped"] * 2
    assert not (tmp_path / "sweep/2").exists()
