"""Runs of a sweep on this machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from grokscope.app.errors import UserError, unknown_key
from grokscope.app.sweeps.pool import Pool
from grokscope.app.sweeps.work import Work
from grokscope.store.sweep import Sweep, SweepRun
from grokscope.validation import require_int


def run_here(
    work: Work, sweep: Sweep, runs: Sequence[SweepRun], settings: Mapping[str, Any]
) -> set[str]:
    """One after the other in this process, or several at once in processes of their own.

    Args:
        work: The sweep.
        sweep: Its runs.
        runs: Those to do.
        settings: Of ``hydra.launcher``: ``runs_at_once``.

    Returns:
        The Slurm jobs that are over: none.
    """
    for name in settings.keys() - {"runs_at_once"}:
        raise UserError(unknown_key(f"hydra.launcher.{name}", ["hydra.launcher.runs_at_once"]))
    at_once = require_int("hydra.launcher.runs_at_once", settings.get("runs_at_once", 1))
    if at_once > 1:
        Pool(work, at_once).run(runs)
        return set()
    for run in runs:
        print(f"run {run.number}: {' '.join(run.overrides)}", flush=True)
        work.do(run)
    return set()
