"""Tasks in forked processes, so many at a time; one that dies takes nothing with it."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from launch import start

Task = Callable[[], Any]


def each(tasks: Iterator[Task], jobs: int, place: Path) -> Iterator[Any]:
    """The results of tasks as they come; a text for a task that died.

    Args:
        tasks: Each is called in a process of its own.
        jobs: How many processes at a time.
        place: A folder for what they print and return.
    """
    running: dict[int, Path] = {}
    for number, task in enumerate(tasks):
        path = place / f"task-{number}"
        running[start(lambda task=task, path=path: _keep(task, path), path)] = path
        if len(running) == jobs:
            yield _next(running)
    while running:
        yield _next(running)


def _keep(task: Task, path: Path) -> int:
    path.with_suffix(".result").write_bytes(pickle.dumps(task()))
    return 0


def _next(running: dict[int, Path]) -> Any:
    pid = 0
    while pid not in running:
        pid, status = os.wait()
    path = running.pop(pid)
    result = path.with_suffix(".result")
    try:
        if status or not result.exists():
            return f"status {status}: {path.read_text(errors='replace')[-1500:]}"
        return pickle.loads(result.read_bytes())
    finally:
        path.unlink()
        result.unlink(missing_ok=True)
