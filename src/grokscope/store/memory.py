"""How much main memory there is left: a stranger's file may ask for more."""

from __future__ import annotations

from pathlib import Path

STATUS, MEMORY, GROUP = Path("/proc/self/status"), Path("/proc/meminfo"), Path("/sys/fs/cgroup")
KIB = 1024
SHARE = 0.9  # of the free memory that something of a stranger may take
LITTLE = 2**28  # bytes that one need not ask for


class TooLargeError(ValueError):
    """Something does not fit into the memory that is free now."""


def check_memory(what: str, size: int) -> None:
    """Refuse to read so many bytes where the system would rather end the process.

    Raises:
        TooLargeError: Naming what takes them.
    """
    free = free_memory() if size > LITTLE else None
    if free is not None and size > SHARE * free:
        raise TooLargeError(f"{what} takes {size:,} bytes of memory, and {free:,} are free.")


def free_memory() -> int | None:
    """Bytes that the machine and the control group of this process have left; None: not known."""
    try:
        free = _number(MEMORY, "MemAvailable:") * KIB
    except (OSError, ValueError):
        return None
    try:
        most, used = (int((GROUP / f"memory.{n}").read_text()) for n in ("max", "current"))
        used -= _number(GROUP / "memory.stat", "inactive_file")  # a cache, given up when needed
    except (OSError, ValueError):  # none, or "max"
        return free
    return min(free, max(0, most - used))


def data_bytes() -> int:
    """What this process has taken for its data."""
    return _number(STATUS, "VmData:") * KIB


def _number(path: Path, name: str) -> int:
    words = path.read_text(encoding="ascii", errors="replace").split()
    return int(words[words.index(name) + 1])
