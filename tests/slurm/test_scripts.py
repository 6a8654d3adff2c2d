"""``scripts/slurm`` on a real Slurm: single runs that are requeued and go on; a sweep's status."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from entry import ROOT
from same_run import assert_same

pytestmark = pytest.mark.slurm
SCRIPTS = ROOT / "scripts" / "slurm"
SMALL = ("experiment=quickstart", "data.modulus=13", "threads=1", "report=false", "name=run")
LONG = (*SMALL, "trainer.max_epochs=3000")
SHORT = (*SMALL, "trainer.max_epochs=50")


class Batch:
    """A checkout, and the jobs that were submitted in it."""

    def __init__(self, slurm, checkout: Path) -> None:
        self.slurm, self.checkout = slurm, checkout
        checkout.mkdir()
        (checkout / "src").symlink_to(ROOT / "src")
        self.jobs: list[str] = []

    def submit(
        self, *arguments: str, options: tuple[str, ...] = (), folder: str = ".", **own: str
    ):
        """The number of a job of one core."""
        command = ["sbatch", "--parsable", "--cpus-per-task=1", "--mem=500M", *options]
        here = {"VIRTUAL_ENV": str(Path(sys.executable).parents[1])}
        done = subprocess.run(
            [*command, SCRIPTS / "run.sbatch", *arguments],
            cwd=self.checkout / folder,
            env=self.slurm.environment | here | own,
            **{"capture_output": True, "text": True, "timeout": 60, "check": True},
        )
        self.jobs.append(done.stdout.strip())
        return self.jobs[-1]

    def log(self, job: str) -> str:
        path = self.checkout / "logs" / "slurm" / f"{job}.log"
        return path.read_text() if path.exists() else ""

    def run(self, job: str) -> Path:
        return self.checkout / "logs" / "runs" / "run" / f"slurm_{job}"

    def info(self, job: str) -> dict:
        return json.loads((self.run(job) / "run.json").read_text())

    def until(self, happened: Callable[[], object], what: str, timeout: float = 180) -> None:
        stop = time.monotonic() + timeout
        while not happened():
            if time.monotonic() > stop:
                logs = "\n".join(map(self.log, self.jobs))
                pytest.fail(f"no {what} after {timeout} s:\n{logs}\n{self.slurm('squeue')}")
            time.sleep(0.1)

    def until_it_trains(self, job: str, epoch: int = 200) -> None:
        text = self.run(job) / "metrics.csv"
        self.until(
            lambda: text.exists() and text.read_bytes().count(b"\n") > epoch, f"row {epoch}"
        )

    def ends(self, job: str) -> str:
        """Waits for it; its state and exit code."""
        self.until(lambda: not self.slurm.jobs(), "end of the job")
        shown = self.slurm.show(job)
        return f"{shown['JobState']} {shown['ExitCode']}"


@pytest.fixture
def batches(tmp_path) -> Iterator[Callable[..., Batch]]:
    """``batches(slurm)``: in a checkout whose name has a blank; its jobs end with the test."""
    begun: list[Batch] = []

    def make(slurm) -> Batch:
        begun.append(Batch(slurm, tmp_path / "check out"))
        return begun[-1]

    yield make
    for each in begun:
        if each.slurm.jobs():
            each.slurm("scancel", *each.jobs)
            each.until(lambda slurm=each.slurm: not slurm.jobs(), "end of the jobs")


@pytest.fixture
def batch(slurm, batches) -> Batch:
    return batches(slurm)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> Path:
    """``LONG`` by itself."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    command = [sys.executable, ROOT / "src" / "train.py", f"hydra.run.dir={folder}", *LONG]
    quiet = {"capture_output": True, "timeout": 120, "check": True}
    subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, **quiet)
    return folder


def test_a_run_is_submitted_from_anywhere_in_the_checkout(batch):
    (batch.checkout / "sub").mkdir()
    job = batch.submit(*SHORT, folder="sub")
    assert batch.ends(job) == "COMPLETED 0:0"
    assert batch.info(job)["status"] == "finished"
    assert "run: finished" in batch.log(job)
    assert "ended with 0" in batch.log(job)
    assert [path.name for path in batch.checkout.iterdir() if path.is_file()] == []


def test_a_job_whose_time_is_over_goes_on_as_if_nothing_had_happened(batch, uninterrupted):
    """Slurm sends USR2 before the end of the time; sent here."""
    job = batch.submit(*LONG)
    batch.until_it_trains(job)
    batch.slurm("scancel", "--signal=USR2", job)
    batch.until(lambda: "requeued" in batch.log(job), "requeueing")
    assert batch.info(job)["status"] == "preempted"
    assert batch.ends(job) == "COMPLETED 0:0"
    assert batch.slurm.show(job)["Restarts"] == "1"
    assert batch.log(job).count(f"job {job}: on localhost") == 2
    assert_same(batch.run(job), uninterrupted)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["USR2", "TERM"])
def test_a_run_that_is_asked_while_it_loads_is_begun_anew(name, batch):
    """Nothing is lost by a signal that Python does not answer yet."""
    job = batch.submit(*SHORT)
    batch.until(lambda: ".0" in batch.slurm("squeue", "--steps", "--noheader"), "step")
    batch.slurm("scancel", f"--signal={name}", job)
    assert batch.ends(job) == "COMPLETED 0:0"
    assert batch.slurm.show(job)["Restarts"] == "1"
    assert batch.info(job)["status"] == "finished"


