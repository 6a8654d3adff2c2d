"""What a run is predicted to store, against what it stores."""

from __future__ import annotations

import pytest
import small
import torch

from grokscope.callbacks import GOPCallback
from grokscope.callbacks.epochs import Every, Log
from grokscope.callbacks.recorder import densest
from grokscope.callbacks.schedule import adaptive, at, parse_schedule
from grokscope.store import TableFile


def forecast(callback, epochs, steps=1):
    return callback.forecast(small.module(), epochs, steps, torch.float32)


def by_table(parts):
    tables = [part for part in parts if part.name != "epoch_<n>"]
    return {(p.file, "" if p.name == "top level" else p.name): p for p in tables}


def fit(callback, epochs, folder, batch_size=None):
    callback.output_dir = folder
    small.trainer(epochs, [callback], folder).fit(
        small.module(), datamodule=small.data(batch_size)
    )


def measured(folder):
    """(file, table) -> rows, and bytes of a row."""
    found = {}
    for path in folder.glob("*.h5"):
        for table, columns in TableFile(path).everything():
            rows = len(columns["epoch"])
            size = sum(column.nbytes for column in columns.values())
            found[path.name, table] = rows, size // rows
    return found


@pytest.mark.parametrize("batch_size", [None, 10])
def test_rows_and_bytes_of_every_table_are_those_that_a_run_writes(tmp_path, batch_size):
    kinds = ("batch", "weight", "trajectory")
    schedule = {"metrics": "every 3", "batch": "every 2", "factor": "log 5"}
    parts = by_table(forecast(GOPCallback(kinds, schedule), 20, 1 if batch_size is None else 3))
    fit(GOPCallback(kinds, schedule), 20, tmp_path, batch_size)
    actual = measured(tmp_path)
    assert {key: (part.rows, part.row_bytes) for key, part in parts.items()} == actual
    assert parts["metrics.h5", ""].setting == "schedule.metrics and schedule.batch"
    assert parts["gop_full.h5", "batch"].setting == "schedule.factor"
    assert not any(part.basis for part in parts.values())


def test_dense_matrices_are_counted_only_on_request():
    schedule = {"factor": "every 5"}
    plain, dense = (
        forecast(GOPCallback(schedule=schedule, top_k=2, dense=dense), 20, 3)
        for dense in (False, True)
    )
    assert dense[: len(plain)] == plain
    m, sides = 336, (224, 112, 16, 7)
    raw = {"gop_full.h5": m * m + 2 * m, "gop_layers.h5": sum(side**2 for side in sides)}
    for part in dense[len(plain) :]:
        assert (part.name, part.rows) == ("epoch_<n> gop", 4)
        assert part.setting == "storage.dense and schedule.factor"
        assert 0 < part.row_bytes - 4 * raw.pop(part.file) < 20_000
    assert not raw


def test_kinds_at_a_probe_are_at_most_as_large(tmp_path):
    arguments = {"kinds": ("sample", "input"), "schedule": "log 5", "probe": 8}
    parts = by_table(forecast(GOPCallback(**arguments), 10))
    fit(GOPCallback(**arguments), 10, tmp_path)
    actual = measured(tmp_path)
    assert parts.keys() == actual.keys()
    for key, (rows, row_bytes) in actual.items():
        assert parts[key].rows == rows
        assert row_bytes <= parts[key].row_bytes


def test_an_adaptive_schedule_counts_as_dense_throughout(tmp_path):
    schedule = "adaptive log 2 to every 2 above 0.1"
    parts = by_table(forecast(GOPCallback(("batch",), schedule), 40))
    part = parts["metrics.h5", "gop/batch"]
    assert part.rows == len({0, 1, 3, *range(0, 40, 2)} | set(Log(2).epochs(40)))
    assert part.basis == "as dense as 'log 2' + 'every 2' throughout"
    fit(GOPCallback(("batch",), schedule), 40, tmp_path)
    assert all(rows <= parts[key].rows for key, (rows, _) in measured(tmp_path).items())


def test_the_densest_of_a_union_has_every_part():
    follows = adaptive(Log(2), Every(7)) | at([5])
    assert densest(follows).fixed
    assert densest(follows).epochs(15) == [0, 1, 3, 5, 7, 10, 14]
    assert densest(Every(3)) == Every(3)
    assert densest(parse_schedule("x", "log 3 + every 9")).fixed


def test_the_memory_of_the_kinds_counts_for_a_checkpoint():
    callback = GOPCallback(("batch", "trajectory", "sample"), trajectory_window=5)
    callback.check_module(small.module())
    m = 14 * 16 + 16 * 7
    state = callback.state_bytes(3, torch.float32)
    assert state == 3 * 4 * m + 8 * 5 * (m + 2 * 5) + 4 * 10 * m
