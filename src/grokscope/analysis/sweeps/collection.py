"""A sweep as one table for a spreadsheet: ``sweep.csv``."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from grokscope.analysis.comparison import Snapshot, comparison_table, run_groups
from grokscope.analysis.run import Run, printable
from grokscope.analysis.sweeps.states import MISSING, RunState
from grokscope.store.replacing import replace_text

NAME = "sweep.csv"
MEASURED = (
    *("memorised", "generalised", "delay", "train_loss", "test_loss", "train_acc", "test_acc"),
    *("wall_seconds", "measure_seconds"),
)
OWN = ("run", "state", "epoch", *MEASURED, "reason", "path")  # columns that are no settings
DELETED = "~"  # in the column of a setting that a run has deleted: ~key
FORMULA = ("=", "+", "-", "@")  # with which a spreadsheet begins to compute
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)


def collect(found: Sequence[RunState]) -> list[dict[str, Any]]:
    """One row a run: number, state, a column for each key that was typed, what came out, path.

    A key that is also the name of another column has ``override `` before it. Values are as they
    were typed, quotes included. ``memorised``, ``generalised`` and ``delay`` are epochs, by the
    run's own thresholds; losses and accuracies are the last finite ones. Seconds are those of all
    parts of a run that was resumed. None is what a run does not have or never reached.
    """
    keys = list(dict.fromkeys(key for each in found for key in _settings(each)))
    return [_row(each, keys) for each in found]


def write_csv(rows: Sequence[dict[str, Any]], path: Path) -> Path:
    """Replace a file by these rows, with a line of names first; None is an empty field.

    Text that a spreadsheet would take for a formula gets an apostrophe before it: a sweep may be
    a stranger's. Numbers stay what they are.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for line in ([*rows[0]] if rows else [], *([*row.values()] for row in rows)):
        writer.writerow([_harmless(value) for value in line])
    return replace_text(path, text.getvalue())


def _row(state: RunState, keys: Sequence[str]) -> dict[str, Any]:
    settings = _settings(state)
    row: dict[str, Any] = {"run": state.run.number, "state": printable(state.state)}
    row |= {key: settings.get(key) for key in keys}
    row |= {"epoch": state.epoch, **_measured(state), "reason": state.reason or None}
    return row | {"path": printable(str(state.path))}


def _settings(state: RunState) -> dict[str, str]:
    found = {}
    for override in state.run.overrides:
        typed, is_set, value = override.partition("=")
        key = printable(typed.lstrip("+~"))
        key = f"override {key}" if key in OWN else key
        found[key] = DELETED if typed.startswith("~") and not is_set else printable(value)
    return found


def _measured(state: RunState) -> dict[str, Any]:
    """What came out; nothing for a run without rows, or whose files are damaged."""
    nothing = dict.fromkeys(MEASURED)
    if state.state == MISSING:
        return nothing
    try:
        (row,) = comparison_table(run_groups([Snapshot.of(Run.open(state.path))]))
        return {name: getattr(row, name) for name in MEASURED}
    except (ValueError, OSError):
        return nothing


def _harmless(value: Any) -> Any:
    if isinstance(value, str) and value.startswith(FORMULA) and not NUMBER.fullmatch(value):
        return f"'{value}"
    return value
