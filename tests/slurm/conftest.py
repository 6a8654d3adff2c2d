"""A real Slurm of one node, and sweeps on it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOCAL = Path(__file__).with_name("slurm-local")


class Slurm:
    """What its tests ask of it."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.environment = environment

    def __call__(self, *command: str) -> str:
        """The output of ``squeue``, ``scancel``, ..."""
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=60, check=True
        )
        return done.stdout.strip()

    def jobs(self) -> list[str]:
        """Those that are not over."""
        return self("squeue", "--noheader", "--array", "--format=%i").split()

    def state(self, job: str) -> str:
        return self("squeue", "--noheader", "--array", "--format=%T", f"--jobs={job}")

    def show(self, job: str) -> dict[str, str]:
        """What Slurm knows of a job, also some minutes after its end."""
        words = self("scontrol", "--oneliner", "show", "job", job).split()
        return dict(word.split("=", 1) for word in words if "=" in word)


def free_ports() -> int:
    """The first of two."""
    for port in range(17000 + os.getpid() % 1000 * 10, 30000, 2):
        with socket.socket() as one, socket.socket() as two, suppress(OSError):
            one.bind(("127.0.0.1", port))
            two.bind(("127.0.0.1", port + 1))
            return port
    pytest.skip("needs two free ports between 17000 and 30000")


def started(where: Path, **settings: str) -> Iterator[Slurm]:
    if shutil.which("sbatch") is None or shutil.which("slurmctld") is None:
        pytest.skip("needs Slurm: apt-get install slurmctld slurmd slurm-client munge")
    own = {"SLURM_LOCAL_DIR": str(where), "SLURM_LOCAL_PORT": str(free_ports()), **settings}
    environment = os.environ | own | {"SLURM_CONF": str(where / "slurm.conf")}
    environment.pop("OMP_NUM_THREADS", None)
    subprocess.run([LOCAL, "start"], env=environment, check=True, timeout=120)
    try:
        yield Slurm(environment)
    finally:
        subprocess.run([LOCAL, "stop"], env=environment, check=True, timeout=120)


@pytest.fixture(scope="session")
def slurm() -> Iterator[Slurm]:
    """A Slurm of its own for each process of the tests; its paths must be short."""
    yield from started(Path(f"/tmp/grokscope-slurm-{os.getpid()}"))


@pytest.fixture(scope="session")
def slurm_without_signal() -> Iterator[Slurm]:
    """One that announces a preemption by SIGTERM only."""
    yield from started(Path(f"/tmp/grokscope-slurm-{os.getpid()}-term"), SLURM_LOCAL_SIGNAL="0")


class SweepProcess:
    """``python src/train.py --multirun ...`` as a user runs it."""

    def __init__(self, slurm: Slurm, folder: Path, *overrides: str) -> None:
        self.slurm, self.folder = slurm, folder
        self.log = folder.with_name(f"{folder.name}.log")
        launcher = ("hydra/launcher=slurm_test", f"hydra.sweep.dir={folder}", "report=false")
        command = [sys.executable, str(ROOT / "src" / "train.py"), "--multirun", *launcher]
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [*command, *overrides],
                cwd=folder.parent,
                env=slurm.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def wait(self, timeout: float = 400) -> int:
        """Its exit code."""
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            pytest.fail(f"still running after {timeout} s:\n{self.text()}\n{self.slurm('squeue')}")

    def until(self, happened: Callable[[], object], what: str, timeout: float = 240) -> None:
        stop = time.monotonic() + timeout
        while not happened():
            if time.monotonic() > stop or self.process.poll():
                pytest.fail(f"no {what} in time:\n{self.text()}")
            time.sleep(0.1)

    def until_it_trains(self, run: int = 0, epoch: int = 300) -> None:
        """At least to that epoch."""
        text = self.folder / str(run) / "metrics.csv"
        self.until(
            lambda: text.exists() and text.read_bytes().count(b"\n") > epoch, f"row {epoch}"
        )

    def text(self) -> str:
        return self.log.read_text()

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()


@pytest.fixture
def sweep(tmp_path: Path) -> Iterator[Callable[..., SweepProcess]]:
    """``sweep(slurm, name, *overrides)``: begin one in that folder."""
    begun: list[SweepProcess] = []

    def begin(slurm: Slurm, name: str, *overrides: str) -> SweepProcess:
        begun.append(SweepProcess(slurm, tmp_path / name, *overrides))
        return begun[-1]

    yield begin
    for each in begun:
        each.kill()
        if jobs := each.slurm.jobs():
            each.slurm("scancel", *jobs)
            each.until(lambda slurm=each.slurm: not slurm.jobs(), "end of the jobs")
