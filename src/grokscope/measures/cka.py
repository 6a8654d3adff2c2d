r"""Centred kernel alignment: how alike two representations of the same samples are.

.. math:: \mathrm{CKA}(K, L) = \frac{\langle HKH, HLH \rangle_F}{\|HKH\|_F \, \|HLH\|_F},
    \qquad H = I - \tfrac{1}{n} 1 1^\top

With few samples it is near 1 for any two wide representations; the debiased form has no such
offset. There the inner product is that of the kernels with their diagonals set to zero and
centred so that rows add up to zero, which of centred kernels is

.. math:: \langle K, L \rangle - \frac{n}{n-2} \sum_i K_{ii} L_{ii}
    + \frac{\mathrm{tr} K \, \mathrm{tr} L}{(n-1)(n-2)}

Source: Kornblith et al. 2019, arXiv:1905.00414; debiased: Székely & Rizzo 2014,
google-research/google-research:representation_similarity. Everything is float64.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from grokscope.measures.matrices import Array, matrix, ratio, refuse_above
from grokscope.validation import require_bool, require_choice, require_float, require_int

FORMS = ("auto", "gram", "features")
MIN_DEBIASED = 4
ROUNDING = 1e-14


class Products(NamedTuple):
    """Inner products of two centred kernels K and L, and of each with itself.

    Attributes:
        both: <K, L>.
        first: <K, K>.
        second: <L, L>.
    """

    both: Tensor
    first: Tensor
    second: Tensor


def cka(first: Array, second: Array, *, debiased: bool = False) -> float:
    """CKA of two kernels, such as neural tangent kernels.

    Args:
        first: (n, n), symmetric, not centred.
        second: (n, n) of the same samples.
        debiased: The form without offset, for n >= 4; it may be negative.

    Returns:
        Within [0, 1] for positive kernels, [-1, 1] otherwise; NaN where a centred kernel is zero.

    Raises:
        ValueError: For kernels that are not symmetric or of different shapes, or n < 4 where
            debiased.
    """
    K, L = symmetric("first kernel", first), symmetric("second kernel", second)
    _require_samples(K, L, require_bool("debiased", debiased))
    return _of_centred(centred(K), centred(L), debiased)


def debiased_cka(first: Array, second: Array) -> float:
    """:func:`cka` of two kernels in its debiased form; of features, see :func:`linear_cka`.

    Raises:
        ValueError: As :func:`cka`.
    """
    return cka(first, second, debiased=True)


def linear_cka(
    first: Array, second: Array, *, debiased: bool = False, form: str = "auto"
) -> float:
    r"""CKA of two representations with the kernels :math:`X X^\top`, :math:`Y Y^\top`.

    .. math:: \frac{\|X^\top Y\|_F^2}{\|X^\top X\|_F \|Y^\top Y\|_F}
        \quad \text{of centred columns}

    The same for any rotation and scale of either.

    Args:
        first: (n, d) activations of n samples.
        second: (n, e) of the same samples.
        debiased: The form without offset, for n >= 4; it may be negative.
        form: ``features``, the formula above, n (d e + d^2 + e^2) multiply-adds; ``gram``, the
            kernels themselves, n^2 (d + e); ``auto`` takes the one with fewer.

    Returns:
        Within [0, 1] unless debiased; NaN where a representation has no variance.

    Raises:
        ValueError: If they are no matrices of as many rows, n < 4 where debiased, or for an
            unknown form.
    """
    require_choice("form", form, FORMS)
    X, Y = matrix("first", first), matrix("second", second)
    _require_samples(X, Y, require_bool("debiased", debiased))
    X, Y = centred_features(X), centred_features(Y)
    (n, d), e = X.shape, Y.shape[1]
    if form == "gram" or (form == "auto" and n * (d + e) < d * e + d * d + e * e):
        return _of_centred(X @ X.t(), Y @ Y.t(), debiased)
    norms = X.square().sum(1), Y.square().sum(1)
    squares = (_square_norm(a.t() @ b) for a, b in ((X, Y), (X, X), (Y, Y)))
    return _cosine(Products(*squares), norms, debiased)


def rbf_cka(
    first: Array,
    second: Array,
    *,
    threshold: float = 1.0,
    debiased: bool = False,
    max_bytes: int = 2**31,
) -> float:
    """CKA of two representations with Gaussian kernels, :func:`rbf_kernel`.

    Args:
        first: (n, d) activations of n samples.
        second: (n, e) of the same samples.
        threshold: Width of the kernels in units of the root of the median squared distance.
        debiased: The form without offset, for n >= 4; it may be negative.
        max_bytes: Memory for the kernels and their distances, 32 n^2 bytes.

    Returns:
        Within [0, 1] unless debiased; NaN where more than half of the distances are zero.

    Raises:
        ValueError: If they are no matrices of as many rows, ``threshold`` is not positive,
            n < 4 where debiased, or the kernels take more than ``max_bytes``.
    """
    X, Y = matrix("first", first), matrix("second", second)
    _require_samples(X, Y, require_bool("debiased", debiased))
    refuse_above(
        require_int("max_bytes", max_bytes), 32 * len(X) ** 2, f"two kernels of {len(X)} samples"
    )
    K, L = centred(rbf_kernel(X, threshold)), centred(rbf_kernel(Y, threshold))
    return _of_centred(K, L, debiased)


def rbf_kernel(features: Array, threshold: float = 1.0) -> Tensor:
    r"""Gaussian kernel :math:`\exp(-\|x_i - x_j\|^2 / (2 \theta^2 m))` (n, n).

    m is the median of the **squared** distances over the whole matrix, the zeros of its diagonal
    included; where m is zero, all is NaN.

    Args:
        features: (n, d).
        threshold: theta.

    Raises:
        ValueError: If ``features`` is not a matrix or ``threshold`` not positive.
    """
    require_float("threshold", threshold, above=0.0)
    distances = squared_distances(matrix("features", features))
    return torch.exp(distances / (-2 * threshold**2 * median(distances)))


def squared_distances(X: Tensor) -> Tensor:
    """(n, n); centred before, since a common offset of the features would cost digits."""
    X = centred_features(X)
    squares = X.square().sum(1)
    distances = torch.addmm(squares + squares[:, None], X, X.t(), alpha=-2).clamp_min_(0)
    return distances.fill_diagonal_(0)


def median(values: Tensor) -> Tensor:
    """Of all entries; of an even number, the mean of the two in the middle."""
    flat = values.flatten()
    low, high = (flat.kthvalue(k).values for k in ((len(flat) + 1) // 2, len(flat) // 2 + 1))
    return (low + high) / 2


def symmetric(name: str, kernel: Array) -> Tensor:
    """A symmetric matrix.

    Raises:
        ValueError: If it is none.
    """
    K = matrix(name, kernel)
    if K.shape[0] != K.shape[1] or float((K - K.t()).abs().max()) > 1e-5 * float(K.abs().max()):
        raise ValueError(
            f"{name} must be symmetric, got a matrix of shape {tuple(K.shape)}; features (n, d) "
            "are taken by linear_cka."
        )
    return K


def centred(K: Tensor) -> Tensor:
    """H K H of a symmetric matrix."""
    means = K.mean(0)
    return _or_zero(K - means - means[:, None] + means.mean(), K)


def centred_features(X: Tensor) -> Tensor:
    """H X."""
    return _or_zero(X - X.mean(0), X)


def _or_zero(rest: Tensor, whole: Tensor) -> Tensor:
    """Zero, if what centring leaves is the rounding of the mean: a constant has no CKA."""
    return rest if float(rest.norm()) > ROUNDING * float(whole.norm()) else rest.zero_()


def _of_centred(K: Tensor, L: Tensor, debiased: bool) -> float:
    products = Products((K * L).sum(), _square_norm(K), _square_norm(L))
    return _cosine(products, (K.diagonal(), L.diagonal()), debiased)


def _cosine(found: Products, diagonals: tuple[Tensor, Tensor], debiased: bool) -> float:
    a, b = diagonals
    if debiased:
        each = zip(found, ((a, b), (a, a), (b, b)), strict=True)
        found = Products(
            *(without_offset(p, u @ v, u.sum() * v.sum(), len(a)) for p, (u, v) in each)
        )
    return ratio(found.both, found.first.clamp_min(0).sqrt() * found.second.clamp_min(0).sqrt())


def without_offset(products: Tensor, diagonals: Tensor, traces: Tensor, n: int) -> Tensor:
    """The debiased inner product from <K, L>, sum_i K_ii L_ii and tr K tr L of centred kernels."""
    return products - n / (n - 2) * diagonals + traces / ((n - 1) * (n - 2))


def _square_norm(values: Tensor) -> Tensor:
    return values.square().sum()


def _require_samples(X: Tensor, Y: Tensor, debiased: bool) -> None:
    if len(X) != len(Y):
        raise ValueError(f"first and second must have as many rows, got {len(X)} and {len(Y)}.")
    require_enough(len(X), debiased)


def require_enough(n: int, debiased: bool) -> None:
    """Refuse the debiased form for fewer than four samples: with three, all is zero."""
    if debiased and n < MIN_DEBIASED:
        raise ValueError(f"debiased CKA needs at least {MIN_DEBIASED} samples, got {n}.")
