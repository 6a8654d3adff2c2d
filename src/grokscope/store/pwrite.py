"""Writes at a place of an open file, all of it or with an error."""

from __future__ import annotations

import errno
import os


def write_at(fd: int, data: bytes | memoryview, offset: int) -> None:
    """``pwrite`` all of ``data``; a short write is continued.

    Raises:
        OSError: If it cannot be written; a part of it may be there.
    """
    written = os.pwrite(fd, data, offset)
    while written < len(data):
        more = os.pwrite(fd, data[written:], offset + written)
        if more == 0:
            raise OSError(errno.ENOSPC, f"wrote {written} of {len(data)} bytes")
        written += more
