r"""The low-rank structure that centers of manifolds have in common."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from grokscope.measures.manifolds import require_centers
from grokscope.measures.subspace_search import descend
from grokscope.validation import require_int

VARIANCE = 0.95  # share of the centers' variance that bounds the rank tried
EXTRA = 11  # ranks tried beyond it
RANK = 1e-9  # singular values this much below the largest count as zero


@dataclass(frozen=True)
class CommonSubspace:
    r"""What :func:`common_subspace` found.

    Attributes:
        correlations: (K_tried + 1,) mean absolute cosine of two centers after removal of k = 0, 1,
            ... dimensions; the first is that of the centers as they are.
        bases: Of k = 1, 2, ...: (N, k) orthonormal columns.
        stabilities: Of each, the smallest share of its length that a center keeps.
        n_components: The k chosen.
    """

    correlations: np.ndarray
    bases: tuple[np.ndarray, ...]
    stabilities: tuple[float, ...]
    n_components: int

    @property
    def basis(self) -> np.ndarray:
        """(N, k) of the k chosen."""
        return self.bases[self.n_components - 1]


def center_correlation(centers: np.ndarray) -> float:
    """Mean absolute cosine of two centers (P, N) about their mean.

    Raises:
        ValueError: If one lies at the mean.
    """
    X = centers - centers.mean(0)
    require_centers(X, "the mean of all centers")
    return _correlation(X)


def common_subspace(
    centers: np.ndarray,
    *,
    n_components: int | None = None,
    n_reps: int = 10,
    rng: np.random.Generator,
    previous: CommonSubspace | None = None,
) -> CommonSubspace:
    r"""The subspace without which centers are least correlated.

    For k = 1, 2, ... the k dimensions that minimise the sum of squared cosines of what is left of
    the centers (:mod:`grokscope.measures.subspace_search`), from ``n_reps`` starts: the solution
    for k - 1 and one random direction in the span of the centers. Of their results the one counts
    that is most stable: whose smallest share of a center's length that is left is largest. It
    stops when the mean absolute cosine has risen three times running and k > 4, or at 11 beyond
    the ranks that hold less than 0.95 of the variance; and before nothing would be left: at the
    rank of the centers less one, P - 2 at most (the released code has no such bound, and fails).
    The k of the smallest mean absolute cosine is chosen.

    Args:
        centers: (P, N).
        n_components: The k to take; None chooses.
        n_reps: Starts for each k.
        rng: Draws the starts.
        previous: That of a similar net: each of its solutions is the one start for its k, unless
            the stability then comes out at less than half of what it was.

    Raises:
        ValueError: If a center lies at the mean of all, if they span too few dimensions, or if so
            many components cannot be removed.

    Source:
        Cohen, Chung, Lee, Sompolinsky 2020, Nat. Commun. 11:746;
        schung039/neural_manifolds_replicaMFT: fun_FA.
    """
    require_int("n_reps", n_reps)
    if n_components is not None:
        require_int("n_components", n_components)
    X = centers - centers.mean(0)
    require_centers(X, "the mean of all centers")
    U, s, axes = np.linalg.svd(X, full_matrices=False)
    rank = int((s > RANK * s[0]).sum())
    X, axes = np.ascontiguousarray(U[:, :rank] * s[:rank]), axes[:rank]
    last = _last_rank(s, len(X), rank, n_components)
    if previous is not None and previous.basis.shape[0] != centers.shape[1]:
        raise ValueError(
            f"warm must come from manifolds in {centers.shape[1]} dimensions, got "
            f"{previous.basis.shape[0]}."
        )
    C, V = X @ X.T, np.empty((0, rank))
    correlations, found, stabilities = [_correlation(X)], [], []
    for k in range(1, last + 1):
        if previous is None or k > len(previous.bases):
            V, stability = _most_stable(X, C, _random_starts(X, V, n_reps, rng))
        else:
            warm, stability = _most_stable(X, C, [_carried(previous.bases[k - 1], axes)])
            if stability < 0.5 * previous.stabilities[k - 1]:
                warm, stability = _most_stable(X, C, _random_starts(X, V, n_reps, rng))
            V = warm
        found.append(V)
        stabilities.append(stability)
        correlations.append(_correlation(X - X @ V.T @ V))
        if n_components is None and k > 4 and (np.diff(correlations[-4:]) > 0).all():
            break
    best = int(np.argmin(correlations[1:])) + 1
    return CommonSubspace(
        np.array(correlations),
        tuple(axes.T @ V.T for V in found),
        tuple(stabilities),
        n_components or best,
    )


def _last_rank(s: np.ndarray, n_centers: int, rank: int, n_components: int | None) -> int:
    """The largest k to try."""
    possible = min(n_centers - 2, rank - 1)
    if possible < 1:
        raise ValueError(
            "removal of center correlations must have at least 3 manifolds, whose centers span 2 "
            f"dimensions about their mean, got {n_centers} that span {rank}; pass "
            "remove_correlations=False."
        )
    if n_components is not None:
        if n_components > possible:
            raise ValueError(
                f"n_components must be at most {possible} for {n_centers} centers that span "
                f"{rank} dimensions, got {n_components}."
            )
        return n_components
    below = int((np.cumsum(s**2) / (s**2).sum() < VARIANCE).sum())
    return min(max(below - 1, 0) + EXTRA, possible)


def _random_starts(
    X: np.ndarray, V: np.ndarray, n_reps: int, rng: np.random.Generator
) -> list[np.ndarray]:
    """Rows of V and a random combination of centers, orthonormal, ``n_reps`` times."""
    starts = []
    for direction in rng.standard_normal((n_reps, len(X))) @ X:
        for _ in range(2):  # once leaves rounding along V
            direction = direction - direction @ V.T @ V
        starts.append(np.vstack([V, direction / np.linalg.norm(direction)]))
    return starts


def _carried(basis: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """An earlier solution (N, k) in the coordinates of the present centers, (k, r)."""
    return np.ascontiguousarray(np.linalg.qr(axes @ basis).Q.T)


def _most_stable(
    X: np.ndarray, C: np.ndarray, starts: list[np.ndarray]
) -> tuple[np.ndarray, float]:
    """Of the minima that the starts lead to."""
    found = [descend(X, C, start)[0] for start in starts]
    lengths = np.linalg.norm(X, axis=1)
    kept = [(np.linalg.norm(X - X @ V.T @ V, axis=1) / lengths).min() for V in found]
    best = int(np.argmax(kept))
    return found[best], float(kept[best])


def _correlation(X: np.ndarray) -> float:
    unit = X / np.linalg.norm(X, axis=1, keepdims=True)
    n = len(X)
    return float((np.abs(unit @ unit.T).sum() - n) / (n * (n - 1)))
