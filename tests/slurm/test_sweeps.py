"""Sweeps on a real Slurm, disturbed in every way that a cluster knows.

What they leave is compared byte for byte with runs that nobody disturbed.
"""

from __future__ import annotations

import csv
import json
import os
import signal
from pathlib import Path

import pytest
from entry import call
from same_run import assert_same

from grokscope import Run

pytestmark = pytest.mark.slurm
SMALL = ("experiment=nanda_small", "data.modulus=13", "trainer.max_epochs=2000", "threads=1")
PAIR = ("experiment=quickstart,nanda_small", "data.modulus=13", "trainer.max_epochs=2000")


@pytest.fixture(scope="session")
def uninterrupted(tmp_path_factory):
    """``uninterrupted(*overrides)``: a finished run of this process, made once."""
    made: dict[tuple[str, ...], Path] = {}

    def make(*overrides: str) -> Path:
        if overrides not in made:
            folder = tmp_path_factory.mktemp("whole") / "run"
            call("train", f"hydra.run.dir={folder}", "report=false", *overrides)
            made[overrides] = folder
        return made[overrides]

    return make


def info(folder: Path) -> dict:
    return json.loads((folder / "run.json").read_text())


def times_begun(folder: Path) -> int:
    return (folder / "train.log").read_text().count("INFO Training ")


def processes_of(folder: Path) -> list[int]:
    """Process numbers of the jobs that train in a folder."""
    return [json.loads((folder / ".lock").read_text())["pid"]]


def test_an_array_with_a_failing_and_a_killed_run(slurm, sweep, uninterrupted):
    """Two experiments by three seeds; another is requeued; then resume=true does all."""
    settings = (*PAIR, "threads=1", "seed=0,1,2")
    first = sweep(slurm, "sweep", *settings)
    first.folder.mkdir()
    (first.folder / "4").write_text("in the way")  # of a run's folder
    first.until_it_trains(run=1)
    os.kill(*processes_of(first.folder / "1"), signal.SIGKILL)
    first.until_it_trains(run=3)
    (array,) = {job.partition("_")[0] for job in slurm.jobs()}
    slurm("scancel", "--signal=USR2", f"{array}_3")
    assert first.wait() == 1
    last_line = first.text().splitlines()[-1]
    assert "error: 2 of 6 runs are not finished: run 1 (killed" in last_line
    with (first.folder / "sweep.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["state"] for row in rows] == [
        *("finished", "killed", "finished", "finished", "missing", "finished")
    ]
    assert rows[5]["experiment"] == "nanda_small"
    assert rows[5]["seed"] == "2"

    (first.folder / "4").unlink()
    again = sweep(slurm, "sweep", *settings, "resume=true")
    assert again.wait() == 0
    assert "goes on from its checkpoint" in again.text()
    assert [times_begun(first.folder / str(n)) for n in range(6)] == [1, 2, 1, 2, 1, 1]
    for row in rows:
        name, seed = row["experiment"], row["seed"]
        whole = uninterrupted(f"experiment={name}", *PAIR[1:], "threads=1", f"seed={seed}")
        assert_same(first.folder / row["run"], whole, history=False)


WAYS = {"preempted": ("scancel", "--signal=USR2"), "stopped": ("scontrol", "requeue")}


@pytest.mark.slow
@pytest.mark.parametrize("status", WAYS)
def test_a_requeued_job_goes_on_and_nothing_is_lost(slurm, sweep, uninterrupted, status):
    """After Slurm's signal, and when it requeues by itself, as when a node dies."""
    disturbed = sweep(slurm, "sweep", *SMALL)
    disturbed.until_it_trains()
    (job,) = slurm.jobs()
    slurm(*WAYS[status], job)
    disturbed.until(lambda: slurm.state(job) == "PENDING", "requeued job")
    disturbed.until(lambda: info(disturbed.folder / "0")["status"] == status, status)
    assert disturbed.wait() == 0
    assert slurm.show(job)["Restarts"] == "1"
    assert times_begun(disturbed.folder / "0") == 2
    assert_same(disturbed.folder / "0", uninterrupted(*SMALL))


@pytest.mark.parametrize(
    "signal_first", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["USR2", "SIGTERM"]
)
def test_a_preempted_job_goes_on_later(request, sweep, uninterrupted, tmp_path, signal_first):
    slurm = request.getfixturevalue("slurm" if signal_first else "slurm_without_signal")
    disturbed = sweep(slurm, "sweep", *SMALL, "hydra.launcher.cpus_per_task=4")
    disturbed.until_it_trains()
    (job,) = slurm.jobs()
    urgent = ("--partition=urgent", "--ntasks=4", "--output=/dev/null", f"--chdir={tmp_path}")
    slurm("sbatch", *urgent, "--wrap=sleep 2")
    disturbed.until(lambda: slurm.show(job)["Restarts"] == "1", "preemption")
    assert disturbed.wait() == 0
    assert times_begun(disturbed.folder / "0") == 2
    assert_same(disturbed.folder / "0", uninterrupted(*SMALL))


