r"""The subspace without which centres are least correlated, by a compiled quasi-Newton search.

For centres as rows of X (P, r), their Gram matrix C and orthonormal rows V (K, r) it minimises

.. math:: F(V) = \tfrac12 \sum_{\mu \nu} E_{\mu \nu}^2 w_\mu w_\nu, \qquad
    E = C - c c^\top, \quad c = X V^\top, \quad w_\mu = 1 / E_{\mu \mu}

the sum of the squared cosines of what is left of the centres. F depends on the span of V alone, a
point of a Grassmann manifold. The search runs in one of its charts: all subspaces near the start
:math:`V_0` are spans of :math:`V_0 + W` with :math:`W V_0^\top = 0`, and W is an ordinary vector
to a limited-memory BFGS method. With A = E o (w w'), the gradient is

.. math:: \partial F / \partial c = 2 \, \mathrm{diag}(w \circ (E \circ A) 1) \, c - 2 A c .
"""

from __future__ import annotations

import numpy as np

from grokscope.measures.compilation import compiled

MEMORY = 5  # pairs of steps and gradients
STEPS = 1000
SMALL_GRADIENT = 1e-6
SMALL_DECREASE = 1e-7  # of F, relative, in one step
CHART = 1.0  # squared length of W per row from which a new chart is taken


@compiled
def descend(X: np.ndarray, C: np.ndarray, start: np.ndarray) -> tuple[np.ndarray, float, int]:
    """The minimum that a start leads to.

    Args:
        X: (P, r) centres.
        C: (P, P) their Gram matrix.
        start: (K, r) orthonormal rows.

    Returns:
        Orthonormal rows (K, r), F, and the number of evaluations of F.
    """
    origin = start.copy()
    W, V = np.zeros_like(origin), origin.copy()
    S, Y = np.zeros((MEMORY, W.size)), np.zeros((MEMORY, W.size))
    curvature = np.zeros(MEMORY)
    value, gradient = _evaluate(X, C, origin, W, V)
    evaluations, stored = 1, 0
    for _ in range(STEPS):
        if np.sum(gradient * gradient) < SMALL_GRADIENT**2:
            break
        direction = _direction(gradient, S, Y, curvature, stored)
        slope = np.sum(direction * gradient)
        if slope >= 0.0:
            stored, direction, slope = 0, -gradient, -np.sum(gradient * gradient)
        step = 1.0 if stored else min(1.0, 0.1 / np.sqrt(-slope))
        while True:
            trial = np.empty_like(V)
            new, new_gradient = _evaluate(X, C, origin, W + step * direction, trial)
            evaluations += 1
            if new <= value + 1e-4 * step * slope or step < 1e-12:
                break
            bent = 2.0 * (new - value - step * slope)
            shorter = -slope * step / bent if np.isfinite(bent) and bent > 0.0 else 0.0
            step *= min(max(shorter, 0.1), 0.5)
        if new > value:
            break
        moved, turned = step * direction, new_gradient - gradient
        product = np.sum(moved * turned)
        if product > 1e-12 * np.sum(turned * turned):
            slot = stored % MEMORY
            S[slot], Y[slot] = moved.ravel(), turned.ravel()
            curvature[slot] = product
            stored += 1
        decrease = value - new
        W, V, value, gradient = W + moved, trial, new, new_gradient
        if decrease < SMALL_DECREASE * value:
            break
        if np.sum(W * W) > CHART * len(W):
            origin, W, stored = V.copy(), np.zeros_like(W), 0
            value, gradient = _evaluate(X, C, origin, W, V)
            evaluations += 1
    return V, value, evaluations


@compiled
def _direction(
    gradient: np.ndarray, S: np.ndarray, Y: np.ndarray, curvature: np.ndarray, stored: int
) -> np.ndarray:
    """Minus the inverse Hessian, as the stored pairs have it, times the gradient."""
    found = -gradient.ravel()
    weights = np.zeros(MEMORY)
    oldest = max(0, stored - MEMORY)
    for number in range(stored - 1, oldest - 1, -1):
        i = number % MEMORY
        weights[i] = np.dot(S[i], found) / curvature[i]
        _add(found, -weights[i], Y[i])
    if stored:
        last = (stored - 1) % MEMORY
        found *= curvature[last] / np.dot(Y[last], Y[last])
    for number in range(oldest, stored):
        i = number % MEMORY
        _add(found, weights[i] - np.dot(Y[i], found) / curvature[i], S[i])
    return found.reshape(gradient.shape)


@compiled
def _evaluate(
    X: np.ndarray, C: np.ndarray, origin: np.ndarray, W: np.ndarray, V: np.ndarray
) -> tuple[float, np.ndarray]:
    """F and its gradient at W in the chart of ``origin``; writes orthonormal rows into V."""
    inverse = _inverse(np.linalg.cholesky(np.eye(len(W)) + np.dot(W, W.T)))
    np.dot(inverse, origin + W, V)
    c = np.dot(V, X.T)
    A = C - np.dot(c.T, c)
    w = np.empty(len(C))
    for mu in range(len(C)):
        if A[mu, mu] <= 1e-14 * C[mu, mu]:
            return np.inf, W  # a centre lies in the subspace
        w[mu] = 1.0 / A[mu, mu]
    value, weights = 0.0, np.empty(len(C))
    for mu in range(len(C)):
        total = 0.0
        for nu in range(len(C)):
            scaled = A[mu, nu] * w[nu] * w[mu]
            total += A[mu, nu] * scaled
            A[mu, nu] = scaled
        value += total
        weights[mu] = total * w[mu]
    by_c = 2.0 * (c * weights - np.dot(c, A))
    by_V = np.dot(by_c, X)
    by_V -= np.dot(np.dot(by_V, V.T), V)
    gradient = np.dot(inverse.T, by_V)
    gradient -= np.dot(np.dot(gradient, origin.T), origin)
    return 0.5 * value, gradient


@compiled
def _inverse(factor: np.ndarray) -> np.ndarray:
    """Of a lower triangular matrix."""
    found = np.zeros_like(factor)
    for j in range(len(factor)):
        found[j, j] = 1.0 / factor[j, j]
        for i in range(j + 1, len(factor)):
            total = 0.0
            for k in range(j, i):
                total += factor[i, k] * found[k, j]
            found[i, j] = -total / factor[i, i]
    return found


@compiled
def _add(out: np.ndarray, weight: float, x: np.ndarray) -> None:
    """``out += weight x``."""
    for i in range(len(out)):
        out[i] += weight * x[i]
