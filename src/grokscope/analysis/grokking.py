"""When a run memorised, when it generalised, and how long lay between."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from grokscope.validation import require_float, require_int

Array = NDArray[np.float64]


@dataclass(frozen=True)
class GrokkingTimes:
    """First epochs at which accuracies reached their thresholds and stayed; None if never.

    Attributes:
        memorised: Epoch of the training accuracy.
        generalised: Epoch of the test accuracy.
        train: Threshold of the training accuracy.
        test: Threshold of the test accuracy.
        patience: Epochs for which it had to stay.
    """

    memorised: int | None
    generalised: int | None
    train: float
    test: float
    patience: int

    @property
    def delay(self) -> int | None:
        """Epochs from memorising to generalising."""
        if self.memorised is None or self.generalised is None:
            return None
        return self.generalised - self.memorised

    @property
    def ratio(self) -> float | None:
        """Generalised over memorised; None where that is undefined."""
        if self.generalised is None or not self.memorised:
            return None
        return self.generalised / self.memorised


def grokking_times(
    epochs: ArrayLike,
    train_acc: ArrayLike,
    test_acc: ArrayLike,
    *,
    train: float = 0.99,
    test: float = 0.99,
    patience: int = 0,
) -> GrokkingTimes:
    """Times of memorisation and generalisation from recorded accuracies.

    Args:
        epochs: (rows,) ascending, not necessarily evenly spaced.
        train_acc: (rows,) in [0, 1]; NaN rows are passed over.
        test_acc: (rows,) in [0, 1]; likewise.
        train: Threshold of the training accuracy.
        test: Threshold of the test accuracy.
        patience: The threshold must hold at every recorded row of the next ``patience``
            epochs too; 0 takes the first crossing.

    Raises:
        ValueError: If a threshold is not in (0, 1], ``patience`` is negative, or the rows
            differ in number.
    """
    for name, value in (("train", train), ("test", test)):
        require_float(name, value, above=0.0, maximum=1.0)
    require_int("patience", patience, minimum=0)
    series = [np.asarray(values, dtype=float) for values in (epochs, train_acc, test_acc)]
    if any(values.shape != series[0].shape for values in series) or series[0].ndim != 1:
        shapes = ", ".join(str(values.shape) for values in series)
        raise ValueError(f"epochs, train_acc and test_acc must be (rows,) each, got {shapes}.")
    memorised = _first(series[0], series[1], train, patience)
    generalised = _first(series[0], series[2], test, patience)
    return GrokkingTimes(memorised, generalised, train, test, patience)


def _first(epochs: Array, accuracy: Array, threshold: float, patience: int) -> int | None:
    known = ~np.isnan(accuracy)
    epochs, reached = epochs[known], accuracy[known] >= threshold
    crossings, below = epochs[reached], np.append(epochs[~reached], np.inf)
    next_below = below[np.searchsorted(below, crossings)]
    lasting = crossings[next_below > crossings + patience]
    return int(lasting[0]) if len(lasting) else None
