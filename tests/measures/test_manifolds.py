"""Classes as manifolds, and the root of a singular Gram matrix."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from grokscope.measures.capacity import class_manifolds
from grokscope.measures.manifolds import triangular_root


def activations(n=12, N=3):
    return np.arange(n * N, dtype=float).reshape(n, N)


def test_each_class_is_one_manifold_in_the_order_of_the_labels():
    labels = [7, -1, 7, 3, 3, 7, -1, 3, 3, 3, 3, 3]
    found = class_manifolds(activations(), labels)
    assert [len(x) for x in found] == [2, 7, 3]
    np.testing.assert_array_equal(found[0], activations()[[1, 6]])
    np.testing.assert_array_equal(found[2], activations()[[0, 2, 5]])


def test_points_are_drawn_without_replacement_by_the_seed():
    labels = torch.arange(12) % 2
    X = torch.from_numpy(activations()).float().requires_grad_()
    found = class_manifolds(X, labels, n_points=4, seed=1)
    for x, start in zip(found, (0, 1), strict=True):
        assert x.dtype == np.float64
        rows = (x[:, 0] / 3).astype(int)
        assert len(set(rows)) == 4
        assert set(rows) <= set(range(start, 12, 2))
    again = class_manifolds(X, labels, n_points=4, seed=1)
    other = class_manifolds(X, labels, n_points=4, seed=2)
    assert all((a == b).all() for a, b in zip(found, again, strict=True))
    assert any((a != b).any() for a, b in zip(found, other, strict=True))


@pytest.mark.parametrize("shape", [(20, 30), (20, 7), (20, 1), (1, 4)])
def test_a_triangular_root_of_a_gram_matrix_of_any_rank(shape):
    x = np.random.default_rng(0).standard_normal(shape)
    x -= x.mean(0)
    for root in (triangular_root, triangular_root.py_func):
        R = root(x @ x.T)
        np.testing.assert_allclose(R.T @ R, x @ x.T, atol=1e-10)
        np.testing.assert_array_equal(R, np.triu(R))
        assert np.count_nonzero(np.diag(R)) == np.linalg.matrix_rank(x)


def test_a_triangular_root_moves_little_where_a_factor_of_householder_turns():
    x = np.random.default_rng(1).standard_normal((10, 10))
    y = x + 1e-6 * np.random.default_rng(2).standard_normal((10, 10))
    np.testing.assert_allclose(triangular_root(x @ x.T), triangular_root(y @ y.T), atol=1e-3)


@pytest.mark.refusal
@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (lambda: class_manifolds(np.ones(3), [0, 1, 2]), "activations must be a matrix"),
        (lambda: class_manifolds(np.ones((3, 2)), [0, 1]), r"labels must be \(3,\) integers"),
        (lambda: class_manifolds(np.ones((2, 2)), [0.0, 1.0]), r"labels must be \(2,\) integers"),
        (
            lambda: class_manifolds(np.ones((3, 2)), [0, 0, 1], n_points=2),
            "n_points must be an integer >= 1 and <= 1, got 2",
        ),
        (lambda: class_manifolds(np.full((1, 2), np.inf), [0]), "activations must be finite"),
    ],
)
def test_bad_input_is_refused(call, reason):
    with pytest.raises(ValueError, match=reason):
        call()
