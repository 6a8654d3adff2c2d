"""Optimizer steps at which a column crossed a value: papers count steps, runs count epochs."""

from __future__ import annotations

import numpy as np

from grokscope import Run


def step_of(run: Run, column: str, value: float) -> float | None:
    """First recorded step at which a column is at least so large; None: never."""
    steps, values = _series(run, column)
    reached = values >= value
    return float(steps[np.argmax(reached)]) if reached.any() else None


def at_step(run: Run, column: str, step: int) -> float:
    """A column at its last row up to a step."""
    steps, values = _series(run, column)
    return float(values[steps <= step][-1])


def _series(run: Run, column: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values; a column of a group, ``group/name``, has that group's steps."""
    group, slash, _ = column.rpartition("/")
    return run.metrics[f"{group}{slash}step"], run.metrics[column]
