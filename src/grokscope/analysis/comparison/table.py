"""One row for each run, of plain values: what a sortable table shows."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from grokscope.analysis.comparison.grouping import RunGroup, RunGroups, as_number
from grokscope.analysis.comparison.snapshot import Snapshot

FINALS = ("train_loss", "test_loss", "train_acc", "test_acc")


@dataclass(frozen=True)
class TableRow:
    """A run. None is what it does not have or never reached.

    Attributes:
        path: Its folder.
        label: Of its group.
        seed: The configuration's ``seed``, or that of ``run.json``.
        status: As :attr:`grokscope.Run.status`.
        memorised: Epoch, by the run's own thresholds.
        generalised: Epoch, by the run's own thresholds.
        delay: Epochs from one to the other.
        train_loss: The last that is finite; so for the next three.
        test_loss: Likewise.
        train_acc: Likewise, in [0, 1].
        test_acc: Likewise.
        wall_seconds: Of the whole run.
        measure_seconds: What measuring took of them.
    """

    path: str
    label: str
    seed: int | None
    status: str
    memorised: int | None
    generalised: int | None
    delay: int | None
    train_loss: float | None
    test_loss: float | None
    train_acc: float | None
    test_acc: float | None
    wall_seconds: float | None
    measure_seconds: float | None


def comparison_table(groups: RunGroups) -> list[TableRow]:
    """A row for each run, group by group.

    Raises:
        ValueError: If a run's files cannot be read.
    """
    return [row for group in groups.groups for row in _rows(group)]


def _rows(group: RunGroup) -> Iterator[TableRow]:
    for run in group.runs:
        times, info = run.grokking_as_configured(), run.info
        yield TableRow(
            str(run.path),
            group.label,
            _seed(run),
            run.status,
            times.memorised,
            times.generalised,
            times.delay,
            **_finals(run),
            wall_seconds=_number(info.get("wall_seconds")),
            measure_seconds=_number(info.get("measure_seconds")),
        )


def _seed(run: Snapshot) -> int | None:
    for seed in (run.config.get("seed"), run.info.get("seed")):
        if isinstance(seed, int) and not isinstance(seed, bool):
            return seed
    return None


def _finals(run: Snapshot) -> dict[str, float | None]:
    curves = {name: run.curve(name) for name in FINALS}
    return {
        name: float(curve[1][-1]) if curve is not None and len(curve[1]) else None
        for name, curve in curves.items()
    }


def _number(value: Any) -> float | None:
    number = as_number(value)
    return None if math.isnan(number) else number
