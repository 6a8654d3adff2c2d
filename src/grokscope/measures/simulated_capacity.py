r"""Capacity by trial: how many random dimensions it takes to separate random halves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from grokscope.measures.anchor_qp import solve_all
from grokscope.measures.manifolds import Array, require_manifolds
from grokscope.validation import require_int

SEPARATE = 1e-8  # squared distance of a hull to the origin, relative to the points' mean square


@dataclass(frozen=True)
class SimulatedCapacity:
    """What :func:`simulated_capacity` found; NaN where the share never crosses one half.

    Attributes:
        alpha_sim: P / N_critical.
        N_critical: Dimensions at which half of the dichotomies are separable, interpolated.
        shares: Of each dimension tried, the share that was separable.
    """

    alpha_sim: float
    N_critical: float
    shares: dict[int, float]


def simulated_capacity(
    manifolds: Sequence[Array] | Array, *, n_repeats: int = 20, seed: int = 0
) -> SimulatedCapacity:
    r"""Manifolds per dimension at which random dichotomies are separable half of the time.

    One trial projects all points on n random directions of unit length, gives +1 to a random half
    (P // 2) of the manifolds and -1 to the others, and asks for a hyperplane with a bias that
    separates them. Bisection between n = 2 and N finds neighbors n and n + 1 with shares below and
    from 1/2 on; between them the share is interpolated. Every n starts from the same seed, so its
    labels are the same.

    Differs from the released code in that bisection goes on until the neighbors are one dimension
    apart; there it may stop at a share within 0.05 of 1/2 and interpolate over more. With 20
    repeats the standard deviation over seeds is about one dimension; it falls as their square
    root.

    Time: ``n_repeats`` log2(N) problems of all points.

    Args:
        manifolds: P of (M_i, N): points as rows, at least 2.
        n_repeats: Trials at each n.
        seed: Of the private generators.

    Raises:
        ValueError: For fewer than 2 manifolds, different N, or N < 3.

    Source:
        Chung, Lee, Sompolinsky 2018, PRX 8:031003; awakhloo/correlated_capacity:
        manifold_simcap_analysis.
    """
    points = require_manifolds(manifolds)
    require_int("n_repeats", n_repeats)
    require_int("seed", seed, minimum=0)
    n_manifolds, n_features = len(points), points[0].shape[1]
    if n_features < 3:
        raise ValueError(f"manifolds must have at least 3 features, got {n_features}.")
    X, sizes = np.concatenate(points), [len(x) for x in points]
    X -= X.mean(0)
    low, high = 2, n_features
    shares = {n: _separable_share(X, sizes, n, n_repeats, seed) for n in (low, high)}
    if not shares[low] < 0.5 <= shares[high]:
        return SimulatedCapacity(float("nan"), float("nan"), shares)
    while high - low > 1:
        middle = (low + high) // 2
        shares[middle] = _separable_share(X, sizes, middle, n_repeats, seed)
        low, high = (middle, high) if shares[middle] < 0.5 else (low, middle)
    critical = low + (0.5 - shares[low]) / (shares[high] - shares[low])
    return SimulatedCapacity(n_manifolds / critical, critical, shares)


def _separable_share(
    X: np.ndarray, sizes: Sequence[int], n: int, n_repeats: int, seed: int
) -> float:
    labels_rng, directions_rng = np.random.default_rng(seed).spawn(2)
    found = 0
    for _ in range(n_repeats):
        labels = np.full(len(sizes), -1.0)
        labels[labels_rng.permutation(len(sizes))[: len(sizes) // 2]] = 1.0
        W = directions_rng.standard_normal((X.shape[1], n))
        found += _separable(X @ (W / np.linalg.norm(W, axis=0)), np.repeat(labels, sizes))
    return found / n_repeats


def _separable(X: np.ndarray, labels: np.ndarray) -> bool:
    r"""Whether a hyperplane with a bias separates points (m, n).

    By Gordan's theorem, if the hull of :math:`y_i (x_i, 1)` does not hold the origin. Of its
    squared distance d^2 the problem with G + 11' and b = 1 has the optimum 1 / (1 + d^2).
    """
    scale = max(float((X**2).sum(1).mean()) ** 0.5, np.finfo(float).tiny)
    signed = labels[:, None] * np.column_stack([X / scale, np.ones(len(X))])
    ones = np.ones((1, len(X)))
    reached = float(solve_all(signed @ signed.T + 1.0, ones, ones).sum())
    return 1.0 / reached - 1.0 > SEPARATE
