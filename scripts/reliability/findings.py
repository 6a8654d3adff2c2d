"""What may be wrong with a run after a power cut, and the run without one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from case import final_state
from numpy.typing import NDArray
from rows import everything

from grokscope import Run

FAILURES = (
    "does not open",
    "Run.open fails",
    "rows that differ",
    "holes",
    "lost before a checkpoint",
    "lost too early",
    "checkpoints torn",
    "status untrue",
    "resume fails",
    "went back without a word",
    "datasets unlike",
    "weights unlike",
    "metrics.csv unlike",
    "crashes",
)
UNREADABLE = ("does not open", "Run.open fails")
LINES = {  # what is counted -> its line in a table
    "nothing of the run there": "... so early that nothing of the run is there",
    "files": "HDF5 files left",
    "does not open": "... that do not open in plain h5py",
    "Run.open fails": "runs on which `Run.open` and its readers fail",
    "rows": "rows found",
    "rows that differ": "columns of rows unlike the run without a cut",
    "holes": "holes between the rows",
    "lost before a checkpoint": "rows lost before a checkpoint that is there",
    "lost too early": "rows lost that were older than `storage.sync_seconds`",
    "checkpoints torn": "checkpoints torn",
    "status untrue": "status untrue",
    "resume fails": "runs that cannot go on",
    "crashes": "crashes",
    "brought to their end": "runs brought to their end",
    "began anew": "... from no checkpoint, anew",
    "went back to an earlier checkpoint": "... from an earlier checkpoint than the newest",
    "went back without a word": "... ... without a line that says so",
    "datasets unlike": "a dataset unlike the run without a cut",
    "weights unlike": "weights, optimizer or random state unlike",
    "metrics.csv unlike": "`metrics.csv` unlike",
    "drafts left": "drafts left at the end",
}


@dataclass
class Findings:
    """Counts of what was looked at and of what was wrong, and words on the latter."""

    counts: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)

    def fail(self, what: str, detail: object, count: int = 1) -> None:
        self.counts[what] += count
        self.notes.append(f"{what}: {str(detail)[:600]}")

    def any(self, names: Iterable[str]) -> bool:
        """Whether something of these was found."""
        return any(self.counts[name] for name in names)


@dataclass(frozen=True)
class Reference:
    """The same run without a cut.

    Attributes:
        folder: Its own.
        values: Name -> array over rows, as ``Run.metrics`` gives them.
        everything: Every dataset of its files.
        state: Weights, optimizer and random state at its end.
        csv: Content of ``metrics.csv``.
    """

    folder: Path
    values: Mapping[str, NDArray]
    everything: Mapping[str, bytes]
    state: Mapping[str, Any]
    csv: bytes

    @classmethod
    def of(cls, folder: Path) -> Reference:
        metrics = Run.open(folder).metrics
        values = {name: metrics[name] for name in metrics}
        csv = (folder / "metrics.csv").read_bytes()
        return cls(folder, values, everything(folder), final_state(folder), csv)


def group_of(name: str) -> str:
    """The part of a metric's name that its epochs share: ``gop/batch/`` of ``gop/batch/trace``."""
    return name[: name.rfind("/") + 1]


def shown(values: Mapping[str, NDArray]) -> dict[str, list[int]]:
    """Group -> epochs of its rows."""
    return {group_of(n): v.tolist() for n, v in values.items() if n[len(group_of(n)) :] == "epoch"}


def same_bytes(ours: NDArray, theirs: NDArray) -> bool:
    """NaN included."""
    return ours.shape == theirs.shape and ours.tobytes() == theirs.tobytes()
