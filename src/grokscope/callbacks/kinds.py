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

from grokscope.callbacks.rows import padded
from grokscope.gradients.layout import GradientLayout
from grokscope.measures.gop import (
    batch_spectra,
    slot_grams,
    subspace_overlap,
    weight_eigenvalues,
)
from grokscope.measures.spectra import spectrum_metrics


@dataclass(frozen=True)
class Measurement:
    """Metrics and largest eigenvalues of n passes, of the whole and by layer.

    Attributes:
        whole: Name -> (n,); ``eigenvalues_top_k`` (n, k).
        layers: Name -> (n, layers); ``eigenvalues_top_k`` (n, layers, k), NaN where there are
            fewer.
    """

    whole: dict[str, Any]
    layers: dict[str, Any]


class Kind(Protocol):
    """One kind of gradient outer product."""

    name: str
    layers: tuple[str, ...]
    width: int

    def measure(self, passes: Sequence[Tensor]) -> Measurement:
        """Measure from the (b, m) gradients of each of n passes, in their order."""


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

    def measure(self, passes: Sequence[Tensor]) -> Measurement:
        """Spectra, gradient norms, each layer's share, overlap with the last measured epoch."""
        grams, means, overlaps = [], [], []
        for rows in passes:  # one after the other: a pass stays in the processor's cache
            rows = rows.double()
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

    def _overlap(self, rows: Tensor, gram: Tensor) -> float:
        """With the pass before; NaN where one of the two is missing or not finite."""
        finite = bool(torch.isfinite(gram).all())
        previous, self.previous = self.previous, rows if finite else None
        if previous is None or self.previous is None:
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
        whole = -np.sort(-spectra[:, present])
        metrics = _metrics(whole, self._sizes.sum(), self._counts.sum(), self)
        return Measurement(metrics, _metrics(spectra, self._sizes, self._counts, self))

    def _matrices(self, rows: Tensor) -> Iterator[Tensor]:
        mean = rows.mean(dim=0) if len(rows) > 1 else rows[0]
        for slot, shape in zip(self.layout.matrices.values(), self._shapes, strict=True):
            yield mean[slot.offset : slot.offset + slot.size].reshape(shape)


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
    spectra: NDArray[np.float64], sizes: NDArray, counts: NDArray, kind: BatchKind | WeightKind
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
