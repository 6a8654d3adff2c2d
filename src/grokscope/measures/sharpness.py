"""How much the loss rises in a small box around the weights."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize

from grokscope.validation import require_float, require_int

Array = NDArray[np.float64]


def keskar_sharpness(
    loss_and_gradient: Callable[[Array], tuple[float, ArrayLike]],
    weights: ArrayLike,
    *,
    n_directions: int = 10,
    radius: float = 1e-3,
    iterations: int = 10,
    seed: int = 0,
) -> float:
    r"""Largest relative rise of the loss in a random subspace near the weights, in percent.

    .. math:: \phi = 100\, \frac{\max_{y \in C} f(x + A y) - f(x)}{1 + f(x)}, \quad
              C = \{|y_j| \le \epsilon\, (|(A^+ x)_j| + 1)\}

    The rows of :math:`A^+` (p, m) are uniform on (-1, 1), scaled to unit length, and A is its
    pseudo-inverse. The maximum is what L-BFGS-B reaches from y = 0; that of a flat or concave
    point is 0.

    Args:
        loss_and_gradient: f and its gradient (m,) at weights (m,).
        weights: x, (m,).
        n_directions: p.
        radius: epsilon.
        iterations: Of L-BFGS-B.
        seed: Of the directions.

    Raises:
        ValueError: If an argument is out of range.

    Source:
        Keskar et al. 2017, arXiv:1609.04836, metric 2.1; settings of Power et al. 2022, A.5,
        openai/grok:grok/measure.py. That file minimises f instead and divides by 1 - f(x): it
        measures how far the loss can fall. Ours is the metric that it cites.
    """
    x = np.asarray(weights, dtype=float)
    if x.ndim != 1 or not x.size:
        raise ValueError(f"weights must be (m,), got shape {x.shape}.")
    require_int("n_directions", n_directions, maximum=len(x))
    require_float("radius", radius, above=0.0)
    require_int("iterations", iterations)
    rows = np.random.default_rng(seed).uniform(-1, 1, (n_directions, len(x)))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    directions = np.linalg.pinv(rows)
    bound = radius * (np.abs(rows @ x) + 1)
    start = float(loss_and_gradient(x)[0])

    def fallen(y: Array) -> tuple[float, Array]:
        value, gradient = loss_and_gradient(x + directions @ y)
        return -float(value), -(directions.T @ np.asarray(gradient, dtype=float))

    _, lowest, _ = optimize.fmin_l_bfgs_b(
        fallen,
        np.zeros(n_directions),
        bounds=list(zip(-bound, bound, strict=True)),
        maxiter=iterations,
    )
    return 100 * max(-float(lowest) - start, 0.0) / (1 + start)
