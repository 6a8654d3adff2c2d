"""``run.json``: what a run is and how it ended."""

from __future__ import annotations

import errno
import json
import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from grokscope.processor import arithmetic
from grokscope.store.nofollow import NotPlainFileError, open_regular
from grokscope.store.pwrite import write_at
from grokscope.store.replacing import make_folder, naming, replace_bytes, to_disk
from grokscope.store.text import check_number, read_text

NAME = "run.json"
DISK_FULL = "failed: disk full"
FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}
MAX_BYTES = 2**22
PACKAGES = ("grokscope", "torch", "lightning", "hydra-core", "h5py", "numpy")


def read_info(folder: Path) -> dict[str, Any]:
    """Content of ``run.json``; empty if there is none.

    Raises:
        ValueError: If the file is not a JSON object, or cannot be read.
    """
    path = folder / NAME
    try:
        info = json.loads(read_text(path, MAX_BYTES), parse_int=lambda n: int(check_number(n)))
    except FileNotFoundError:
        return {}
    except NotPlainFileError:
        raise
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}.") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from None
    if not isinstance(info, dict):
        raise ValueError(f"{path} must hold a JSON object, got {type(info).__name__}.")
    return info


def update_info(folder: Path, **entries: Any) -> None:
    """Merge entries into ``run.json``; the file is replaced whole, never half-written.

    On a full disk it is overwritten in the blocks that it has.

    Raises:
        OSError: If they do not suffice; the old content stays.
    """
    make_folder(folder)
    info = read_info(folder) | entries
    content = (json.dumps(info, indent=2, default=str) + "\n").encode()
    try:
        replace_bytes(folder / NAME, content)
    except OSError as error:
        if error.errno not in FULL or not (folder / NAME).exists():
            raise
        with naming(folder / NAME):
            _overwrite(folder / NAME, content)


def _overwrite(path: Path, content: bytes) -> None:
    """In the blocks that it has; the old content comes back where they do not suffice."""
    with open(open_regular(path, os.O_RDWR), "r+b", buffering=0) as file:
        old = file.read()
        try:
            write_at(file.fileno(), content.ljust(len(old)), 0)  # JSON also before it is cut
            file.truncate(len(content))
        except OSError:
            write_at(file.fileno(), old, 0)
            file.truncate(len(old))
            raise
        to_disk(file.fileno())


def environment() -> dict[str, Any]:
    """Versions, git revision, machine, process and arithmetic of this run."""
    return {
        "versions": {name: found for name in PACKAGES if (found := _version(name))}
        | {"python": platform.python_version()},
        "git_revision": _git_revision(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "pid": os.getpid(),
        "arithmetic": arithmetic(),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git_revision() -> str | None:
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
