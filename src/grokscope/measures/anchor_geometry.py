r"""Capacity, radius and dimension of one manifold, from its anchor points."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from grokscope.measures.anchor_qp import UNSOLVED, solve_probes
from grokscope.measures.manifolds import Array, matrix
from grokscope.validation import require_float

TINY = 1e-12  # added to the squared length of an anchor before it divides


@dataclass(frozen=True)
class AnchorGeometry:
    """Of one manifold, in units of the length of its centre.

    Attributes:
        capacity: alpha, manifolds per dimension that a hyperplane separates.
        radius: R_M, root mean square distance of anchor points to their mean.
        dimension: D_M, between 0 and the dimension of the coordinates.
    """

    capacity: float
    radius: float
    dimension: float


@dataclass(frozen=True)
class Anchors:
    r"""What the probes of one manifold gave.

    Attributes:
        distances: (n_t,) squared distances of probes to the cone; their mean is 1 / alpha.
        geometry: The manifold's.
        active: (n_t, M) bool: points with a positive dual.
    """

    distances: np.ndarray
    geometry: AnchorGeometry
    active: np.ndarray


def anchor_geometry(points: Array, probes: Array, kappa: float = 0.0) -> AnchorGeometry:
    r"""Mean-field capacity, radius and dimension of one manifold at given probes.

    For a probe t, v(t) is the nearest point to t with :math:`\langle v, s \rangle \le -\kappa` for
    every point s, and the anchor point :math:`\tilde s = \sum_i u_i s_i / \sum_i u_i` with the
    duals u. A probe inside the cone has as its anchor the point with the largest product with t
    in the first D coordinates. Then

    .. math:: \alpha^{-1} = E \|v - t\|^2, \qquad
        R_M^2 = E \|\tilde s_D - E \tilde s_D\|^2, \qquad
        D_M = D \, (E \cos(t_D, \tilde s_D))^2

    with the subscript D for the first D coordinates. The sign of the constraint is that of the
    released code; the paper has :math:`\ge \kappa`, which is the same for -t. The radius is about
    the mean anchor, not the centroid; the mean cosine is squared, not the cosine.

    Args:
        points: (D + 1, M): coordinates relative to the centre, in units of its length; the last
            row is the coordinate along the centre, 1 for every point.
        probes: (D + 1, n_t).
        kappa: Margin.

    Raises:
        ValueError: For shapes that do not fit, values that are not finite, or a last row that is
            not 1.

    Source:
        Chung, Lee, Sompolinsky 2018, PRX 8:031003, eq. 16, 17, 28, 29;
        schung039/neural_manifolds_replicaMFT: each_manifold_analysis_D1.
    """
    S, T = matrix("points", points), matrix("probes", probes)
    kappa = require_float("kappa", kappa)
    if len(S) < 2 or len(T) != len(S):
        raise ValueError(
            f"points and probes must be (D + 1, M) and (D + 1, n_t), got {S.shape}, {T.shape}."
        )
    if not np.allclose(S[-1], 1.0):
        raise ValueError(f"points must be 1 in their last row, got {S[-1].min():g}.")
    S = np.ascontiguousarray(S[:-1].T)
    return anchors(S @ S.T, T[:-1].T @ S.T, T, kappa).geometry


def anchors(
    gram: np.ndarray,
    products: np.ndarray,
    probes: np.ndarray,
    kappa: float,
    active: np.ndarray | None = None,
) -> Anchors:
    r"""The same from products alone, without coordinates of points.

    Args:
        gram: (M, M) products of the points in the first D coordinates.
        products: (n_t, M) products of probes and points in them.
        probes: (D + 1, n_t).
        kappa: Margin.
        active: (n_t, M) bool: points assumed to have a positive dual, to start from.

    Raises:
        ArithmeticError: If a problem was not solved.
    """
    if active is None:
        active = np.zeros(products.shape, dtype=bool)
    linear = products + (probes[-1][:, None] + kappa)
    found, weights = solve_probes(gram, products, linear, active)
    distances, squares, along = found.T
    if np.isnan(distances).any():
        raise ArithmeticError(UNSOLVED)
    lengths = np.linalg.norm(probes[:-1], axis=0) * np.sqrt(squares + TINY)
    inverse = float(distances.mean())
    geometry = AnchorGeometry(
        capacity=1.0 / inverse if inverse else math.inf,
        radius=float(max(squares.mean() - weights @ gram @ weights, 0.0)) ** 0.5,
        dimension=(len(probes) - 1) * float((along / lengths).mean()) ** 2,
    )
    return Anchors(distances, geometry, active)


def standard_error(values: np.ndarray) -> np.ndarray:
    """Of the means of independent values along the last axis; NaN for one value."""
    n = values.shape[-1]
    if n < 2:
        return np.full(values.shape[:-1], math.nan)
    return np.asarray(values.std(-1, ddof=1) / n**0.5)
