"""A sweep from its list of settings to its table."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus, configure_log
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from grokscope.analysis.sweeps import collect, counts, state_table, states, write_csv
from grokscope.analysis.sweeps.collection import NAME as CSV
from grokscope.analysis.sweeps.queue import queued
from grokscope.analysis.sweeps.states import FINISHED, MISSING, UNDER_WAY, RunState
from grokscope.app.errors import UserError
from grokscope.app.folders import refuse_links_between
from grokscope.app.resuming import can_go_on, last_value
from grokscope.app.sweeps.folder import check_folders
from grokscope.app.sweeps.work import Work
from grokscope.store.sweep import NAME, Sweep, SweepRun, identity, read_sweep

WIDTH = 160  # of a table in a file
Parts = tuple[HydraContext, TaskFunction, DictConfig]
Settings = Mapping[str, Any]  # of hydra.launcher
Doer = Callable[[Work, Sweep, Sequence[SweepRun], Settings], set[str]]


@dataclass
class Ended(JobReturn):
    """What Hydra's sweepers get of a run: its value, or an error when it is asked for."""

    value: float | None = None
    error: str | None = None

    @property
    def return_value(self) -> float | None:
        """The objective of a finished run.

        Raises:
            UserError: For a run that is not finished.
        """
        if self.error is not None:
            raise UserError(self.error)
        return self.value

    @return_value.setter
    def return_value(self, value: Any) -> None:
        self.value = value


def launch(
    parts: Parts, settings: Settings, job_overrides: Sequence[Sequence[str]], do: Doer
) -> list[Ended]:
    """Do those runs that are not finished and that nobody does already; then say how all are.

    Args:
        parts: What Hydra gives to a launcher.
        settings: Of ``hydra.launcher``.
        job_overrides: The runs.
        do: Who does them; it says which Slurm jobs are over.

    Returns:
        One for each run, in their order.

    Raises:
        UserError: If a run is not finished and the sweeper tolerates none such.
    """
    context, task, config = parts
    configure_log(config.hydra.hydra_logging, config.hydra.verbose)
    objective, waits = _wanted(config), bool(settings.get("wait", True))
    if objective is not None and not waits:
        raise UserError("hydra.launcher.wait must be true for a sweeper that chooses by results.")
    folder = Path(str(config.hydra.sweep.dir)).absolute()
    try:
        work = Work(context, task, config, folder)
        sweep, runs = _planned(work, job_overrides)
        todo = _todo(sweep, runs)
        if objective is not None:  # the settings of Hydra's own sweeper have been tried by now
            for run in todo:
                work.job_config(run)
        over = do(work, sweep, todo, settings) if todo else set()
        found = _table(folder, over)
    except (OSError, ValueError) as error:
        raise UserError(str(error)) from error
    asked = [found[run.number] for run in runs]
    bad = [state for state in asked if state.state != FINISHED]
    if shown := list(found.values()) if objective is None else bad:
        _print(shown, "sweep", ("reason", lambda state: state.reason))
    print(f"{counts(list(found.values()))}; {folder / CSV}", flush=True)
    configure_log(config.hydra.hydra_logging, config.hydra.verbose)  # until here a run's own
    ended = [_ended(state, objective, waits, asked) for state in asked]
    errors = [each.error for each in ended if each.error is not None]
    if errors and not OmegaConf.select(config, "hydra.sweeper.max_failure_rate", default=0):
        raise UserError(errors[0])  # Optuna would say it twice more
    return ended


def _wanted(config: DictConfig) -> str | None:
    """The objective; None for Hydra's own sweeper, which does not look at values."""
    basic = str(config.hydra.sweeper._target_).endswith(".BasicSweeper")
    return None if basic else str(config.objective)


def _table(folder: Path, over: set[str]) -> dict[int, RunState]:
    """All runs of the sweep by number; ``sweep.csv`` has a row for each."""
    sweep = read_sweep(folder)
    found = states(sweep, queued(job.id for job in sweep.jobs if job.id not in over))
    write_csv(collect(found), folder / CSV)
    return {state.run.number: state for state in found}


def _planned(work: Work, job_overrides: Sequence[Sequence[str]]) -> tuple[Sweep, list[SweepRun]]:
    """The sweep with a number and a folder for each run, and these runs; ``sweep.json`` says so.

    A run whose settings are there already is that one; what is done for it is what was typed now,
    since the file may be anybody's.
    """
    folder, command = work.folder, list(work.config.hydra.overrides.task)
    sweep = read_sweep(folder) if (folder / NAME).exists() else Sweep(folder)
    known = {identity(run.overrides): run for run in sweep.runs.values()}
    number = max(sweep.runs, default=-1) + 1
    asked: dict[frozenset[str], SweepRun] = {}
    runs = []
    for overrides in job_overrides:
        own = tuple(o for o in overrides if not o.startswith("resume="))
        if (key := identity(overrides)) not in known:
            known[key] = work.with_folder(SweepRun(number, own, str(number)))
            number += 1
        asked.setdefault(key, replace(known[key], overrides=own))
        runs.append(asked[key])
    check_folders([*sweep.runs.values(), *runs])
    for run in runs:
        refuse_links_between(folder, folder / run.folder)
    sweep = sweep.with_runs(runs).of_command(command)
    sweep.write()
    return sweep, runs


def _todo(sweep: Sweep, runs: Sequence[SweepRun]) -> list[SweepRun]:
    """The runs to do; the table of all if some were done before, or are under way."""
    wanted = {run.number for run in runs}
    queue = queued(job.id for job in sweep.jobs) if sweep.jobs else None
    if sweep.jobs and queue is None and shutil.which("squeue"):
        raise UserError("squeue does not answer: which runs have jobs is not known; try later.")
    found = [state for state in states(sweep, queue) if state.run.number in wanted]
    done = {s.run.number for s in found if s.state == FINISHED or s.state in UNDER_WAY}
    todo = [run for run in dict.fromkeys(runs) if run.number not in done]
    if {state.state for state in found} not in ({FINISHED}, {MISSING}):
        _print(found, "to do", ("now", _plan))
    return todo


def _plan(state: RunState) -> str:
    if state.state == FINISHED:
        return "-"
    if state.state in UNDER_WAY:
        return f"left alone: {state.reason or 'another process does it'}"
    if can_go_on(state.path):
        return "goes on from its checkpoint"
    return "begins"


def _print(found: list[RunState], title: str, last: Any) -> None:
    Console(width=None if sys.stdout.isatty() else WIDTH).print(state_table(title, found, last))


def _ended(
    state: RunState, objective: str | None, waits: bool, found: Sequence[RunState]
) -> Ended:
    if state.state == FINISHED:
        value = None if objective is None else last_value(state.path, objective)
        return Ended(status=JobStatus.COMPLETED, value=value)
    if not waits and state.state in UNDER_WAY:
        return Ended(status=JobStatus.COMPLETED)
    bad = [each for each in found if each.state != FINISHED]
    first = f"{state.run.number} ({state.state}{': ' + state.reason if state.reason else ''})"
    verb = "is" if len(bad) == 1 else "are"
    words = f"{len(bad)} of {counts(found).partition(':')[0]} {verb} not finished: run {first}"
    return Ended(status=JobStatus.FAILED, error=f"{words}; resume=true goes on with them.")
