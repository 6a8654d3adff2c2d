"""The stream finds what a search over the whole curve finds."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from grokscope.analysis import grokking_times
from grokscope.callbacks.detection import Detector

values = st.sampled_from([0.0, 0.05, 0.1, 0.3, 0.5, 0.6, 0.99, 0.995, 1.0, math.nan])
rows = st.lists(st.tuples(st.integers(1, 9), values, values), max_size=40)


def curves(drawn) -> tuple[list[int], list[float], list[float]]:
    epochs = np.cumsum([gap for gap, _, _ in drawn]) - (drawn[0][0] if drawn else 0)
    return epochs.tolist(), [a for _, a, _ in drawn], [b for _, _, b in drawn]


def observed(epochs, train, test, detector: Detector) -> Detector:
    for row in zip(epochs, train, test, strict=True):
        detector = detector.observe(*row)
    return detector


def slow_onset(epochs, train, test, times, patience: int) -> int | None:
    """By the words of the definition, with nothing remembered between rows."""
    if times.memorised is None:
        return None
    if times.generalised is not None and times.generalised <= times.memorised:
        return None
    later = [
        (e, a)
        for e, a in zip(epochs, test, strict=True)
        if e >= times.memorised and not math.isnan(a)
    ]
    for i, (epoch, value) in enumerate(later):
        lowest = min(a for _, a in later[: i + 1])
        level = lowest + 0.1 * (times.test - lowest)
        stays = all(a >= level for e, a in later[i:] if e <= epoch + patience)
        if lowest < times.test and value >= level and stays:
            return epoch
    return None


@given(rows, st.integers(0, 25), st.sampled_from([0.5, 0.99, 1.0]))
@example([(1, 1.0, 0.0), (1, 0.0, 0.0), (1, 1.0, 0.3), (1, 1.0, 1.0)], 1, 0.99)
@example([(1, 1.0, math.nan), (1, 0.0, 1.0)], 0, 0.5)
def test_the_stream_agrees_with_the_search_at_every_row(drawn, patience: int, threshold) -> None:
    epochs, train, test = curves(drawn)
    detector = Detector(0.99, threshold, patience)
    for end, row in enumerate(zip(epochs, train, test, strict=True), 1):
        detector = detector.observe(*row)
        known = epochs[:end], train[:end], test[:end]
        times = grokking_times(*known, train=0.99, test=threshold, patience=patience)
        events = detector.events(final=True)
        assert events.get("memorised") == times.memorised
        assert events.get("generalised") == times.generalised
        assert events.get("onset") == slow_onset(*known, times, patience)


@given(rows, st.integers(0, 25))
def test_what_was_certain_once_stays(drawn, patience: int) -> None:
    detector, certain = Detector(patience=patience), {}
    for row in zip(*curves(drawn), strict=True):
        detector = detector.observe(*row)
        events = detector.events()
        assert certain.items() <= events.items()
        certain = events


@given(rows, st.integers(0, 25), st.integers(0, 40))
def test_a_detector_goes_on_from_its_state(drawn, patience: int, cut: int) -> None:
    epochs, train, test = curves(drawn)
    first = observed(epochs[:cut], train[:cut], test[:cut], Detector(patience=patience))
    second = Detector(patience=patience).restored(first.state())
    assert second == first
    rest = epochs[cut:], train[cut:], test[cut:]
    assert observed(*rest, second) == observed(*rest, first)


def test_a_delayed_rise_has_its_onset_a_tenth_of_the_way_up() -> None:
    epochs = list(range(0, 1001, 10))
    train = [min(1.0, e / 50) for e in epochs]
    test = [0.2 if e < 500 else 0.2 + 0.8 * (e - 500) / 400 for e in epochs]
    test = [min(1.0, a) for a in test]
    events = observed(epochs, train, test, Detector()).events()
    level = 0.2 + 0.1 * (0.99 - 0.2)
    onset = next(e for e, a in zip(epochs, test, strict=True) if a >= level)
    assert events == {"memorised": 50, "onset": onset, "generalised": 900}
    assert 500 < onset < 550


def test_the_onset_is_measured_from_the_lowest_point_after_memorising() -> None:
    test = [0.4, 0.4, 0.3, 0.1, 0.1, 0.15, 0.2, 1.0]  # falls first, as in overfitting
    events = observed(range(8), [0, *[1] * 7], test, Detector()).events()
    assert events == {"memorised": 1, "onset": 6, "generalised": 7}


def test_no_onset_without_a_delay() -> None:
    events = observed(range(4), [0, 0, 1, 1], [0, 0.5, 1, 1], Detector()).events()
    assert events == {"memorised": 2, "generalised": 2}


def test_epoch_zero_counts() -> None:
    assert observed([0], [1.0], [0.0], Detector()).events() == {"memorised": 0}
    assert observed([0], [1.0], [0.0], Detector(patience=5)).events() == {}
    assert observed([0], [1.0], [0.0], Detector(patience=5)).events(True) == {"memorised": 0}


def test_an_event_waits_for_its_patience() -> None:
    detector = observed([0, 10, 19], [0, 1, 1], [0] * 3, Detector(patience=10))
    assert detector.events() == {}
    assert detector.observe(20, 1.0, 0.0).events() == {"memorised": 10}
    assert detector.observe(20, 0.5, 0.0).events(final=True) == {}
    assert detector.observe(21, 0.5, 0.0).events() == {"memorised": 10}


@pytest.mark.refusal
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"train": 0}, "thresholds.train must be a number > 0 and <= 1, got 0"),
        ({"test": 1.5}, "thresholds.test must be a number > 0 and <= 1, got 1.5"),
        ({"patience": -1}, "patience must be an integer >= 0, got -1"),
    ],
)
def test_wrong_thresholds_are_refused(arguments, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Detector(**arguments)
