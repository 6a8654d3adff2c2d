"""Snapshots: what they keep, which series they have, and that they stand still."""

from __future__ import annotations

import numpy as np
import pytest

from grokscope import Run
from grokscope.analysis.comparison.snapshot import POINTS, Snapshot
from grokscope.store.tables import TableFile


def test_a_snapshot_of_a_snapshot_is_itself(finished):
    own = Snapshot.of(Run.open(finished))
    assert Snapshot.of(own) is own
    times = own.grokking_as_configured()
    assert times == Run.open(finished).grokking_as_configured()
    assert own.grokking_as_configured() is times


def test_every_series_of_one_number_a_row_is_there_once(finished):
    run = Snapshot(finished)
    names = [name for name, _ in run.curves()]
    assert len(names) == len(set(names))
    assert {"train_loss", "test_acc", "theory_train_loss", "gop/weight/trace"} <= set(names)
    assert {"gop/batch/trace[embed]", "gop/weight/rank[head]"} <= set(names)
    assert not {"epoch", "global_step", "step", "gop_trace", "gop/batch/epoch"} & set(names)
    assert not [name for name in names if "eigenvalues_top_k" in name or "layers" in name]


def test_values_are_those_of_the_run(finished):
    run, plain = Snapshot(finished), Run.open(finished).metrics
    for name, array, column in (
        ("train_loss", "train_loss", None),
        ("gop/weight/trace", "gop/weight/trace", None),
        ("gop/batch/grad_share[head]", "gop/batch/layers/grad_share", 1),
    ):
        epochs, values = run.curve(name)
        wanted = plain[array] if column is None else plain[array][:, column]
        np.testing.assert_array_equal(values, wanted)
        table = array.rpartition("/")[0]
        np.testing.assert_array_equal(epochs, plain[f"{table}/epoch" if table else "epoch"])
    assert all(run.curve(name) is curve for name, curve in Snapshot.curves(run))


@pytest.mark.parametrize(
    "name", ["none", "gop/batch/trace[other]", "gop/batch/trace[", "eigenvalues_top_k", "[]", ""]
)
def test_there_is_no_such_series(finished, name):
    assert Snapshot(finished).curve(name) is None


def test_each_array_is_read_once(finished, monkeypatch):
    seen = []
    plain = TableFile.read

    def read(self, table, column, **rows):
        seen.append((self.path.name, table, column))
        return plain(self, table, column, **rows)

    monkeypatch.setattr(TableFile, "read", read)
    run = Snapshot(finished)
    run.curve("test_loss")
    for _ in range(2):
        list(run.curves())
    assert len(seen) == len(set(seen))
    assert len([one for one in seen if one[2] == "test_loss"]) == 1


def test_long_series_are_thinned_on_a_logarithmic_axis(write, tmp_path):
    epochs = np.arange(6000)
    values = np.sqrt(epochs)
    values[10] = np.nan
    run = Snapshot(write(tmp_path / "long", {}, epochs, {"mine": values}))
    kept, found = run.curve("mine")
    assert len(kept) <= POINTS
    assert (kept[0], kept[-1]) == (0, 5999)
    np.testing.assert_array_equal(found, np.sqrt(kept))
    assert np.diff(np.log1p(kept))[kept[1:] > 300].max() < 2 * np.log(6000) / POINTS


def test_it_stands_still_while_the_run_goes_on(synthetic):
    for epoch in range(5):
        synthetic.write(epoch)
    run = Snapshot(synthetic.folder)
    assert len(run.curve("train_loss")[0]) == 5
    for epoch in range(5, 9):
        synthetic.write(epoch)
    assert len(run.curve("test_loss")[0]) == 5
    assert len(Snapshot(synthetic.folder).curve("test_loss")[0]) == 9
    synthetic.writer.close()


@pytest.mark.refusal
def test_a_damaged_array_is_named_with_its_run(write, tmp_path):
    folder = write(tmp_path / "run", {}, [-3, 0, 1], {"mine": [1.0, 2.0, 3.0]})
    with pytest.raises(ValueError, match=r"mine of .*run cannot be read: epochs must be >= 0"):
        Snapshot(folder).curve("mine")
