"""Slingshots: a training loss that spikes when the last layer's norm has grown for long.

Needs numpy only: arrays of a run in, cycles out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from grokscope.validation import require_float, require_int

LEAST_RISE = 1e-6
"""Of the logarithm of a norm over a window; float32 does not show less."""

Array = NDArray[np.float64]


class HasMetrics(Protocol):
    """A run: ``grokscope.Run``."""

    @property
    def metrics(self) -> Mapping[str, Any]:
        """Name -> array over rows."""


@dataclass(frozen=True)
class Slingshot:
    """One cycle.

    Attributes:
        growth: Step at which the norm was first seen growing steadily.
        spike: First step of the spike.
        plateau: First step at which the norm was seen at rest after it; None if it was not.
        rate: Steepest growth of log norm a step in the growth phase, over a window.
        rise: Training loss at its highest in the spike over its minimum before; inf over a loss
            of 0, which float32 has.
    """

    growth: int
    spike: int
    plateau: int | None
    rate: float
    rise: float


def slingshots(
    steps: ArrayLike,
    last_layer_norm: ArrayLike,
    train_loss: ArrayLike,
    train_acc: ArrayLike,
    *,
    window: int = 100,
    low_loss: float = 1e-3,
    rise: float = 100.0,
    rest: float = 0.1,
) -> list[Slingshot]:
    r"""Cycles of norm growth, loss spike and norm plateau.

    The authors describe a slingshot and give no numbers: this definition is ours. From the
    first row with a training accuracy of 1 on,

    1. growth: over ``window`` steps :math:`\log \|W\|` rises, by more than 1e-6 and not slower
       than ``rest`` times the steepest so far, and every loss is below ``low_loss``;
    2. spike: at most ``window`` steps or one row later the loss is at least ``rise`` times its
       minimum since the last spike (or since memorising), and the accuracy below 1;
    3. plateau: over ``window`` steps after the spike, before the next, the slope of
       :math:`\log \|W\|` is below ``rest`` times that of the growth, in absolute value.

    A spike between two rows goes unseen, so rows should be a few steps apart.

    Args:
        steps: (rows,) ascending, not necessarily evenly spaced.
        last_layer_norm: (rows,) Frobenius norm of the classifier's weight, positive.
        train_loss: (rows,).
        train_acc: (rows,) in [0, 1].
        window: Steps over which slopes are taken.
        low_loss: Loss below which a net is in the growth phase.
        rise: Factor of a spike.
        rest: Share of the growth's slope that counts as rest.

    Returns:
        Cycles in order; those without a plateau have None there.

    Raises:
        ValueError: If the rows differ in number or are not in order, a norm is not positive,
            or a setting is out of range.

    Source:
        Thilak et al. 2022, arXiv:2206.04817, section 3 (the three phases in words).
    """
    require_int("window", window)
    require_float("low_loss", low_loss, above=0.0)
    require_float("rise", rise, above=1.0)
    require_float("rest", rest, above=0.0)
    t, norm, loss, acc = _rows(steps, last_layer_norm, train_loss, train_acc)
    back = _back(t, window)
    slope = _slopes(t, np.log(norm), back)
    spikes = _spikes(t, slope, back, loss, acc, (window, low_loss, rise, rest))
    ends = [*(spike.row for spike in spikes[1:]), len(t)]
    found = []
    for spike, end in zip(spikes, ends[: len(spikes)], strict=True):
        quiet = np.abs(slope) < rest * spike.rate
        rows = np.arange(spike.row + 1, end)
        still = rows[(back[rows] >= spike.row) & quiet[rows]]
        top = loss[spike.row : still[0] if len(still) else end].max()
        plateau = int(t[still[0]]) if len(still) else None
        times = int(t[spike.growth]), int(t[spike.row]), plateau
        risen = float(top / spike.lowest) if spike.lowest else float("inf")
        found.append(Slingshot(*times, spike.rate, risen))
    return found


@dataclass(frozen=True)
class _Spike:
    """Rows where growth began and the loss rose, growth's slope, smallest loss before."""

    growth: int
    row: int
    rate: float
    lowest: float


