"""Positive semi-definite matrices in factor form, and the eigenvalues of Gram matrices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from grokscope.measures.spectra import spectrum_metrics

DENSE_LIMIT = 2**28
NAN = float("nan")


@dataclass(frozen=True)
class GOP:
    """A gradient outer product ``factor.T @ factor`` and its spectrum.

    Attributes:
        eigenvalues: (r,) float64, descending; the other ``n_parameters - r`` are exactly zero.
        n_parameters: Side m of the matrix.
        factor: (b, m), in the dtype and on the device of the gradients.
    """

    eigenvalues: NDArray[np.float64]
    n_parameters: int
    factor: Tensor

    def metrics(self, *, rank_threshold: float = 1e-6, top_k: int = 100) -> dict[str, float]:
        """All metrics of :func:`~grokscope.measures.spectra.spectrum_metrics`."""
        return spectrum_metrics(
            self.eigenvalues, self.n_parameters, rank_threshold=rank_threshold, top_k=top_k
        )

    def eigenvectors(self, k: int = 1) -> Tensor:
        """Unit eigenvectors (k, m) of the k largest eigenvalues, in float64.

        Their sign is arbitrary. k is cut to the numerical rank.
        """
        return top_eigenvectors(self.factor.double(), k)

    def dense(self, max_bytes: int = DENSE_LIMIT) -> Tensor:
        """The (m, m) matrix in float64.

        Raises:
            ValueError: If it takes more than ``max_bytes``.
        """
        needed = 8 * self.n_parameters**2
        if needed > max_bytes:
            raise ValueError(
                f"max_bytes must be >= {needed:,} for the dense {self.n_parameters} x "
                f"{self.n_parameters} matrix, got {max_bytes:,}."
            )
        factor = self.factor.double()
        return factor.T @ factor


def weight_eigenvalues(matrices: Sequence[Tensor]) -> list[NDArray[np.float64]]:
    """Squared singular values (min(o, i),) of each (o, i) matrix, descending, in float64.

    From the smaller Gram matrix: absolute error about eps times the largest. Matrices of the
    same size are decomposed together, which halves the time for some hundred rows.
    """
    grams = [gram_matrix(m if m.shape[0] <= m.shape[1] else m.T) for m in matrices]
    sizes = np.array([len(gram) for gram in grams])
    found: list[NDArray[np.float64]] = [np.empty(0)] * len(grams)
    for size in np.unique(sizes):
        chosen = np.flatnonzero(sizes == size)
        spectra = gram_eigenvalues(torch.stack([grams[i] for i in chosen]))
        for i, values in zip(chosen, spectra, strict=True):
            found[i] = values
    return found


def gram_matrix(rows: Tensor) -> Tensor:
    """Inner products (b, b) of the rows (b, m), in float64."""
    rows = rows.double()
    return rows @ rows.T


def gram_eigenvalues(gram: Tensor) -> NDArray[np.float64]:
    """Descending eigenvalues (..., b) of a stack of Gram matrices; NaN where one is not finite.

    The diagonal of a Gram matrix tells: it bounds the other entries.
    """
    if gram.shape[-1] == 1:
        return gram[..., 0].cpu().numpy()
    finite = torch.isfinite(gram.diagonal(dim1=-2, dim2=-1)).all(-1)
    complete = bool(finite.all())
    safe = gram if complete else torch.where(finite[..., None, None], gram, 0.0)
    values = torch.linalg.eigvalsh(safe).flip(-1).clamp_min(0.0)
    return (values if complete else torch.where(finite[..., None], values, NAN)).cpu().numpy()


def top_eigenvectors(rows: Tensor, k: int, rank_threshold: float = 1e-12) -> Tensor:
    """Top eigenvectors (k', m) of rows.T @ rows through the eigenvectors of the Gram matrix."""
    values, vectors = torch.linalg.eigh(rows @ rows.T)
    values, vectors = values.flip(0), vectors.flip(1)
    keep = int((values > rank_threshold * values[0]).sum()) if values[0] > 0 else 0
    keep = min(k, keep)
    return (vectors[:, :keep] / values[:keep].sqrt()).T @ rows