@pytest.mark.slow
def test_a_cancelled_sweep_is_resumed(slurm, sweep, uninterrupted):
    seeds = "seed=0,1,2"
    cancelled = sweep(slurm, "sweep", *SMALL, seeds, "hydra.launcher.array_parallelism=2")
    cancelled.until_it_trains()
    slurm("scancel", *{job.partition("_")[0] for job in slurm.jobs()})
    assert cancelled.wait() == 1
    states = [info(path.parent)["status"] for path in cancelled.folder.glob("*/run.json")]
    assert "finished" not in states
    assert set(states) == {"stopped"}
    assert not (cancelled.folder / "2").exists()  # it never began
    again = sweep(slurm, "sweep", *SMALL, seeds, "resume=true")
    assert again.wait() == 0
    for number in range(3):
        whole = uninterrupted(*SMALL, f"seed={number}") if number else uninterrupted(*SMALL)
        assert_same(cancelled.folder / str(number), whole, history=False)


@pytest.mark.slow
def test_two_tasks_of_one_run_make_room_together(slurm, sweep):
    two = (*SMALL[:2], "threads=1", "trainer=ddp", "trainer.max_epochs=1500")
    launcher = ("hydra/launcher=slurm_ddp", "hydra.launcher.gpus_per_node=null")
    test = ("hydra.launcher.cpus_per_task=1", "hydra.launcher.mem_gb=1")
    settings = (*two, *launcher, *test, "hydra.launcher.timeout_min=5")
    whole = sweep(slurm, "whole", *settings)
    assert whole.wait() == 0, whole.text()
    disturbed = sweep(slurm, "sweep", *settings)
    disturbed.until_it_trains()
    (job,) = slurm.jobs()
    slurm("scancel", "--signal=USR2", job)
    disturbed.until(lambda: slurm.show(job)["Restarts"] == "1", "requeue")
    assert disturbed.wait() == 0
    assert times_begun(disturbed.folder / "0") == 2
    assert_same(disturbed.folder / "0", whole.folder / "0")


@pytest.mark.slow
def test_packed_runs_make_room_together_and_one_that_dies_dies_alone(slurm, sweep, uninterrupted):
    packed = ("hydra.launcher.runs_per_job=3", "hydra.launcher.runs_at_once=2")
    disturbed = sweep(slurm, "sweep", *SMALL, *packed, "seed=0,1,2")
    disturbed.until_it_trains(run=0)
    disturbed.until_it_trains(run=1)
    (job,) = slurm.jobs()
    os.kill(*processes_of(disturbed.folder / "1"), signal.SIGKILL)
    disturbed.until_it_trains(run=2, epoch=100)
    slurm("scancel", "--signal=USR2", job)
    disturbed.until(lambda: slurm.show(job)["Restarts"] == "1", "requeue")
    assert disturbed.wait() == 0
    for number in range(3):
        whole = uninterrupted(*SMALL, f"seed={number}") if number else uninterrupted(*SMALL)
        assert_same(disturbed.folder / str(number), whole, history=False)


@pytest.mark.slow
def test_time_limits_are_survived(slurm, sweep, uninterrupted):
    """One minute is the least that Slurm knows; the signal comes up to a minute before its end."""
    long = (*SMALL[:2], "trainer.max_epochs=8000", "threads=1", "schedule=sparse")
    limited = ("hydra.launcher.timeout_min=1", "hydra.launcher.max_num_timeout=30")
    disturbed = sweep(slurm, "sweep", *long, *limited)
    assert disturbed.wait(timeout=900) == 0
    (job,) = json.loads((disturbed.folder / "sweep.json").read_text())["jobs"]
    assert int(slurm.show(job["id"])["Restarts"]) >= 2
    assert_same(disturbed.folder / "0", uninterrupted(*long))


@pytest.mark.slow
def test_too_many_time_limits_are_an_end_with_a_reason(slurm, sweep):
    """A job of five minutes counts every signal as the end of its time."""
    disturbed = sweep(slurm, "sweep", *SMALL, "hydra.launcher.max_num_timeout=0")
    disturbed.until_it_trains()
    slurm("scancel", "--signal=USR2", *slurm.jobs())
    assert disturbed.wait() == 1
    assert "run 0 (preempted" in disturbed.text().splitlines()[-1]
    assert Run.open(disturbed.folder / "0").status == "preempted"


@pytest.mark.slow
def test_without_waiting_the_command_returns_and_the_runs_go_on(slurm, sweep):
    longer = (*SMALL[:2], "trainer.max_epochs=8000", "threads=1", "seed=0,1", "measures=none")
    submitted = sweep(slurm, "sweep", *longer, "hydra.launcher.wait=false")
    assert submitted.wait(60) == 0
    assert len(slurm.jobs()) == 2
    again = sweep(slurm, "sweep", *longer, "resume=true", "hydra.launcher.wait=false")
    assert again.wait(60) == 0
    assert "left alone" in again.text()
    submitted.until(lambda: not slurm.jobs(), "end of the jobs")
    assert [info(submitted.folder / n)["status"] for n in "01"] == ["finished"] * 2
    assert [times_begun(submitted.folder / n) for n in "01"] == [1, 1]


@pytest.mark.refusal
def test_what_slurm_refuses_is_one_line(slurm, sweep):
    refused = sweep(slurm, "sweep", *SMALL, "hydra.launcher.partition=nonesuch")
    assert refused.wait(60) == 1
    last_line = refused.text().splitlines()[-1]
    assert last_line.startswith("error: hydra.launcher: Slurm does not take the jobs:")
    assert "invalid partition specified: nonesuch" in last_line
