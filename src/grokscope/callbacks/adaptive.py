"""The schedule that follows the test curves."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from grokscope.callbacks.epochs import Schedule
from grokscope.callbacks.moving import MovingAverage


@dataclass(frozen=True)
class Adaptive(Schedule):
    """Coarse on plateaus, dense while the test curves move.

    Dense from a row on at which the smoothed test accuracy moves faster than ``threshold`` a
    decade of epochs, or the smoothed test loss faster than ``threshold`` times its largest
    value so far, until ``settle`` decades after the last such row. The epochs of ``coarse`` are
    due throughout. A decade is one in ``1 + epoch``. Our choice, all of it.

    Attributes:
        coarse: Always due.
        dense: Also due while something moves.
        threshold: Speed, in accuracy (or share of the largest loss) a decade.
        smoothing: Decades over which the moving averages forget.
        settle: Decades of slow rows after which it is coarse again.
        accuracy: Test accuracy so far.
        loss: Test loss so far.
        largest_loss: So far.
        dense_until: Last epoch of the present dense stretch; -1 if there was none.
    """

    coarse: Schedule
    dense: Schedule
    threshold: float
    smoothing: float
    settle: float
    accuracy: MovingAverage = field(default_factory=MovingAverage)
    loss: MovingAverage = field(default_factory=MovingAverage)
    largest_loss: float = 0.0
    dense_until: int = -1

    def __str__(self) -> str:
        coarse, dense = (str(part).strip("'") for part in (self.coarse, self.dense))
        return f"'adaptive {coarse} to {dense} above {self.threshold:g}'"

    @property
    def fixed(self) -> bool:  # noqa: D102
        return False

    def next_due(self, epoch: int) -> int | None:  # noqa: D102
        coarse, dense = self.coarse.next_due(epoch), self.dense.next_due(epoch)
        if dense is None or dense > self.dense_until:
            return coarse
        return dense if coarse is None else min(coarse, dense)

    def observe(self, epoch: int, test_acc: float, test_loss: float) -> Adaptive:  # noqa: D102
        accuracy = self.accuracy.after(epoch, test_acc, self.smoothing)
        loss = self.loss.after(epoch, test_loss, self.smoothing)
        largest = max(self.largest_loss, abs(loss.value))
        fast = [  # of the curves that the row has
            accuracy is not self.accuracy and self._moves(accuracy, 1.0),
            loss is not self.loss and self._moves(loss, largest),
        ]
        until = math.floor((1 + epoch) * 10**self.settle) - 1 if any(fast) else self.dense_until
        return replace(self, accuracy=accuracy, loss=loss, largest_loss=largest, dense_until=until)

    def _moves(self, curve: MovingAverage, unit: float) -> bool:
        return abs(curve.speed(self.smoothing)) > self.threshold * unit

    def state(self) -> dict[str, Any]:  # noqa: D102
        names = ("accuracy", "loss", "largest_loss", "dense_until")
        return {name: value for name, value in asdict(self).items() if name in names}

    def restored(self, state: Any) -> Schedule:  # noqa: D102
        if not isinstance(state, dict):
            return self
        curves = {name: MovingAverage(**state[name]) for name in ("accuracy", "loss")}
        return replace(self, **(state | curves))
