r"""Mean-field capacity of a set of manifolds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from grokscope.measures.anchor_geometry import (
    AnchorGeometry,
    Anchors,
    anchors,
    standard_error,
)
from grokscope.measures.center_correlations import (
    CommonSubspace,
    center_correlation,
    common_subspace,
)
from grokscope.measures.manifolds import (
    Array,
    matrix,
    require_centers,
    require_manifolds,
    triangular_root,
)
from grokscope.validation import require_bool, require_float, require_int


@dataclass(frozen=True)
class MeanFieldCapacity:
    r"""What :func:`mean_field_capacity` found.

    Attributes:
        capacity: alpha, manifolds per dimension; the harmonic mean over manifolds.
        radius: R_M, mean over manifolds, in units of the length of a center.
        dimension: D_M, mean over manifolds.
        per_manifold: The three numbers of each manifold, in their order.
        center_correlation: Mean absolute cosine of two centers about their mean, before removal.
        n_components: Dimensions removed; 0 without removal.
        standard_error: Of ``capacity``, from the spread of its probes alone: it does not hold what
            another start of the removal would change. NaN for one probe.
    """

    capacity: float
    radius: float
    dimension: float
    per_manifold: tuple[AnchorGeometry, ...]
    center_correlation: float
    n_components: int
    standard_error: float


@dataclass
class WarmStart:
    """What one call of :func:`mean_field_capacity` leaves to the next, for a series of nets.

    Attributes:
        subspace: The common subspaces of the centers.
        probes: Of each manifold, as drawn.
        active: Of each manifold (n_t, M): points with a positive dual.
    """

    subspace: CommonSubspace | None = None
    probes: list[np.ndarray] = field(default_factory=list)
    active: list[np.ndarray] = field(default_factory=list)


def mean_field_capacity(
    manifolds: Sequence[Array] | Array,
    *,
    kappa: float = 0.0,
    n_probes: int = 200,
    probes: Sequence[Array] | None = None,
    remove_correlations: bool = True,
    n_components: int | None = None,
    n_reps: int = 10,
    seed: int = 0,
    warm: WarmStart | None = None,
) -> MeanFieldCapacity:
    r"""How many manifolds per dimension a hyperplane can separate, and their effective shape.

    .. math:: \alpha^{-1} = \langle \alpha_\mu^{-1} \rangle_\mu

    with :math:`\alpha_\mu` of each manifold
    (:func:`grokscope.measures.capacity.anchor_geometry`). The mean of all points is the origin.
    With ``remove_correlations`` the dimensions that centers have in common are projected out
    (:func:`grokscope.measures.center_correlations.common_subspace`). Then each manifold is taken
    about its center, in units of the length of what is left of its center. Its coordinates have
    D = M dimensions if N > M, else D = N; D enters D_M.

    The number of dimensions removed varies between seeds where the correlation is flat in it, and
    the capacity with it (some percent); compare at a fixed ``n_components``.

    Over a series of nets, the same ``seed`` gives the same probes, and ``warm`` carries over what
    solved the last one: the duals come out the same, the common subspace is the nearby solution
    in place of the most stable of ``n_reps`` random starts.

    Time: about n_t P active sets of k points, each M k^2; memory P n_t M.

    Args:
        manifolds: P of (M_i, N): points as rows, at least 2 manifolds.
        kappa: Margin.
        n_probes: n_t, independent for each manifold.
        probes: P of (D_i + 1, n_t) in place of random ones. For N > M they are in the basis of
            the economic QR decomposition of the centered points (N, M), as in the released code.
        remove_correlations: Whether to project out what centers have in common; needs at least 3.
        n_components: Dimensions to project out; None chooses.
        n_reps: Random starts of the search for each number of dimensions.
        seed: Of the private generators of probes and starts.
        warm: Read and updated.

    Raises:
        ValueError: For an argument out of range, fewer than 2 manifolds, manifolds of different N,
            a center at the origin or, after removal, at zero (with the manifold's number), or
            a ``warm`` of other manifolds.

    Source:
        Chung, Lee, Sompolinsky 2018, PRX 8:031003, eq. 16, 17, 28, 29; Cohen, Chung, Lee,
        Sompolinsky 2020, Nat. Commun. 11:746; schung039/neural_manifolds_replicaMFT:
        manifold_analysis_corr.

    Example:
        >>> points = np.random.default_rng(0).standard_normal((3, 1, 50))
        >>> found = mean_field_capacity(points, remove_correlations=False, n_probes=10_000)
        >>> round(found.capacity, 1), found.radius, found.dimension
        (2.0, 0.0, 0.0)
    """
    kappa, warm = require_float("kappa", kappa), WarmStart() if warm is None else warm
    require_int("n_probes", n_probes)
    probe_rng, start_rng = np.random.default_rng(require_int("seed", seed, minimum=0)).spawn(2)
    points = require_manifolds(manifolds)
    centers = np.stack([x.mean(0) for x in points])
    basis, removed = np.empty((centers.shape[1], 0)), 0
    removing = require_bool("remove_correlations", remove_correlations)
    if n_components is not None and not removing:
        raise ValueError("n_components must be None without remove_correlations.")
    if removing:
        warm.subspace = common_subspace(
            centers,
            n_components=n_components,
            n_reps=n_reps,
            rng=start_rng,
            previous=warm.subspace,
        )
        basis, removed = warm.subspace.basis, warm.subspace.n_components
    relative = _relative(points, centers, basis)
    if probes is not None:
        drawn = _require_probes(probes, relative)
    else:
        sizes = [(min(x.shape) + 1, n_probes) for x in relative]
        drawn = warm.probes or [probe_rng.standard_normal(size) for size in sizes]
        _require_same(sizes, drawn)
        warm.probes = drawn
    shapes = [(t.shape[1], len(x)) for t, x in zip(drawn, relative, strict=True)]
    start = warm.active or [np.zeros(shape, dtype=bool) for shape in shapes]
    _require_same(shapes, start)
    found = [
        anchors(*_products(x, t, householder=probes is not None), t, kappa, active)
        for x, t, active in zip(relative, drawn, start, strict=True)
    ]
    warm.active = [one.active for one in found]
    return _summary(found, center_correlation(centers), removed)


def _relative(
    points: list[np.ndarray], centers: np.ndarray, basis: np.ndarray
) -> list[np.ndarray]:
    """Points about their centers, without the span of ``basis``, in units of what is left."""
    sizes = np.array([len(x) for x in points], dtype=float)
    shifted = centers - sizes @ centers / sizes.sum()
    require_centers(shifted, "the mean of all points")
    shifted -= shifted @ basis @ basis.T
    lengths = require_centers(shifted, "zero after removal of center correlations")
    found = []
    for x, center, length in zip(points, centers, lengths, strict=True):
        about = x - center
        if basis.shape[1]:
            about -= about @ basis @ basis.T
        about /= length
        found.append(about)
    return found


def _products(
    x: np.ndarray, probes: np.ndarray, householder: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Gram matrix (M, M) of points x (M, N), and products (n_t, M) of probes with them."""
    gram = x @ x.T
    if x.shape[0] >= x.shape[1]:
        return gram, probes[:-1].T @ x.T
    # any R with R^T R = gram gives the same distribution; one basis alone gives a peer's numbers
    root = np.linalg.qr(x.T, mode="r") if householder else triangular_root(gram)
    return gram, probes[:-1].T @ root


def _require_probes(probes: Sequence[Array], points: list[np.ndarray]) -> list[np.ndarray]:
    if len(probes) != len(points):
        raise ValueError(f"probes must be {len(points)} matrices, got {len(probes)}.")
    found = [matrix(f"probes[{i}]", t) for i, t in enumerate(probes)]
    for i, (t, x) in enumerate(zip(found, points, strict=True)):
        if t.shape != (min(x.shape) + 1, found[0].shape[1]):
            raise ValueError(
                f"probes[{i}] must be ({min(x.shape) + 1}, {found[0].shape[1]}) for {x.shape[0]} "
                f"points in {x.shape[1]} dimensions, got {t.shape}."
            )
    return found


def _require_same(shapes: list[tuple[int, int]], carried: list[np.ndarray]) -> None:
    if [x.shape for x in carried] != shapes:
        raise ValueError(
            "warm must come from as many manifolds, points, features and probes; "
            "start with a new WarmStart."
        )


def _summary(found: list[Anchors], correlation: float, removed: int) -> MeanFieldCapacity:
    each = tuple(one.geometry for one in found)
    inverse = float(np.mean([1.0 / one.capacity for one in each]))
    capacity = 1.0 / inverse if inverse else math.inf
    errors = standard_error(np.array([one.distances for one in found]))
    return MeanFieldCapacity(
        capacity=capacity,
        radius=float(np.mean([one.radius for one in each])),
        dimension=float(np.mean([one.dimension for one in each])),
        per_manifold=each,
        center_correlation=correlation,
        n_components=removed,
        standard_error=capacity**2 * float(np.linalg.norm(errors)) / len(found),
    )
