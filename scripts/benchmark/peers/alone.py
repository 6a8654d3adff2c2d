"""One measurement in a process of its own, so that its peak of memory is its own.

python -m peers.alone JOB JSON, in scripts/benchmark: the job's arguments, and its result as JSON.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from peers import tasks, ways

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def run(job: str, **arguments: Any) -> dict[str, float]:
    """The result of a job of this module, from a fresh process."""
    command = [sys.executable, "-W", "ignore", "-m", __name__, job, json.dumps(arguments)]
    folder = Path(__file__).parents[1]
    done = subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)


def gram(way: str, n: int) -> dict[str, float]:
    """Bytes that K of the transformer takes on top of the net, its data and what is imported."""
    task = tasks.transformer(n)
    ways.WAYS[way](task.first(2))  # what is imported or compiled late
    before = _start()
    ways.WAYS[way](task)
    return {"bytes": _peak() - before}


def gpt2(**sizes: int) -> dict[str, float]:
    """Exact `sample` spectrum of the GPT-2-shaped net: seconds, and peak of the whole process."""
    task = tasks.gpt2(**sizes)
    begun = time.perf_counter()
    found = ways.ours(task, torch.float64)
    k_seconds = time.perf_counter() - begun
    eigenvalues = torch.linalg.eigvalsh(found / task.n)
    seconds = time.perf_counter() - begun
    result = {"m": task.m, "k_seconds": k_seconds, "seconds": seconds, "bytes": _peak()}
    truth = ways.one_by_one(task.first(3))
    result["error"] = _relative(found[:3, :3], truth)
    result["rank"] = int((eigenvalues > 1e-6 * eigenvalues[-1]).sum())
    return result


def _relative(found: Tensor, truth: Tensor) -> float:
    return float((found - truth).norm() / truth.norm())


def _start() -> int:
    """Bytes resident now; the peak counts from here on, where the system can do that.

    Elsewhere the highest so far is all there is, and what it hides of the peak is not seen.
    """
    try:
        RESET.write_text("5")
    except OSError:
        return _peak()
    return _status("VmRSS")


def _peak() -> int:
    """Most bytes resident so far. ``ru_maxrss`` would start at the parent's, over fork."""
    if STATUS.exists():
        return _status("VmHWM")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def _status(name: str) -> int:
    line = next(x for x in STATUS.read_text().splitlines() if x.startswith(f"{name}:"))
    return 1024 * int(line.split()[1])


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](**json.loads(sys.argv[2]))))
