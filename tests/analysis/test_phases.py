"""Phases: the published definitions on made-up curves, tables, and the figure."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from grokscope.analysis.landscape import reduced_landscape, save_landscape
from grokscope.analysis.phases import phase, phase_table, save_phases

EPOCHS = np.arange(0, 5001, 10)


def curves(train_at, test_at):
    def curve(at):
        return np.where(at <= EPOCHS, 0.95, 0.3)

    return EPOCHS, curve(train_at), curve(test_at)


NEVER = 10**9


@pytest.mark.parametrize(
    ("train_at", "test_at", "name"),
    [
        (100, 300, "comprehension"),
        (300, 100, "comprehension"),
        (100, 1090, "comprehension"),
        (100, 1100, "grokking"),
        (100, 4900, "grokking"),
        (100, NEVER, "memorisation"),
        (NEVER, NEVER, "confusion"),
        (NEVER, 100, "confusion"),
    ],
)
def test_the_four_phases_of_table_one(train_at, test_at, name):
    assert phase(*curves(train_at, test_at)) == name


def test_thresholds_lag_and_budget_can_be_chosen():
    assert phase(*curves(100, 1500)) == "grokking"
    assert phase(*curves(100, 1500), lag=2000) == "comprehension"
    assert phase(*curves(100, 1500), budget=1500) == "memorisation"
    assert phase(*curves(100, 1500), budget=1501) == "grokking"
    assert phase(*curves(100, 1500), budget=100) == "confusion"
    assert phase(*curves(100, 1500), test=0.2) == "comprehension"
    assert phase(*curves(100, 1500), train=0.99) == "confusion"


def test_rows_that_were_not_measured_are_passed_over():
    epochs, train, test = curves(100, 300)
    train, test = train.copy(), test.copy()
    train[1::2] = test[1::2] = np.nan
    assert phase(epochs, train, test) == "comprehension"


def test_nine_of_ten_reach_nine_tenths():
    assert phase([0, 1, 2], [0.1, 0.9, 1.0], [0.0, 0.3, 9 / 10]) == "comprehension"


class Series(dict):
    def series(self, name):
        return self[name]


def fake(x, y, train_at, test_at):
    names = ("epoch", "train_acc", "test_acc")
    settings = {"model": {"optimizer": {"lr": x}}, "data": {"n_train": y}}
    metrics = Series(zip(names, curves(train_at, test_at), strict=True))
    return SimpleNamespace(metrics=metrics, config=settings, path="run")


def test_a_table_orders_its_axes_and_takes_the_commonest_phase_of_a_cell(tmp_path):
    runs = [
        fake(1e-2, 30, 100, 200),
        fake(1e-3, 30, 100, 2000),
        fake(1e-3, 30, 100, NEVER),
        fake(1e-3, 30, 100, NEVER),
        fake(1e-3, 10, NEVER, NEVER),
    ]
    table = phase_table(runs, "model.optimizer.lr", "data.n_train")
    assert table.x.tolist() == [1e-3, 1e-2]
    assert table.y.tolist() == [10, 30]
    assert table.phases.tolist() == [["confusion", "no run"], ["memorisation", "comprehension"]]
    assert table.letters() == ["MC", "X."]
    assert save_phases(table, tmp_path / "phases.png", "title").stat().st_size > 5_000


def point(alpha, train_loss, test_loss):
    rows = {"train_loss": train_loss, "test_loss": test_loss}
    metrics = Series(rows, train_acc=[0.0, 0.5, np.nan, 0.9], test_acc=[0.99, 0.4, 0.6, np.nan])
    metrics = Series({name: np.array(values) for name, values in metrics.items()})
    settings = {"model": {"after_step": {"alpha": alpha}}}
    return SimpleNamespace(metrics=metrics, config=settings, path="run")


def test_a_landscape_takes_the_best_of_each_run_but_its_start(tmp_path):
    runs = [
        point(2.0, [0.01, 0.5, 0.2, 0.3], [9.0, 7.0, np.nan, 8.0]),
        point(0.5, [5.0, 4.0, 3.0, 6.0], [1.0, 2.0, 3.0, 4.0]),
    ]
    found = reduced_landscape(runs)
    assert found.alpha.tolist() == [0.5, 2.0]
    assert found.train_loss.tolist() == [3.0, 0.2]
    assert found.test_loss.tolist() == [2.0, 7.0]
    assert found.train_acc.tolist() == [0.9, 0.9]
    assert found.test_acc.tolist() == [0.6, 0.6]
    assert save_landscape(found, tmp_path / "landscape.png").stat().st_size > 5_000


@pytest.mark.refusal
def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="runs must hold at least one run"):
        phase_table([], "a", "b")
    with pytest.raises(ValueError, match="runs must hold at least one run"):
        reduced_landscape([])
    with pytest.raises(ValueError, match=r"model\.seed must be a number in the settings of run"):
        phase_table([fake(1.0, 1, 1, 1)], "model.optimizer.lr", "model.seed")
    with pytest.raises(ValueError, match="lag must be an integer >= 1"):
        phase(*curves(1, 1), lag=0)
    with pytest.raises(ValueError, match="budget must be an integer >= 1"):
        phase(*curves(1, 1), budget=0)
