r"""The quadratic program of the capacity measures, solved on a Gram matrix.

For points :math:`s_i` with Gram matrix G and one probe t it is

.. math:: \min_v \|v - t\|^2 \;\text{subject to}\; \langle v, s_i \rangle \le -\kappa
    \qquad \text{dual:}\quad
    \min_u \tfrac12 u^\top G u - b^\top u \;\text{subject to}\; \sigma_i u_i \ge 0

with :math:`b_i = \langle t, s_i \rangle + \kappa` and signs :math:`\sigma_i = 1`; a dichotomy
turns signs. G does not depend on the probe, and only a few duals differ from zero, so they enter
one at a time and a Cholesky factor of their block of G grows with them (Lawson and Hanson 1974,
ch. 23).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from grokscope.measures.compilation import compiled

TOLERANCE = 1e-10  # of a constraint, relative to the largest |b|
ROUNDING = 1e-4  # the same, of a point that depends on the active ones up to rounding
INTERIOR = 1e-16  # squared distance of a probe to the cone below which it counts as inside
DEPENDENT = 1e-14  # squared distance of a point to the span of others, relative to its square

UNSOLVED = (
    "the quadratic program of a probe did not converge: points depend on each other up to "
    "rounding; remove what they have in common."
)


class Work(NamedTuple):
    """Arrays that problems of m points share; k is the number of active ones."""

    active: np.ndarray  # (m,) bool: of which the dual is not held at zero
    order: np.ndarray  # (m,) the first k: the active ones, in order of entry
    factor: np.ndarray  # (m, m) lower triangular, the first k rows: Cholesky factor of their block
    half: np.ndarray  # (m,) the first k: factor^-1 b
    target: np.ndarray  # (m,) the first k: the optimum if they may have any sign
    dual: np.ndarray  # (m,) u
    gradient: np.ndarray  # (m,) b - G u
    refused: np.ndarray  # (m,) bool: dependent on the active ones, up to rounding


@compiled
def workspace(m: int) -> Work:
    """For m points."""
    return Work(
        np.zeros(m, np.bool_),
        np.empty(m, np.int64),
        np.empty((m, m)),
        np.empty(m),
        np.empty(m),
        np.empty(m),
        np.empty(m),
        np.empty(m, np.bool_),
    )


@compiled
def solve_probes(
    gram: np.ndarray, products: np.ndarray, linear: np.ndarray, active: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    r"""Anchor points of all probes of one manifold.

    Args:
        gram: (m, m) products of the points without the coordinate along the center, which is 1.
        products: (n, m) of probes and points, without it.
        linear: (n, m) b.
        active: (n, m) bool: duals to start with. Overwritten by those of the solution.

    Returns:
        Rows (n, 3) of the squared distance of the probe to the cone (NaN if not solved), the
        squared length of the anchor point and its product with the probe, both without the
        coordinate along the center; and the points' weights in the mean anchor (m,).
    """
    n, m = linear.shape
    full, signs, work = gram + 1.0, np.ones(m), workspace(m)
    found, mean = np.empty((n, 3)), np.zeros(m)
    for row in range(n):
        work.active[:] = active[row]
        k = solve(full, linear[row], signs, work)
        active[row] = work.active
        distance, total = 0.0, 0.0
        for i in work.order[: max(k, 0)]:
            distance += work.dual[i] * linear[row, i]
            total += work.dual[i]
        if distance < INTERIOR:
            work.order[0] = np.argmax(products[row])
            work.dual[work.order[0]], total = 1.0, 1.0
        index = work.order[: 1 if distance < INTERIOR else k]
        square, along = 0.0, 0.0
        for i in index:
            weight = work.dual[i] / total
            mean[i] += weight / n
            along += weight * products[row, i]
            inner = 0.0
            for j in index:
                inner += work.dual[j] * gram[i, j]
            square += weight * inner / total
        found[row, 0] = distance if k >= 0 else np.nan
        found[row, 1], found[row, 2] = square, along
    return found, mean


@compiled
def solve_all(gram: np.ndarray, linear: np.ndarray, signs: np.ndarray) -> np.ndarray:
    """Duals (n, m) of problems with one Gram matrix, by rows of b and signs; NaN if unsolved."""
    found, work = np.empty(linear.shape), workspace(len(gram))
    for row in range(len(linear)):
        work.active[:] = False
        solved = solve(gram, linear[row], signs[row], work) >= 0
        for i in range(len(gram)):
            found[row, i] = work.dual[i] if solved else np.nan
    return found


@compiled
def solve(gram: np.ndarray, linear: np.ndarray, signs: np.ndarray, work: Work) -> int:
    r"""Duals of one problem, in ``work.dual``.

    Args:
        gram: (m, m) G.
        linear: (m,) b.
        signs: (m,) of +1 and -1.
        work: ``work.active`` holds those to start with, and then those of the solution.

    Returns:
        How many duals are active; -1 if the optimality conditions were not met.
    """
    m, active, refused, gradient = len(linear), work.active, work.refused, work.gradient
    work.dual[:] = 0.0
    k = _warm(gram, linear, signs, work)
    tolerance = 0.0
    for j in range(m):
        tolerance = max(tolerance, TOLERANCE * abs(linear[j]))
    for _ in range(10 * m + 100):
        _update_gradient(gram, linear, work, k)
        refused[:] = False
        while True:
            entering, largest, left = -1, tolerance, 0.0
            for j in range(m):
                violation = signs[j] * gradient[j]
                if refused[j]:
                    left = max(left, violation)
                elif violation > largest and not active[j]:
                    entering, largest = j, violation
            if entering < 0:
                return k if left <= ROUNDING / TOLERANCE * tolerance else -1
            if _append(gram, linear, entering, work, k):
                _find_target(work, k + 1)
                if signs[entering] * work.target[k] > 0:
                    break
            refused[entering] = True
        active[entering] = True
        k = _walk(gram, linear, signs, work, k + 1)
    return -1


@compiled
def _warm(gram: np.ndarray, linear: np.ndarray, signs: np.ndarray, work: Work) -> int:
    """Solve on the given active set without those that come out with the wrong sign."""
    while True:
        k = 0
        for j in range(len(linear)):
            if work.active[j]:
                work.active[j] = _append(gram, linear, j, work, k)
                k += work.active[j]
        _find_target(work, k)
        right = True
        for i in range(k):
            if signs[work.order[i]] * work.target[i] <= 0:
                work.active[work.order[i]] = False
                right = False
        if right:
            for i in range(k):
                work.dual[work.order[i]] = work.target[i]
            return k


@compiled
def _walk(gram: np.ndarray, linear: np.ndarray, signs: np.ndarray, work: Work, k: int) -> int:
    """Go towards the optimum on the active set; drop duals that reach zero on the way."""
    order, dual, target = work.order, work.dual, work.target
    while True:
        step, first = 1.0, -1
        for i in range(k):
            if signs[order[i]] * target[i] <= 0:
                decrease = dual[order[i]] - target[i]
                ratio = dual[order[i]] / decrease if decrease != 0.0 else 0.0
                if ratio < step or first < 0:
                    step, first = ratio, i
        for i in range(k):
            dual[order[i]] += step * (target[i] - dual[order[i]])
        if first < 0:
            return k
        dual[order[first]] = 0.0
        work.active[order[first]] = False
        last, k = k, first
        for i in range(first + 1, last):
            j = order[i]  # never below k, so not overwritten yet
            if _append(gram, linear, j, work, k):
                k += 1
            else:
                dual[j] = 0.0
                work.active[j] = False
        _find_target(work, k)


@compiled
def _append(gram: np.ndarray, linear: np.ndarray, j: int, work: Work, k: int) -> bool:
    """Row k of the Cholesky factor and of factor^-1 b, for point j; False if it is dependent."""
    order, factor, half = work.order, work.factor, work.half
    rest, along = gram[j, j], linear[j]
    for i in range(k):
        inner = gram[j, order[i]]
        for n in range(i):
            inner -= factor[i, n] * factor[k, n]
        inner /= factor[i, i]
        factor[k, i] = inner
        rest -= inner * inner
        along -= inner * half[i]
    if rest <= DEPENDENT * gram[j, j]:
        return False
    factor[k, k] = np.sqrt(rest)
    half[k] = along / factor[k, k]
    order[k] = j
    return True


@compiled
def _find_target(work: Work, k: int) -> None:
    """Solve factor^T target = half."""
    factor, half, target = work.factor, work.half, work.target
    for i in range(k):
        target[i] = half[i]
    for i in range(k - 1, -1, -1):
        target[i] /= factor[i, i]
        for j in range(i):
            target[j] -= target[i] * factor[i, j]


@compiled
def _update_gradient(gram: np.ndarray, linear: np.ndarray, work: Work, k: int) -> None:
    order, dual, gradient = work.order, work.dual, work.gradient
    for j in range(len(gradient)):
        gradient[j] = linear[j]
    for i in range(k):
        weight, row = dual[order[i]], gram[order[i]]
        for j in range(len(gradient)):
            gradient[j] -= weight * row[j]
