"""How far each run of a sweep is."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grokscope.analysis.comparison.grouping import as_number
from grokscope.analysis.run import Run, printable
from grokscope.store.info import NAME as INFO
from grokscope.store.lock import FolderInUseError, check_free
from grokscope.store.run_writer import METRICS
from grokscope.store.sweep import NAME, SlurmJob, Sweep, SweepRun

FINISHED, RUNNING, WAITING, MISSING = "finished", "running", "waiting", "missing"
FAILED, KILLED, UNKNOWN = "failed", "killed", "unknown"
UNDER_WAY = (RUNNING, WAITING)
PENDING = "PENDING"  # of Slurm's words the one for a job that has no processes


@dataclass(frozen=True)
class RunState:
    """A run of a sweep at the moment.

    Attributes:
        run: Its number and settings.
        path: Its folder, which may not exist yet.
        state: ``missing``, ``waiting`` (in Slurm's queue), or as :attr:`grokscope.Run.status`.
        epoch: Passes done, by the last row.
        epochs: Passes of the whole run.
        seconds_left: At the speed so far; None if it is not running or has no row yet.
        reason: Why it is not finished, as far as it is known.
        seconds: Of the whole run at its own speed; None for one that is neither running nor
            finished, or has no row yet.
    """

    run: SweepRun
    path: Path
    state: str
    epoch: int | None = None
    epochs: int | None = None
    seconds_left: float | None = None
    reason: str = ""
    seconds: float | None = None


def states(sweep: Sweep, queue: Mapping[str, str] | None) -> list[RunState]:
    """One for each run, by number.

    A run whose job is still in the queue ``waits`` if it ended before that job was submitted, or
    was asked to make room: the job will go on with it. One that failed since has ``failed``.

    Args:
        sweep: The sweep.
        queue: What :func:`grokscope.analysis.sweeps.queue.queued` says of its jobs.
    """
    return [_state(sweep, sweep.runs[number], queue) for number in sorted(sweep.runs)]


def _state(sweep: Sweep, run: SweepRun, queue: Mapping[str, str] | None) -> RunState:
    path, job = sweep.path(run), sweep.job_of(run.number)
    known = queue is not None
    in_queue = queue.get(job.id) if job and queue is not None else None
    try:
        found = Run.open(path)
        status, info, epoch, epochs = found.status, found.info, _epoch(found), _epochs(found)
    except FileNotFoundError:
        state = WAITING if in_queue else MISSING
        return RunState(run, path, state, reason=_of_job(job, in_queue, known))
    except (ValueError, OSError) as error:
        return RunState(run, path, UNKNOWN, reason=printable(str(error)))
    if status == RUNNING and job and known and in_queue is None and not _is_written(path):
        status = KILLED
    why = printable(" ".join(str(info.get("error") or "").split()))
    of_job = _of_job(job, in_queue, known)
    if in_queue and _waits(status, in_queue, sweep, path):
        before = f"; before: {why}" if why else ""
        return RunState(run, path, WAITING, epoch, epochs, reason=of_job + before)
    if status == RUNNING:
        left, whole = _by_speed(path, info, epoch, epochs)
        return RunState(run, path, status, epoch, epochs, left, seconds=whole)
    if status == FINISHED:
        return RunState(run, path, status, epoch, epochs, seconds=_whole(info))
    return RunState(run, path, status, epoch, epochs, reason=why or of_job)


def _waits(status: str, in_queue: str, sweep: Sweep, path: Path) -> bool:
    """Whether a job that is in the queue is going to begin this run, or to go on with it."""
    if status == FINISHED:
        return False
    if in_queue == PENDING:
        return True
    if status.startswith(FAILED):
        return _written(path / INFO) <= _written(sweep.folder / NAME)
    return status != RUNNING


def _written(path: Path) -> float:
    """When; 0 if it is not there."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _is_written(path: Path) -> bool:
    """Whether a process holds the lock of the run: it may do so without a job."""
    try:
        check_free(path)
    except FolderInUseError:
        return True
    return False


def _of_job(job: SlurmJob | None, in_queue: str | None, known: bool) -> str:
    if job is None:
        return ""
    if not known:
        return f"job {job.id}: Slurm does not answer"
    return f"job {job.id} {printable(in_queue) if in_queue else 'is over'}"


def _epoch(run: Run) -> int | None:
    """The last row; rows may be far apart."""
    if not (run.path / METRICS).exists():
        return None
    epochs = run.metrics.series("epoch")
    return int(epochs[-1]) if len(epochs) else None


def _epochs(run: Run) -> int | None:
    trainer = run.config.get("trainer")
    epochs = trainer.get("max_epochs") if isinstance(trainer, dict) else None
    return epochs if isinstance(epochs, int) and not isinstance(epochs, bool) else None


def _by_speed(
    path: Path, info: Mapping[str, Any], epoch: int | None, epochs: int | None
) -> tuple[float | None, float | None]:
    """Seconds left and seconds of the whole run.

    By the speed of the process that runs now, from its start to when the last row was written:
    rows may be far apart, and passes that have not been written are not known.
    """
    started, first = as_number(info.get("started")), as_number(info.get("started_epoch"))
    written = _written(path / METRICS)
    if epoch is None or epochs is None or not (epochs >= epoch > first >= 0):
        return None, None
    one = (written - started) / (epoch - first)
    if not 0 < one * epochs < math.inf:  # no start there, clocks that differ, or nonsense
        return None, None
    since = max(0.0, time.time() - written)
    return max(0.0, one * (epochs - epoch) - since), one * epochs


def _whole(info: Mapping[str, Any]) -> float | None:
    """Seconds of a finished run."""
    seconds = as_number(info.get("wall_seconds"))
    return seconds if seconds > 0 else None
