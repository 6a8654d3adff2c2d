r"""How a kernel moves while a net trains, and how it fits the labels.

Kernels are (n, n), or (n c, n c) with the c outputs of a sample next to each other, as
:func:`grokscope.gradients.empirical_ntk` gives them. Everything is computed in float64; arrays and
tensors are both taken.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from grokscope.gradients import empirical_ntk
from grokscope.validation import require_choice, require_float, require_int

CENTERINGS = ("none", "both", "one_sided")
Array = Any
"""A matrix or vector as numpy, torch or nested lists give it."""


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
    column j
    of Y (chung-neuroai-lab/feature-learning-geometry), a kernel (n, n) one number for all outputs.

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
    K, Y = _square("kernel", kernel), _columns(targets)
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
    return _ratio((Y * (K @ Y)).sum(), K.norm() * (Y.t() @ Y).norm())


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
    return 1.0 - _ratio((K * L).sum(), K.norm() * L.norm())


def kernel_change(kernel: Array, initial: Array) -> float:
    r"""Relative change :math:`\|K_t - K_0\|_F / \|K_0\|_F`; unlike the distance it sees growth.

    Raises:
        ValueError: If they have different shapes.
    """
    K, K0 = _pair(kernel, initial)
    return _ratio((K - K0).norm(), K0.norm())


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


def participation_ratio(features: Array) -> float:
    r"""How many directions carry the variance, :math:`(\sum_i \lambda_i)^2 / \sum_i \lambda_i^2`.

    Args:
        features: (n, d), n samples; eigenvalues are those of their covariance matrix, all of them.

    Returns:
        Between 1 and min(n - 1, d); NaN without variance. From the smaller of the covariance and
        the Gram matrix: min(n, d)^2 max(n, d) multiply-adds, no decomposition.

    Raises:
        ValueError: If ``features`` is not a matrix.
    """
    X = _matrix("features", features)
    X = X - X.mean(0)
    return spectrum_participation_ratio(X @ X.t() if len(X) < X.shape[1] else X.t() @ X)


def spectrum_participation_ratio(kernel: Array) -> float:
    """The same of the eigenvalues of a symmetric matrix itself, not centred: tr(K)^2 / ||K||^2."""
    K = _square("kernel", kernel)
    return _ratio(K.trace().square(), K.square().sum())


def ntk_eigenvector(net: nn.Module, inputs: Tensor, index: int) -> Tensor:
    """An eigenvector of a net's neural tangent kernel, as labels whose mean square is one.

    Args:
        net: With one output a sample.
        inputs: (n, ...).
        index: 1 is that of the largest eigenvalue.

    Returns:
        (n, 1), float64; the entry of largest absolute value is positive.

    Raises:
        ValueError: For an index above n, or more than one output.
    """
    n = len(inputs)
    require_int("index", index, maximum=n)
    with torch.no_grad():
        outputs = net(inputs[:1]).numel()
    if outputs != 1:
        raise ValueError(f"net must have one output for eigenvector labels, got {outputs}.")
    vector = torch.linalg.eigh(empirical_ntk(net, inputs))[1][:, n - index]
    vector = vector * torch.sign(vector[vector.abs().argmax()])
    return vector[:, None] * math.sqrt(n)


def _columns(targets: Array) -> Tensor:
    """(n, c) numbers; classes as one-hot rows."""
    Y = torch.as_tensor(targets).detach()
    if Y.ndim == 1 and not Y.is_floating_point():
        Y = F.one_hot(Y.long())
    Y = Y.to(torch.float64)
    if Y.ndim not in (1, 2) or len(Y) == 0:
        raise ValueError(f"targets must be (n,) or (n, c), got shape {tuple(Y.shape)}.")
    return Y.reshape(len(Y), -1)


def _pair(first: Array, second: Array) -> tuple[Tensor, Tensor]:
    K, L = _square("first kernel", first), _square("second kernel", second)
    if K.shape != L.shape:
        raise ValueError(f"kernels must have one shape, got {tuple(K.shape)}, {tuple(L.shape)}.")
    return K, L


def _square(name: str, value: Array) -> Tensor:
    found = _matrix(name, value)
    if found.shape[0] != found.shape[1]:
        raise ValueError(f"{name} must be square, got shape {tuple(found.shape)}.")
    return found


def _matrix(name: str, value: Array) -> Tensor:
    value = value if not isinstance(value, Sequence) else list(value)
    found = torch.as_tensor(value).detach().to(torch.float64)
    if found.ndim != 2 or found.numel() == 0:
        raise ValueError(f"{name} must be a matrix, got shape {tuple(found.shape)}.")
    return found


def _ratio(above: Tensor, below: Tensor) -> float:
    return float(above / below) if float(below) else float("nan")
