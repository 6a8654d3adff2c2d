r"""Quality of a learned representation, and the effective theory of how it forms.

A sample is a pair of symbols (i, j) with an answer. Two samples with the same answer are a
**parallelogram**; :math:`P_0` holds all of them, :math:`P_0(D)` those within a training set D.
A representation E has one if the pairs' combinations agree:
:math:`E_i + E_j \approx E_m + E_n`, or :math:`E_a E_b \approx E_c E_d` for matrices.

Source of everything here: Liu et al. 2022, arXiv:2205.10343, sections 3 and 4; where the paper
leaves numerics open they are those of ejmichaud/grokking-squared:toy/train_add.py ("the code").
Arrays are NumPy's, float64.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from grokscope.validation import require_choice

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]

ADDITION_THRESHOLD = 0.01
"""Mean squared deviation below which a sum counts as equal, after :func:`standardised`."""

PRODUCT_THRESHOLD = 0.5
"""The same for matrix products, after division by the root mean square."""

_ZERO = 1e-8


def parallelograms(answers: ArrayLike) -> Ints:
    """All pairs of samples with the same answer.

    Args:
        answers: (s,) integers.

    Returns:
        (q, 2) rows a < b of samples, in lexicographic order: 70 for the addition of 10 symbols,
        90 for the permutations of 3 items.
    """
    given = np.asarray(answers)
    first, second = np.triu_indices(len(given), k=1)
    same = given[first] == given[second]
    return np.stack([first[same], second[same]], axis=1)


def within(found: Ints, rows: ArrayLike, n_samples: int) -> Mask:
    """Which parallelograms (q, 2) have both samples among ``rows``: P0(D), as a (q,) mask."""
    inside = np.zeros(n_samples, dtype=bool)
    inside[np.asarray(rows)] = True
    return np.asarray(inside[found].all(axis=1))


def equations(pairs: ArrayLike, found: Ints, n_symbols: int) -> Ints:
    """The linear equation of each parallelogram, E_i + E_j - E_m - E_n = 0.

    Args:
        pairs: (s, 2) symbols of each sample.
        found: (q, 2) from :func:`parallelograms`.
        n_symbols: Columns.

    Returns:
        A, (q, n_symbols).
    """
    counts = np.zeros((len(np.asarray(pairs)), n_symbols), dtype=np.int64)
    for column in np.asarray(pairs).T:
        np.add.at(counts, (np.arange(len(counts)), column), 1)
    return counts[found[:, 0]] - counts[found[:, 1]]


def degrees_of_freedom(equations: ArrayLike) -> int:
    """Dimension n0 of the representations that satisfy all equations (q, n_symbols).

    2 (a shift and a scale) means that the linear representation is the only one. The code
    counts eigenvalues of AᵀA below 1e-8.
    """
    matrix = np.asarray(equations, dtype=np.float64)
    return int((np.linalg.eigvalsh(matrix.T @ matrix) < _ZERO).sum())


def ideal(equations: ArrayLike, in_training: ArrayLike) -> Mask:
    """P(D): the parallelograms in P0(D), and those that follow from them.

    One follows if its equation depends linearly on those of P0(D): the rank stays.

    Args:
        equations: (q, n_symbols), of all of P0.
        in_training: (q,) mask of P0(D).

    Returns:
        (q,) mask.
    """
    matrix = np.asarray(equations, dtype=np.float64)
    known = matrix[np.asarray(in_training, dtype=bool)]
    values, vectors = np.linalg.eigh(known.T @ known)
    free = matrix @ vectors[:, values < _ZERO]
    return (free**2).sum(axis=1) < _ZERO


def standardised(embeddings: ArrayLike) -> Floats:
    """Embeddings (p, d) with mean 0 and sample standard deviation 1 in each dimension."""
    table = np.asarray(embeddings, dtype=np.float64)
    deviation = table.std(axis=0, ddof=1)
    return (table - table.mean(axis=0)) / np.where(deviation > 0, deviation, 1.0)


def real(
    embeddings: ArrayLike,
    pairs: ArrayLike,
    found: Ints,
    *,
    combine: str = "add",
    threshold: float | None = None,
) -> Mask:
    """P(R, delta): the parallelograms that a representation has.

    Args:
        embeddings: (p, d).
        pairs: (s, 2) symbols of each sample.
        found: (q, 2) from :func:`parallelograms`.
        combine: ``add``: of :func:`standardised` embeddings. ``multiply``: embeddings are
            matrices (d a square number), divided by their root mean square.
        threshold: Mean squared deviation, over dimensions, below which they agree; None is
            :data:`ADDITION_THRESHOLD` or :data:`PRODUCT_THRESHOLD`.

    Returns:
        (q,) mask. A representation that has collapsed to a point has none.
    """
    require_choice("combine", combine, ("add", "multiply"))
    table, rows = np.asarray(embeddings, dtype=np.float64), np.asarray(pairs)
    if combine == "add":
        collapsed = (table.std(axis=0) == 0).all()
        combined = standardised(table)[rows].sum(axis=1)
    else:
        side = round(table.shape[1] ** 0.5)
        scale = np.sqrt((table**2).mean())
        collapsed = scale == 0
        matrices = (table / (scale or 1.0)).reshape(-1, side, side)
        combined = (matrices[rows[:, 0]] @ matrices[rows[:, 1]]).reshape(len(rows), -1)
    default = ADDITION_THRESHOLD if combine == "add" else PRODUCT_THRESHOLD
    deviation = ((combined[found[:, 0]] - combined[found[:, 1]]) ** 2).mean(axis=1)
    return (deviation < (default if threshold is None else threshold)) & (not collapsed)


def representation_quality_index(
    embeddings: ArrayLike,
    pairs: ArrayLike,
    found: Ints,
    *,
    combine: str = "add",
    threshold: float | None = None,
) -> float:
    """RQI: the share of all parallelograms that a representation has; arguments of :func:`real`.

    For addition this is the code's count over quadruples i < j <= m < n with i + n = j + m.
    1 for a linear representation :math:`E_k = a + k b`.
    """
    return float(real(embeddings, pairs, found, combine=combine, threshold=threshold).mean())


def predicted_correct(found: Ints, has: ArrayLike, train_rows: ArrayLike, n_samples: int) -> Mask:
    """D-bar: samples in training, or joined with one in training by a parallelogram of ``has``.

    Args:
        found: (q, 2) from :func:`parallelograms`.
        has: (q,) mask: :func:`real` gives the predicted accuracy of a representation,
            :func:`ideal` the best that the training set allows.
        train_rows: Samples in training.
        n_samples: All samples.

    Returns:
        (n_samples,) mask, whose mean is the predicted accuracy over all samples.
    """
    trained = np.zeros(n_samples, dtype=bool)
    trained[np.asarray(train_rows)] = True
    correct = trained.copy()
    for a, b in (found[np.asarray(has, dtype=bool)]).tolist():
        correct[a] |= trained[b]
        correct[b] |= trained[a]
    return correct


def effective_loss(embeddings: ArrayLike, equations: ArrayLike) -> float:
    r"""How far a representation is from the equations, whatever its scale.

    .. math:: \ell_{eff} = \frac{\ell_0}{Z_0}, \quad
        \ell_0 = \frac{1}{q} \sum_{P_0(D)} |\tilde E_i + \tilde E_j - \tilde E_m - \tilde E_n|^2,
        \quad Z_0 = \sum_k |\tilde E_k|^2

    Args:
        embeddings: (p, d), standardised here.
        equations: A, (q, p), of P0(D).
    """
    table = standardised(embeddings)
    return float(_l0(table, np.asarray(equations, dtype=np.float64)) / (table**2).sum())


def _l0(table: Floats, matrix: Floats) -> float:
    return float(((matrix @ table) ** 2).sum() / max(len(matrix), 1))


def effective_flow(
    embeddings: ArrayLike,
    equations: ArrayLike,
    step_size: float,
    steps: int,
    *,
    normalise: str = "mean",
) -> Floats:
    r"""Gradient descent on the effective loss, with :math:`Z_0` held at its initial value.

    .. math:: \tilde E \leftarrow \tilde E + \eta \left(\frac{2 \ell_0}{Z_0^2} \tilde E
              - \frac{1}{Z_0} \nabla \ell_0\right)

    The flow conserves :math:`\sum_k \tilde E_k` and :math:`Z_0` (the steps only up to
    :math:`\eta^2`).

    Args:
        embeddings: (p, d) at the start, standardised here.
        equations: A, (q, p). The paper takes those of P0(D), the code those of all of P0.
        step_size: The embeddings' learning rate.
        steps: Steps.
        normalise: ``mean``: l0 is the mean over equations (paper); ``sum``: their sum (code).

    Returns:
        (steps + 1, p, d), the start included.
    """
    matrix = np.asarray(equations, dtype=np.float64)
    share = _share(normalise, len(matrix))
    table = standardised(embeddings)
    size, product, path = (table**2).sum(), share * matrix.T @ matrix, [table]
    for _ in range(steps):
        l0 = share * ((matrix @ table) ** 2).sum()
        table = table + step_size * (2 * l0 / size**2 * table - 2 / size * product @ table)
        path.append(table)
    return np.stack(path)


def grokking_rates(equations: ArrayLike, size: float, *, normalise: str = "mean") -> Floats:
    r"""Eigenvalues of :math:`\frac{1}{Z_0} \nabla^2 \ell_0`, ascending.

    The first two are 0 for addition (shift and scale); the third, :math:`\lambda_3`, is the
    rate at which the slowest mode of the representation forms.

    Args:
        equations: A, (q, p).
        size: :math:`Z_0`: (p - 1) d for standardised embeddings.
        normalise: As in :func:`effective_flow`.
    """
    matrix = np.asarray(equations, dtype=np.float64)
    hessian = 2 * _share(normalise, len(matrix)) * matrix.T @ matrix / size
    return np.maximum(np.linalg.eigvalsh(hessian), 0.0)


def predicted_steps(equations: ArrayLike, size: float, step_size: float) -> float:
    r"""Steps :math:`n_h = 1 / (\lambda_3 \eta)`; convergence takes about three times as many.

    Infinite where the training set leaves the representation free.
    """
    rate = grokking_rates(equations, size)[2]
    return float("inf") if rate < _ZERO else float(1 / (rate * step_size))


def _share(normalise: str, n_equations: int) -> float:
    require_choice("normalise", normalise, ("mean", "sum"))
    return 1.0 / max(n_equations, 1) if normalise == "mean" else 1.0


def embedding_entropy(embeddings: ArrayLike) -> float:
    r"""Entropy :math:`-\sum_i s_i \ln s_i` of the principal components' shares of variance.

    ``exp`` of it is the effective dimension (Fig. 7 of the paper): 1 where all embeddings (p, d)
    lie on a line. 0 where they lie in a point.
    """
    table = np.asarray(embeddings, dtype=np.float64)
    variance = np.linalg.svd(table - table.mean(axis=0), compute_uv=False) ** 2
    if variance.sum() == 0:
        return 0.0
    shares = variance / variance.sum()
    shares = shares[shares > 0]
    return float(max(0.0, -(shares * np.log(shares)).sum()))
