"""One writer a run folder: a lock that the system releases when its process ends."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import platform
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from grokscope.store.nofollow import NotPlainFileError, open_regular
from grokscope.store.replacing import to_disk

NAME = ".lock"
HELD = {errno.EACCES, errno.EAGAIN}
PATIENCE_SECONDS = 1.0  # readers look at the lock for microseconds
QUIET_SECONDS = 600.0
NOTE_BYTES = 1024
FREE, HELD_BY_ANOTHER, NO_LOCKS, NO_FILE = "free", "held", "no locks", "no file"


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
        self._path = folder.resolve() / NAME
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
                del self._own[self._path]
                with suppress(OSError):  # it is closed all the same, and nothing waits in it
                    os.close(own[0])

    def __enter__(self) -> FolderLock:
        return self

    def __exit__(self, *error: object) -> None:
        self.release()


def _take(path: Path) -> int:
    """A descriptor that holds the lock."""
    fd = open_regular(path, os.O_RDWR | os.O_CREAT, 0o644)
    stop = time.monotonic() + PATIENCE_SECONDS
    while _locked(fd, exclusive=True) is False:
        if time.monotonic() > stop:
            os.close(fd)
            raise FolderInUseError(f"{path.parent} is written by {_holder(path)}.")
        time.sleep(0.01)
    with suppress(OSError):  # a full disk: the note is for people
        os.pwrite(fd, _note(), 0)
        to_disk(fd)  # else nobody knows after a power cut who it was
    return fd


def _note() -> bytes:
    """Who holds it, always of one length: nothing of a longer one stays behind."""
    note = {"host": platform.node()[:255], "pid": os.getpid(), "started": _started(os.getpid())}
    return json.dumps(note).encode().ljust(NOTE_BYTES - 1) + b"\n"


def _started(pid: object) -> str | None:
    """When a process began, as the system counts; None if there is none, or none to be seen.

    Numbers of processes are used again, such times are not.
    """
    with suppress(OSError, IndexError):
        return Path(f"/proc/{pid:d}/stat").read_text().rpartition(")")[2].split()[19]
    return None


def _locked(fd: int, exclusive: bool) -> bool | None:
    """Whether the lock was free and is taken now; None where the file system has no locks."""
    try:
        fcntl.flock(fd, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except OSError as error:
        return False if error.errno in HELD else None
    return True


def _read_note(path: Path) -> dict[str, Any]:
    with (
        suppress(OSError, ValueError, RecursionError),
        open(open_regular(path), "rb") as file,
    ):
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
    if folder.resolve() / NAME not in FolderLock._own and _state(path) == HELD_BY_ANOTHER:
        raise FolderInUseError(f"{folder} is written by {_holder(path)}.")


def abandoned(folder: Path) -> bool:
    """Whether the process that wrote here has ended without releasing the lock in order.

    False where that is not known: without a lock file; or if it ran on another machine, whose
    locks may not reach this one, or the file system has no locks and there is no such process,
    and something was written in the last ten minutes.
    """
    state = _state(folder / NAME)
    if state in (HELD_BY_ANOTHER, NO_FILE):
        return False
    note = _read_note(folder / NAME)
    here = note.get("host") == platform.node()
    if here and state == FREE:
        return True
    return not (here and _lives(note)) and _quiet(folder)


def _lives(note: dict[str, Any]) -> bool:
    """Whether the process that a note names is one of this machine, still the same."""
    pid, started = note.get("pid"), note.get("started")
    if not isinstance(pid, int):
        return False
    if started is not None:
        return _started(pid) == started
    with suppress(ProcessLookupError, OverflowError):
        with suppress(PermissionError):  # of another user
            os.kill(pid, 0)
        return True
    return False


def _state(path: Path) -> str:
    """What a lock file shows; takes nothing."""
    try:
        fd = open_regular(path)
    except (OSError, NotPlainFileError):
        return NO_FILE
    try:
        return {True: FREE, False: HELD_BY_ANOTHER, None: NO_LOCKS}[_locked(fd, exclusive=False)]
    finally:
        os.close(fd)


def _quiet(folder: Path) -> bool:
    newest = max((path.lstat().st_mtime for path in folder.iterdir()), default=0.0)
    return time.time() - newest > QUIET_SECONDS
