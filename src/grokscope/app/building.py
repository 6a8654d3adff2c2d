"""Bounds what a stranger's settings may take, and says in one line why they cannot be built."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from grokscope.app.errors import UserError

STATUS, MEMORY, GROUP = Path("/proc/self/status"), Path("/proc/meminfo"), Path("/sys/fs/cgroup")
KIB = 1024
SHARE = 0.9  # of the free memory
MOST_WORDS = 300


@contextmanager
def building(folder: Path) -> Iterator[None]:
    """Whatever fails while a run's settings are built and used is one line: they are to blame.

    On Linux they get no more than the free memory, where the system would else end a process.

    Raises:
        UserError: Naming the run.
    """
    try:
        with _limited():
            yield
    except UserError:
        raise
    except Exception as error:
        words = " ".join(str(error).split())[:MOST_WORDS] or type(error).__name__
        raise UserError(
            f"run must have settings that can be built here, got {folder}: {words}"
        ) from error


@contextmanager
def _limited() -> Iterator[None]:
    """With a limit on the data of this process: the free memory above what it has."""
    free = _free_bytes()
    if free is None or torch.cuda.is_available():  # whose driver reserves addresses in plenty
        yield
        return
    import resource

    before = resource.getrlimit(resource.RLIMIT_DATA)
    limit = _number(STATUS, "VmData:") * KIB + int(SHARE * free)
    known = [each for each in (limit, *before) if each != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_DATA, (min(known), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


def _free_bytes() -> int | None:
    """What the machine and the control group of this process have left; None if not known."""
    try:
        free = _number(MEMORY, "MemAvailable:") * KIB
    except (OSError, ValueError):
        return None
    try:
        most, used = (int((GROUP / f"memory.{n}").read_text()) for n in ("max", "current"))
    except (OSError, ValueError):  # none, or "max"
        return free
    return min(free, max(0, most - used))


def _number(path: Path, name: str) -> int:
    words = path.read_text(encoding="ascii", errors="replace").split()
    return int(words[words.index(name) + 1])
