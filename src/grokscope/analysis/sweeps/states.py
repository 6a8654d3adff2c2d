"""How far each run of a sweep is."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grokscope.analysis.comparison.grouping import as_number
from grokscope.analysis.run import Run, printable
from grokscope.store.run_writer import METRICS
from grokscope.store.sweep import Sweep, SweepRun

FINISHED, RUNNING, WAITING, MISSING = "finished", "running", "waiting", "missing"
UNDER_WAY = (RUNNING, WAITING)


@dataclass(frozen=True)
class RunState:
    """A run of a sweep at the moment.

    Attributes:
        run: Its number and settings.
        path: Its folder, which may not exist yet.
        state: ``missing``, ``waiting`` (in Slurm's queue), or as :attr:`grokscope.Run.status`.
        epoch: Passes done.
        epochs: Passes of the whole run.
        seconds_left: At the speed so far; None if it is not running or has no row yet.
        reason: Why it is not finished, as far as it is known.
    """

    run: SweepRun
    path: Path
    state: str
    epoch: int | None = None
    epochs: int | None = None
    seconds_left: float | None = None
    reason: str = ""


def states(sweep: Sweep, queue: Mapping[str, str] | None) -> list[RunState]:
    """One for each run, by number.

    Args:
        sweep: The sweep.
        queue: What :func:`grokscope.analysis.sweeps.queue.queued` says of its jobs.
    """
    return [_state(sweep, sweep.runs[number], queue) for number in sorted(sweep.runs)]


def time_left(found: list[RunState]) -> float | None:
    """Seconds until the last run ends, if as many run at once as do now; None if nobody knows.

    Runs that wait are taken to be as long as the mean of those that have been timed.
    """
    running = [each for each in found if each.state == RUNNING]
    left = [each.seconds_left for each in running]
    waiting = sum(each.state == WAITING for each in found)
    known = [seconds for seconds in left if seconds is not None]
    if not known or len(known) < len(left):
        return None
    lengths = [length for each in found if (length := _length(each)) is not None]
    if waiting and not lengths:
        return None
    work = sum(known) + waiting * (sum(lengths) / len(lengths) if lengths else 0.0)
    return max(max(known), work / len(running))


def _state(sweep: Sweep, run: SweepRun, queue: Mapping[str, str] | None) -> RunState:
    path, job = sweep.path(run), sweep.job_of(run.number)
    in_queue = queue.get(job.id) if job and queue is not None else None
    try:
        found = Run.open(path)
        status, info = found.status, found.info
        epoch, epochs = _epoch(found), _epochs(found)
    except FileNotFoundError:
        waits = f"job {job.id} {in_queue}" if job and in_queue else ""
        return RunState(run, path, WAITING if waits else MISSING, reason=waits)
    except (ValueError, OSError) as error:
        return RunState(run, path, "unknown", reason=printable(str(error)))
    if status == RUNNING and job and queue is not None and in_queue is None:
        status = "killed"
    if status not in (FINISHED, RUNNING) and job and in_queue:
        return RunState(run, path, WAITING, epoch, epochs, reason=f"job {job.id} {in_queue}")
    left = _left(info, epoch, epochs) if status == RUNNING else None
    return RunState(run, path, status, epoch, epochs, left, _reason(status, info))


def _reason(status: str, info: Mapping[str, Any]) -> str:
    if status in (FINISHED, RUNNING):
        return ""
    error = info.get("error")
    return printable(" ".join(str(error).split())) if error else ""


def _epoch(run: Run) -> int | None:
    """The last row; rows may be far apart."""
    if not (run.path / METRICS).exists():
        return None
    epochs = run.metrics.get("epoch")
    return int(epochs[-1]) if epochs is not None and len(epochs) else None


def _epochs(run: Run) -> int | None:
    trainer = run.config.get("trainer")
    epochs = trainer.get("max_epochs") if isinstance(trainer, dict) else None
    return epochs if isinstance(epochs, int) else None


def _left(info: Mapping[str, Any], epoch: int | None, epochs: int | None) -> float | None:
    """From the speed of the process that runs now."""
    started, first = as_number(info.get("started")), as_number(info.get("started_epoch"))
    if epoch is None or epochs is None or not epoch > first:
        return None
    return max(0.0, (time.time() - started) * (epochs - epoch) / (epoch - first))


def _length(state: RunState) -> float | None:
    """Seconds of a whole run: of a finished one as it says, of a running one by its speed."""
    if state.state == FINISHED:
        try:
            seconds = as_number(Run.open(state.path).info.get("wall_seconds"))
        except (ValueError, OSError):
            return None
        return seconds if seconds > 0 else None
    if state.seconds_left is None or not state.epochs or state.epoch in (None, state.epochs):
        return None
    return state.seconds_left * state.epochs / (state.epochs - (state.epoch or 0))
