"""Sums of table rows, the same rows at every step: a sparse product with a fixed pattern."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


@dataclass(frozen=True)
class Lookup:
    """Which rows of a table each sample sums, and the same relation seen from the rows.

    The second view turns the gradient of the table into sums of samples' gradients, each
    row by itself: no scatter, no atomics, the same bits at every run.

    Attributes:
        rows: (n, k) int64, the rows that sample i sums.
        order: (n * k,) int64, positions in ``rows.flatten()``, sorted by row.
        samples: (n * k,) int64, the sample of each of these positions.
        starts: (r,) int64, where each row's samples begin in ``samples``.
    """

    rows: Tensor
    order: Tensor
    samples: Tensor
    starts: Tensor

    @classmethod
    def of(cls, rows: Tensor, n_rows: int) -> Lookup:
        """The lookup of ``rows`` (n, k) in a table of ``n_rows`` rows."""
        order = rows.flatten().argsort(stable=True)
        counts = torch.bincount(rows.flatten(), minlength=n_rows)
        return cls(rows, order, order // rows.shape[1], counts.cumsum(0) - counts)

    def sum(self, table: Tensor, weights: Tensor | None = None) -> Tensor:
        r"""Sum rows of a table: :math:`y_i = \sum_j w_{ij}\, T[\mathrm{rows}_{ij}]`.

        Forward and backward take n * k * d multiply-adds each, with no (n, k, d) array.

        Args:
            table: (r, d); differentiable once.
            weights: (n, k); differentiable once. None means ones.

        Returns:
            (n, d), a fresh tensor: callers may write into it.
        """
        # Without the detach torch would compute the table's gradient by its slower way.
        sums = _sum_bags(self.rows, table.detach(), None, weights)
        return _TableGradient.apply(
            sums, table, None if weights is None else weights.detach(), self
        )


def _sum_bags(
    rows: Tensor, table: Tensor, starts: Tensor | None, weights: Tensor | None
) -> Tensor:
    return F.embedding_bag(rows, table, starts, mode="sum", per_sample_weights=weights)


class _TableGradient(Function):
    """Passes ``sums`` on and adds the path from it to ``table``."""

    @staticmethod
    def forward(
        ctx: Any, sums: Tensor, table: Tensor, weights: Tensor | None, lookup: Lookup
    ) -> Tensor:
        ctx.mark_dirty(sums)
        ctx.save_for_backward(weights)
        ctx.lookup = lookup
        return sums

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        (weights,) = ctx.saved_tensors
        lookup: Lookup = ctx.lookup
        if weights is not None:
            weights = weights.flatten()[lookup.order]
        grad = grad.contiguous()
        return grad, _sum_bags(lookup.samples, grad, lookup.starts, weights), None, None
