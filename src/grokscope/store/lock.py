"""One writer a run folder: a lock that the system releases when its process ends."""

from __future__ import annotations

import errno
import json
import os
import platform
import stat
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # Windows: nothing is locked there
    fcntl = None  # type: ignore[assignment]

NAME = ".lock"
HELD = {errno.EACCES, errno.EAGAIN}
PATIENCE_SECONDS = 1.0  # readers look at the lock for microseconds
QUIET_SECONDS = 600.0
NOTE_BYTES = 1024


class FolderInUseError(OSError):
    """Another process writes this run."""


class FolderLock:
    """Held from now until :meth:`release`, or until this process ends in whatever way.

    The same process may hold it several times. Where the file system has no locks (some network
    mounts), nothing is held and nobody is refused.

    Args:
        folder: The run's folder, which exists.

    Raises:
        FolderInUseError: If another process holds it, naming that process.
    """

    _own: dict[Path, list[int]] = {}  # noqa: RUF012 - of the process: path -> [descriptor, holders]

    def __init__(self, folder: Path) -> None:
        self._path = (folder / NAME).resolve()
        if self._path not in self._own:
            self._own[self._path] = [_take(self._path), 0]
        self._own[self._path][1] += 1
        self._holds = True

    def release(self) -> None:
        """Give it back; a second call does nothing."""
        if self._holds:
            self._holds = False
            own = self._own[self._path]
            own[1] -= 1
            if own[1] == 0:
                os.close(own[0])
                del self._own[self._path]

    def __enter__(self) -> FolderLock:
        return self

    def __exit__(self, *error: object) -> None:
        self.release()


def _take(path: Path) -> int:
    """A descriptor that holds the lock."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o644)
    stop = time.monotonic() + PATIENCE_SECONDS
    while not _locked(fd, exclusive=True):
        if time.monotonic() > stop:
            os.close(fd)
            raise FolderInUseError(f"{path.parent} is written by {_holder(path)}.")
        time.sleep(0.01)
    with suppress(OSError):  # a full disk: the note is for people
        os.pwrite(fd, _note(), 0)
    return fd


def _note() -> bytes:
    """Who holds it, always of one length: nothing of a longer one stays behind."""
    note = {"host": platform.node()[:255], "pid": os.getpid()}
    return json.dumps(note).encode().ljust(NOTE_BYTES - 1) + b"\n"


def _locked(fd: int, exclusive: bool) -> bool:
    """Whether the lock was free and is taken now; true where there are no locks."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(fd, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in HELD
    return True


def _read_note(path: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError, RecursionError), path.open("rb") as file:
        note = json.loads(file.read(NOTE_BYTES))
        return note if isinstance(note, dict) else {}
    return {}


def _holder(path: Path) -> str:
    note = _read_note(path)
    return f"another process ({note.get('pid')} on {note.get('host')})"


def check_free(folder: Path) -> None:
    """Refuse a folder that another process writes; takes nothing.

    Raises:
        FolderInUseError: Naming that process.
    """
    path = folder / NAME
    if path.resolve() not in FolderLock._own and _is_held(path):
        raise FolderInUseError(f"{folder} is written by {_holder(path)}.")


def abandoned(folder: Path) -> bool:
    """Whether the process that wrote here has ended without releasing the lock in order.

    False where that is not known: without a lock file, or if it ran on another machine, whose
    locks may not reach this one, and something was written in the last ten minutes.
    """
    path = folder / NAME
    if _is_held(path) is not False:
        return False
    return _read_note(path).get("host") == platform.node() or _quiet(folder)


def _is_held(path: Path) -> bool | None:
    """None where there is no lock to look at."""
    if fcntl is None:
        return None
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        return None if not stat.S_ISREG(os.fstat(fd).st_mode) else not _locked(fd, exclusive=False)
    finally:
        os.close(fd)


def _quiet(folder: Path) -> bool:
    newest = max((path.stat().st_mtime for path in folder.iterdir()), default=0.0)
    return time.time() - newest > QUIET_SECONDS
