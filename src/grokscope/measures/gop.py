"""Gradient outer products in factor form; the matrix itself is never built unless asked for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from grokscope.gradients.layout import GradientLayout
from grokscope.measures.factored import GOP as GOP
from grokscope.measures.factored import (
    NAN,
    gram_eigenvalues,
    gram_matrix,
    top_eigenvectors,
)
from grokscope.measures.factored import weight_eigenvalues as weight_eigenvalues
from grokscope.measures.input_gop import input_gop as input_gop
from grokscope.measures.sample_gop import sample_gop as sample_gop
from grokscope.measures.slot_squares import slot_squares
from grokscope.measures.trajectory import trajectory_gop as trajectory_gop


def batch_gop(gradients: Tensor) -> GOP:
    r"""Outer product of the gradient that the optimizer uses.

    .. math:: G = \frac{1}{B} \sum_{b=1}^{B} \bar g_b \bar g_b^\top

    over the mini-batches of one pass. With one batch it has rank one: its only non-zero
    eigenvalue is the squared norm, its eigenvector the normalised gradient. Not centred.

    Cost: O(B^2 m) for the Gram matrix, float64 accumulation.

    Args:
        gradients: (m,) or (b, m), one row a mini-batch.

    Example:
        >>> batch_gop(torch.tensor([3.0, 4.0])).eigenvalues
        array([25.])
    """
    rows = torch.atleast_2d(gradients)
    factor = rows / rows.shape[0] ** 0.5
    return GOP(gram_eigenvalues(gram_matrix(factor)), rows.shape[1], factor)


def weight_gop(gradient: Tensor) -> GOP:
    r"""Left gradient outer product of one weight matrix, :math:`\Gamma \Gamma^\top`.

    :math:`\Gamma = \partial L / \partial W` is (o, i); tensors with more dimensions are
    flattened to (o, -1). The right one, :math:`\Gamma^\top \Gamma`, has the same non-zero
    spectrum, the squared singular values (what Shampoo accumulates, Gupta et al. 2018).

    Args:
        gradient: (o, ...) gradient with respect to one weight.

    Returns:
        The o x o matrix in factor form.
    """
    matrix = gradient.reshape(gradient.shape[0], -1)
    return GOP(weight_eigenvalues([matrix])[0], matrix.shape[0], matrix.T)


def slot_grams(rows: Tensor, layout: GradientLayout) -> Tensor:
    """Gram matrix of the ``batch`` GOP by parameter: (slots, b, b) float64, on the CPU.

    Args:
        rows: (b, m) gradients of the mini-batches of one pass.
        layout: The m parameters.
    """
    if len(rows) == 1:
        return slot_squares(rows[0], rows[0], layout)[0][:, None, None]
    blocks = rows.double().split([slot.size for slot in layout.slots], dim=1)
    return torch.stack([gram_matrix(block) for block in blocks]).cpu() / len(rows)


def batch_spectra(grams: Sequence[Tensor], layout: GradientLayout) -> NDArray[np.float64]:
    """Spectra of the ``batch`` GOP of several passes: the whole, then its layers.

    The layers are the diagonal blocks; the Gram matrix of the whole is the sum of theirs.

    Args:
        grams: For each of n passes its :func:`slot_grams`.
        layout: Says which parameters make a layer.

    Returns:
        Eigenvalues (n, 1 + layers, b) with b of the longest pass, zeros where a pass has
        fewer; NaN where a gradient is not finite.
    """
    b = max(gram.shape[-1] for gram in grams)
    slots = torch.stack([functional.pad(g, 2 * (0, b - g.shape[-1])) for g in grams])
    layers = torch.zeros(len(grams), len(layout.layers), b, b, dtype=torch.float64)
    layers.index_add_(1, torch.tensor(layout.owners), slots)
    return gram_eigenvalues(torch.cat([layers.sum(1, keepdim=True), layers], dim=1))


def subspace_overlap(
    rows: Tensor, previous: Tensor, k: int, rank_threshold: float = 1e-6
) -> float:
    r"""Overlap :math:`\|U_s^\top U_t\|_F^2 / k` of two top-k eigenspaces (Gur-Ari et al. 2018).

    Args:
        rows: (b, m) gradients whose outer product has the eigenvectors U_t.
        previous: (b', m), the same for U_s.
        k: Directions compared; cut to the smaller of the two numerical ranks.
        rank_threshold: Relative eigenvalue below which a direction does not count.

    Returns:
        1 for the same subspace, 0 for orthogonal ones, NaN where a gradient is zero.
    """
    rows, previous = rows.double(), previous.double()
    if len(rows) == len(previous) == 1:
        a, b = rows[0], previous[0]
        squares = (float(torch.dot(x, x)) for x in (a, b))
        return squared_cosine(float(torch.dot(a, b)), *squares)
    u_t = top_eigenvectors(rows, k, rank_threshold)
    u_s = top_eigenvectors(previous, k, rank_threshold)
    k = min(len(u_s), len(u_t))
    return float((u_s[:k] @ u_t[:k].T).square().sum() / k) if k else NAN


def squared_cosine(product: float, *squares: float) -> float:
    """Of two vectors with this inner product and squared norms; NaN where one is zero."""
    if not all(squares):
        return NAN
    a, b = (square**0.5 for square in squares)
    return min((product / a / b) ** 2, 1.0)
