"""The subspace in which training moves: outer products of the last gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from grokscope.gradients.layout import GradientLayout

if TYPE_CHECKING:
    from grokscope.measures.gop import GOP

NAN = float("nan")


def trajectory_gop(gradients: Tensor) -> GOP:
    r"""Mean outer product of the gradients of the last W tracked steps.

    .. math:: G = \frac{1}{W} \sum_{t=1}^{W} \bar g_t \bar g_t^\top

    of rank at most W, not centred. Its top eigenvectors span the subspace in which training
    moves. Cost: O(W^2 m); :class:`GradientWindow` keeps it up to date in O(W m) a step.

    Args:
        gradients: (W, m), one row a step, in any order.

    Returns:
        The m x m matrix in factor form, in float64; eigenvalues in units of the squared
        gradient.

    Raises:
        ValueError: If ``gradients`` is not 2-d or has no row.

    Source:
        Gur-Ari, Roberts & Dyer 2018, "Gradient descent happens in a tiny subspace",
        arXiv 1812.04754, for the subspace; the window is our choice.

    Example:
        >>> trajectory_gop(torch.tensor([[2.0, 0.0], [0.0, 4.0]])).eigenvalues
        array([8., 2.])
    """
    from grokscope.measures.gop import batch_gop  # that module gives this function's name too

    if gradients.ndim != 2 or len(gradients) == 0:
        shape = tuple(gradients.shape)
        raise ValueError(f"gradients must be (W, m) with W >= 1, got shape {shape}.")
    return batch_gop(gradients.double())


@dataclass(frozen=True)
class WindowMove:
    """A window of gradients before and after it took new ones, by their inner products.

    W places in float64 on the CPU, zero where there is no gradient; one block a parameter.

    Attributes:
        before: (slots, W, W) Gram matrices before.
        after: (slots, W, W) Gram matrices after.
        cross: (W, W) products of each gradient before with each one after, all parameters.
        count: Gradients after, at least 1.
    """

    before: Tensor
    after: Tensor
    cross: Tensor
    count: int

    def mean(self) -> Tensor:
        """Gram matrices (slots, W, W) of the ``trajectory`` GOP, whose mean is over ``count``."""
        return self.after / self.count

    def overlap(self, k: int, rank_threshold: float = 1e-6) -> float:
        """Of the top-k eigenspaces before and after: :func:`window_overlap`."""
        grams = self.before.sum(0), self.cross, self.after.sum(0)
        return window_overlap(*grams, k, rank_threshold)


class GradientWindow:
    """The last W gradients of a run, and their Gram matrix by parameter, kept up to date.

    A new gradient costs its products with the W kept ones, O(W m); the Gram matrix anew would
    cost O(W^2 m). Memory: 8 W m bytes on the gradients' device.

    Args:
        layout: The m parameters.
        size: W.

    Attributes:
        count: Gradients there are, at most W.
        grams: (slots, W, W) float64 on the CPU, one block a parameter; rows and columns of
            places not yet taken are zero. The Gram matrix of the whole is the sum.
    """

    def __init__(self, layout: GradientLayout, size: int) -> None:
        self.layout, self.size = layout, size
        self.count = self._next = 0
        self.grams = torch.zeros(len(layout.slots), size, size, dtype=torch.float64)
        self._rows = torch.empty(0, 0)
        self._dtype = torch.float64

    def push(self, gradients: Tensor) -> WindowMove:
        """Take new gradients in place of the oldest ones.

        Gradients with NaN or Inf are not taken; the result then is what they would give.

        Args:
            gradients: (b, m) in the order of their steps; of more than W the last W are used.

        """
        new = gradients[-self.size :].double()
        places = (self._next + torch.arange(len(new))) % self.size
        kept = self._kept_on(new.device)
        products, own = self._products(kept, new), self._products(new, new)
        cross, before, grams = self.grams.sum(0), self.grams, self.grams.clone()
        cross[:, places] = products.sum(0)
        grams[:, :, places], grams[:, places, :] = products, products.mT
        grams[:, places[:, None], places] = own
        if bool(torch.isfinite(own.diagonal(dim1=1, dim2=2)).all()):
            kept[places.to(kept.device)] = new
            self.grams, self._dtype = grams, gradients.dtype
            self.count = min(self.size, self.count + len(new))
            self._next = (self._next + len(new)) % self.size
        return WindowMove(before, grams, cross, max(1, self.count))

    def state(self) -> dict[str, Any]:
        """For a checkpoint: the gradients in their own precision, and their Gram matrices."""
        rows = self._rows[: self.count].to(self._dtype, copy=True)
        return {"rows": rows, "grams": self.grams, "count": self.count, "next": self._next}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`state`; one of another size or another network is passed over."""
        rows, grams = state["rows"], state["grams"]
        if grams.shape != self.grams.shape or rows.shape[1] != self.layout.size:
            return
        self.count, self._next, self.grams = state["count"], state["next"], grams
        self._dtype = rows.dtype
        self._kept_on(rows.device)[: self.count] = rows.double()

    def _kept_on(self, device: torch.device) -> Tensor:
        """The window's memory (W, m), made at the first use."""
        if not self._rows.numel():
            size = self.size, self.layout.size
            self._rows = torch.zeros(size, dtype=torch.float64, device=device)
        self._rows = self._rows.to(device)
        return self._rows

    def _products(self, a: Tensor, b: Tensor) -> Tensor:
        """Inner products (slots, len(a), len(b)) of the rows of two matrices, on the CPU."""
        sizes = [slot.size for slot in self.layout.slots]
        pairs = zip(a.split(sizes, dim=1), b.split(sizes, dim=1), strict=True)
        return torch.stack([x @ y.T for x, y in pairs]).cpu()


def window_overlap(
    before: Tensor, cross: Tensor, after: Tensor, k: int, rank_threshold: float = 1e-6
) -> float:
    r"""Overlap :math:`\|U_s^\top U_t\|_F^2 / k` of two top-k eigenspaces from products alone.

    The same number as :func:`~grokscope.measures.gop.subspace_overlap` of the gradients, in
    O(W^3): eigenvectors are :math:`U = R^\top V \Lambda^{-1/2}` with the eigenpairs of the Gram
    matrix :math:`R R^\top`.

    Args:
        before: (W, W) Gram matrix of the gradients that make U_s.
        cross: (W, W) products of those with the ones that make U_t.
        after: (W, W) Gram matrix of the latter.
        k: Directions compared; cut to the smaller of the two numerical ranks.
        rank_threshold: Relative eigenvalue below which a direction does not count.

    Returns:
        1 for the same subspace, 0 for orthogonal ones, NaN where one is empty or not finite.
    """
    if not all(bool(torch.isfinite(matrix).all()) for matrix in (before, cross, after)):
        return NAN
    left, right = (_coordinates(gram, k, rank_threshold) for gram in (before, after))
    k = min(left.shape[1], right.shape[1])
    return float((left[:, :k].T @ cross @ right[:, :k]).square().sum() / k) if k else NAN


def _coordinates(gram: Tensor, k: int, rank_threshold: float) -> Tensor:
    """(W, k') such that the rows of the window, so combined, are the top unit eigenvectors."""
    values, vectors = torch.linalg.eigh(gram)
    values, vectors = values.flip(0), vectors.flip(1)
    keep = min(k, int((values > rank_threshold * values[0]).sum())) if values[0] > 0 else 0
    return vectors[:, :keep] / values[:keep].sqrt()