@pytest.mark.slow
def test_there_is_an_end_to_requeueing(batch):
    job = batch.submit(*LONG, GROKSCOPE_MAX_REQUEUES="0")
    batch.until_it_trains(job)
    batch.slurm("scancel", "--signal=USR2", job)
    assert batch.ends(job) == "FAILED 75:0"
    assert "not requeued again: GROKSCOPE_MAX_REQUEUES=0" in batch.log(job)
    assert batch.info(job)["status"] == "preempted"


def test_a_cancelled_job_stays_cancelled(batch):
    job = batch.submit(*LONG)
    batch.until_it_trains(job)
    batch.slurm("scancel", job)
    assert batch.ends(job).startswith("CANCELLED")
    assert "requeued" not in batch.log(job)
    assert batch.info(job)["status"] == "stopped"


@pytest.mark.slow
def test_a_preemption_that_is_announced_by_term_alone_is_survived(
    slurm_without_signal, batches, uninterrupted
):
    """Another job of a partition that comes first takes all cores."""
    batch = batches(slurm_without_signal)
    job = batch.submit(*LONG)
    batch.until_it_trains(job)
    urgent = ("--partition=urgent", "--exclusive", "--output=/dev/null", "--wrap=true")
    batch.slurm("sbatch", *urgent)
    batch.until(lambda: "ended with 143" in batch.log(job), "end of the first part")
    assert batch.ends(job) == "COMPLETED 0:0"
    assert "requeued (before: 0 times)" in batch.log(job)
    assert_same(batch.run(job), uninterrupted)


def test_tasks_of_an_array_are_runs_of_their_own(batch):
    seed = "seed='${oc.decode:${oc.env:SLURM_ARRAY_TASK_ID}}'"
    job = batch.submit(*SHORT, seed, options=("--array=3,5",))
    batch.until(lambda: not batch.slurm.jobs(), "end of the jobs")
    found = [batch.info(f"{job}_{task}") for task in (3, 5)]
    assert [(info["status"], info["seed"]) for info in found] == [("finished", 3), ("finished", 5)]


@pytest.mark.slow
def test_a_task_of_an_array_is_requeued_alone(batch):
    """The last one of an array has the array's number as its own."""
    job = batch.submit(*LONG, options=("--array=0-1",))
    for task in (0, 1):
        batch.until_it_trains(f"{job}_{task}")
    batch.slurm("scancel", "--signal=USR2", f"{job}_1")
    batch.until(lambda: not batch.slurm.jobs(), "end of the jobs")
    assert [batch.log(f"{job}_{task}").count(" on localhost") for task in (0, 1)] == [1, 2]
    assert [batch.info(f"{job}_{task}")["status"] for task in (0, 1)] == ["finished"] * 2


def test_two_tasks_are_two_processes_of_one_run_and_make_room_together(batch):
    ddp = ("trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu")
    job = batch.submit(*SMALL, "trainer.max_epochs=400", *ddp, options=("--ntasks-per-node=2",))
    batch.until_it_trains(job, epoch=100)
    batch.slurm("scancel", "--signal=USR2", job)
    batch.until(lambda: "requeued" in batch.log(job), "requeueing")
    assert batch.ends(job) == "COMPLETED 0:0"
    assert batch.info(job)["status"] == "finished"
    rows = (batch.run(job) / "metrics.csv").read_text().splitlines()[1:]
    epochs = [row.split(",")[0] for row in rows]
    assert len(epochs) == len(set(epochs)) > 200


def test_a_mistake_ends_the_job_and_is_in_its_log(batch):
    job = batch.submit("experiment=nandaa")
    assert batch.ends(job) == "FAILED 1:0"
    assert "error: " in batch.log(job)
    assert "requeued" not in batch.log(job)


def test_outside_of_the_checkout_the_log_says_so(slurm, batches, tmp_path):
    batch = batches(slurm)
    (batch.checkout / "src").unlink()
    job = batch.submit(*SHORT)
    assert batch.ends(job) == "FAILED 1:0"
    assert "call sbatch within the checkout" in (batch.checkout / f"slurm-{job}.log").read_text()


@pytest.mark.slow
def test_an_output_of_the_user_s_own_is_used(batch):
    job = batch.submit("experiment=nandaa", options=("--output=mine.log",))
    batch.ends(job)
    assert f"job {job}: ended with 1" in (batch.checkout / "mine.log").read_text()
    assert batch.log(job) == ""


def test_the_status_of_a_sweep_follows_its_jobs(slurm, sweep):
    def status() -> str:
        command = [sys.executable, SCRIPTS / "status.py", process.folder]
        quiet = {"capture_output": True, "text": True, "timeout": 60, "check": True}
        return subprocess.run(command, env=slurm.environment, **quiet).stdout

    single = ("hydra.launcher.array_parallelism=1", "seed=0,1")
    process = sweep(slurm, "sweep", *SMALL[1:], "trainer.max_epochs=6000", *single)
    process.until_it_trains(0, 500)
    text = status()
    assert text.splitlines()[-1].startswith("2 runs: 1 running, 1 waiting; about ")
    assert "_1 PENDING" in text
    slurm("scancel", *slurm.jobs())
    assert process.wait() == 1
    assert "is over" in status()
    assert "left" not in status().splitlines()[-1]
