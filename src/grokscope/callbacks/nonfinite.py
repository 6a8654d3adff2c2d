"""What happens at a gradient with NaN or Inf."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import numpy as np

from grokscope.callbacks.kinds import Kind
from grokscope.callbacks.recorder import Found, Pass
from grokscope.validation import require_choice


class NonfiniteReport:
    """Names the first layer with a gradient that is not finite: one warning, or an error.

    Args:
        mode: ``warn`` or ``raise``.
    """

    def __init__(self, mode: str) -> None:
        self.mode = require_choice("on_nonfinite", mode, ("warn", "raise"))
        self._warned = False

    def check(
        self, passes: Sequence[Pass], kinds: Sequence[Kind], found: Mapping[str, Found]
    ) -> None:
        """Look at rows that have just been written.

        Raises:
            FloatingPointError: In mode ``raise``.
        """
        for kind in kinds:
            if kind.name in found and (place := _first(found[kind.name])) is not None:
                row, layer = place
                epoch = passes[found[kind.name].rows[row]].epoch
                self._report(epoch, kind.layers[layer])
                return

    def _report(self, epoch: int, layer: str) -> None:
        message = (
            f"epoch {epoch}: the gradient of layer '{layer}' is not finite; its row holds NaN."
        )
        if self.mode == "raise":
            raise FloatingPointError(message)
        if not self._warned:
            warnings.warn(f"{message} Further ones are not reported.", stacklevel=2)
        self._warned = True


def _first(found: Found) -> tuple[int, int] | None:
    """Row and layer of the first trace that is not finite."""
    finite = np.isfinite(found.measurement.layers["trace"])
    if finite.all():
        return None
    row = int(np.argmin(finite.all(axis=1)))
    return row, int(np.argmin(finite[row]))
