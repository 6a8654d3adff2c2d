"""Standard output and error that may vanish: what cannot be written ends no command."""

from __future__ import annotations

import errno
import io
import logging
import os
import select
import sys
from contextlib import suppress
from typing import Any, TextIO

log = logging.getLogger(__name__)
STREAMS = {"stdout": 1, "stderr": 2}  # with their descriptors
PATIENCE_SECONDS = 1.0  # for a full pipe that its reader has made non-blocking
UNWANTED = {errno.EPIPE}  # its reader has left on purpose, as `head` does


def keep_going_without_output() -> None:
    """Let standard output and error lose what they cannot write; the log says so once.

    A closed pipe, a full disk, a terminal that is gone and a closed descriptor are alike. Streams
    that are no files of this process (notebooks, tests) stay as they are.
    """
    _open_closed_descriptors()
    for name, descriptor in STREAMS.items():
        stream = getattr(sys, name)
        own = descriptor if stream is None else _descriptor(stream)
        if own is None or isinstance(stream, _Output):
            continue
        with suppress(AttributeError, OSError):
            stream.flush()
        setattr(sys, name, _Output.of(name, own, stream))
    if sys.stdin is None:
        sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115 - for good


def _open_closed_descriptors() -> None:
    """Else the next file, such as one with rows, would get the number of standard output."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one


def _descriptor(stream: TextIO) -> int | None:
    """Of a stream that has one."""
    try:
        return stream.fileno()
    except (AttributeError, OSError, ValueError):
        return None


class _Raw(io.FileIO):
    """A descriptor whose write errors are kept instead of raised."""

    failure: OSError | None = None

    def write(self, data: Any) -> int:
        """Write, or lose the data."""
        size = memoryview(data).nbytes
        try:
            written: int | None = super().write(data)
            if written is None and select.select([], [self], [], PATIENCE_SECONDS)[1]:
                written = super().write(data)
        except OSError as error:
            self.failure = self.failure or error
            return size
        return size if written is None else written


class _Output(io.TextIOWrapper):
    """A stream for text, of which a part may be lost.

    It tells so after the write and not within it: the line goes through the handlers of the log,
    of which one may write here, and the buffer below refuses to be entered twice.
    """

    _raw: _Raw
    _told = False

    @classmethod
    def of(cls, name: str, descriptor: int, replaced: TextIO | None) -> _Output:
        """In place of ``sys.stdout`` or ``sys.stderr``, which may be None."""
        raw = _Raw(descriptor, "wb", closefd=False)
        raw.name = f"<{name}>"
        output = cls(
            io.BufferedWriter(raw),
            encoding=getattr(replaced, "encoding", None) or "utf-8",
            errors="backslashreplace",  # letters that it does not have end nothing either
            line_buffering=name == "stderr" or raw.isatty(),
        )
        output._raw = raw
        return output

    def write(self, text: str) -> int:
        """Write; a failure is told once."""
        count = super().write(text)
        self._tell()
        return count

    def flush(self) -> None:
        """Write what waits; a failure is told once."""
        super().flush()
        self._tell()

    def _tell(self) -> None:
        if self._told or self._raw.failure is None:
            return
        self._told, failure = True, self._raw.failure
        words = f"{self._raw.name} cannot be written ({failure.strerror}): going on without it."
        log.info(words)
        if self is sys.stdout and failure.errno not in UNWANTED:
            print(f"warning: {words}", file=sys.stderr, flush=True)
