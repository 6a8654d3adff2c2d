"""Fourier pictures of a net on Z/p while it trains: norms of components, and circles."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from grokscope.analysis.figures.style import NEUTRAL, TEST, TRAIN, drawable, plain
from grokscope.analysis.run import Run
from grokscope.validation import require_int

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = NDArray[np.float64]
Update = Callable[[int], None]  # shows a row

MOST_CIRCLES = 4


@dataclass(frozen=True)
class FourierNorms:
    """Norms of the Fourier components of one matrix of a net on Z/p, over epochs.

    Attributes:
        name: Of the matrix, such as ``W_E``.
        epochs: (n,) ascending.
        values: (n, p): the constant, then cos and sin of frequencies 1 to (p - 1) / 2 in turn.
    """

    name: str
    epochs: Array
    values: Array


@dataclass(frozen=True)
class Circles:
    """What the numbers 0 to p - 1 are embedded as, seen along some frequencies, over epochs.

    Attributes:
        name: Of the embedding.
        epochs: (n,) ascending.
        values: (n, p, d): a vector for each number.
        frequencies: One to four of 1 to (p - 1) / 2, a picture each.
    """

    name: str
    epochs: Array
    values: Array
    frequencies: tuple[int, ...]


def fourier_norms(run: Run, matrix: str = "W_E", group: str = "circuits") -> FourierNorms:
    """Those that :class:`~grokscope.callbacks.families.circuits.CircuitProgress` has recorded.

    Args:
        run: Of the one-layer transformer on modular addition.
        matrix: ``W_E``, the embedding, or ``W_L``, from neurons to logits.
        group: Name of the measure.

    Raises:
        ValueError: If the run did not record them, or not for an odd p.
    """
    metrics, name = run.metrics, f"{group}/{matrix}_fourier_norms"
    if name not in metrics:
        raise ValueError(f"run must have recorded {name}, got {run.path}, which has not.")
    values = np.asarray(metrics[name], dtype=float)
    if values.ndim != 2 or values.shape[1] % 2 == 0 or values.shape[1] < 3:
        raise ValueError(f"{name} must be (rows, p) with an odd p, got {values.shape}.")
    epochs = np.asarray(metrics[f"{group}/epoch"], dtype=float)
    rows = min(len(values), len(epochs))  # of a run that goes on
    return FourierNorms(matrix, epochs[:rows], values[:rows])


def start_fourier(norms: FourierNorms, figure: Figure) -> Update:
    """Bars of cos and sin by frequency; the constant stands at 0."""
    axis = figure.subplots()
    values = np.where(drawable(norms.values), norms.values, 0.0)
    frequency = np.arange(1, values.shape[1] // 2 + 1)
    constant = axis.bar([0], values[0, :1], 0.8, color=NEUTRAL, label="constant")
    cos = axis.bar(frequency - 0.2, values[0, 1::2], 0.4, color=TRAIN, label="cos")
    sin = axis.bar(frequency + 0.2, values[0, 2::2], 0.4, color=TEST, label="sin")
    axis.set(ylim=(0, values.max() * 1.05 or 1.0), xlim=(-1, frequency[-1] + 1))
    axis.set(xlabel="frequency", ylabel=f"norm of the Fourier component of {plain(norms.name)}")
    axis.grid(axis="x", visible=False)
    figure.legend(loc="outside lower center", ncols=3)

    def update(row: int) -> None:
        parts = ((constant, values[row, :1]), (cos, values[row, 1::2]), (sin, values[row, 2::2]))
        for bars, heights in parts:
            for bar, height in zip(bars, heights, strict=True):
                bar.set_height(height)

    return update


def circle_positions(embedding: Array, frequency: int) -> Array:
    r"""The embedded numbers along the directions of cos and sin of a frequency, (p, 2).

    .. math:: u = \sum_a \cos(2\pi k a / p)\, W_a, \quad v = \sum_a \sin(2\pi k a / p)\, W_a,
              \quad a \mapsto (W_a \cdot u / |u|, \; W_a \cdot v / |v|)

    A net that has built that frequency's circuit shows its numbers on an ellipse, in the order
    of k a mod p; a direction of norm 0 gives 0.

    Args:
        embedding: (p, d), a vector for each number.
        frequency: k, 1 to (p - 1) / 2.

    Raises:
        ValueError: If the frequency is out of range, or the embedding no matrix.
    """
    if embedding.ndim != 2:
        raise ValueError(f"embedding must be (p, d), got {embedding.shape}.")
    p = len(embedding)
    require_int("frequency", frequency, maximum=(p - 1) // 2)
    angles = 2 * np.pi * frequency * np.arange(p) / p
    directions = np.stack([np.cos(angles), np.sin(angles)]) @ embedding
    sizes = np.linalg.norm(directions, axis=1, keepdims=True)
    return embedding @ (directions / np.where(sizes > 0, sizes, 1.0)).T


def start_circles(circles: Circles, figure: Figure) -> Update:
    """Points coloured by k a mod p, one picture a frequency."""
    if not 1 <= len(circles.frequencies) <= MOST_CIRCLES:
        raise ValueError(f"frequencies must be one to four, got {circles.frequencies}.")
    p = circles.values.shape[1]
    values = np.where(drawable(circles.values), circles.values, 0.0)
    by_frequency = [
        np.stack([circle_positions(embedding, k) for embedding in values])
        for k in circles.frequencies
    ]
    dots: list[Any] = []
    rows = 1 if len(by_frequency) < 3 else 2
    grid = figure.subplots(rows, -(-len(by_frequency) // rows), squeeze=False).flat
    for axis, k, places in zip(grid, circles.frequencies, by_frequency, strict=False):
        around = k * np.arange(p) % p
        dots.append(axis.scatter(*places[0].T, c=around, cmap="twilight", s=14))
        end = 1.08 * float(np.abs(places).max()) or 1.0
        axis.set(xlim=(-end, end), ylim=(-end, end), aspect="equal")
        axis.set_title(f"frequency {k}", fontsize=9)
        axis.tick_params(labelsize=7)

    def update(row: int) -> None:
        for dot, places in zip(dots, by_frequency, strict=True):
            dot.set_offsets(places[row])

    return update
