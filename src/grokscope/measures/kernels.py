r"""How a kernel moves while a net trains, how it fits the labels, and how many dimensions it has.

Kernels are (n, n), or (n c, n c) with the c outputs of a sample next to each other, as
:func:`grokscope.gradients.empirical_ntk` gives them. Everything is computed in float64; arrays and
tensors are both taken. Centred kernel alignment (:mod:`grokscope.measures.cka`) and what follows
from a net's tangent kernel (:mod:`grokscope.measures.ntk`) can be had from here too.
"""

from __future__ import annotations

import torch
from torch import Tensor

from grokscope.measures.cka import cka as cka
from grokscope.measures.cka import debiased_cka as debiased_cka
from grokscope.measures.cka import linear_cka as linear_cka
from grokscope.measures.cka import rbf_cka as rbf_cka
from grokscope.measures.cka_matrix import cka_matrix as cka_matrix
from grokscope.measures.linearised import linearised_outputs as linearised_outputs
from grokscope.measures.matrices import Array, columns, matrix, ratio, square
from grokscope.measures.ntk import ntk_eigenvector as ntk_eigenvector
from grokscope.measures.ntk import ntk_spectrum as ntk_spectrum
from grokscope.measures.ntk import ntk_svd as ntk_svd
from grokscope.validation import require_choice, require_float

CENTERINGS = ("none", "both", "one_sided")


def label_alignment(kernel: Array, targets: Array, *, centering: str = "none") -> float:
    r"""How well a kernel matches the labels.

    .. math:: \frac{\langle K, Y Y^\top \rangle_F}{\|K\|_F \, \|Y Y^\top\|_F}
        \quad \text{for one output} \quad \frac{y^\top K y}{\|K\|_F \|y\|^2}

    Variants, all in use:

    - ``none`` (the formula of Kumar et al.): as it stands. A constant offset of the labels counts.
    - ``both``: H K H and H Y, H = I - 11'/n: the centred alignment, or CKA with the labels.
    - ``one_sided``: H Y, and K without the means of its columns, H K, in numerator and norm: what
      the adapted code of Kumar et al. computes.

    A kernel (n c, n c) gives the mean over outputs j of the alignment of its n x n block with
    column j of Y (chung-neuroai-lab/feature-learning-geometry); a kernel (n, n), such as the one
    traced over outputs, gives one number for all outputs.

    Args:
        kernel: (n, n) or (n c, n c), symmetric.
        targets: (n,) or (n, c) numbers, or (n,) integers: classes, which stand for one-hot rows.
        centering: ``none``, ``both`` or ``one_sided``.

    Returns:
        Within [-1, 1], and [0, 1] for a positive kernel; NaN where a norm is zero.

    Raises:
        ValueError: For shapes that do not fit, or an unknown variant.

    Source:
        Cristianini et al. 2002 (kernel-target alignment); Kumar et al. 2023, arXiv:2310.06110;
        Cortes et al. 2012 (centred).
    """
    require_choice("centering", centering, CENTERINGS)
    K, Y = square("kernel", kernel), columns(targets)
    n, c = Y.shape
    if len(K) == n:
        return _alignment(K, Y, centering)
    if len(K) != n * c:
        raise ValueError(
            f"kernel must be ({n}, {n}) or ({n * c}, {n * c}) for targets {tuple(Y.shape)}, "
            f"got {tuple(K.shape)}."
        )
    blocks = K.view(n, c, n, c).diagonal(dim1=1, dim2=3)
    each = [_alignment(blocks[..., j], Y[:, j : j + 1], centering) for j in range(c)]
    return sum(each) / c


def _alignment(K: Tensor, Y: Tensor, centering: str) -> float:
    if centering != "none":
        Y = Y - Y.mean(0)
        K = K - K.mean(0)
    if centering == "both":
        K = K - K.mean(1, keepdim=True)
    return ratio((Y * (K @ Y)).sum(), K.norm() * (Y.t() @ Y).norm())


def kernel_distance(first: Array, second: Array) -> float:
    r"""One minus the cosine of two kernels, without centring.

    .. math:: S(K, K') = 1 - \frac{\mathrm{tr}(K K'^\top)}{\|K\|_F \|K'\|_F}

    0 for kernels that differ by a positive factor.

    Raises:
        ValueError: If they have different shapes.

    Source:
        Fort et al. 2020, arXiv:2010.15110.
    """
    K, L = _pair(first, second)
    return 1.0 - ratio((K * L).sum(), K.norm() * L.norm())


