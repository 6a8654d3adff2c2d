r"""Mean-field capacity of points and balls, where it is known."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
from scipy.integrate import quad
from scipy.special import gammainc, gammaincc, gammaln, ndtr

from grokscope.validation import require_float

REACH = 40.0  # standard deviations beyond which a normal density is zero in float64


def point_capacity(kappa: float = 0.0) -> float:
    r"""Capacity of single points at margin kappa; 2 at 0.

    .. math:: \alpha_0^{-1} = (1 + \kappa^2) \Phi(\kappa) + \kappa \phi(\kappa)

    Source:
        Gardner 1988, J. Phys. A 21:257.
    """
    kappa = require_float("kappa", kappa)
    return 1.0 / float((1 + kappa**2) * ndtr(kappa) + kappa * _density(kappa))


def ball_capacity(radius: int | float, dimension: int | float, kappa: float = 0.0) -> float:
    r"""Capacity of solid balls in general position.

    .. math:: \alpha^{-1} = \int_0^\infty \chi_D(t) \, dt \left[
        \int_{\kappa - t/R}^{\kappa + R t} \phi(z) \frac{(\kappa + R t - z)^2}{1 + R^2} dz +
        \int_{-\infty}^{\kappa - t/R} \phi(z) [(\kappa - z)^2 + t^2] \, dz \right]

    with the chi density :math:`\chi_D` of D degrees of freedom. The integral over t is taken
    first, by incomplete gamma functions; the other numerically. At R = 1 and kappa = 0 it is
    2 / (D + 1).

    Args:
        radius: R > 0, in units of the distance of the center to the origin.
        dimension: D > 0, of the ball without the direction of its center.
        kappa: Margin.

    Raises:
        ValueError: For an argument out of range.

    Source:
        Chung, Lee, Sompolinsky 2018, PRX 8:031003, sec. IV.
    """
    R, D, kappa = _checked(radius, dimension, kappa)

    def distance(z: float) -> float:
        gap, touched = kappa - z, _touching(R, kappa - z)
        at = [_upper_moment(power, D, touched) for power in range(3)]
        found = (gap**2 * at[0] + 2 * gap * R * at[1] + R**2 * at[2]) / (1 + R**2)
        if gap > 0:
            half = (R * gap) ** 2 / 2
            found += gap**2 * gammainc(D / 2, half) + D * gammainc(D / 2 + 1, half)
        return float(found)

    return 1.0 / _normal_mean(distance, kappa)


def ball_radius(radius: int | float, dimension: int | float, kappa: float = 0.0) -> float:
    r"""The radius R_M that anchor points of such balls have; their dimension is D.

    .. math:: R_M^2 = E \min(R, \, t / (\kappa - z) \text{ if } z < \kappa - t / R)^2

    At most R, with the conventions of :func:`grokscope.measures.capacity.anchor_geometry`: a probe
    inside the cone counts with its nearest point of the ball.

    Args:
        radius: R > 0.
        dimension: D > 0.
        kappa: Margin.

    Raises:
        ValueError: For an argument out of range.
    """
    R, D, kappa = _checked(radius, dimension, kappa)

    def square(z: float) -> float:
        gap = kappa - z
        if gap <= 0:
            return R**2
        half = (R * gap) ** 2 / 2
        return float(R**2 * gammaincc(D / 2, half) + D * gammainc(D / 2 + 1, half) / gap**2)

    return math.sqrt(_normal_mean(square, kappa))


def _checked(
    radius: int | float, dimension: int | float, kappa: float
) -> tuple[float, float, float]:
    return (
        require_float("radius", radius, above=0.0),
        require_float("dimension", dimension, above=0.0),
        require_float("kappa", kappa),
    )


def _density(z: float) -> float:
    return math.exp(-z * z / 2) / math.sqrt(2 * math.pi)


def _normal_mean(value: Callable[[float], float], kappa: float) -> float:
    """Mean over a standard normal z of a function with a kink at kappa."""
    cuts = sorted({-REACH, REACH, 0.0, min(max(kappa, -REACH), REACH)})
    pieces = [
        quad(lambda z: _density(z) * value(z), *ends, epsabs=0.0, epsrel=1e-9, limit=200)[0]
        for ends in pairwise(cuts)
    ]
    return float(np.sum(pieces))


def _touching(R: float, gap: float) -> float:
    """The chi variable from which on a ball is touched at its surface."""
    return R * gap if gap > 0 else -gap / R


def _upper_moment(power: int, D: float, above: float) -> float:
    """E[t^power; t > above] of a chi variable t with D degrees of freedom."""
    scale = math.exp(gammaln((D + power) / 2) - gammaln(D / 2) + power / 2 * math.log(2))
    return float(scale * gammaincc((D + power) / 2, above**2 / 2))
