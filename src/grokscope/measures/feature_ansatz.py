r"""Does a weight matrix see what the outputs depend on? And is its pattern modular arithmetic's?

The neural feature ansatz: after training, W^T W of a layer is proportional to a power of the
average gradient outer product (AGOP) at the layer's input.
"""

from __future__ import annotations

import torch
from torch import Tensor

from grokscope.measures.factored import GOP
from grokscope.validation import require_choice, require_float

SIMILARITIES = ("cosine", "pearson", "pearson_off_diagonal")
NAN = float("nan")


def feature_ansatz(
    weight: Tensor, agop: GOP | Tensor, power: float = 0.5, *, similarity: str = "cosine"
) -> float:
    r"""Neural feature ansatz: how similar W^T W is to a power of the AGOP at the layer's input.

    .. math:: \mathrm{NFA} = \cos(W^\top W,\, G^s), \qquad
              \cos(P, Q) = \frac{\langle P, Q \rangle_F}{\|P\|_F \|Q\|_F}

    Both matrices are positive semi-definite, so it lies in [0, 1]; 1 means proportional. A
    linear map has 1 at s = 1. The other similarities are Pearson correlations of all entries,
    in [-1, 1]; for ``pearson_off_diagonal`` both diagonals are set to zero before, and the
    zeros take part (as in the code of Mallinar et al.).

    Cost: O(d^3) for s != 1, O(o d^2) else. Memory: three (d, d) matrices in float64.

    Args:
        weight: W, (o, d): outputs by inputs, as in ``nn.Linear``.
        agop: G, d x d, at the input of that layer.
        power: s. Radhakrishnan et al. and Mallinar et al. use 1/2; 1 needs no decomposition.
        similarity: ``cosine``, ``pearson`` or ``pearson_off_diagonal``.

    Returns:
        The similarity; NaN where a matrix is zero, constant (for Pearson) or not finite.

    Raises:
        ValueError: If shapes do not fit or an argument is out of range.

    Source:
        Radhakrishnan et al. 2024, Science 383:1461, arXiv:2212.13881; Mallinar et al. 2024,
        arXiv:2407.20199 (Pearson, s = 1/2, uncentred G).

    Example:
        >>> weight = torch.tensor([[3.0, 0.0], [0.0, 1.0]])
        >>> round(feature_ansatz(weight, weight.T @ weight, power=0.5), 4)
        0.9778
    """
    require_choice("similarity", similarity, SIMILARITIES)
    if weight.ndim != 2:
        raise ValueError(f"weight must be a matrix (o, d), got shape {tuple(weight.shape)}.")
    matrix = _dense("agop", agop)
    if len(matrix) != weight.shape[1]:
        raise ValueError(
            f"agop must be d x d for d = {weight.shape[1]} columns of weight, got {len(matrix)}."
        )
    w = weight.detach().to(matrix)
    return _similarity(w.T @ w, psd_power(matrix, power), similarity)


def psd_power(matrix: GOP | Tensor, power: float) -> Tensor:
    r"""Power of a symmetric positive semi-definite matrix, through its eigenvalues.

    .. math:: G^s = V \Lambda^s V^\top

    Eigenvalues under d eps times the largest are rounding and count as zero: under a square
    root they would grow to 1e-8.

    Args:
        matrix: (d, d).
        power: s > 0.

    Returns:
        (d, d) in float64; NaN if the matrix is not finite.
    """
    require_float("power", power, above=0.0)
    dense = _dense("matrix", matrix)
    if power == 1 or not torch.isfinite(dense).all():
        return dense
    values, vectors = torch.linalg.eigh(dense)
    noise = len(values) * torch.finfo(values.dtype).eps * values[-1]
    return (vectors * torch.where(values > noise, values, 0.0) ** power) @ vectors.T


def matrix_cosine(a: Tensor, b: Tensor) -> float:
    """Cosine of two matrices of one shape as vectors, such as AGOP alignment; NaN for zeros."""
    return _similarity(a.double(), b.double(), "cosine")


def circulant_deviation(block: Tensor, *, hankel: bool = False) -> float:
    r"""How far a square matrix is from being constant along its wrapped diagonals.

    .. math:: D(A) = \frac{1}{\|A\|_F^2} \sum_{k} \sum_{(i - j) \bmod p = k}
              (A_{ij} - \mu_k)^2

    with the mean :math:`\mu_k` of each wrapped diagonal; along (i + j) mod p for ``hankel``.
    0 means circulant (Hankel), independent random entries have about 1 - 1/p, and it is at
    most 1. A constant matrix is both.

    For one-hot pairs (a, b) the block is ``G[p:, :p]`` of the AGOP, or of its square root.
    Features of a + b are circulant, those of a - b Hankel; for a * b and a / b first order
    rows and columns by the discrete logarithm.

    Args:
        block: A, (p, p).
        hankel: Anti-diagonals.

    Returns:
        D in [0, 1]; NaN for a zero matrix.

    Raises:
        ValueError: If the block is not square.

    Source:
        Mallinar et al. 2024, arXiv:2407.20199, with the sum of squares as variance; their
        figures show D / p.
    """
    if block.ndim != 2 or block.shape[0] != block.shape[1]:
        raise ValueError(f"block must be square, got shape {tuple(block.shape)}.")
    a, index = block.detach().double(), torch.arange(len(block), device=block.device)
    shifts = -index if hankel else index
    columns = a.gather(1, (index + shifts[:, None]) % len(a))
    return float((columns - columns.mean(0)).square().sum() / a.square().sum())


def _dense(name: str, matrix: GOP | Tensor) -> Tensor:
    dense = matrix.dense() if isinstance(matrix, GOP) else matrix.detach().double()
    if dense.ndim != 2 or dense.shape[0] != dense.shape[1]:
        raise ValueError(f"{name} must be a square matrix, got shape {tuple(dense.shape)}.")
    return dense


def _similarity(a: Tensor, b: Tensor, kind: str) -> float:
    if kind == "pearson_off_diagonal":
        a, b = (m - m.diagonal().diag() for m in (a, b))
    if kind != "cosine":
        a, b = a - a.mean(), b - b.mean()
    product = torch.linalg.vector_norm(a) * torch.linalg.vector_norm(b)
    return float((a * b).sum() / product) if product > 0 else NAN
