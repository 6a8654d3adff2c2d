"""What Slurm says of jobs that are not over: from ``squeue``, which needs no accounting."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable

TIMEOUT_SECONDS = 60
AT_ONCE = 500  # jobs a question: command lines have an end
UNKNOWN_JOB = "Invalid job id"


def queued(jobs: Iterable[str]) -> dict[str, str] | None:
    """Job -> its state (``PENDING``, ``RUNNING``, ...), of those that Slurm has not ended.

    Args:
        jobs: Such as ``123`` and ``123_4``.

    Returns:
        None if Slurm cannot be asked.
    """
    wanted = sorted(set(jobs))
    masters = sorted({job.partition("_")[0] for job in wanted})
    found: dict[str, str] = {}
    for start in range(0, len(masters), AT_ONCE):
        rows = _squeue(masters[start : start + AT_ONCE])
        if rows is None:
            return None
        found |= rows
    return {job: found[job] for job in wanted if job in found}


def _squeue(masters: list[str]) -> dict[str, str] | None:
    command = ["squeue", "--noheader", "--array", "--format=%i|%T", f"--jobs={','.join(masters)}"]
    own = {n: v for n, v in os.environ.items() if not n.startswith("SQUEUE_")}  # a user's filters
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, env=own, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode and UNKNOWN_JOB not in done.stderr:
        return None
    rows = (line.strip().partition("|") for line in done.stdout.splitlines())
    return {job: state for job, bar, state in rows if bar}
