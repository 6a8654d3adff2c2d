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
from grokscope.measures.gop import batch_spectra, weight_eigenvalues
from grokscope.measures.spectra import spectrum_metrics
from grokscope.measures.trajectory import GradientWindow


class Kind(Recorded, Protocol):
    """One kind of gradient outer product, from the gradients of passes."""

    rank_threshold: float
    top_k: int

    def measure(self, passes: Sequence[Tensor]) -> Measurement:
        """Measure from the (b, m) gradients of each of n passes, in their order."""


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
        metrics = metrics_of(whole, self._sizes.sum(), self._counts.sum(), self)
        return Measurement(metrics, metrics_of(spectra, self._sizes, self._counts, self))

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
        metrics = metrics_of(spectra, self._sizes, present, self)
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


def metrics_of(
    spectra: NDArray[np.float64], sizes: NDArray, counts: NDArray, kind: Kind
) -> dict[str, Any]:
    """All metrics of a stack of spectra, of which ``counts`` values each are not padding."""
    metrics = spectrum_metrics(
        spectra, sizes, rank_threshold=kind.rank_threshold, top_k=kind.top_k
    )
    top = padded(spectra, kind.width)
    top[np.broadcast_to(np.arange(kind.width) >= counts[..., None], top.shape)] = np.nan
    return metrics | {"eigenvalues_top_k": top}
