"""Small runs whose calls are recorded, from the first one to the last."""

from __future__ import annotations

import copy
import json
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

from aftermath_measured import measured_values
from case import CONFIGURATIONS, TINY
from cut_states import Kept
from cut_volume import Volume, write_out
from findings import Reference
from launch import ROOT, run_script
from numpy.typing import NDArray
from rows import FILES
from shim import Record, Shim, records

EPOCHS = 64
SYNC_SECONDS = 0.3
SETTLING_SECONDS = 0.2  # from the moment when a sync is due to its end
GAPS = 3  # and so many times the longest pause between two rows: the machine may be busy
TEMPORARY = "tmp"
RUNS = {
    "plain": (),
    "factor-heavy": CONFIGURATIONS["factor-heavy"],
    "several schedules": CONFIGURATIONS["several schedules"],
}


def command_of(name: str) -> list[str]:
    words = [*TINY, f"trainer.max_epochs={EPOCHS}", "report=false", *RUNS[name]]
    settings = (ROOT / "configs" / "storage" / "default.yaml").read_text(encoding="utf-8")
    return [*words, *([f"storage.sync_seconds={SYNC_SECONDS}"] if "sync_sec" in settings else ())]


@dataclass(frozen=True)
class Recording:
    """A run of which every call is known.

    Attributes:
        name: In the table.
        command: What the script was given.
        volume: The folder before the first call.
        calls: All of them.
        run: The run's folder, relative to the watched one.
        reference: What came out.
        measured: The rows of ``src/measure.py``, if it was that which ran.
    """

    name: str
    command: list[str]
    volume: Volume
    calls: list[Record]
    run: Path
    reference: Reference
    measured: Mapping[str, NDArray] | None = None

    def at(self, stop: int) -> Volume:
        """The folder after so many calls."""
        return after(self.volume, self.calls[:stop])

    def required(self, stop: int) -> dict[str, set[int]]:
        """Group of metrics -> epochs that a cut after so many calls must spare."""
        before = sum(call.kind == "mark" for call in self.calls[:stop])
        marks = self._marks[:before]
        safe = marks[-1]["time"] - SYNC_SECONDS - self._settling if marks else 0.0
        found: dict[str, set[int]] = {}
        for mark in marks:
            if mark["time"] < safe:
                found.setdefault(mark["group"], set()).update(mark["epochs"])
        return found

    @cached_property
    def _marks(self) -> list[dict[str, Any]]:
        return [json.loads(call.data) for call in self.calls if call.kind == "mark"]

    @cached_property
    def _settling(self) -> float:
        """Seconds from the moment when a sync is due to its end; more on a busy machine."""
        times = [mark["time"] for mark in self._marks]
        gaps = [later - earlier for earlier, later in pairwise(times)]
        return SETTLING_SECONDS + GAPS * max(gaps, default=0.0)


def record(name: str, place: Path) -> Recording:
    """Train under the shim."""
    folder = place / name.replace(" ", "-")
    folder.mkdir(parents=True)
    command = command_of(name)
    volume, calls = _calls("train", command, folder)
    (run,) = folder.glob("logs/runs/*/*")
    return Recording(name, command, volume, calls, run.relative_to(folder), Reference.of(run))


def record_resumed(name: str, earlier: Recording, share: float, place: Path) -> Recording:
    """``resume=true`` after a cut of an earlier run, which cost it all that was not synced."""
    folder = place / name.replace(" ", "-")
    left = Kept(ordered=True, names=True, data=False, sizes=False)
    write_out(earlier.at(int(share * len(earlier.calls))).after(left), folder)
    volume, calls = _calls("train", [*earlier.command, "resume=true"], folder)
    return Recording(name, earlier.command, volume, calls, earlier.run, earlier.reference)


def record_measure(name: str, earlier: Recording, place: Path) -> Recording:
    """``src/measure.py`` at the checkpoints of a run."""
    folder = place / name.replace(" ", "-")
    write_out(earlier.at(len(earlier.calls)).now(), folder)
    command = [f"run={earlier.run}", "measures=gop"]
    volume, calls = _calls("measure", command, folder)
    values = measured_values(folder / earlier.run)
    return Recording(name, command, volume, calls, earlier.run, earlier.reference, values)


def _calls(script: str, words: list[str], folder: Path) -> tuple[Volume, list[Record]]:
    """The folder before, and every call of a script on it."""
    (folder / TEMPORARY).mkdir(exist_ok=True)
    volume = Volume(folder)
    path = folder.with_name(f"{folder.name}.record")
    done = run_script(script, words, folder, lambda: _watch(folder, path))
    if done.code:
        raise RuntimeError(f"{folder.name} ended with {done.code}: {done.output[-2000:]}")
    calls = [*records(path)]
    path.unlink()
    _check(after(volume, calls).now(), folder)
    return volume, calls


def after(before: Volume, calls: Iterable[Record]) -> Volume:
    """A folder after some calls."""
    volume = copy.deepcopy(before)
    for call in calls:
        volume.apply(call)
    return volume


def _check(after: Mapping[str, bytes | None], folder: Path) -> None:
    """The calls must explain what is there now; else there were calls that the shim missed."""
    there = {str(p.relative_to(folder)): p for p in folder.rglob("*")}
    if after.keys() != there.keys():
        raise RuntimeError(f"files that no call explains: {sorted(after.keys() ^ there.keys())}")
    for name, path in there.items():
        if path.is_file() and path.read_bytes() != after[name]:
            raise RuntimeError(f"{name} has content that no call explains.")


def _watch(folder: Path, path: Path) -> None:
    """Begin the record in this process, and mark the rows that are written."""
    from grokscope.store.writer import LiveFile

    shim = Shim()
    append, extend = LiveFile.append, LiveFile.extend

    def note(live: LiveFile, table: str, epochs: Iterable[Any]) -> None:
        if live.path.name in FILES:
            words = {"time": time.monotonic(), "group": _group(live.path.name, table)}
            shim.mark(json.dumps(words | {"epochs": [int(epoch) for epoch in epochs]}))

    def append_noted(live: LiveFile, table: str, row: Mapping[str, Any]) -> None:
        append(live, table, row)
        note(live, table, [row["epoch"]])

    def extend_noted(live: LiveFile, table: str, rows: Mapping[str, Any]) -> None:
        extend(live, table, rows)
        note(live, table, rows["epoch"])

    LiveFile.append = append_noted  # type: ignore[method-assign]
    LiveFile.extend = extend_noted  # type: ignore[method-assign]
    tempfile.tempdir = str(folder / TEMPORARY)  # files that are moved from there are seen
    shim.record(path)
    shim.watch(folder)


def _group(file: str, table: str) -> str:
    """The group of ``Run.metrics`` that a table is; a name of no group for factors."""
    if file == "gop_full.h5":
        return "factor"
    if file == "gop_layers.h5":
        return f"gop/{table}/layers/"
    return f"{table}/" if table else ""