def kernel_change(kernel: Array, initial: Array) -> float:
    r"""Relative change :math:`\|K_t - K_0\|_F / \|K_0\|_F`; unlike the distance it sees growth.

    Raises:
        ValueError: If they have different shapes.
    """
    K, K0 = _pair(kernel, initial)
    return ratio((K - K0).norm(), K0.norm())


def kernel_velocity(
    before: Array, after: Array, elapsed: float, *, variant: str = "distance"
) -> float:
    r"""How fast a kernel moves between two times.

    Args:
        before: K at t.
        after: K at t + dt.
        elapsed: dt, in whatever unit the result is to be per.
        variant: ``distance``, S(t, t + dt) / dt of Fort et al. 2020 (:func:`kernel_distance`), or
            ``change``, ||K' - K||_F / (dt ||K||_F).

    Raises:
        ValueError: For different shapes, a time that is not positive, or an unknown variant.
    """
    require_choice("variant", variant, ("distance", "change"))
    require_float("elapsed", elapsed, above=0.0)
    moved = kernel_distance(before, after) if variant == "distance" else None
    return (kernel_change(after, before) if moved is None else moved) / elapsed


def participation_ratio(features: Array, *, variant: str = "all") -> float:
    r"""How many directions carry the variance, :math:`(\sum_i \lambda_i)^2 / \sum_i \lambda_i^2`.

    Args:
        features: (n, d), n samples; eigenvalues are those of their covariance matrix, all of them.
        variant: ``all``, or ``without_last``: the smallest of the min(n, d) eigenvalues is left
            out, as in schung039/neural_manifolds_replicaMFT. That is right only for n <= d, where
            centring makes it zero; for n > d it loses a true one.

    Returns:
        Between 1 and min(n - 1, d); NaN without variance. From the smaller of the covariance and
        the Gram matrix: min(n, d)^2 max(n, d) multiply-adds, no decomposition for ``all``.

    Raises:
        ValueError: If ``features`` is not a matrix, or for an unknown variant.
    """
    require_choice("variant", variant, ("all", "without_last"))
    scatter = _scatter(features)
    if variant == "all":
        return spectrum_participation_ratio(scatter)
    kept = torch.linalg.eigvalsh(scatter)[1:]
    return ratio(kept.sum().square(), kept.square().sum())


def spectrum_participation_ratio(kernel: Array) -> float:
    """The same of the eigenvalues of a symmetric matrix itself, not centred: tr(K)^2 / ||K||^2."""
    K = square("kernel", kernel)
    return ratio(K.trace().square(), K.square().sum())


def explained_dimension(features: Array, share: float = 0.9, *, variant: str = "reached") -> int:
    r"""How many principal components explain a share of the variance.

    .. math:: \min \{k : \sum_{i \le k} \lambda_i \ge s \sum_i \lambda_i\}

    Args:
        features: (n, d), n samples, centred here.
        share: s.
        variant: ``reached``, the formula; or ``replica_mft``, what ``compute_dim_expvar`` of
            schung039/neural_manifolds_replicaMFT computes: the number of components whose
            cumulative share is at most s, one fewer unless s is met exactly. Its PCA is given the
            transpose, so each sample's mean over features is subtracted, not each feature's.

    Returns:
        0 without variance.

    Raises:
        ValueError: If ``features`` is not a matrix, ``share`` is not in (0, 1], or for an unknown
            variant.
    """
    require_choice("variant", variant, ("reached", "replica_mft"))
    require_float("share", share, above=0.0, maximum=1.0)
    X = matrix("features", features)
    scatter = _scatter(X if variant == "reached" else X.t())
    variances = torch.linalg.eigvalsh(scatter).flip(0).clamp_min(0)
    if not float(variances.sum()):
        return 0
    shares = variances.cumsum(0) / variances.sum()
    if variant == "replica_mft":
        return int((shares <= share).sum())
    # a share of 1 is reached when rounding is all that is left
    return int((shares < share * (1 - 1e-12)).sum()) + 1


def _scatter(features: Array) -> Tensor:
    """Centred X X' or X'X, the smaller one: the same eigenvalues but for zeros."""
    X = matrix("features", features)
    X = X - X.mean(0)
    return X @ X.t() if len(X) < X.shape[1] else X.t() @ X


def _pair(first: Array, second: Array) -> tuple[Tensor, Tensor]:
    K, L = square("first kernel", first), square("second kernel", second)
    if K.shape != L.shape:
        raise ValueError(f"kernels must have one shape, got {tuple(K.shape)}, {tuple(L.shape)}.")
    return K, L
