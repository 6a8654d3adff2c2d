"""Compiles ``shim.c``, starts processes under it, and drives it from within one of them."""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).with_name("shim.c")
PRELOAD = "LD_PRELOAD"
MAGIC = 0x47524F4B
HEAD = struct.Struct("<IIqQQQIIQ")
KINDS = (
    *("any", "open", "write", "truncate", "allocate", "fsync", "rename", "unlink", "mkdir"),
    *("rmdir", "link", "close", "mark", "mmap", "lock", "create"),
)
FAIL, HALF, NOTHING = 1, 2, 3  # how a call goes wrong: an error, half of the bytes, none of them


def why_not() -> str | None:
    """Why the shim cannot be used here; None where it can."""
    if not sys.platform.startswith("linux"):
        return "LD_PRELOAD and /proc/self/fd are Linux's"
    return None if shutil.which("cc") else "there is no C compiler (cc)"


def compiled() -> Path:
    """The shared library, compiled once for each text of ``shim.c``."""
    name = hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16]
    library = Path(tempfile.gettempdir()) / f"grokscope-shim-{os.getuid()}-{name}.so"
    if not library.exists():
        draft = library.with_suffix(f".{os.getpid()}")
        command = ["cc", "-O1", "-shared", "-fPIC", "-o", str(draft), str(SOURCE), "-ldl"]
        subprocess.run(command, check=True)
        os.replace(draft, library)
    return library


def environment() -> dict[str, str]:
    """The environment of a process that has the shim."""
    return os.environ | {PRELOAD: str(compiled())}


class Shim:
    """The shim in this process, which was started with :func:`environment`."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(None)
        self._library.shim_fail.argtypes = [
            ctypes.c_long, ctypes.c_int, ctypes.c_int, ctypes.c_uint
        ]  # fmt: skip
        self._library.shim_count.restype = ctypes.c_long

    def watch(self, folder: Path | None) -> None:
        """Begin to number the calls on a folder that exists; None ends it."""
        self._library.shim_watch(None if folder is None else os.fsencode(folder))

    def fail(self, number: int, mode: int, error: int = 0, then: tuple[str, ...] = ()) -> None:
        """The ``number``-th call goes wrong; later ones of the kinds ``then`` fail."""
        self._library.shim_fail(number, mode, error, sum(1 << KINDS.index(kind) for kind in then))

    def count(self, kind: str = "any") -> int:
        """Calls so far."""
        return int(self._library.shim_count(KINDS.index(kind)))

    def trace(self, path: Path | None) -> None:
        """Append a line a call to a file outside of the folder; see :func:`traced`."""
        self._library.shim_trace(None if path is None else os.fsencode(path))

    def record(self, path: Path | None) -> None:
        """Append a record a call that succeeds, with its data; see :func:`records`."""
        self._library.shim_record(None if path is None else os.fsencode(path))

    def mark(self, text: str) -> None:
        """Write a text between the calls."""
        self._library.shim_mark(text.encode())


@dataclass(frozen=True)
class Call:
    """A line of a trace: a call, or with the kind ``mark`` a text as its path."""

    number: int
    kind: str
    result: int
    error: int
    injected: bool
    path: str
    path2: str = ""


def traced(path: Path) -> Iterator[Call]:
    """The calls of a trace, in order."""
    for line in path.read_text(errors="surrogateescape").splitlines():
        number, kind, result, error, injected, *paths = line.split("\t")
        yield Call(int(number), kind, int(result), int(error), injected == "1", *paths)


@dataclass(frozen=True)
class Record:
    """A call that succeeded; ``file`` is an inode's number, ``a`` and ``b`` depend on ``kind``.

    open: flags, whether this call created it; write: offset; truncate: length; allocate: offset,
    length; fsync: whether of the data alone.
    """

    kind: str
    result: int
    file: int
    a: int
    b: int
    path: str
    path2: str
    data: bytes


def records(path: Path) -> Iterator[Record]:
    """The records of a file, in order."""
    with path.open("rb") as file:
        while head := file.read(HEAD.size):
            magic, op, result, number, a, b, one, two, length = HEAD.unpack(head)
            if magic != MAGIC:
                raise ValueError(f"{path}: no record at {file.tell() - HEAD.size}.")
            path1, path2 = os.fsdecode(file.read(one)), os.fsdecode(file.read(two))
            yield Record(KINDS[op], result, number, a, b, path1, path2, file.read(length))
