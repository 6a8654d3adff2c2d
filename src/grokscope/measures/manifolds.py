"""Point clouds, one a class: the input of the capacity measures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from grokscope.measures.compilation import compiled
from grokscope.validation import require_int

Array = Any
"""Numbers as numpy, torch or nested lists give them."""

VANISHING = 1e-10  # a center this much shorter than the longest one counts as zero


def class_manifolds(
    activations: Array, labels: Array, n_points: int | None = None, seed: int = 0
) -> list[np.ndarray]:
    """The activations of each class as one manifold, in the order of the labels.

    Args:
        activations: (n, N).
        labels: (n,) integers.
        n_points: Points of every manifold, drawn without replacement; None takes all.
        seed: Of the private generator that draws them.

    Returns:
        Of each label that occurs, (M, N) in float64.

    Raises:
        ValueError: For shapes that do not fit, labels that are not integers, or a class with
            fewer points.
    """
    X, y = matrix("activations", activations), _numbers(labels)
    if y.shape != (len(X),) or not np.issubdtype(y.dtype, np.integer):
        raise ValueError(f"labels must be ({len(X)},) integers, got {y.shape} {y.dtype}.")
    members = [np.flatnonzero(y == label) for label in np.unique(y)]
    if n_points is not None:
        require_int("n_points", n_points, maximum=min(map(len, members)))
        rng = np.random.default_rng(require_int("seed", seed, minimum=0))
        members = [np.sort(rng.choice(rows, n_points, replace=False)) for rows in members]
    return [X[rows] for rows in members]


def matrix(name: str, value: Array) -> np.ndarray:
    """A finite float64 matrix in C order.

    Raises:
        ValueError: If it is none, or empty.
    """
    found = np.ascontiguousarray(_numbers(value), dtype=np.float64)
    if found.ndim != 2 or not found.size:
        raise ValueError(f"{name} must be a matrix, got shape {found.shape}.")
    if not np.isfinite(found).all():
        raise ValueError(f"{name} must be finite.")
    return found


def require_manifolds(value: Sequence[Array] | Array) -> list[np.ndarray]:
    """At least two manifolds (M_i, N) of one N.

    Raises:
        ValueError: Otherwise.
    """
    found = [matrix(f"manifolds[{i}]", x) for i, x in enumerate(value)]
    if len(found) < 2:
        raise ValueError(f"manifolds must be at least 2, got {len(found)}.")
    for i, x in enumerate(found):
        if x.shape[1] != found[0].shape[1]:
            raise ValueError(
                f"manifolds[{i}] must have {found[0].shape[1]} features as manifolds[0], "
                f"got {x.shape[1]}."
            )
    return found


def require_centers(centers: np.ndarray, origin: str) -> np.ndarray:
    """Lengths (P,) of centers (P, N), none of which may vanish.

    Raises:
        ValueError: If one does, with the manifold's number.
    """
    lengths = np.linalg.norm(centers, axis=1)
    for i, length in enumerate(lengths):
        if not length > VANISHING * lengths.max():
            raise ValueError(
                f"manifolds[{i}] must have a center away from {origin}, got a distance of "
                f"{length:.3g}; leave this manifold out."
            )
    return lengths


@compiled
def triangular_root(gram: np.ndarray) -> np.ndarray:
    """Upper triangular R with R^T R = gram, also if that is singular; (m, m).

    It depends continuously on ``gram``, so one set of probes fits a whole series of nets.
    """
    R = np.zeros_like(gram)
    for j in range(len(R)):
        row = gram[j] - np.dot(R[:j, j].copy(), R[:j])
        if row[j] > 1e-12 * gram[j, j]:  # else a point in the span of those before
            R[j, j:] = row[j:] / np.sqrt(row[j])
    return R


def _numbers(value: Array) -> np.ndarray:
    return np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)