def _spikes(
    t: Array,
    slope: Array,
    back: NDArray[np.int64],
    loss: Array,
    acc: Array,
    settings: tuple[int, float, float, float],
) -> list[_Spike]:
    """Spikes that follow growth."""
    window, low_loss, rise, rest = settings
    low = np.append(0, np.cumsum(loss >= low_loss))  # low[b] == low[a]: none in [a, b) is high
    found: list[_Spike] = []
    begin = int(np.argmax(acc >= 1)) if (acc >= 1).any() else len(t)
    growth, last, rate, lowest = -1, -1, 0.0, np.inf
    for row in range(begin, len(t)):
        near = last >= 0 and (t[row] - t[last] <= window or last == row - 1)
        if near and loss[row] >= rise * lowest and acc[row] < 1:
            found.append(_Spike(growth, row, rate, lowest))
            begin, growth, last, rate, lowest = row + 1, -1, -1, 0.0, np.inf
            continue
        lowest = min(lowest, loss[row])
        enough = max(rest * rate, LEAST_RISE / window)
        if back[row] >= begin and low[row + 1] == low[back[row]] and slope[row] > enough:
            growth = int(back[row]) if growth < 0 else growth
            last, rate = row, max(rate, float(slope[row]))
    return found


def slingshots_of(
    run: HasMetrics, *, norm: str = "last_layer/norm", **settings: Any
) -> list[Slingshot]:
    """Slingshots of a run that recorded the norm of its last layer.

    The norm, which moves slowly, is interpolated at the rows of the losses.

    Args:
        run: A ``grokscope.Run``, finished or running.
        norm: Name of the series; its ``step`` is in the same group.
        settings: As for :func:`slingshots`.

    Returns:
        As :func:`slingshots`.

    Raises:
        ValueError: If the run has no such series.
    """
    if norm not in run.metrics:
        raise ValueError(
            f"norm must name a series of the run, got {norm!r}: record it with "
            "measures.progress.last_layer (experiment=thilak)."
        )
    folder = norm.rpartition("/")[0]
    norm_steps, norms = _aligned(run, f"{folder}/step", norm)
    steps, loss, acc = _aligned(run, "global_step", "train_loss", "train_acc")
    known = np.isfinite(loss) & np.isfinite(acc) & (steps <= norm_steps[-1])
    between = np.exp(np.interp(steps[known], norm_steps, np.log(norms)))
    return slingshots(steps[known], between, loss[known], acc[known], **settings)


def _aligned(run: HasMetrics, *names: str) -> list[Array]:
    """Series of one table; those of a running run may differ by the rows that came meanwhile."""
    found = [np.asarray(run.metrics[name], dtype=float) for name in names]
    return [values[: min(map(len, found))] for values in found]


def _rows(*series: ArrayLike) -> list[Array]:
    t, norm, loss, acc = arrays = [np.asarray(values, dtype=float) for values in series]
    if t.ndim != 1 or any(values.shape != t.shape for values in arrays):
        shapes = ", ".join(str(values.shape) for values in arrays)
        raise ValueError(f"steps, norms, losses and accuracies must be (rows,), got {shapes}.")
    if (np.diff(t) <= 0).any():
        raise ValueError("steps must ascend.")
    if not (norm > 0).all():
        raise ValueError(f"last_layer_norm must be positive, got {norm.min()}.")
    return [t, norm, loss, acc]


def _back(t: Array, window: int) -> NDArray[np.int64]:
    """For each row the last one at least ``window`` steps before; -1 where there is none."""
    return np.searchsorted(t, t - window, side="right") - 1


def _slopes(t: Array, values: Array, back: NDArray[np.int64]) -> Array:
    """Least-squares slopes since those rows; NaN where there is none."""
    slopes = np.full(len(t), np.nan)
    for row in np.flatnonzero(back >= 0):
        x, y = t[back[row] : row + 1], values[back[row] : row + 1]
        centred = x - x.mean()
        slopes[row] = centred @ y / (centred @ centred)
    return slopes
