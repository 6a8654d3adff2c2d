"""Keeps the gradients of one pass in bounded memory."""

from __future__ import annotations

import torch
from torch import Tensor

from grokscope.gradients.layout import flatten


class GradientBuffer:
    """Flat gradients of the mini-batches of a pass, at most ``n_rows`` of them.

    When it is full, every second one is dropped and only every second further one is taken,
    and so on: always evenly spaced ones. ``seen`` says how many there were.
    """

    def __init__(self, n_rows: int) -> None:
        self.n_rows = n_rows
        self.clear()

    def clear(self) -> None:
        """Forget everything: a new pass begins."""
        self._rows: list[Tensor] = []
        self._stride = 1
        self.seen = 0

    def add(self, gradients: list[Tensor]) -> None:
        """Take the gradient of one mini-batch, or skip it."""
        if self.seen % self._stride == 0:
            if len(self._rows) == self.n_rows:
                self._rows = self._rows[::2]
                self._stride *= 2
            if self.seen % self._stride == 0:
                self._rows.append(flatten(gradients))
        self.seen += 1

    def rows(self) -> Tensor:
        """The kept gradients (b, m)."""
        return self._rows[0][None] if len(self._rows) == 1 else torch.stack(self._rows)
