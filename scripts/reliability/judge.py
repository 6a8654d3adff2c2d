"""What is wrong with a process that met a fault, and with the folder that it left."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
from case import equal, final_state
from faults import HARMLESS, NO_ROOM, Fault
from rows import FILES, Key, Rows, different, epochs_of, missing, plain_rows, twice
from trial import LOGS, Outcome

from grokscope import Run

Finding = tuple[str, str]  # what is wrong, and where
OUTPUT_ONLY = ("report.html", "figures")  # pictures and pages: nothing of a run depends on them
OF_THE_MOMENT = (".lock", "train.log")


@dataclass(frozen=True)
class Ended:
    """What a run has left that was not disturbed."""

    rows: Rows
    datasets: dict[str, bytes]
    state: dict[str, Any]
    csv: bytes
    names: frozenset[str]

    @classmethod
    def of(cls, run: Path) -> Ended:
        """Read it."""
        csv = (run / "metrics.csv").read_bytes()
        return cls(plain_rows(run), datasets(run), final_state(run), csv, names(run))


def datasets(folder: Path) -> dict[str, bytes]:
    """Every dataset of the HDF5 files that a folder has."""
    files = (folder / name for name in FILES if (folder / name).exists())
    return {f"{p.name}:{name}": data for p in files for name, data in datasets_of(p).items()}


def datasets_of(path: Path) -> dict[str, bytes]:
    """Every dataset of an HDF5 file."""
    found: dict[str, bytes] = {}

    def take(name: str, node: object) -> None:
        if isinstance(node, h5py.Dataset):
            found[name] = node[()].tobytes()

    with h5py.File(path, "r", locking=False) as file:
        file.visititems(take)
    return found


def names(folder: Path) -> frozenset[str]:
    """Relative paths of all files below a folder."""
    found = (path for path in folder.rglob("*") if not path.is_dir())
    return frozenset(str(path.relative_to(folder)) for path in found)


def ending(outcome: Outcome, fault: Fault) -> Iterator[Finding]:
    """The process: its exit code, and what it told the user."""
    if outcome.code is None:
        yield "hangs", outcome.errors[-300:]
    elif outcome.code < 0:
        yield "ended by a signal", f"{outcome.code} {outcome.errors[-300:]}"
    elif outcome.code not in (0, 1):
        yield "exit code", f"{outcome.code} {outcome.errors[-300:]}"
    lines = outcome.errors.splitlines()
    told = sum(line.startswith("error: ") for line in lines)
    if "Traceback" in outcome.errors or "Exception ignored" in outcome.errors:
        yield "traceback", f"{lines[-1] if lines else ''} (exit {outcome.code})"
    elif outcome.code in (0, 1) and told != outcome.code:
        yield "not one line", f"{told} lines with exit {outcome.code}: {outcome.errors[-300:]}"
    elif outcome.code == 1 and LOGS not in outcome.errors:
        yield "no file named", outcome.errors[-300:]
    if fault.name in HARMLESS - {"EINTR"} and outcome.code == 1:
        yield "short count ends it", outcome.errors[-300:]


def status_of(run: Path) -> str | None:
    """What ``run.json`` says; None if there is none.

    Raises:
        ValueError: If it cannot be read.
    """
    path = run / "run.json"
    return json.loads(path.read_text()).get("status") if path.exists() else None


def is_finished(run: Path) -> bool:
    """Whether it says so."""
    try:
        return status_of(run) == "finished"
    except ValueError:
        return False


def status(run: Path, outcome: Outcome, fault: Fault, phase: str) -> Iterator[Finding]:
    """Whether ``run.json`` tells how the run ended."""
    try:
        found = status_of(run)
    except ValueError as error:
        yield "status", f"run.json is not JSON: {error}"
        return
    hit = outcome.hit
    begun = any(c.kind == "rename" and "run.json" in c.path2 for c in outcome.calls)
    could_be_told = not (fault.then and "write" in fault.then) and not (
        hit and ("run.json" in f"{hit.path}{hit.path2}" or hit.kind == "lock")
    )
    if outcome.code == 0 or phase == "closing":
        right = found == "finished"
    elif not begun:
        right = found in (None, "running")  # as it was: of a process that was killed
    elif not could_be_told:
        synced_last = hit and hit.kind == "fsync" and "fsync" in fault.then
        right = found != "finished" or bool(synced_last)
    elif fault.error in NO_ROOM:
        right = found == "failed: disk full"
    else:
        right = str(found).startswith("failed")
    if not right:
        yield "status", f"{found!r} with exit {outcome.code}"


def rows(run: Path, reference: Ended, required: Mapping[Key, list[int]]) -> Iterator[Finding]:
    """Acknowledged rows, as plain h5py finds them."""
    try:
        there = plain_rows(run)
    except Exception as error:
        yield "does not open", repr(error)
        return
    if lost := missing(epochs_of(there), required):
        yield "acknowledged, lost", f"{lost} rows of {sum(map(len, required.values()))}"
    if wrong := different(there, reference.rows):
        yield "rows that differ", f"{wrong} rows"
    if again := twice(there):
        yield "rows twice", f"{again} rows"


def readable(run: Path) -> Iterator[Finding]:
    """A run as a user reads it."""
    try:
        opened = Run.open(run)
        for name in opened.metrics:
            opened.metrics[name]
        if opened.status == "running":
            raise ValueError("the status is 'running'")
    except FileNotFoundError:
        pass  # it had not begun
    except Exception as error:
        yield "Run.open fails", repr(error)


def complete(run: Path, reference: Ended) -> Iterator[Finding]:
    """Whether a run that has ended is that without a fault, byte for byte."""
    try:
        found = Ended.of(run)
    except Exception as error:
        yield "not complete", repr(error)
        return
    mine, theirs = found.datasets, reference.datasets
    if unlike := [n for n in mine.keys() | theirs.keys() if mine.get(n) != theirs.get(n)]:
        yield "datasets unlike", f"{len(unlike)}: {sorted(unlike)[:4]}"
    if not equal(found.state, reference.state):
        yield "weights unlike", ""
    if found.csv != reference.csv:
        yield "metrics.csv unlike", f"{len(found.csv)} bytes of {len(reference.csv)}"
    if status_of(run) != "finished":
        yield "status", f"{status_of(run)!r} at the end"
    if left := left_over(run, reference):
        yield "files left", ", ".join(sorted(left))
    if gone := [n for n in reference.names - found.names if not n.startswith(OUTPUT_ONLY)]:
        yield "files missing", ", ".join(sorted(gone))


def left_over(run: Path, reference: Ended) -> frozenset[str]:
    """Files that an undisturbed run does not have."""
    return names(run) - reference.names


def digest(runs: list[Path]) -> str:
    """Equal for folders from which the same command does the same."""
    found = hashlib.sha256()
    for number, run in enumerate(sorted(runs)):
        for name in sorted(names(run)):
            if name in OF_THE_MOMENT or name.startswith(".hydra"):
                continue
            content = (run / name).read_bytes().replace(run.name.encode(), b"RUN")
            if name == "run.json":
                content = str(_status_or_text(content)).encode()
            found.update(f"{number} {name} {len(content)} ".encode() + content)
    return found.hexdigest()


def _status_or_text(content: bytes) -> Any:
    try:
        return json.loads(content).get("status")
    except ValueError:
        return content
