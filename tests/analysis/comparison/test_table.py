"""The table: one plain row for each run."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest

from grokscope import Run
from grokscope.analysis.comparison.grouping import run_groups
from grokscope.analysis.comparison.table import comparison_table


def test_a_row_says_what_the_run_says(write, tmp_path):
    epochs = np.arange(5)
    curves = {
        "train_loss": [5.0, 4.0, 3.0, 2.0, np.nan],
        "test_loss": [5.0, 4.0, 3.0, 2.0, np.inf],
        "train_acc": [0.1, 1.0, 1.0, 1.0, 1.0],
        "test_acc": [0.1, 0.1, 0.1, 1.0, 0.8],
    }
    info = {"wall_seconds": 12.5, "measure_seconds": 2}
    write(tmp_path / "1", {"seed": 7, "net": {"width": 3}}, epochs, curves, **info)
    write(tmp_path / "2", {"seed": True, "net": {"width": 4}}, seed=3, wall_seconds="long")
    full, empty = comparison_table(run_groups(Run.open(tmp_path / n) for n in "12"))
    assert asdict(full) == {
        "path": str(tmp_path / "1"),
        "label": "width=3",
        "seed": 7,
        "status": "finished",
        "memorised": 1,
        "generalised": 3,
        "delay": 2,
        "train_loss": 2.0,
        "test_loss": 2.0,
        "train_acc": 1.0,
        "test_acc": 0.8,
        "wall_seconds": 12.5,
        "measure_seconds": 2.0,
    }
    said = {name: value for name, value in asdict(empty).items() if value is not None}
    assert said == {
        "path": str(tmp_path / "2"),
        "label": "width=4",
        "seed": 3,
        "status": "finished",
    }


def test_rows_are_plain_and_come_group_by_group(write, tmp_path):
    for number, width in enumerate((8, 4, 8)):
        curves = {"test_acc": np.linspace(0, 1, 9), "train_acc": np.ones(9)}
        write(tmp_path / str(number), {"w": width, "seed": number}, np.arange(9), curves)
    rows = comparison_table(run_groups(Run.open(tmp_path / n) for n in "012"))
    assert [(row.label, row.seed) for row in rows] == [("w=8", 0), ("w=8", 2), ("w=4", 1)]
    assert json.loads(json.dumps([asdict(row) for row in rows]))[0]["generalised"] == 8


def test_times_are_by_the_own_thresholds_of_a_run(write, tmp_path):
    curves = {"test_acc": np.linspace(0, 1, 11), "train_acc": np.ones(11)}
    for threshold in (0.45, 0.85):
        config = {"thresholds": {"train": 0.5, "test": threshold}}
        write(tmp_path / str(threshold), config, np.arange(11), curves)
    runs = [Run.open(path) for path in sorted(tmp_path.iterdir())]
    assert [row.generalised for row in comparison_table(run_groups(runs))] == [5, 9]


@pytest.mark.refusal
def test_a_damaged_run_is_named(write, tmp_path):
    folder = write(tmp_path / "run", {"thresholds": {"train": "most"}}, [0], {})
    with pytest.raises(ValueError, match=r"thresholds\.train of .*config\.yaml must be a number"):
        comparison_table(run_groups([Run.open(folder)]))
