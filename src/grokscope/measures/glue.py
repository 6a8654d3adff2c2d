r"""Capacity and geometry of manifolds that one hyperplane has to separate together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from grokscope.measures.anchor_geometry import standard_error
from grokscope.measures.anchor_qp import UNSOLVED, solve_all
from grokscope.measures.manifolds import Array, matrix, require_manifolds
from grokscope.validation import require_choice, require_int

INACTIVE = 1e-6  # sum of duals up to which a manifold has no anchor point, times points' length
ROUNDING = 1e-12  # of an anchor point's length, below which its axis is zero
CUTOFF = 1e-10  # of eigenvalues in a pseudo-inverse, relative to the largest
DICHOTOMIES = ("one_vs_rest", "random")


@dataclass(frozen=True)
class GlueCapacity:
    r"""What :func:`glue_capacity` found; the conventions are told apart there.

    Attributes:
        alpha: P / E ||v - t||^2.
        alpha_centerfill: The same with the mean anchor in place of missing ones.
        D_eff: Effective dimension.
        R_eff: Effective radius, as a ratio of means.
        Psi_eff: Effective utility.
        rho_c: Alignment of centers: absolute, not normalized.
        rho_a: Alignment of axes: absolute, not normalized.
        psi: Alignment of centers with axes: absolute, not normalized.
        rho_c_norm_abs: Absolute cosines.
        rho_a_norm_abs: Absolute cosines.
        psi_norm_abs: Absolute cosines.
        rho_c_norm_signed: Signed cosines.
        rho_a_norm_signed: Signed cosines.
        psi_norm_signed: Signed cosines.
        active_fraction: Share of manifolds with an anchor point, over probes.
        standard_error: Of ``alpha``, from the spread over probes; NaN for one probe.
    """

    alpha: float
    alpha_centerfill: float
    D_eff: float
    R_eff: float
    Psi_eff: float
    rho_c: float
    rho_a: float
    psi: float
    rho_c_norm_abs: float
    rho_a_norm_abs: float
    psi_norm_abs: float
    rho_c_norm_signed: float
    rho_a_norm_signed: float
    psi_norm_signed: float
    active_fraction: float
    standard_error: float


def glue_capacity(
    manifolds: Sequence[Array] | Array,
    *,
    n_probes: int = 200,
    dichotomies: str = "one_vs_rest",
    probes: Array | None = None,
    labels: Array | None = None,
    seed: int = 0,
) -> GlueCapacity:
    r"""Capacity of manifolds that depend on each other and on the task (GLUE, or GCMC).

    For a probe t and a dichotomy y, v is the nearest point to t with
    :math:`y_\mu \langle x, v \rangle \ge 0` for all points x of all manifolds, z are its duals,
    and the anchor points, rows of S (P, N), are

    .. math:: s_\mu = \sum_i z_{\mu i} x_{\mu i} / \sum_i z_{\mu i}, \qquad
        S_0 = E S, \quad S_1 = S - S_0 .

    With :math:`a = \|v - t\|^2 = (S t)^\top (S S^\top)^+ S t`,
    :math:`b = (S_1 t)^\top (S_1 S_1^\top)^+ S_1 t` and
    :math:`c = (S_1 t)^\top (S_0 S_0^\top + S_1 S_1^\top)^+ S_1 t`:

    .. math:: \alpha = P / E a, \quad D_{eff} = E b / P, \quad
        R_{eff}^2 = \frac{E c}{E (b - c)}, \quad \Psi_{eff} = \frac{E c}{E a}, \quad
        \alpha = \Psi_{eff} \frac{1 + R_{eff}^{-2}}{D_{eff}} .

    The data are neither centered nor scaled. Conventions that the texts leave open:

    - A manifold without duals (their sum times the points' root mean square length is up to 1e-6)
      has no anchor point. Its row of S and of :math:`S_1` is 0, which makes a exact; the mean
      :math:`S_0` is over probes where it has one. ``alpha_centerfill`` fills its row of S with
      that of :math:`S_0` instead, as other code does; it is smaller.
    - Anchors are the points themselves, without the sign of the label.
    - :math:`R_{eff}` is a ratio of means, not a mean of ratios.
    - Eigenvalues below 1e-10 of the largest count as zero in a pseudo-inverse.
    - ``rho_c``, ``rho_a``, ``psi``: means over :math:`\mu \ne \nu` (and probes) of
      :math:`|\langle s_{0\mu}, s_{0\nu} \rangle|`, :math:`|\langle s_{1\mu}, s_{1\nu} \rangle|`,
      :math:`|\langle s_{0\mu}, s_{1\nu} \rangle|`, not normalized (Def. B.6; 0 for missing
      anchors). ``*_norm_abs`` and ``*_norm_signed``: the means of absolute and of signed cosines
      (Algorithm 2 writes the latter), without missing anchors. ``psi`` is not ``Psi_eff``.

    Args:
        manifolds: P of (M_i, N): points as rows.
        n_probes: n_t.
        dichotomies: ``one_vs_rest``, one random manifold +1 and the others -1; or ``random``, all
            of :math:`\{-1, 1\}^P` alike.
        probes: (n_t, N) in place of random ones.
        labels: (n_t, P) of +1 and -1 in place of random ones.
        seed: Of the private generator of probes and labels.

    Returns:
        Numbers; NaN where nothing is to average, as cosines with axes of length zero.

    Raises:
        ValueError: For an argument out of range, fewer than 2 manifolds, or probes and labels of
            other shapes; or if all points are zero.
        ArithmeticError: If points depend on each other up to rounding, as with an offset a million
            times their spread.

    Source:
        Chou et al., arXiv:2503.18114v2, Def. B.6, Alg. 1 and 2; arXiv:2603.01879v1, App. B.3.
    """
    points = require_manifolds(manifolds)
    T, Y = _draw(points, n_probes, dichotomies, require_int("seed", seed, minimum=0))
    if probes is not None:
        T = _require_probes(probes, points[0].shape[1])
        Y = _draw(points, len(T), dichotomies, seed)[1]
    if labels is not None:
        Y = _require_labels(labels, len(T), len(points))
    S, active, a = _anchor_points(points, T, Y)
    if not a.any():
        raise ValueError("manifolds must hold points other than zero.")
    S0 = S.sum(0) / np.maximum(active.sum(0), 1)[:, None]
    S1 = np.where(active[..., None], S - S0, 0.0)
    S1[_lengths(S1) <= ROUNDING * _lengths(S)] = 0.0  # points have no axes
    b, c = _projected(S1, 0.0, T), _projected(S1, S0 @ S0.T, T)
    filled = _projected(np.where(active[..., None], S, S0), 0.0, T)
    n_manifolds, alpha = len(points), len(points) / float(a.mean())
    return GlueCapacity(
        alpha=alpha,
        alpha_centerfill=float(n_manifolds / filled.mean()),
        D_eff=float(b.mean() / n_manifolds),
        R_eff=_root_ratio(c.mean(), (b - c).mean()),
        Psi_eff=float(c.mean() / a.mean()),
        **_alignments(S0, S1),
        active_fraction=float(active.mean()),
        standard_error=alpha**2 / n_manifolds * float(standard_error(a)),
    )


def _draw(
    points: list[np.ndarray], n_probes: int, dichotomies: str, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Random probes (n_t, N) and labels (n_t, P), from a generator each."""
    require_int("n_probes", n_probes)
    require_choice("dichotomies", dichotomies, DICHOTOMIES)
    probe_rng, label_rng = np.random.default_rng(seed).spawn(2)
    T = probe_rng.standard_normal((n_probes, points[0].shape[1]))
    if dichotomies == "random":
        return T, 2.0 * label_rng.integers(0, 2, (n_probes, len(points))) - 1.0
    Y = np.full((n_probes, len(points)), -1.0)
    Y[np.arange(n_probes), label_rng.integers(0, len(points), n_probes)] = 1.0
    return T, Y


def _require_probes(probes: Array, n_features: int) -> np.ndarray:
    T = matrix("probes", probes)
    if T.shape[1] != n_features:
        raise ValueError(f"probes must be (n_t, {n_features}), got {T.shape}.")
    return T


def _require_labels(labels: Array, n: int, n_manifolds: int) -> np.ndarray:
    Y = matrix("labels", labels)
    if Y.shape != (n, n_manifolds):
        raise ValueError(f"labels must be ({n}, {n_manifolds}), got {Y.shape}.")
    if not (np.abs(Y) == 1.0).all():
        raise ValueError("labels must be +1 or -1.")
    return Y


def _anchor_points(
    points: list[np.ndarray], T: np.ndarray, Y: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """S (n_t, P, N), which have an anchor (n_t, P), and squared distances a (n_t,)."""
    sizes = [len(x) for x in points]
    X = np.concatenate(points)
    linear = T @ X.T
    duals = solve_all(X @ X.T, linear, -np.repeat(Y, sizes, axis=1))
    if np.isnan(duals).any():
        raise ArithmeticError(UNSOLVED)
    distances = (duals * linear).sum(1)
    each = np.split(np.abs(duals), np.cumsum(sizes)[:-1], axis=1)
    total = np.stack([z.sum(1) for z in each], axis=1)
    active = total * np.sqrt((X**2).sum(1).mean()) > INACTIVE
    shares = [z / np.where(active[:, [i]], total[:, [i]], np.inf) for i, z in enumerate(each)]
    S = np.stack([share @ x for share, x in zip(shares, points, strict=True)], axis=1)
    return S, active, distances


def _projected(S: np.ndarray, more: np.ndarray | float, T: np.ndarray) -> np.ndarray:
    """(S t)^T (more + S S^T)^+ (S t) of each probe (n_t,)."""
    values, vectors = np.linalg.eigh(S @ S.swapaxes(1, 2) + more)
    products = (S @ T[..., None]).swapaxes(1, 2) @ vectors
    kept = values > CUTOFF * values[:, -1:]
    return (np.where(kept, products[:, 0], 0.0) ** 2 / np.where(kept, values, 1.0)).sum(1)


def _root_ratio(above: float, below: float) -> float:
    """0 for manifolds without axes, infinite for those without centers."""
    if below > 0:
        return float(above / below) ** 0.5
    return float("inf") if above > 0 else 0.0


def _alignments(S0: np.ndarray, S1: np.ndarray) -> dict[str, float]:
    """The nine means over pairs of two different manifolds, and over probes."""
    pairs = {"rho_c": (S0, S0), "rho_a": (S1, S1), "psi": (S0, S1)}
    different = ~np.eye(len(S0), dtype=bool)
    found = {}
    for name, (left, right) in pairs.items():
        products = (left @ right.swapaxes(-1, -2))[..., different]
        found[name] = float(np.abs(products).mean())
        lengths = _lengths(left)[..., :, None] * _lengths(right)[..., None, :]
        lengths = lengths[..., different]
        cosines = products[lengths > 0] / lengths[lengths > 0]
        found[f"{name}_norm_abs"] = _mean(np.abs(cosines))
        found[f"{name}_norm_signed"] = _mean(cosines)
    return found


def _lengths(S: np.ndarray) -> np.ndarray:
    return np.linalg.norm(S, axis=-1)


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else float("nan")
