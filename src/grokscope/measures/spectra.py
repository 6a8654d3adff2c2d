"""Metrics of the spectrum of a positive semi-definite matrix."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from grokscope.validation import require_float, require_int

Array = NDArray[np.float64]

METRICS = (
    "trace",
    "nuclear_norm",
    "frobenius_norm",
    "spectral_norm",
    "rank",
    "effective_rank",
    "stable_rank",
    "participation_ratio",
    "condition_number",
    "determinant",
    "log_pseudo_determinant",
    "eigenvalue_max",
    "eigenvalue_min",
    "eigenvalue_mean",
    "eigenvalue_std",
    "top_k_cumulative_variance",
    "spectral_gap",
    "decay_exponent",
    "decay_r_squared",
)


def spectrum_metrics(
    eigenvalues: ArrayLike,
    n_parameters: int | NDArray[np.int64],
    *,
    rank_threshold: float = 1e-6,
    top_k: int = 100,
) -> dict[str, Any]:
    r"""All scalar metrics of one spectrum, or of a stack of spectra at once.

    The matrix has ``n_parameters`` eigenvalues: the ``r`` given ones,
    :math:`\lambda_1 \ge \dots \ge \lambda_r \ge 0`, and exact zeros. With
    :math:`p = \lambda / \sum \lambda` and tol = ``rank_threshold`` (relative to
    :math:`\lambda_1`):

    ========================= =========================================================
    trace, nuclear_norm       sum of the eigenvalues
    frobenius_norm            sqrt(sum of squares)
    spectral_norm             largest eigenvalue, also ``eigenvalue_max``
    rank                      number above tol times the largest
    effective_rank            exp(-sum p log p) (Roy & Vetterli 2007)
    stable_rank               trace / largest
    participation_ratio       trace^2 / sum of squares
    condition_number          largest / smallest above tol
    determinant               product of all ``n_parameters``: 0 when r < n_parameters
    log_pseudo_determinant    natural log of the product of those above tol
    eigenvalue_min|mean|std   over all ``n_parameters``, zeros included
    top_k_cumulative_variance share of the first ``top_k`` in the trace
    spectral_gap              first / second (inf for rank one)
    decay_exponent            slope of log eigenvalue on log index, over those above tol
                              (at least three of them), with ``decay_r_squared``
    ========================= =========================================================

    Tiny negative eigenvalues (rounding) count as zero. A zero matrix has rank 0 and NaN
    where a ratio is undefined; a spectrum with NaN or Inf has NaN throughout.

    Args:
        eigenvalues: (r,) or (..., r), any order.
        n_parameters: Side of the matrix, one number or (...,) for a stack; at least r, or r is
            cut to it (a stack is padded with zeros to a common r).
        rank_threshold: Relative threshold below which an eigenvalue counts as zero.
        top_k: For ``top_k_cumulative_variance``.

    Returns:
        Name -> float, or name -> (...,) array for a stack. Units: those of the eigenvalues.

    Example:
        >>> round(spectrum_metrics([3.0, 1.0], 4)["effective_rank"], 4)
        1.7548
    """
    require_float("rank_threshold", rank_threshold, minimum=0.0, below=1.0)
    require_int("top_k", top_k)
    raw = np.atleast_1d(np.asarray(eigenvalues, dtype=np.float64))
    sizes = np.asarray(n_parameters)
    with np.errstate(all="ignore"):
        if raw.shape[-1] == 1 and (sizes > 1).all():
            metrics = _rank_one_metrics(np.maximum(raw[..., 0], 0.0), sizes)
        else:
            metrics = _metrics(_ordered(raw), sizes, rank_threshold, top_k)
        finite = np.isfinite(raw).all(axis=-1)
        stack = {name: np.where(finite, value, np.nan) for name, value in metrics.items()}
    return {n: v if raw.ndim > 1 else float(v) for n, v in stack.items()}


def cumulative_variance(eigenvalues: ArrayLike) -> Array:
    """Share of the first k eigenvalues in the trace, for k = 1..r: (..., r)."""
    values = _ordered(np.asarray(eigenvalues, dtype=np.float64))
    with np.errstate(all="ignore"):
        return np.cumsum(values, axis=-1) / values.sum(axis=-1, keepdims=True)


def _ordered(values: Array) -> Array:
    return -np.sort(-np.maximum(values, 0.0), axis=-1)


def _metrics(lam: Array, size: NDArray, tol: float, top_k: int) -> dict[str, Array]:
    first, total, squares = lam[..., 0], lam.sum(-1), np.square(lam).sum(-1)
    above = lam > tol * first[..., None]
    log_lam = np.log(np.where(above, lam, 1.0))
    exponent, r_squared = _decay(log_lam, above)
    inside = np.arange(lam.shape[-1]) < size[..., None]
    full = size <= lam.shape[-1]
    smallest = np.where(inside, lam, np.inf).min(-1) * full
    mean = total / size
    deviations = (np.square(lam - mean[..., None]) * inside).sum(-1)
    variance = (deviations + np.maximum(size - lam.shape[-1], 0) * mean**2) / size
    return {
        "trace": total,
        "nuclear_norm": total,
        "frobenius_norm": np.sqrt(squares),
        "spectral_norm": first,
        "rank": above.sum(-1).astype(np.float64),
        "effective_rank": _effective_rank(lam / total[..., None]),
        "stable_rank": total / first,
        "participation_ratio": total**2 / squares,
        "condition_number": np.where(
            first > 0, first / np.where(above, lam, np.inf).min(-1), np.nan
        ),
        "determinant": np.prod(np.where(inside, lam, 1.0), axis=-1) * full,
        "log_pseudo_determinant": log_lam.sum(-1),
        "eigenvalue_max": first,
        "eigenvalue_min": smallest,
        "eigenvalue_mean": mean,
        "eigenvalue_std": np.sqrt(variance),
        "top_k_cumulative_variance": lam[..., :top_k].sum(-1) / total,
        "spectral_gap": _spectral_gap(lam, size),
        "decay_exponent": exponent,
        "decay_r_squared": r_squared,
    }


def _rank_one_metrics(value: Array, size: NDArray) -> dict[str, Array]:
    """:func:`_metrics` of a matrix with one eigenvalue that may differ from zero."""
    zero = np.zeros_like(value)
    one, nan = value / value, np.full_like(value, np.nan)
    size_like = ("trace", "nuclear_norm", "frobenius_norm", "spectral_norm", "eigenvalue_max")
    like_one = ("effective_rank", "stable_rank", "participation_ratio", "condition_number")
    return {
        **dict.fromkeys(size_like, value),
        **dict.fromkeys((*like_one, "top_k_cumulative_variance"), one),
        "rank": (value > 0).astype(np.float64),
        "determinant": zero,
        "log_pseudo_determinant": np.log(np.where(value > 0, value, 1.0)),
        "eigenvalue_min": zero,
        "eigenvalue_mean": value / size,
        "eigenvalue_std": value * np.sqrt(size - 1) / size,
        "spectral_gap": value / zero,
        "decay_exponent": nan,
        "decay_r_squared": nan,
    }


def _effective_rank(share: Array) -> Array:
    return np.exp(-(share * np.log(np.where(share > 0, share, 1.0))).sum(-1))


def _spectral_gap(lam: Array, size: NDArray) -> Array:
    second = lam[..., 1] if lam.shape[-1] > 1 else np.zeros_like(lam[..., 0])
    return np.where((size > 1) & (lam[..., 0] > 0), lam[..., 0] / second, np.nan)


def _decay(log_lam: Array, above: NDArray[np.bool_]) -> tuple[Array, Array]:
    """Least squares of log eigenvalue on log index, and its R^2; NaN below three points."""
    count = above.sum(-1)
    if log_lam.shape[-1] < 3:
        nan = np.full(log_lam.shape[:-1], np.nan)
        return nan, nan
    index = np.log(np.arange(1, log_lam.shape[-1] + 1))
    x = np.where(above, index - _mean(index * above, count), 0.0)
    y = np.where(above, log_lam - _mean(log_lam * above, count), 0.0)
    xy, xx, yy = (x * y).sum(-1), (x * x).sum(-1), (y * y).sum(-1)
    enough = count >= 3
    return np.where(enough, xy / xx, np.nan), np.where(enough, xy**2 / (xx * yy), np.nan)


def _mean(values: Array, count: NDArray) -> Array:
    return values.sum(-1, keepdims=True) / count[..., None]
