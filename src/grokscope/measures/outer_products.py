"""Sums of outer products of gradients that come piece by piece."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from grokscope.measures.factored import GOP, weight_eigenvalues


class OuterProductSum:
    """Sum over samples of J^T J, for gradients that come output by output and chunk by chunk.

    Kept as rows until they are more than the side of the matrix, as a float64 matrix then.

    Args:
        size: Side d.
        centered: Subtract from each gradient the mean over all samples. The mean is updated
            chunk by chunk (Chan et al. 1979), so that nothing cancels.
    """

    def __init__(self, size: int, centered: bool = False) -> None:
        self._size, self._centered = size, centered
        self._rows: list[Tensor] = []
        self._matrix: Tensor | None = None
        self._means: dict[int, Tensor] = {}

    def add(self, gradients: Tensor, key: int, seen: int) -> None:
        """Add a chunk's gradients (b, g, d): g of them a sample, each with a mean of its own.

        Args:
            gradients: (b, g, d).
            key: Tells these g gradients from others of the same samples.
            seen: Samples in earlier chunks.
        """
        if self._centered:
            gradients = self._deviations(gradients.double(), key, seen)
        self._rows.append(_without_zeros(gradients).double().flatten(0, 1))
        if sum(map(len, self._rows)) > self._size:
            self._fold()

    def _deviations(self, rows: Tensor, key: int, seen: int) -> Tensor:
        """Rows less the chunk's mean, and one more for how far that is from the mean so far."""
        mean = rows.mean(0)
        if not seen:
            self._means[key] = mean
            return rows - mean
        share = len(rows) / (seen + len(rows))
        step = mean - self._means[key]
        self._means[key] = self._means[key] + share * step
        return torch.cat([rows - mean, math.sqrt(seen * share) * step[None]])

    def _fold(self) -> None:
        rows = joined(self._rows)
        if self._matrix is None:
            self._matrix = rows.new_zeros(self._size, self._size)
        self._matrix.addmm_(rows.T, rows)
        self._rows = []

    def gop(self, n: int, weight: Tensor | None = None) -> GOP:
        """The average over n samples, of J^T J or, with a weight (d, i), of (J W)^T J W."""
        if self._matrix is not None and self._rows:
            self._fold()
        rows = joined(self._rows) if self._matrix is None else _root(self._matrix)
        factor = rows / math.sqrt(n)
        if weight is not None:
            factor = factor @ weight.detach().double()
        return gop_of_factor(factor)


def gop_of_factor(factor: Tensor) -> GOP:
    """The matrix ``factor.T @ factor`` of a factor (r, d)."""
    return GOP(weight_eigenvalues([factor])[0], factor.shape[1], factor)


def joined(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """``torch.cat`` that does not copy a single tensor."""
    return tensors[0] if len(tensors) == 1 else torch.cat(list(tensors), dim=dim)


def _without_zeros(rows: Tensor) -> Tensor:
    """Without those of the g gradients that are zero for all samples, such as dead positions."""
    if rows.shape[1] == 1:
        return rows
    alive = rows.any(dim=-1).any(dim=0)
    return rows[:, alive] if alive.any() else rows[:, :1]


def _root(matrix: Tensor) -> Tensor:
    """Rows R (d, d) with R^T R = matrix, by descending eigenvalue; NaN if it is not finite."""
    if not torch.isfinite(matrix).all():
        return torch.full_like(matrix, torch.nan)
    values, vectors = torch.linalg.eigh(matrix)
    return values.clamp_min(0).sqrt().flip(0)[:, None] * vectors.T.flip(0)
