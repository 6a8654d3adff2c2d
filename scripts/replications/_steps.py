"""Optimizer steps at which a column crossed a value: papers count steps, runs count epochs."""

from __future__ import annotations

from grokscope import Run
from replications.claims import first, series


def step_of(run: Run, column: str, value: float) -> float | None:
    """First recorded step at which a column is at least so large; None: never."""
    return first(run, column, lambda values: values >= value, clock="step")


def at_step(run: Run, column: str, step: int) -> float:
    """A column at its last row up to a step."""
    steps, values = series(run, column, "step")
    return float(values[steps <= step][-1])
