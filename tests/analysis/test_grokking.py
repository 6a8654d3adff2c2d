"""Grokking times of curves drawn by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from grokscope.analysis import grokking_times

EPOCHS = [0, 1, 2, 5, 10, 100, 1000, 5000]
TRAIN = [0.1, 0.5, 0.99, 1.0, 1.0, 1.0, 1.0, 1.0]
TEST = [0.0, 0.1, 0.1, 0.1, 0.2, 0.3, 0.995, 1.0]


def test_the_first_recorded_epoch_at_the_threshold_counts():
    times = grokking_times(EPOCHS, TRAIN, TEST)
    assert (times.memorised, times.generalised) == (2, 1000)
    assert (times.delay, times.ratio) == (998, 500)
    assert (times.train, times.test, times.patience) == (0.99, 0.99, 0)


def test_thresholds_are_apart_for_both_accuracies():
    times = grokking_times(EPOCHS, TRAIN, TEST, train=0.5, test=0.3)
    assert (times.memorised, times.generalised) == (1, 100)
    assert grokking_times(EPOCHS, TRAIN, TEST, test=1.0).generalised == 5000


def test_what_never_happens_is_none():
    times = grokking_times(EPOCHS, TRAIN, np.zeros(8))
    assert (times.generalised, times.delay, times.ratio) == (None, None, None)
    never = grokking_times(EPOCHS, np.zeros(8), TEST)
    assert (never.memorised, never.delay, never.ratio) == (None, None, None)


def test_a_run_without_rows_has_no_times():
    assert grokking_times([], [], []).memorised is None


def test_memorising_at_epoch_zero_has_a_delay_and_no_ratio():
    times = grokking_times([0, 7], [1, 1], [0, 1])
    assert (times.memorised, times.delay, times.ratio) == (0, 7, None)


@pytest.mark.parametrize(
    ("patience", "epoch"), [(0, 10), (9, 10), (10, 40), (59, 40), (60, 200), (10**6, 200)]
)
def test_patience_passes_over_crossings_that_do_not_last_in_epochs(patience, epoch):
    epochs = [0, 10, 20, 40, 100, 200, 300]
    accuracy = [0, 1, 0, 1, 0, 1, 1]
    times = grokking_times(epochs, accuracy, accuracy, patience=patience)
    assert times.memorised == times.generalised == epoch


def test_rows_that_were_not_measured_are_passed_over():
    nan = math.nan
    times = grokking_times([0, 1, 2, 3, 4], [nan, 1, nan, 1, nan], [nan] * 5, patience=3)
    assert (times.memorised, times.generalised) == (1, None)


def test_a_vectorised_search_equals_the_slow_definition():
    rng = np.random.default_rng(0)
    for _ in range(50):
        epochs = np.cumsum(rng.integers(1, 9, size=60))
        accuracy = rng.choice([0.5, 1.0, np.nan], size=60, p=[0.15, 0.7, 0.15])
        patience = int(rng.integers(0, 40))
        slow = next(
            (
                epoch
                for epoch, value in zip(epochs, accuracy, strict=True)
                if value == 1
                and not np.any((accuracy < 0.9) & (epochs >= epoch) & (epochs <= epoch + patience))
            ),
            None,
        )
        assert grokking_times(epochs, accuracy, accuracy, patience=patience).memorised == slow


@pytest.mark.refusal
@pytest.mark.parametrize("name", ["train", "test"])
@pytest.mark.parametrize("value", [0, -1, 1.01, math.nan, "0.9", True])
def test_a_threshold_outside_its_range_is_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} must be a number > 0 and <= 1"):
        grokking_times(EPOCHS, TRAIN, TEST, **{name: value})


@pytest.mark.refusal
@pytest.mark.parametrize("patience", [-1, 1.5, True])
def test_a_patience_that_is_no_number_of_epochs_is_refused(patience):
    with pytest.raises(ValueError, match="patience must be an integer >= 0"):
        grokking_times(EPOCHS, TRAIN, TEST, patience=patience)


@pytest.mark.refusal
def test_curves_of_different_length_are_refused():
    with pytest.raises(ValueError, match=r"must be \(rows,\) each, got \(8,\), \(8,\), \(7,\)"):
        grokking_times(EPOCHS, TRAIN, TEST[1:])
