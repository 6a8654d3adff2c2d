"""Reads one curve of a run: a column of its metrics over the epochs of its group."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from grokscope import Run
from replications.claims import Claim, between, first_above, series

Runs = dict[str, Run]
RECORD_NOTHING = "callbacks.gop.progress={}"


def curve(run: Run, column: str) -> tuple[NDArray, NDArray]:
    """Epochs and values; the mean over layers where there are several values a row."""
    epochs, values = series(run, column)
    return epochs, np.asarray(values, dtype=float).reshape(len(values), -1).mean(1)


def value_at(run: Run, column: str, epoch: float) -> float:
    """At the recorded epoch that is nearest."""
    epochs, values = curve(run, column)
    return float(values[np.argmin(np.abs(epochs - epoch))])


def final(run: Run, column: str) -> float:
    """The last row, of any group."""
    return float(curve(run, column)[1][-1])


def first_epoch(run: Run, column: str, test: Callable[[NDArray], NDArray]) -> float | None:
    """First recorded epoch whose value passes; None: never."""
    epochs, values = curve(run, column)
    passed = test(values)
    return float(epochs[np.argmax(passed)]) if passed.any() else None


def quotient(above: float | None, below: float | None) -> float | None:
    """None if one of the two is missing; below the first epoch counts as epoch 1."""
    return None if above is None or below is None else above / max(below, 1.0)


def delay(runs: Runs, run: str, train: float = 0.99, test: float = 0.99) -> float | None:
    """Epochs to a test accuracy over epochs to a training accuracy."""
    memorised = first_above(runs[run], "train_acc", train)
    return quotient(first_above(runs[run], "test_acc", test), memorised)


def largest(runs: Runs, run: str, column: str) -> float:
    return float(np.max(curve(runs[run], column)[1]))


def smallest(runs: Runs, run: str, column: str) -> float:
    return float(np.min(curve(runs[run], column)[1]))


def of_accuracy(says: str, source: str, published: str, run: str, accuracy: float) -> Claim:
    """The best test accuracy of a run is at least this."""
    measure = partial(largest, run=run, column="test_acc")
    return Claim(says, source, published, measure, between(accuracy, 1), f">= {accuracy:g}")
