r"""Recursive feature machines: kernels with a feature matrix, their AGOPs, and its structure.

A machine alternates a ridgeless kernel regression and :math:`M \leftarrow G^s`, with the average
gradient outer product G of its predictor. Source of everything here, where not said otherwise:
Mallinar et al. 2024, arXiv:2407.20199, and the released code nmallinar/rfm-grokking.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from grokscope.arithmetic import powers_of_a_primitive_root
from grokscope.measures.feature_ansatz import circulant_deviation, matrix_cosine
from grokscope.validation import require_choice, require_int

BANDWIDTH = 2.5
CONVENTIONS = ("sum", "mean")
OPERATIONS = {
    "add": (False, False),
    "subtract": (True, False),
    "multiply": (False, True),
    "divide": (True, True),
}
"""Operation -> whether its features are Hankel, and whether only after :func:`reordered`."""


def quadratic_kernel(x: Tensor, z: Tensor, features: Tensor) -> Tensor:
    r"""Quadratic kernel :math:`K_M(x, z) = (x^\top M z)^2`.

    The released code has a factor 3, which changes no predictor.

    Args:
        x: (n, d).
        z: (m, d).
        features: M, (d, d), symmetric.

    Returns:
        (n, m).
    """
    return (x @ features @ z.T).square()


def gaussian_kernel(
    x: Tensor, z: Tensor, features: Tensor, bandwidth: float = BANDWIDTH
) -> Tensor:
    r"""Gaussian kernel.

    .. math:: K_M(x, z) = \exp\left(-\frac{(x - z)^\top M (x - z)}{2 L^2}\right)

    This is the code's convention of L; the paper writes L in place of 2 L².

    Args:
        x: (n, d).
        z: (m, d).
        features: M, (d, d), positive semi-definite.
        bandwidth: L.

    Returns:
        (n, m).
    """
    own = ((x @ features) * x).sum(1)[:, None] + ((z @ features) * z).sum(1)
    squares = (own - 2 * x @ features @ z.T).clamp(min=0)
    return torch.exp(squares / (-2 * bandwidth**2))


def quadratic_jacobians(x: Tensor, z: Tensor, features: Tensor, alpha: Tensor) -> Tensor:
    r"""Jacobians of :math:`f(x) = K_M(x, Z) \alpha` for the quadratic kernel.

    .. math:: \nabla f_c(x) = \sum_j \alpha_{jc}\, 2 (x^\top M z_j)\, M z_j

    Args:
        x: Where, (n, d).
        z: Centres, (m, d).
        features: M, (d, d).
        alpha: (m, c).

    Returns:
        (n, c, d). Memory: 8 n c (d + m) bytes in float64.
    """
    return torch.einsum("nj,jc,jd->ncd", 2 * x @ features @ z.T, alpha, z @ features)


def gaussian_jacobians(
    x: Tensor, z: Tensor, features: Tensor, alpha: Tensor, bandwidth: float = BANDWIDTH
) -> Tensor:
    r"""Jacobians of :math:`f(x) = K_M(x, Z) \alpha` for the Gaussian kernel.

    .. math:: \nabla f_c(x) = -\frac{1}{L^2} \sum_j \alpha_{jc} K_M(x, z_j)\, M (x - z_j)

    Args and returns as :func:`quadratic_jacobians`.
    """
    kernel = gaussian_kernel(x, z, features, bandwidth)
    centres = z @ features
    toward = torch.stack([(kernel * column) @ centres for column in alpha.T], dim=1)
    away = (kernel @ alpha)[:, :, None] * (x @ features)[:, None]
    return (toward - away) / bandwidth**2


def quadratic_agop(x: Tensor, features: Tensor, alpha: Tensor, *, centered: bool = True) -> Tensor:
    r"""AGOP at the centres of :math:`f(x) = K_M(x, X) \alpha`, quadratic kernel, in closed form.

    Gradients are linear in x, :math:`\nabla f_c(x) = 2 M A_c M x` with
    :math:`A_c = X^\top \mathrm{diag}(\alpha_{\cdot c}) X`, so that

    .. math:: G = 4 \sum_c M A_c M \, S \, M A_c M,
              \qquad S = \frac{1}{n} X^\top X - \bar x \bar x^\top

    Args:
        x: Centres X, (n, d).
        features: M, (d, d).
        alpha: (n, c).
        centered: Subtract the mean gradient, as the code does; without, S is not centred.

    Returns:
        G, (d, d). Cost: c (n d² + 3 d³); no Jacobian is formed.
    """
    rows = x - x.mean(0) if centered else x
    second = rows.T @ rows / len(x)
    total = torch.zeros_like(features)
    for column in alpha.T:
        form = features @ ((x.T * column) @ x) @ features
        total += form @ second @ form.T
    return 4 * total


def gaussian_agop(
    x: Tensor,
    features: Tensor,
    alpha: Tensor,
    bandwidth: float = BANDWIDTH,
    *,
    centered: bool = True,
    chunk_size: int = 256,
) -> Tensor:
    """AGOP at the centres of the Gaussian machine; arguments as :func:`quadratic_agop`.

    Args:
        x: Centres X, (n, d).
        features: M, (d, d).
        alpha: (n, c).
        bandwidth: L.
        centered: Subtract the mean gradient.
        chunk_size: Centres whose Jacobians are held at once.

    Returns:
        G, (d, d). Cost: c d n² multiply-adds.
    """
    require_int("chunk_size", chunk_size)
    total = torch.zeros_like(features)
    mean = torch.zeros(alpha.shape[1], x.shape[1], dtype=x.dtype, device=x.device)
    for part in x.split(chunk_size):
        jacobians = gaussian_jacobians(part, x, features, alpha, bandwidth)
        total += torch.einsum("nci,ncj->ij", jacobians, jacobians)
        mean += jacobians.sum(0)
    mean = mean / len(x)
    return total / len(x) - (mean.T @ mean if centered else 0)


def two_layer_agop(first: Tensor, second: Tensor, slopes: Tensor) -> Tensor:
    r"""AGOP of :math:`f(x) = W_2 \phi(W_1 x + b)`, not centred, without its Jacobians.

    .. math:: G = W_1^\top \left(W_2^\top W_2 \odot \frac{1}{n} \sum_i s_i s_i^\top\right) W_1,
              \qquad s_i = \phi'(W_1 x_i + b)

    The released code has the slope of ReLU here for every net; for :math:`\phi(z) = z^2` it is
    :math:`2 W_1 x`, which we use.

    Args:
        first: W_1, (k, d).
        second: W_2, (c, k).
        slopes: (n, k).

    Returns:
        (d, d). Cost: (n + c) k² + k² d.
    """
    inner = (second.T @ second) * (slopes.T @ slopes / len(slopes))
    return first.T @ inner @ first


def feature_block(features: Tensor) -> Tensor:
    """The lower left (p, p) block of features (2p, 2p) of one-hot pairs: b's rows, a's columns.

    Raises:
        ValueError: If the matrix is not square with an even number of rows.
    """
    rows = len(features)
    if features.ndim != 2 or features.shape[1] != rows or rows % 2:
        raise ValueError(f"features must be (2p, 2p), got shape {tuple(features.shape)}.")
    return features[rows // 2 :, : rows // 2]


def feature_deviation(features: Tensor, operation: str, convention: str = "sum") -> float:
    r"""Circulant deviation of the features of modular arithmetic, in the operation's own order.

    ``add``: constant along (i - j) mod p (circulant); ``subtract``: along (i + j) mod p (Hankel);
    ``multiply`` and ``divide``: the same two after :func:`reordered`, without the zero residue.

    Args:
        features: M, AGOP or weight Gram matrix, (2p, 2p).
        operation: ``add``, ``subtract``, ``multiply`` or ``divide``.
        convention: ``sum`` of squared deviations, D in [0, 1] as in the paper's formula; ``mean``
            is D / p, which is what their figures show (about 1/p at the start).

    Returns:
        D, see :func:`~grokscope.measures.feature_ansatz.circulant_deviation`; NaN for a zero
        block, such as that of M = I.

    Raises:
        ValueError: For an argument out of range.
    """
    require_choice("convention", convention, CONVENTIONS)
    hankel, reorder = OPERATIONS[require_choice("operation", operation, OPERATIONS)]
    block = feature_block(features)
    block = reordered(block)[1:, 1:] if reorder else block
    deviation = circulant_deviation(block, hankel=hankel)
    return deviation / len(block) if convention == "mean" else deviation


def discrete_log_order(modulus: int) -> list[int]:
    """Residues in the order 0, g⁰, g¹, ..., gᵖ⁻² for the smallest primitive root g of a prime."""
    return [0, *powers_of_a_primitive_root(modulus)]


def reordered(block: Tensor) -> Tensor:
    """Rows and columns of a (p, p) block by the discrete logarithm; zero stays first.

    Products of residues are then sums of positions. For ``divide`` rows and columns are ordered
    in the same way, so that quotients are differences.
    """
    order = discrete_log_order(len(block))
    return block[order][:, order]


def agop_alignment(features: Sequence[Tensor] | Tensor) -> list[float]:
    """Cosine of each feature matrix with the last of the sequence, known only afterwards.

    Args:
        features: (t, d, d), such as a run's recorded feature matrices in the order of epochs.

    Returns:
        t numbers, the last of which is 1.
    """
    matrices = [torch.as_tensor(matrix) for matrix in features]
    return [matrix_cosine(matrix, matrices[-1]) for matrix in matrices]
