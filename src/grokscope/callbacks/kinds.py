"""The kinds of gradient outer product that the callback knows: from gradients to rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from grokscope.callbacks.measurement import Measurement, Recorded
from grokscope.callbacks.rows import padded
from grokscope.gradients.layout import GradientLayout
from grokscope.measures.gop import (
    batch_spectra,
    slot_grams,
    subspace_overlap,
    weight_eigenvalues,
)
from grokscope.measures.spectra import spectrum_metrics
from grokscope.measures.trajectory import GradientWindow


class Kind(Recorded, Protocol):
    """One kind of gradient outer product, from the gradients of passes."""

    rank_threshold: float
    top_k: int

    def measure(self, passes: Sequence[Tensor]) -> Measurement:
        """Measure from the (b, m) gradients of each of n passes, in their order."""


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
        self._dtype = torch.float64
        self.layers = self.layout.layers
        self.width = min(self.top_k, self.n_rows, self.layout.size)
        self._sizes = np.array([self.layout.size, *self.layout.layer_sizes()])

    def measure(self, passes: Sequence[Tensor]) -> Measurement:
        """Spectra, gradient norms, each layer's share, overlap with the last measured epoch."""
        grams, means, overlaps = [], [], []
        for rows in passes:  # one after the other: a pass stays in the processor's cache
            self._dtype, rows = rows.dtype, rows.double()
            grams.append(slot_grams(rows, self.layout))
            means.append(_mean_gram(rows, self.layout) if len(rows) > 1 else grams[-1])
            overlaps.append(self._overlap(rows, grams[-1]))
        counts = np.array([[len(rows)] for rows in passes])
        metrics = _metrics(batch_spectra(grams, self.layout), self._sizes, counts, self)
        metrics["grad_norm"] = np.sqrt(batch_spectra(means, self.layout)[..., 0])
        with np.errstate(all="ignore"):
            share = np.square(metrics["grad_norm"][:, 1:] / metrics["grad_norm"][:, :1])
        whole = {name: values[:, 0] for name, values in metrics.items()}
        layers = {name: values[:, 1:] for name, values in metrics.items()}
        return Measurement(
            whole | {"subspace_overlap": np.array(overlaps)}, layers | {"grad_share": share}
        )

    def state(self) -> dict[str, Any]:
        """The last measured gradients in their own precision, for the overlap with the next."""
        return {
            "previous": self.previous if self.previous is None else self.previous.to(self._dtype)
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`state`."""
        self.previous = state["previous"]
        if self.previous is not None:
            self._dtype = self.previous.dtype

    def _overlap(self, rows: Tensor, gram: Tensor) -> float:
        """With the pass before; NaN where one of the two is missing or not finite."""
        finite = bool(torch.isfinite(gram).all())
        previous, self.previous = self.previous, rows if finite else None
        if previous is None or self.previous is None:
            return float("nan")
        previous = previous.to(rows.device)
        return subspace_overlap(rows, previous, self.width, self.rank_threshold)


@dataclass
class WeightKind(Kind):
    """Γ Γᵀ of each weight matrix; the whole is their block-diagonal sum.

    Γ is the mean of the mini-batch gradients of the pass. Same arguments as
    :class:`BatchKind`.
    """

    layout: GradientLayout
    top_k: int
    rank_threshold: float
    name: str = "weight"

    def __post_init__(self) -> None:
        self._shapes = [shape for s in self.layout.matrices.values() if (shape := s.matrix_shape)]
        if not self._shapes:
            raise ValueError("kinds must not hold 'weight' for a module without a weight matrix.")
        self.layers = tuple(self.layout.matrices)
        self._counts = np.array([min(shape) for shape in self._shapes])
        self.width = min(self.top_k, self._counts.sum().item())
        self._sizes = np.array([shape[0] for shape in self._shapes])

    def measure(self, passes: Sequence[Tensor]) -> Measurement:
        """Squared singular values of every weight matrix's gradient."""
        matrices = [matrix for rows in passes for matrix in self._matrices(rows)]
        with _one_thread():
            found = weight_eigenvalues(matrices)
        spectra = np.zeros((len(found), self._counts.max()))
        for row, values in zip(spectra, found, strict=True):
            row[: len(values)] = values
        spectra = spectra.reshape(len(passes), len(self.layers), -1)
        present = np.arange(spectra.shape[-1]) < self._counts[:, None]
        # numpy sums in the order of memory: a row must not depend on those measured with it
        whole = -np.sort(-np.ascontiguousarray(spectra[:, present]))
        metrics = _metrics(whole, self._sizes.sum(), self._counts.sum(), self)
        return Measurement(metrics, _metrics(spectra, self._sizes, self._counts, self))

    def state(self) -> dict[str, Any]:
        """Nothing: each pass is for itself."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Nothing."""

    def _matrices(self, rows: Tensor) -> Iterator[Tensor]:
        mean = rows.mean(dim=0) if len(rows) > 1 else rows[0]
        for slot, shape in zip(self.layout.matrices.values(), self._shapes, strict=True):
            yield mean[slot.offset : slot.offset + slot.size].reshape(shape)


@dataclass
class TrajectoryKind(Kind):
    """The mean outer product of the last gradients that the optimizer used (rank <= window).

    Every mini-batch gradient kept of a measured pass counts as one step.

    Args:
        layout: The parameters.
        window: Most gradients in the mean. Memory: 8 bytes for each of window * m numbers.
        top_k: Eigenvalues stored.
        rank_threshold: Relative threshold of the numerical rank.
    """

    layout: GradientLayout
    window: int
    top_k: int
    rank_threshold: float
    name: str = "trajectory"

    def __post_init__(self) -> None:
        self.layers = self.layout.layers
        self.width = min(self.top_k, self.window, self.layout.size)
        self._sizes = np.array([self.layout.size, *self.layout.layer_sizes()])
        self._gradients = GradientWindow(self.layout, self.window)

    def measure(self, passes: Sequence[Tensor]) -> Measurement:
        """Spectra, number of gradients, overlap with the last measured epoch's matrix.

        A pass with NaN or Inf in a gradient has NaN and leaves no trace in later ones.
        """
        moves = [self._gradients.push(rows) for rows in passes]
        counts = np.array([[move.count] for move in moves])
        with _one_thread():
            overlaps = [move.overlap(self.width, self.rank_threshold) for move in moves]
            spectra = batch_spectra([move.mean() for move in moves], self.layout)
        present = np.minimum(counts, self._sizes)
        spectra[np.arange(self.window) >= present[..., None]] = 0.0
        metrics = _metrics(spectra, self._sizes, present, self)
        own = {"n_gradients": counts[:, 0], "subspace_overlap": np.array(overlaps)}
        whole = {name: values[:, 0] for name, values in metrics.items()}
        return Measurement(whole | own, {name: values[:, 1:] for name, values in metrics.items()})

    def state(self) -> dict[str, Any]:
        """The gradients in the window and their products."""
        return self._gradients.state()

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`state`."""
        self._gradients.restore(state)


def require_window_bytes(window: int, n_parameters: int, max_bytes: int) -> None:
    """Refuse a window of gradients that takes more than ``max_bytes``.

    Raises:
        ValueError: With both sizes.
    """
    if (needed := 8 * window * n_parameters) > max_bytes:
        raise ValueError(
            f"max_bytes must be >= {needed:,} for trajectory_window={window} gradients of "
            f"{n_parameters:,} parameters, got {max_bytes:,}; raise it or lower trajectory_window."
        )


@contextmanager
def _one_thread() -> Iterator[None]:
    """Decompositions of matrices of a few hundred rows are twice as fast on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _metrics(
    spectra: NDArray[np.float64], sizes: NDArray, counts: NDArray, kind: Kind
) -> dict[str, Any]:
    """All metrics of a stack of spectra, of which ``counts`` values each are not padding."""
    metrics = spectrum_metrics(
        spectra, sizes, rank_threshold=kind.rank_threshold, top_k=kind.top_k
    )
    top = padded(spectra, kind.width)
    top[np.broadcast_to(np.arange(kind.width) >= counts[..., None], top.shape)] = np.nan
    return metrics | {"eigenvalues_top_k": top}


def _mean_gram(rows: Tensor, layout: GradientLayout) -> Tensor:
    return slot_grams(rows.mean(dim=0, keepdim=True), layout)
