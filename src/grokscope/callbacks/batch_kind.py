"""The kind of gradient outer product that the optimizer's own gradient gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from grokscope.callbacks.kinds import Kind, metrics_of
from grokscope.callbacks.measurement import Measurement
from grokscope.gradients.layout import GradientLayout
from grokscope.measures.gop import batch_spectra, slot_grams, squared_cosine, subspace_overlap
from grokscope.measures.slot_squares import slot_squares

NAN = float("nan")


@dataclass
class BatchKind(Kind):
    """The outer product of the gradient that the optimizer uses (rank <= mini-batches a pass).

    Args:
        layout: The parameters.
        n_rows: Most mini-batches kept of a pass.
        top_k: Eigenvalues stored.
        rank_threshold: Relative threshold of the numerical rank.
    """

    layout: GradientLayout
    n_rows: int
    top_k: int
    rank_threshold: float
    name: str = "batch"
    previous: Tensor | None = None

    def __post_init__(self) -> None:
        self.layers = self.layout.layers
        self.width = min(self.top_k, self.n_rows, self.layout.size)
        self._sizes = np.array([self.layout.size, *self.layout.layer_sizes()])
        self._previous_square = 0.0  # squared norm, where it is a single gradient

    def measure(self, passes: Sequence[Tensor]) -> Measurement:
        """Spectra, gradient norms, each layer's share, overlap with the last measured epoch."""
        grams, means, overlaps = [], [], []
        for rows in passes:  # one after the other: a pass stays in the processor's cache
            gram, mean, overlap = self._single(rows) if len(rows) == 1 else self._several(rows)
            grams.append(gram)
            means.append(mean)
            overlaps.append(overlap)
        counts = np.array([[len(rows)] for rows in passes])
        metrics = metrics_of(batch_spectra(grams, self.layout), self._sizes, counts, self)
        metrics["grad_norm"] = np.sqrt(batch_spectra(means, self.layout)[..., 0])
        with np.errstate(all="ignore"):
            share = np.square(metrics["grad_norm"][:, 1:] / metrics["grad_norm"][:, :1])
        whole = {name: values[:, 0] for name, values in metrics.items()}
        layers = {name: values[:, 1:] for name, values in metrics.items()}
        return Measurement(
            whole | {"subspace_overlap": np.array(overlaps)}, layers | {"grad_share": share}
        )

    def state(self) -> dict[str, Any]:
        """The last measured gradients, for the overlap with the next."""
        return {"previous": self.previous}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`state`."""
        self.previous = state["previous"]
        if self.previous is not None and len(self.previous) == 1:
            self._previous_square = float(slot_grams(self.previous, self.layout).sum())

    def _single(self, rows: Tensor) -> tuple[Tensor, Tensor, float]:
        """Gram matrices by parameter of one gradient, twice, and overlap with the one before."""
        before = self._before(rows)
        other = rows if before is None or len(before) > 1 else before
        squares, product = slot_squares(rows[0], other[0], self.layout)
        square, previous_square = float(squares.sum()), self._previous_square
        gram, self._previous_square = squares[:, None, None], square
        self._remember(rows, gram)
        if other is before and self.previous is not None:
            return gram, gram, squared_cosine(product, square, previous_square)
        return gram, gram, self._overlap(rows, before)

    def _several(self, rows: Tensor) -> tuple[Tensor, Tensor, float]:
        """Those of several gradients, of their mean, and their overlap."""
        before, double = self._before(rows), rows.double()
        gram = slot_grams(double, self.layout)
        mean = slot_grams(double.mean(dim=0, keepdim=True), self.layout)
        self._remember(rows, gram)
        return gram, mean, self._overlap(double, before)

    def _overlap(self, rows: Tensor, before: Tensor | None) -> float:
        """With the pass before; NaN where one of the two is missing or not finite."""
        if before is None or self.previous is None:
            return NAN
        return subspace_overlap(rows, before, self.width, self.rank_threshold)

    def _before(self, rows: Tensor) -> Tensor | None:
        """The gradients of the pass before, on the same device."""
        return None if self.previous is None else self.previous.to(rows)

    def _remember(self, rows: Tensor, gram: Tensor) -> None:
        """For the next pass; nothing where one of the gradients is not finite."""
        self.previous = rows if bool(torch.isfinite(gram).all()) else None
