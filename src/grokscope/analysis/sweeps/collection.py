"""A sweep as one table for a spreadsheet: ``sweep.csv``."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from grokscope.analysis.comparison import Snapshot, comparison_table, run_groups
from grokscope.analysis.run import Run, printable
from grokscope.analysis.sweeps.states import RunState

NAME = "sweep.csv"
MEASURED = (
    *("memorised", "generalised", "delay", "train_loss", "test_loss", "train_acc", "test_acc"),
    *("wall_seconds", "measure_seconds"),
)


def collect(found: Sequence[RunState]) -> list[dict[str, Any]]:
    """One row a run: number, state, a column for each key that was typed, what came out, path.

    ``memorised``, ``generalised`` and ``delay`` are epochs, by the run's own thresholds; losses
    and accuracies are the last finite ones. None is what a run does not have or never reached.
    """
    keys = list(dict.fromkeys(key for each in found for key in _settings(each)))
    return [_row(each, keys) for each in found]


def write_csv(rows: Sequence[dict[str, Any]], path: Path) -> Path:
    """Replace a file by these rows, with a line of names first; None is an empty field."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    draft = path.with_name(f".{path.name}.part")
    draft.write_text(text.getvalue(), encoding="utf-8")
    os.replace(draft, path)
    return path


def _row(state: RunState, keys: Sequence[str]) -> dict[str, Any]:
    settings = _settings(state)
    row: dict[str, Any] = {"run": state.run.number, "state": state.state}
    row |= {key: settings.get(key) for key in keys}
    row |= {"epoch": state.epoch, **_measured(state), "reason": state.reason or None}
    return row | {"path": printable(str(state.path))}


def _settings(state: RunState) -> dict[str, str]:
    pairs = (override.partition("=") for override in state.run.overrides)
    return {printable(key.lstrip("+~")): printable(value) for key, _, value in pairs}


def _measured(state: RunState) -> dict[str, Any]:
    """What came out; nothing for a run without rows, or whose files are damaged."""
    try:
        (row,) = comparison_table(run_groups([Snapshot.of(Run.open(state.path))]))
        return {name: getattr(row, name) for name in MEASURED}
    except (ValueError, OSError):
        return dict.fromkeys(MEASURED)
