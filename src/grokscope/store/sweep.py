"""``sweep.json``: the runs of a sweep, and the Slurm jobs that were to do them."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from grokscope.store.replacing import make_folder, replace_text
from grokscope.store.text import read_text

NAME = "sweep.json"
MAX_BYTES = 2**25  # 100,000 runs; reading it takes some thirty times as much memory
MOST = 2**31  # numbers of runs
WORDS = 300  # characters of an error, which may hold what a stranger wrote
JOB = re.compile(r"\d{1,18}(_\d{1,18})?", re.ASCII)
OWN = ("resume", "run", "ckpt_path", "objective", "paths.log_dir")


@dataclass(frozen=True)
class SweepRun:
    """A run of a sweep.

    Attributes:
        number: ``hydra.job.num``.
        overrides: What was typed for it, as ``key=value``.
        folder: Its folder, below the sweep's.
    """

    number: int
    overrides: tuple[str, ...]
    folder: str


@dataclass(frozen=True)
class SlurmJob:
    """A job, or a task of an array.

    Attributes:
        id: As Slurm writes it, such as ``123`` or ``123_4``.
        runs: Numbers of its runs.
    """

    id: str
    runs: tuple[int, ...]


@dataclass(frozen=True)
class Sweep:
    """What ``sweep.json`` says.

    Attributes:
        folder: Of the sweep.
        runs: By number.
        jobs: In the order in which they were submitted.
        command: The overrides that were typed, unexpanded.
    """

    folder: Path
    runs: dict[int, SweepRun] = field(default_factory=dict)
    jobs: tuple[SlurmJob, ...] = ()
    command: tuple[str, ...] = ()

    def path(self, run: SweepRun) -> Path:
        """The folder of a run."""
        return self.folder / run.folder

    def job_of(self, number: int) -> SlurmJob | None:
        """The last job that was to do a run."""
        return next((job for job in reversed(self.jobs) if number in job.runs), None)

    def with_runs(self, runs: Iterable[SweepRun]) -> Sweep:
        """The same with further runs."""
        return replace(self, runs=self.runs | {run.number: run for run in runs})

    def with_jobs(self, jobs: Iterable[SlurmJob]) -> Sweep:
        """The same with further jobs."""
        return replace(self, jobs=(*self.jobs, *jobs))

    def of_command(self, command: Iterable[str]) -> Sweep:
        """The same after this command."""
        return replace(self, command=tuple(command))

    def write(self) -> None:
        """Replace the file whole."""
        make_folder(self.folder)
        content = {
            "command": self.command,
            "runs": [asdict(run) for run in self.runs.values()],
            "jobs": [asdict(job) for job in self.jobs],
        }
        replace_text(self.folder / NAME, json.dumps(content, indent=1) + "\n")


def identity(overrides: Iterable[str]) -> frozenset[str]:
    """What makes two runs the same: their settings, less those of where and whether to go on."""
    return frozenset(o for o in overrides if o.partition("=")[0].lstrip("+") not in OWN)


def read_sweep(folder: Path) -> Sweep:
    """Read ``sweep.json``, which may be anybody's.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If it is not one, or cannot be read.
    """
    path = folder / NAME
    if not path.is_file():
        raise FileNotFoundError(f"sweep must be a sweep's folder, got {folder}: no {NAME} there.")
    try:
        content = json.loads(read_text(path, MAX_BYTES))
        runs = [_run(entry) for entry in _list(content["runs"])]
        jobs = tuple(_job(entry) for entry in _list(content["jobs"]))
        sweep = Sweep(folder, {run.number: run for run in runs}, jobs, _texts(content["command"]))
        _check_own("number", [run.number for run in runs])
        _check_own("folder", [run.folder for run in runs])
    except KeyError as error:
        raise ValueError(f"{path} is not the list of a sweep's runs: no {error}.") from None
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}.") from None
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(
            f"{path} is not the list of a sweep's runs: {str(error)[:WORDS]}"
        ) from None
    return sweep


def _run(entry: Any) -> SweepRun:
    text = entry["folder"]
    folder = Path(text)
    if folder.is_absolute() or ".." in folder.parts or not folder.parts:
        raise ValueError(f"{text!r} is not below the sweep's folder.")
    if not text.isprintable() or "${" in text or text[0] == "~" or text == "???":
        raise ValueError(f"{text!r} is not the name of a folder.")
    return SweepRun(_count(entry["number"]), _texts(entry["overrides"]), str(folder))


def _job(entry: Any) -> SlurmJob:
    name = entry["id"]
    if not JOB.fullmatch(name):
        raise ValueError(f"{name!r} is not the number of a job.")
    return SlurmJob(name, tuple(map(_count, _list(entry["runs"]))))


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value < MOST:
        raise ValueError(f"{value!r} is not the number of a run.")
    return value


def _texts(values: Any) -> tuple[str, ...]:
    if not all(isinstance(value, str) for value in _list(values)):
        raise ValueError(f"{values!r} must hold text.")
    return tuple(values)


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"{value!r} must be a list.")
    return value


def _check_own(name: str, values: list[Any]) -> None:
    """Else two runs would be one."""
    if len(set(values)) < len(values):
        ((twice, _),) = Counter(values).most_common(1)
        raise ValueError(f"each run must have a {name} of its own, got {twice!r} twice.")
