"""Gradient outer products in factor form; the matrix itself is never built unless asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from grokscope.gradients.layout import GradientLayout
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
        return _eigenvectors(self.factor.double(), k)

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
    return GOP(_eigenvalues(_gram(factor)), rows.shape[1], factor)


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


def weight_eigenvalues(matrices: Sequence[Tensor]) -> list[NDArray[np.float64]]:
    """Squared singular values (min(o, i),) of each (o, i) matrix, descending, in float64.

    From the smaller Gram matrix: absolute error about eps times the largest. Matrices of the
    same size are decomposed together, which halves the time for some hundred rows.
    """
    grams = [_gram(m if m.shape[0] <= m.shape[1] else m.T) for m in matrices]
    sizes = np.array([len(gram) for gram in grams])
    found: list[NDArray[np.float64]] = [np.empty(0)] * len(grams)
    for size in np.unique(sizes):
        chosen = np.flatnonzero(sizes == size)
        spectra = _eigenvalues(torch.stack([grams[i] for i in chosen]))
        for i, values in zip(chosen, spectra, strict=True):
            found[i] = values
    return found


def slot_grams(rows: Tensor, layout: GradientLayout) -> Tensor:
    """Gram matrix of the ``batch`` GOP by parameter: (slots, b, b) float64, on the CPU.

    Args:
        rows: (b, m) gradients of the mini-batches of one pass.
        layout: The m parameters.
    """
    blocks = rows.double().split([slot.size for slot in layout.slots], dim=1)
    if len(rows) == 1:
        squares = torch.stack([torch.dot(block[0], block[0]) for block in blocks])
        return squares.cpu()[:, None, None]
    return torch.stack([_gram(block) for block in blocks]).cpu() / len(rows)


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
    return _eigenvalues(torch.cat([layers.sum(1, keepdim=True), layers], dim=1))


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
        return _squared_cosine(rows[0], previous[0])
    u_t = _eigenvectors(rows, k, rank_threshold)
    u_s = _eigenvectors(previous, k, rank_threshold)
    k = min(len(u_s), len(u_t))
    return float((u_s[:k] @ u_t[:k].T).square().sum() / k) if k else NAN


def _squared_cosine(a: Tensor, b: Tensor) -> float:
    products = torch.stack([torch.dot(a, b), torch.dot(a, a), torch.dot(b, b)]).tolist()
    return min(products[0] ** 2 / (products[1] * products[2]), 1.0) if all(products[1:]) else NAN


def _gram(rows: Tensor) -> Tensor:
    rows = rows.double()
    return rows @ rows.T


def _eigenvalues(gram: Tensor) -> NDArray[np.float64]:
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


def _eigenvectors(rows: Tensor, k: int, rank_threshold: float = 1e-12) -> Tensor:
    """Top eigenvectors (k', m) of rows.T @ rows through the eigenvectors of the Gram matrix."""
    values, vectors = torch.linalg.eigh(rows @ rows.T)
    values, vectors = values.flip(0), vectors.flip(1)
    keep = int((values > rank_threshold * values[0]).sum()) if values[0] > 0 else 0
    keep = min(k, keep)
    return (vectors[:, :keep] / values[:keep].sqrt()).T @ rows
