"""Delays of runs: drawn curves, fits with a known middle, and tables over seeds."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest

from grokscope import runs
from grokscope.analysis.delays import delay_table, observed_delay, run_delay, training_settings
from grokscope.analysis.sigmoid import sigmoid_fit

EPOCHS = np.arange(0, 2001, 10)
NEVER = 10**9


def step(at, epochs=EPOCHS):
    return np.where(epochs >= at, 1.0, 0.1)


def rise(epochs, middle, width=0.2, low=0.1, high=0.99):
    x = np.log(np.maximum(epochs, 1e-3) / middle) / width
    return low + (high - low) / (1 + np.exp(-x))


def test_the_delay_of_a_run_that_generalised():
    found = observed_delay(EPOCHS, step(100), step(700))
    assert (found.time, found.observed, found.left_out) == (600, True, None)
    assert observed_delay(EPOCHS, step(100), step(700), since="start").time == 700


def test_a_run_that_never_generalised_is_censored_at_its_last_test_accuracy():
    found = observed_delay(EPOCHS, step(100), step(NEVER))
    assert (found.time, found.observed, found.left_out) == (1900, False, None)
    test = step(NEVER)
    test[-5:] = np.nan
    assert observed_delay(EPOCHS, step(100), test, since="start").time == 1950


def test_generalising_before_memorising_is_no_delay():
    assert observed_delay(EPOCHS, step(700), step(100)).time == 0


def test_runs_that_say_nothing_are_left_out():
    found = observed_delay(EPOCHS, step(NEVER), step(100))
    assert (found.left_out, found.observed) == ("did not memorise", False)
    assert math.isnan(found.time)
    assert observed_delay(EPOCHS, step(NEVER), step(100), since="start").time == 100
    nothing = np.full(len(EPOCHS), np.nan)
    assert observed_delay(EPOCHS, step(10), nothing).left_out == "no test accuracy"


def test_thresholds_and_patience_decide():
    epochs, test = [0, 10, 20, 30, 40, 50], [0.0, 0.96, 0.5, 0.96, 0.995, 1.0]
    train = [0.96, 1.0, 1.0, 1.0, 1.0, 1.0]

    def time(**settings):
        return observed_delay(epochs, train, test, **settings).time

    assert time() == 40 - 10
    assert time(train=0.95, test=0.95) == 10 - 0
    assert time(train=0.95, test=0.95, patience=10) == 30 - 0


def test_fits_move_times_to_the_middles_of_the_rises():
    train, test = rise(EPOCHS, 100.0, high=1.0), rise(EPOCHS, 400.0, high=1.0)
    found = observed_delay(EPOCHS, train, test, definition="sigmoid")
    assert found.time == pytest.approx(300, rel=0.01)
    fits = sigmoid_fit(EPOCHS, train), sigmoid_fit(EPOCHS, test)
    errors = [fit.standard_error for fit in fits]
    assert found.standard_error == pytest.approx(math.hypot(*errors))
    from_start = observed_delay(EPOCHS, train, test, definition="sigmoid", since="start")
    assert (from_start.time, from_start.standard_error) == (fits[1].time, errors[1])
    by_threshold = observed_delay(EPOCHS, train, test)
    assert by_threshold.time > 500
    assert math.isnan(by_threshold.standard_error)
    never = observed_delay(EPOCHS, train, 0.9 * test, definition="sigmoid")
    assert (never.time, never.observed) == (2000 - fits[0].time, False)


def test_a_run_whose_fit_fails_is_left_out_with_the_reason():
    few = [0, 1, 2, 3], [0.0, 1.0, 1.0, 1.0], [0.0, 0.0, 1.0, 1.0]
    found = observed_delay(*few, definition="sigmoid", since="start")
    reason = "no sigmoid of the test accuracy: it has 3 rows that can be told apart, and needs 6"
    assert found.left_out == reason
    found = observed_delay(*few, definition="sigmoid")
    assert found.left_out.startswith("no sigmoid of the training accuracy")


@pytest.mark.parametrize("epochs", [np.arange(3001), np.unique(np.geomspace(1, 3000, 60) // 1)])
def test_the_fit_finds_the_middle_whatever_the_schedule(epochs):
    found = sigmoid_fit(epochs, rise(epochs, 250.0))
    assert found.failure is None
    assert found.time == pytest.approx(250, rel=0.01)
    assert (found.low, found.high) == pytest.approx((0.1, 0.99), abs=0.01)
    assert found.width == pytest.approx(0.2, abs=0.02)


def test_the_standard_error_is_that_of_repeated_fits():
    rng, epochs = np.random.default_rng(0), np.geomspace(1, 10_000, 80)
    fits = [
        sigmoid_fit(epochs, rise(epochs, 300.0) + 0.03 * rng.standard_normal(80))
        for _ in range(100)
    ]
    assert all(fit.failure is None for fit in fits)
    spread = np.std([fit.time for fit in fits])
    assert np.median([fit.standard_error for fit in fits]) == pytest.approx(spread, rel=0.25)
    deviations = [(fit.time - 300) / fit.standard_error for fit in fits]
    assert np.mean(np.abs(deviations) < 1.96) > 0.88


def test_a_jump_between_two_rows_is_in_the_middle_of_their_logarithms():
    epochs = np.array([1, 2, 5, 10, 20, 50, 100, 200, 500, 1000])
    found = sigmoid_fit(epochs, step(200, epochs))
    assert found.time == pytest.approx(math.sqrt(100 * 200))
    assert found.standard_error == pytest.approx(found.time * math.log(2) / math.sqrt(12))


@pytest.mark.parametrize(
    ("accuracy", "reason"),
    [
        (np.full(201, 0.5), "accuracy rises by less than 0.2"),
        (np.linspace(0.9, 0.1, 201), "accuracy rises by less than 0.2"),
        (rise(EPOCHS, 3000.0, 0.5, 0.0, 1.0), "the middle of the rise is not between"),
        (np.where(EPOCHS == 200, 0.9, 0.1), "the sigmoid rises by less than 0.2"),
    ],
)
def test_what_does_not_rise_has_no_fit_and_says_so(accuracy, reason):
    found = sigmoid_fit(EPOCHS, accuracy)
    assert math.isnan(found.time)
    assert found.failure.startswith(reason)


class Series(dict):
    def series(self, name):
        return self[name]


def fake(decay, seed, train_at, test_at, last=2000):
    epochs = np.arange(0, last + 1, 10)
    metrics = {
        "epoch": epochs,
        "train_acc": step(train_at, epochs),
        "test_acc": step(test_at, epochs),
    }
    config = {
        "seed": seed,
        "paths": {"run_dir": f"logs/{seed}"},
        "data": {"n_train": 50, "seed": seed},
        "net": {"width": 8, "seed": seed},
        "model": {"optimizer": {"weight_decay": decay}, "label_seed": seed},
        "ticket": {"run": f"logs/first/{seed}"},
        "trainer": {"max_epochs": last, "precision": "32-true"},
    }
    return SimpleNamespace(metrics=Series(metrics), config=config)


def test_a_table_has_a_row_for_each_setting_over_its_seeds():
    found = delay_table(
        [
            fake(1.0, 0, 100, 300),
            fake(0.1, 0, 100, NEVER),
            fake(1.0, 1, 100, 400),
            fake(1.0, 2, 100, NEVER, last=1000),
            fake(0.1, 1, 100, 900),
            fake(0.1, 1, NEVER, NEVER),
            fake(0.1, 2, 100, NEVER),
        ]
    )
    assert [row.settings for row in found] == [
        {"model.optimizer.weight_decay": 1.0},
        {"model.optimizer.weight_decay": 0.1},
    ]
    first, second = found
    assert (first.runs, first.seeds, first.generalised, first.left_out) == (3, 3, 2, 0)
    assert (first.median, first.lower) == (300, 200)
    assert first.curve.times.tolist() == [200, 300, 900]
    np.testing.assert_allclose(first.curve.survival, [2 / 3, 1 / 3, 1 / 3])
    assert (second.runs, second.seeds, second.generalised, second.left_out) == (4, 3, 1, 1)
    assert second.median == math.inf


def test_a_setting_whose_runs_say_nothing_has_no_median():
    (row,) = delay_table([fake(1.0, 0, NEVER, NEVER)])
    assert (row.settings, row.runs, row.left_out, row.curve) == ({}, 1, 1, None)
    assert math.isnan(row.median)


def test_the_definition_and_the_confidence_reach_the_rows():
    group = [fake(1.0, seed, 100, 300 + 10 * seed) for seed in range(12)]
    (by_memorising,) = delay_table(group)
    (by_start,) = delay_table(group, since="start", confidence=0.5)
    assert by_start.median == by_memorising.median + 100
    assert by_start.curve.confidence == 0.5
    width = by_memorising.upper - by_memorising.lower
    assert 0 < by_start.upper - by_start.lower < width < math.inf


def test_settings_are_what_training_depends_on_without_seeds():
    assert training_settings(fake(1.0, 3, 1, 1).config) == {
        "data.n_train": 50,
        "net.width": 8,
        "model.optimizer.weight_decay": 1.0,
        "trainer.precision": "32-true",
    }
    assert training_settings({}) == {}


def test_runs_on_disk_have_delays(finished):
    (run,) = runs(finished)
    times = run.grokking()
    found = run_delay(run)
    assert (found.time, found.observed) == (times.delay, True)
    (row,) = delay_table([run], train=0.9, test=0.9)
    again = run.grokking(0.9, 0.9)
    assert (row.median, row.generalised) == (again.delay, 1)


REFUSED = [
    (lambda: delay_table([]), "runs must hold at least one run"),
    (lambda: delay_table([], confidence=2.0), "confidence must be a number > 0 and < 1"),
    (lambda: observed_delay([1], [1], [1], definition="best"), "definition must be one of thr"),
    (lambda: observed_delay([1], [1], [1], since="birth"), "since must be one of memorised"),
    (lambda: observed_delay([1], [1], [1], test=1.5), "test must be a number > 0"),
    (lambda: observed_delay([1], [1], [1, 2]), "must be .rows,. each"),
    (lambda: sigmoid_fit([1, 2], [1]), r"must be \(rows,\) each, got \(2,\) and \(1,\)"),
    (lambda: sigmoid_fit([1], [1], rows_per_decade=0), "rows_per_decade must be an integer"),
    (lambda: sigmoid_fit([1], [1], smallest_rise=0.0), "smallest_rise must be a number > 0"),
]


@pytest.mark.refusal
@pytest.mark.parametrize(("call", "reason"), REFUSED)
def test_what_cannot_be_is_refused(call, reason):
    with pytest.raises(ValueError, match=reason):
        call()
