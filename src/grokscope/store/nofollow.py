"""Opens files of a folder that may come from a stranger."""

from __future__ import annotations

import os
import stat
from pathlib import Path


def open_regular(path: Path, flags: int = os.O_RDONLY) -> int:
    """A descriptor of a regular file, opened without following a link in its last component.

    Raises:
        ValueError: If it is anything else than a regular file.
        OSError: If it cannot be opened; ELOOP for a link.
    """
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ValueError("it is not a regular file.")
    return descriptor
