"""The kinds of gradient outer product that the callback knows: from gradients to rows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from grokscope.callbacks.rows import padded
from grokscope.gradients.layout import GradientLayout
from grokscope.measures.gop import batch_spectra, subspace_overlap, weight_eigenvalues
from grokscope.measures.spectra import spectrum_metrics


@dataclass(frozen=True)
class Measurement:
    """Metrics and largest eigenvalues, of the whole and by layer.

    Attributes:
        whole: Name -> number; ``eigenvalues_top_k`` (k,).
        layers: Name -> (layers,); ``eigenvalues_top_k`` (layers, k), NaN where there are fewer.
    """

    whole: dict[str, Any]
    layers: dict[str, Any]


class Kind(Protocol):
    """One kind of gradient outer product."""

    name: str
    layers: tuple[str, ...]
    width: int

    def measure(self, rows: Tensor) -> Measurement:
        """Measure from the (b, m) gradients of a pass."""


@dataclass
class BatchKind:
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

    def measure(self, rows: Tensor) -> Measurement:
        """Spectra, gradient norms, each layer's share, overlap with the last measured epoch."""
        rows = rows.double()
        whole, by_layer = batch_spectra(rows, self.layout)
        spectra = np.concatenate([whole[None], by_layer])
        measurement = _measurement(spectra, self._sizes, self.width, self)
        norms = _mean_gradient_norms(rows, self.layout, spectra)
        measurement.whole["grad_norm"] = norms[0]
        finite = bool(np.isfinite(whole).all())
        measurement.whole["subspace_overlap"] = self._overlap(rows if finite else None)
        measurement.layers["grad_norm"] = norms[1:]
        with np.errstate(all="ignore"):
            measurement.layers["grad_share"] = np.square(norms[1:] / norms[0])
        return measurement

    def _overlap(self, rows: Tensor | None) -> float:
        previous, self.previous = self.previous, rows
        if previous is None or rows is None:
            return float("nan")
        previous = previous.to(rows.device)
        return subspace_overlap(rows, previous, self.width, self.rank_threshold)


@dataclass
class WeightKind:
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
        self.width = min(self.top_k, sum(min(shape) for shape in self._shapes))
        self._sizes = np.array([shape[0] for shape in self._shapes])

    def measure(self, rows: Tensor) -> Measurement:
        """Squared singular values of every weight matrix's gradient."""
        mean = rows.mean(dim=0) if len(rows) > 1 else rows[0]
        with _one_thread():
            spectra = [
                weight_eigenvalues(mean[s.offset : s.offset + s.size].reshape(shape))
                for s, shape in zip(self.layout.matrices.values(), self._shapes, strict=True)
            ]
        whole = -np.sort(-np.concatenate(spectra))
        widest = max(len(values) for values in spectra)
        stacked = np.stack([np.pad(v, (0, widest - len(v))) for v in spectra])
        parts = _measurement(whole[None], self._sizes.sum()[None], self.width, self)
        layers = spectrum_metrics(
            stacked, self._sizes, rank_threshold=self.rank_threshold, top_k=self.top_k
        )
        top = np.stack([padded(values, self.width) for values in spectra])
        return Measurement(parts.whole, layers | {"eigenvalues_top_k": top})


@contextmanager
def _one_thread() -> Iterator[None]:
    """Decompositions of matrices of a few hundred rows are twice as fast on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _measurement(
    spectra: NDArray[np.float64], sizes: NDArray, width: int, kind: BatchKind | WeightKind
) -> Measurement:
    """Metrics of a stack whose first spectrum is the whole's."""
    metrics = spectrum_metrics(
        spectra, sizes, rank_threshold=kind.rank_threshold, top_k=kind.top_k
    )
    metrics["eigenvalues_top_k"] = padded(spectra, width)
    return Measurement(
        {name: values[0] for name, values in metrics.items()},
        {name: values[1:] for name, values in metrics.items()},
    )


def _mean_gradient_norms(
    rows: Tensor, layout: GradientLayout, spectra: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Norm of the mean gradient over the mini-batches: whole, then by layer."""
    if len(rows) > 1:
        whole, by_layer = batch_spectra(rows.mean(dim=0, keepdim=True), layout)
        spectra = np.concatenate([whole[None], by_layer])
    return np.sqrt(spectra[:, 0])
