"""``run.json``: what a run is and how it ended."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

NAME = "run.json"
STATUSES = ("running", "finished", "stopped", "failed")
PACKAGES = ("grokscope", "torch", "lightning", "hydra-core", "h5py", "numpy")


def read_info(folder: Path) -> dict[str, Any]:
    """Content of ``run.json``; empty if there is none.

    Raises:
        ValueError: If the file is not a JSON object.
    """
    path = folder / NAME
    if not path.exists():
        return {}
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from None
    if not isinstance(info, dict):
        raise ValueError(f"{path} must hold a JSON object, got {type(info).__name__}.")
    return info


def update_info(folder: Path, **entries: Any) -> None:
    """Merge entries into ``run.json``; the file is replaced whole, never half-written."""
    folder.mkdir(parents=True, exist_ok=True)
    info = read_info(folder) | entries
    draft = folder / f".{NAME}.{os.getpid()}"
    try:
        draft.write_text(json.dumps(info, indent=2, default=str) + "\n", encoding="utf-8")
        os.replace(draft, folder / NAME)
    finally:
        draft.unlink(missing_ok=True)


def environment() -> dict[str, Any]:
    """Versions, git revision, machine and process of this run."""
    return {
        "versions": {name: found for name in PACKAGES if (found := _version(name))}
        | {"python": platform.python_version()},
        "git_revision": _git_revision(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "pid": os.getpid(),
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
