"""Weights and activations of a two-layer net on pairs of one-hot numbers, in telling orders.

Weights best have had the symmetries taken away that leave the function as it is:
:func:`~grokscope.measures.weights.remove_bias`, then
:func:`~grokscope.measures.weights.normalize_scale`. These are of torch, so the caller applies
them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from grokscope.analysis.figures.matrices import draw_image, symmetric_or_from_zero
from grokscope.analysis.figures.style import color_bar
from grokscope.validation import require_int

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

Array = NDArray[np.float64]
Order = NDArray[np.int64]
MOST_TICKS = 14
MOST_CELLS = 600  # along an axis, that a picture has points for
UNITS = "units, by frequency and phase"
LAYERS = {"b": "first", "sum": "last"}


def order_by_sum(modulus: int) -> Order:
    """Rows a p + b of all pairs, by (a + b) mod p and then by a, (p²,).

    Source:
        JackCorner/BEP-Grokking-Public:utility_functions.py, sorted_inputs, whose sort leaves the
        order within a sum open.
    """
    require_int("modulus", modulus, minimum=2)
    a, b = np.divmod(np.arange(modulus**2), modulus)
    return np.lexsort((a, (a + b) % modulus))


def dominant_frequencies(values: ArrayLike, modulus: int) -> Order:
    r"""The frequency that explains most of each unit on all pairs, (units,).

    Of the two-dimensional discrete Fourier transform of a unit over (a, b), frequency k has the
    power at (±k, 0), (0, ±k) and (±k, ±k): all products of 1, cos and sin of it in a and b. A
    unit that does not depend on the pair has 0; of equals the smaller frequency is taken.

    Args:
        values: (p², units), rows a p + b.
        modulus: p.

    Returns:
        Numbers from 0 to p / 2, rounded down.

    Raises:
        ValueError: If there are not p² rows, or an entry is not finite.

    Source:
        Nanda et al. 2023, arXiv:2301.05217, section 4: neurons of one frequency each.
    """
    return _transformed(values, modulus)[1]


def _transformed(values: ArrayLike, modulus: int) -> tuple[NDArray[np.complex128], Order]:
    """Fourier transform of each unit, whose largest entry is made 1, and dominant frequency."""
    grid = _require_pairs(values, modulus).reshape(modulus, modulus, -1)
    grid = grid / np.where((scale := np.abs(grid).max((0, 1))) > 0, scale, 1.0)
    transform = np.fft.fft2(grid, axes=(0, 1))
    wave = np.stack([_power(transform, k) for k in range(1, modulus // 2 + 1)])
    rounding = 1e-20 * modulus**4  # squared, of sums of p² numbers of at most 1
    found = np.where(wave.max(0) > rounding, _first_largest(wave) + 1, 0)
    return transform, found


def _power(transform: NDArray[np.complex128], k: int) -> Array:
    """That of one frequency; for p = 2 k both signs are the same entry, which counts once."""
    signs = sorted({k, len(transform) - k})
    places = {(i, j) for i in (0, *signs) for j in (0, *signs)} - {(0, 0)}
    return np.sum([np.abs(transform[place]) ** 2 for place in sorted(places)], axis=0)


def _first_largest(wave: Array) -> Order:
    """Where the largest is, up to rounding."""
    return np.asarray((wave >= wave.max(0) * (1 - 1e-9)).argmax(0))


def sort_units(values: ArrayLike, modulus: int) -> tuple[Order, Order]:
    """Units by :func:`dominant_frequencies`, of one frequency by the phase in a + b.

    Args:
        values: (p², units), rows a p + b.
        modulus: p.

    Returns:
        The order, (units,), and the frequencies in that order.

    Raises:
        ValueError: As there.
    """
    transform, frequencies = _transformed(values, modulus)
    waves = transform[frequencies, frequencies, np.arange(len(frequencies))]
    order = np.lexsort((np.angle(waves), frequencies))
    return order, frequencies[order]


def _require_pairs(values: ArrayLike, modulus: int) -> Array:
    require_int("modulus", modulus, minimum=2)
    found = np.asarray(values, dtype=float)
    if found.ndim != 2 or found.shape[0] != modulus**2 or not found.shape[1]:
        raise ValueError(
            f"values must be ({modulus**2}, units), a row for each pair of {modulus} numbers, got "
            f"{found.shape}."
        )
    if not np.isfinite(found).all():
        raise ValueError("values must be finite, got NaN or infinity.")
    return found


def draw_sorted_inputs(
    values: ArrayLike, modulus: int, figure: Figure, unit: str = "activation"
) -> None:
    """Draw what units do on all pairs: a column for each pair, by its sum, then by a.

    A net that computes the sum shows stripes as wide as the p pairs of one sum. Units are sorted
    by :func:`sort_units`, their frequencies written on the right.

    Args:
        values: (p², units), rows a p + b: before or after the nonlinearity.
        modulus: p.
        figure: Empty.
        unit: What the values are.

    Raises:
        ValueError: As :func:`dominant_frequencies`.
    """
    found = _require_pairs(values, modulus)
    order, frequencies = sort_units(found, modulus)
    axis = figure.subplots()
    shown = found[np.ix_(order_by_sum(modulus), order)].T
    image = _draw(axis, shown, symmetric_or_from_zero(shown))
    axis.set_ylabel(UNITS)
    _name_sums(axis, modulus)
    _name_frequencies(axis, frequencies)
    color_bar(axis, image, unit)


def draw_sorted_weights(first: ArrayLike, last: ArrayLike, modulus: int, figure: Figure) -> None:
    """Draw both layers' weights: what each unit reads of a and of b, and writes to each sum.

    Units are sorted by what they read (:func:`sort_units`), frequencies written on the right.

    Args:
        first: (units, 2 p), of the one-hot blocks of a and b.
        last: (p, units).
        modulus: p.
        figure: Empty.

    Raises:
        ValueError: If shapes do not fit, or an entry is not finite.
    """
    p = require_int("modulus", modulus, minimum=2)
    read, written = np.asarray(first, dtype=float), np.asarray(last, dtype=float)
    if read.ndim != 2 or read.shape[1] != 2 * p or written.shape != (p, len(read)):
        raise ValueError(
            f"first must be (units, {2 * p}) and last ({p}, units), got {read.shape} and "
            f"{written.shape}."
        )
    if not (np.isfinite(read).all() and np.isfinite(written).all()):
        raise ValueError("weights must be finite, got NaN or infinity.")
    of_a, of_b = read[:, :p], read[:, p:]
    on_pairs = (of_a[:, :, None] + of_b[:, None, :]).reshape(len(read), -1).T
    order, frequencies = sort_units(on_pairs, p)
    axes = figure.subplots(1, 3, sharey=True)
    parts = ((of_a, "a", read), (of_b, "b", read), (written.T, "sum", written))
    for axis, (values, name, alike) in zip(axes, parts, strict=True):
        image = _draw(axis, values[order], symmetric_or_from_zero(alike))
        axis.set_xticks(_some(p, MOST_TICKS // 2))
        axis.set_xlabel(name)
        if name != "a":
            both = [axes[0], axis] if name == "b" else axis
            color_bar(both, image, f"weight of the {LAYERS[name]} layer", "bottom")
    axes[0].set_ylabel(UNITS)
    _name_frequencies(axes[2], frequencies)


def _draw(axis: Axes, values: Array, look: dict[str, Any]) -> AxesImage:
    image = draw_image(axis, values, **look)
    if max(values.shape) > MOST_CELLS:
        image.set_interpolation_stage("data")
        image.set_interpolation("antialiased")  # else cells are dropped, which makes patterns
    axis.set_yticks([])
    return image


def _name_sums(axis: Axes, modulus: int) -> None:
    """Each sum below the middle of its pairs, with lines between sums while they are few."""
    shown = _some(modulus, MOST_TICKS)
    axis.set_xticks((shown + 0.5) * modulus - 0.5, [str(i) for i in shown])
    axis.set_xlabel("pairs (a, b) by a + b mod p (named), then by a")
    if modulus <= 2 * MOST_TICKS:
        for border in range(1, modulus):
            axis.axvline(border * modulus - 0.5, color="black", linewidth=0.3)


def _name_frequencies(axis: Axes, frequencies: Order) -> None:
    """Each frequency beside the middle of its units, as far as there is room."""
    found, starts, counts = np.unique(frequencies, return_index=True, return_counts=True)
    right = axis.secondary_yaxis("right")
    room = len(frequencies) / (2 * MOST_TICKS)
    places: list[tuple[float, str]] = []
    for k, start, count in zip(found, starts, counts, strict=True):
        middle = start + (count - 1) / 2
        if not places or middle - places[-1][0] >= room:
            places.append((middle, str(k)))
    right.set_ylabel("frequency")
    right.set_yticks([place for place, _ in places], [name for _, name in places])
    for start in starts[1:]:
        axis.axhline(start - 0.5, color="black", linewidth=0.3)


def _some(count: int, most: int) -> Order:
    """Some of the first whole numbers, evenly."""
    return np.arange(0, count, -(-count // most))
