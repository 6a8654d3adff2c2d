"""Runs of a sweep in Slurm jobs, through submitit."""

from __future__ import annotations

import os
import secrets
import shlex
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grokscope.analysis.sweeps.queue import queued
from grokscope.app.errors import UserError
from grokscope.app.making_room import making_room
from grokscope.app.output import keep_going_without_output
from grokscope.app.sweeps.pool import Pool, share_processors
from grokscope.app.sweeps.work import Work
from grokscope.callbacks.stop import Preempted, preemption_signal
from grokscope.processor import make_products_repeatable
from grokscope.store.sweep import SlurmJob, Sweep, SweepRun
from grokscope.validation import require_bool, require_int

OWN = ("runs_per_job", "runs_at_once", "wait", "submitit_folder", "max_num_timeout")
COMMON = {  # that submitit knows for every kind of cluster
    *("name", "timeout_min", "mem_gb", "nodes", "tasks_per_node", "cpus_per_task"),
    *("gpus_per_node", "stderr_to_stdout"),
}
MOST_TASKS = 1000  # of an array; Slurm's default MaxArraySize is 1001
LOOK_SECONDS, ASK_SECONDS = 1.0, 10.0
PATIENCE_SECONDS = 600.0  # until the first process of a job has had it requeued


@dataclass(frozen=True)
class SlurmTask:
    """What a job does. submitit calls it, and calls it again when the job was requeued.

    Attributes:
        work: The sweep.
        at_once: Most runs side by side.
    """

    work: Work
    at_once: int

    def __call__(self, runs: Sequence[SweepRun]) -> None:
        """Bring runs to their end; when asked to make room, save and let the job be requeued.

        Several runs are done in processes of their own, so that one that is killed does not
        take the others with it.
        """
        make_products_repeatable()  # a job need not inherit the environment (--export=NONE)
        keep_going_without_output()
        asked = preemption_signal()
        assert asked is not None
        requeue = signal.getsignal(asked)
        try:
            with making_room():
                if len(runs) == 1:
                    share_processors(1)
                    self.work.do(runs[0])
                else:
                    Pool(self.work, self.at_once).run(runs)
        except Preempted as end:
            _make_room(end, requeue)

    def checkpoint(self, runs: Sequence[SweepRun]) -> Any:
        """Asked by submitit before it requeues: the same again, from where the runs are then."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, runs)


def run_on_slurm(
    work: Work, sweep: Sweep, runs: Sequence[SweepRun], settings: Mapping[str, Any]
) -> set[str]:
    """Submit jobs, and wait until all are over.

    Args:
        work: The sweep.
        sweep: Its runs.
        runs: Those to do.
        settings: Of ``hydra.launcher``.

    Returns:
        The jobs that are over; Slurm may take a moment to know it.

    Raises:
        UserError: If Slurm does not take the jobs.
        KeyboardInterrupt: After Ctrl-C; the jobs go on.
    """
    per_job, at_once = _packing(settings)
    packs = [list(runs[i : i + per_job]) for i in range(0, len(runs), per_job)]
    results: dict[str, Path] = {}
    for start in range(0, len(packs), MOST_TASKS):
        some = packs[start : start + MOST_TASKS]
        jobs = _submit(SlurmTask(work, at_once), some, settings)
        names = [SlurmJob(j.job_id, tuple(r.number for r in p)) for j, p in zip(jobs, some)]  # noqa: B905
        sweep = sweep.with_jobs(names)
        sweep.write()
        results |= {job.job_id: job.task(0).paths.result_pickle for job in jobs}
    print(f"Runs: {len(runs)}. Slurm jobs: {_spans(list(results))}", flush=True)
    if not require_bool("hydra.launcher.wait", settings["wait"]):
        return set()
    try:
        _wait(results)
    except KeyboardInterrupt:
        print(f"\nThe jobs go on. To end them: scancel {_masters(results)}", flush=True)
        raise
    return set(results)


def _packing(settings: Mapping[str, Any]) -> tuple[int, int]:
    asked = settings.get("runs_per_job", 1), settings.get("runs_at_once", 1)
    per_job = require_int("hydra.launcher.runs_per_job", asked[0])
    at_once = require_int("hydra.launcher.runs_at_once", asked[1], maximum=per_job)
    tasks = int(settings.get("tasks_per_node") or 1) * int(settings.get("nodes") or 1)
    if tasks > 1 and per_job > 1:
        raise UserError(
            "hydra.launcher.runs_per_job must be 1 where a run has several tasks, got "
            f"{per_job} with {tasks} tasks."
        )
    return per_job, at_once


def _submit(
    task: SlurmTask, packs: Sequence[Sequence[SweepRun]], settings: Mapping[str, Any]
) -> list[Any]:
    try:
        import submitit
    except ImportError:
        raise UserError(
            "hydra/launcher=slurm needs submitit: pip install 'grokscope[slurm]'."
        ) from None
    asked = preemption_signal()
    assert asked is not None
    # until Python answers the signal, it must not kill the task: that would not be requeued
    ignore = f'trap \'\' {asked.name[3:]}; exec "$0" "$@"'
    python = f"sh -c {shlex.quote(ignore)} {shlex.quote(sys.executable)}"
    given = {name: value for name, value in settings.items() if value is not None}
    names = {n: n if n in COMMON else f"slurm_{n}" for n in given if n not in OWN}
    try:
        executor = submitit.AutoExecutor(
            folder=str(_own_folder(Path(str(settings["submitit_folder"])))),
            cluster="slurm",
            slurm_max_num_timeout=settings["max_num_timeout"],
            slurm_python=python,
        )
        executor.update_parameters(**{names[n]: given[n] for n in names}, **_srun(given))
        return executor.map_array(task, packs)
    except (RuntimeError, ValueError, submitit.core.utils.FailedJobError) as error:
        words = " ".join(str(error).split())
        raise UserError(f"hydra.launcher: Slurm does not take the jobs: {words}") from error


def _own_folder(given: Path) -> Path:
    """A new folder in the one given, since jobs load a pickle there; the sweep may be anybody's.

    Raises:
        UserError: If it leads elsewhere.
    """
    numbered = "%" in given.name
    parent = given.parent if numbered else given
    if parent.is_symlink():
        raise UserError(f"hydra.launcher.submitit_folder must not be a link, got {parent}.")
    own = parent / secrets.token_hex(8)
    own.mkdir(parents=True)
    return own / given.name if numbered else own


def _srun(given: Mapping[str, Any]) -> dict[str, Any]:
    """Since Slurm 22.05 a step does not inherit how many cores its tasks were to have."""
    cores = given.get("cpus_per_task")
    return {} if cores is None else {"slurm_srun_args": [f"--cpus-per-task={cores}"]}


def _wait(results: Mapping[str, Path]) -> None:
    """Until each job has left its result, or Slurm knows nothing of it any more.

    Slurm's accounting is not asked: not every cluster has it, and it is slow.
    """
    left, gone, asked = set(results), set[str](), time.monotonic()
    while left:
        time.sleep(LOOK_SECONDS)
        over = {job for job in left if results[job].exists()}
        if time.monotonic() - asked > ASK_SECONDS and (alive := queued(left)) is not None:
            asked = time.monotonic()
            over |= gone & (left - set(alive))  # the second time: results may be slow to appear
            gone = left - set(alive)
        left -= over
        for job in sorted(over):
            print(f"job {job} is over; {len(left)} left", flush=True)


def _make_room(end: Preempted, requeue: Any) -> None:
    """Have the job requeued: by submitit's own handler, which counts time limits.

    Raises:
        SystemExit: Always, or submitit's error when there were too many time limits.
    """
    import submitit

    if os.environ.get("SLURM_PROCID", "0") != "0":
        time.sleep(PATIENCE_SECONDS)
        raise end
    job = submitit.JobEnvironment().job_id
    if end.status == "stopped" and (queued([job]) or {}).get(job) != "RUNNING":
        raise end  # cancelled, or requeued by somebody else
    requeue(end.signal, None)


def _masters(jobs: Mapping[str, Path]) -> str:
    return " ".join(dict.fromkeys(job.partition("_")[0] for job in jobs))


def _spans(jobs: Sequence[str]) -> str:
    return jobs[0] if len(jobs) == 1 else f"{jobs[0]} to {jobs[-1]}"
