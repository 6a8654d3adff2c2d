"""How long runs take to generalise, seed by seed and setting by setting.

A run that does not generalise is not thrown away: its delay is longer than it lasted
(:mod:`grokscope.analysis.survival`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from grokscope.analysis.grokking import grokking_times
from grokscope.analysis.run import Run
from grokscope.analysis.sigmoid import sigmoid_fit
from grokscope.analysis.survival import SurvivalCurve, kaplan_meier
from grokscope.validation import require_choice, require_float

DEFINITIONS = ("threshold", "sigmoid")
SINCE = ("memorised", "start")
TRAINING = ("data", "net", "model", "ticket")
"""Sections of a configuration that decide what is learned; how long a run lasts is no setting."""


@dataclass(frozen=True)
class Delay:
    """Of one run.

    Attributes:
        time: Epochs until it generalised, or until it ended; NaN where left out.
        observed: Whether it generalised; otherwise its delay is longer than ``time``.
        standard_error: Of fitted times; NaN for thresholds.
        left_out: Why it says nothing; None if it does.
    """

    time: float
    observed: bool
    standard_error: float = math.nan
    left_out: str | None = None


@dataclass(frozen=True)
class DelayRow:
    """Runs that differ in their seeds alone.

    Attributes:
        settings: Dotted names and values of the settings that differ between the rows.
        runs: Number of runs.
        seeds: How many different seeds they have; a seed that came twice is no second sample.
        generalised: Those that did.
        left_out: Those that say nothing, such as those that did not even memorise.
        median: Kaplan-Meier median of the delay, epochs; infinite if fewer than half got there,
            NaN without runs.
        lower: Lower end of its interval.
        upper: Upper end.
        curve: The whole estimate; None without runs.
    """

    settings: dict[str, Any]
    runs: int
    seeds: int
    generalised: int
    left_out: int
    median: float
    lower: float
    upper: float
    curve: SurvivalCurve | None


def observed_delay(
    epochs: ArrayLike,
    train_acc: ArrayLike,
    test_acc: ArrayLike,
    *,
    definition: str = "threshold",
    since: str = "memorised",
    train: float = 0.99,
    test: float = 0.99,
    patience: int = 0,
) -> Delay:
    """The delay of a run, which may be known only to be longer than something.

    Args:
        epochs: (rows,) ascending.
        train_acc: (rows,) in [0, 1]; NaN rows are passed over.
        test_acc: (rows,) likewise.
        definition: ``threshold``: the run generalised when its test accuracy reached ``test`` and
            stayed for ``patience`` epochs. ``sigmoid``: whether it did is decided in the same
            way, but the time is the middle of the rise,
            :func:`~grokscope.analysis.sigmoid.sigmoid_fit`. So with memorising.
        since: Where time begins: ``memorised``, when the training accuracy reached ``train``; or
            ``start``, epoch 0.
        train: Threshold of the training accuracy, such as 0.95 or 0.99.
        test: Threshold of the test accuracy.
        patience: Epochs for which thresholds must hold.

    Returns:
        0 for a run that generalised before it memorised; censored at its last row for one that
        did not generalise; left out if it did not memorise where that counts, if there is no test
        accuracy, or if a sigmoid that is needed does not fit.

    Raises:
        ValueError: As :func:`~grokscope.analysis.grokking.grokking_times`, and for an unknown
            definition.
    """
    require_choice("definition", definition, DEFINITIONS)
    require_choice("since", since, SINCE)
    times = grokking_times(epochs, train_acc, test_acc, train=train, test=test, patience=patience)
    known = np.asarray(epochs, dtype=float)[np.isfinite(np.asarray(test_acc, dtype=float))]
    if not len(known):
        return _left_out("no test accuracy")
    begin, end = _Moment(0.0), _Moment(float(known[-1]))
    if since == "memorised":
        if times.memorised is None:
            return _left_out("did not memorise")
        begin = _moment("training", epochs, train_acc, times.memorised, definition)
    if observed := times.generalised is not None:
        end = _moment("test", epochs, test_acc, times.generalised, definition)
    if (failure := begin.failure or end.failure) is not None:
        return _left_out(failure)
    error = math.hypot(begin.error, end.error) or math.nan
    return Delay(max(0.0, end.time - begin.time), observed, error)


@dataclass(frozen=True)
class _Moment:
    """An epoch, its standard error (0 if it has none), and why there is none."""

    time: float
    error: float = 0.0
    failure: str | None = None


def _moment(
    split: str, epochs: ArrayLike, accuracy: ArrayLike, reached: int | None, definition: str
) -> _Moment:
    if definition == "threshold":
        assert reached is not None
        return _Moment(float(reached))
    fit = sigmoid_fit(epochs, accuracy)
    failure = None if fit.failure is None else f"no sigmoid of the {split} accuracy: {fit.failure}"
    return _Moment(fit.time, fit.standard_error, failure)


def _left_out(reason: str) -> Delay:
    return Delay(math.nan, False, left_out=reason)


def run_delay(run: Run, **definition: Any) -> Delay:
    """:func:`observed_delay` of a run, with the same settings."""
    series = map(run.metrics.series, ("epoch", "train_acc", "test_acc"))
    return observed_delay(*series, **definition)


def delay_table(
    runs: Iterable[Run], *, confidence: float = 0.95, **definition: Any
) -> list[DelayRow]:
    """Delays of the runs of a sweep: a row for each setting, over its seeds.

    Args:
        runs: Such as ``grokscope.runs("logs/multiruns/...")``.
        confidence: Of the medians' intervals.
        definition: Of :func:`observed_delay`.

    Returns:
        Rows in the order in which their settings first come. Runs are of one setting if their
        ``data``, ``net``, ``model``, ``ticket`` and precision agree but for seeds; they may last
        differently long.

    Raises:
        ValueError: If there is no run, and as :func:`observed_delay`.
    """
    require_float("confidence", confidence, above=0.0, below=1.0)
    groups: dict[str, list[Run]] = {}
    settings: dict[str, dict[str, Any]] = {}
    for run in runs:
        own = training_settings(run.config)
        groups.setdefault(repr(sorted(own.items())), []).append(run)
        settings.setdefault(repr(sorted(own.items())), own)
    if not groups:
        raise ValueError("runs must hold at least one run, got none.")
    differing = _differing(list(settings.values()))
    return [
        _row({name: settings[key].get(name) for name in differing}, group, confidence, definition)
        for key, group in groups.items()
    ]


def training_settings(config: dict[str, Any]) -> dict[str, Any]:
    """Dotted names and values of all that decides what a run learns, but for its seeds."""
    trainer = config.get("trainer")
    kept = {name: config[name] for name in TRAINING if name in config}
    if isinstance(trainer, dict) and "precision" in trainer:
        kept["trainer"] = {"precision": trainer["precision"]}
    # a subnetwork's own run differs from seed to seed
    return {n: v for n, v in _leaves(kept) if not n.endswith("seed") and n != "ticket.run"}


def _leaves(node: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in node.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _differing(several: list[dict[str, Any]]) -> list[str]:
    """Names whose values, or whose presence, are not the same in all."""
    names = dict.fromkeys(name for settings in several for name in settings)
    return [
        name
        for name in names
        if len({repr(settings[name]) if name in settings else None for settings in several}) > 1
    ]


def _row(
    settings: dict[str, Any], runs: list[Run], confidence: float, definition: dict[str, Any]
) -> DelayRow:
    delays = [run_delay(run, **definition) for run in runs]
    kept = [delay for delay in delays if delay.left_out is None]
    times, observed = [d.time for d in kept], [d.observed for d in kept]
    curve = kaplan_meier(times, observed, confidence=confidence) if kept else None
    middle = (curve.median, *curve.median_interval) if curve else (math.nan, math.nan, math.nan)
    seeds = {repr(run.config.get("seed")) for run in runs}
    counts = len(runs), len(seeds), sum(observed), len(runs) - len(kept)
    return DelayRow(settings, *counts, *middle, curve)
