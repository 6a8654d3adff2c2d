"""CKA: other people's numbers, plain loops, invariances, and all pairs at once."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from kernel_recipes import drawn_pair

from grokscope.measures import cka_matrix as matrix_module
from grokscope.measures.cka import rbf_kernel, squared_distances
from grokscope.measures.kernels import (
    cka,
    cka_matrix,
    debiased_cka,
    label_alignment,
    linear_cka,
    rbf_cka,
)


@pytest.fixture
def cases(shared):
    found = json.loads((shared / "reference" / "kernels.json").read_text())["cases"]
    found = [case for case in found if case["kind"] == "cka_and_dimension"]
    assert len(found) == 3
    return [(*drawn_pair(case["recipe"]), case["values"]) for case in found]


def few(n=30, d=7, e=5, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d)) + 2.0
    return X, X[:, :1] * rng.standard_normal((1, e)) + rng.standard_normal((n, e))


def plain_cka(K, L):
    """The definition with projections."""
    H = np.eye(len(K)) - 1 / len(K)
    K, L = H @ K @ H, H @ L @ H
    return (K * L).sum() / np.linalg.norm(K) / np.linalg.norm(L)


def plain_debiased(K, L):
    """Székely and Rizzo's centring, entry by entry."""

    def dotted(K):
        n = len(K)
        K = K - np.diag(np.diag(K))
        rows, total = K.sum(1), K.sum()
        out = np.zeros_like(K)
        for i in range(n):
            for j in range(n):
                if i != j:
                    offset = total / (n - 1) / (n - 2)
                    out[i, j] = K[i, j] - rows[i] / (n - 2) - rows[j] / (n - 2) + offset
        return out

    K, L = dotted(K), dotted(L)
    return (K * L).sum() / np.linalg.norm(K) / np.linalg.norm(L)


def test_published_values_of_cka(cases):
    for X, Y, values in cases:
        K, L = X @ X.T, Y @ Y.T
        for form in ("gram", "features"):
            found = linear_cka(X, Y, form=form)
            assert found == pytest.approx(values["linear"], abs=1e-9)
            found = linear_cka(X, Y, debiased=True, form=form)
            assert found == pytest.approx(values["linear_debiased"], abs=1e-9)
        assert cka(K, L) == pytest.approx(values["linear_feature_space"], abs=1e-9)
        expected = values["linear_debiased_feature_space"]
        assert debiased_cka(K, L) == pytest.approx(expected, abs=1e-9)
        for threshold in (0.5, 1.0, 2.0):
            name = f"rbf_{threshold}"
            found = rbf_cka(X, Y, threshold=threshold)
            assert found == pytest.approx(values[name], abs=1e-9)
            found = rbf_cka(X, Y, threshold=threshold, debiased=True)
            assert found == pytest.approx(values[f"{name}_debiased"], abs=1e-9)


def test_published_values_of_float32_activations(cases):
    for X, Y, values in cases:
        X, Y = torch.tensor(X).float(), torch.tensor(Y).float()
        assert linear_cka(X, Y) == pytest.approx(values["linear"], abs=1e-6)
        assert rbf_cka(X, Y) == pytest.approx(values["rbf_1.0"], abs=1e-6)


@pytest.mark.parametrize(("n", "d", "e"), [(30, 7, 5), (9, 20, 31), (12, 12, 3), (4, 2, 9)])
def test_all_forms_are_the_definition(n, d, e):
    X, Y = few(n, d, e)
    K, L = X @ X.T, Y @ Y.T
    for form in ("auto", "gram", "features"):
        assert linear_cka(X, Y, form=form) == pytest.approx(plain_cka(K, L), abs=1e-12)
        found = linear_cka(X, Y, debiased=True, form=form)
        assert found == pytest.approx(plain_debiased(K, L), abs=1e-10)
    assert cka(K, L) == pytest.approx(plain_cka(K, L), abs=1e-12)
    assert debiased_cka(K, L) == pytest.approx(plain_debiased(K, L), abs=1e-10)


@pytest.mark.parametrize("n", [7, 8])
def test_gaussian_kernels_entry_by_entry(n):
    X, _ = few(n)
    distances = np.array([[((x - z) ** 2).sum() for z in X] for x in X])
    expected = np.exp(-distances / (2 * 0.7**2 * np.median(distances)))
    np.testing.assert_allclose(rbf_kernel(X, 0.7), expected, atol=1e-12)


def test_distances_keep_their_digits_beside_a_large_offset():
    X, _ = few()
    expected = squared_distances(torch.tensor(X))
    found = squared_distances(torch.tensor(X) + 1e6)
    torch.testing.assert_close(found, expected, rtol=0.0, atol=1e-8)


@pytest.mark.parametrize("debiased", [False, True])
def test_rotation_scale_and_offset_do_not_matter(debiased):
    X, Y = few()
    rotation = np.linalg.qr(np.random.default_rng(1).standard_normal((7, 7)))[0]
    other = 3.0 * X @ rotation - 5.0
    assert linear_cka(X, other, debiased=debiased) == pytest.approx(1.0, abs=1e-12)
    for measure in (linear_cka, rbf_cka):
        found = measure(X, Y, debiased=debiased)
        assert measure(other, Y, debiased=debiased) == pytest.approx(found, abs=1e-10)
        assert measure(Y, X, debiased=debiased) == pytest.approx(found, abs=1e-12)


def test_a_wide_gaussian_kernel_gives_linear_cka():
    X, Y = few()
    assert rbf_cka(X, Y, threshold=300.0) == pytest.approx(linear_cka(X, Y), abs=1e-4)
    assert abs(rbf_cka(X, Y, threshold=0.5) - linear_cka(X, Y)) > 0.01


def test_only_the_debiased_form_has_no_offset_between_unrelated_representations():
    rng = np.random.default_rng(2)
    pairs = [(rng.standard_normal((20, 100)), rng.standard_normal((20, 100))) for _ in range(100)]
    assert min(linear_cka(*pair) for pair in pairs) > 0.7
    debiased = [linear_cka(*pair, debiased=True) for pair in pairs]
    error = np.std(debiased) / 10
    assert min(debiased) < 0
    assert abs(np.mean(debiased)) < 4 * error
    assert error < 0.02


def test_cka_with_the_labels_is_the_centred_alignment():
    X, Y = few()
    found = cka(X @ X.T, Y @ Y.T)
    assert found == pytest.approx(label_alignment(X @ X.T, Y, centering="both"), abs=1e-12)


def test_by_hand():
    # columns (1, -1, 0) and (1, 1, -2): centred, orthogonal
    assert linear_cka([[1.0], [-1.0], [0.0]], [[1.0], [1.0], [-2.0]]) == pytest.approx(0.0)
    # x with itself and an orthogonal y of the same length: 1 / sqrt(2)
    x, y = np.array([1.0, -1.0, 1.0, -1.0]), np.array([1.0, 1.0, -1.0, -1.0])
    both = np.stack([x, y], 1)
    assert linear_cka(x[:, None], both) == pytest.approx(1 / np.sqrt(2))


def several(n=25, widths=(3, 8, 1, 40, 8), seed=3):
    rng = np.random.default_rng(seed)
    common = rng.standard_normal((n, 4))
    return [common @ rng.standard_normal((4, d)) + rng.standard_normal((n, d)) + 1 for d in widths]


@pytest.mark.parametrize("debiased", [False, True])
@pytest.mark.parametrize("n", [25, 200])  # kernels are cheaper for one, features for the other
def test_all_pairs_at_once_are_the_pairs(n, debiased):
    representations = several(n)
    assert matrix_module._features_cheaper(representations, n) == (n == 200)
    pairs = [[(a, b) for b in representations] for a in representations]
    found = cka_matrix(representations, debiased=debiased)
    expected = [[linear_cka(*pair, debiased=debiased) for pair in row] for row in pairs]
    np.testing.assert_allclose(found, expected, atol=1e-12)
    found = cka_matrix(representations, kernel="rbf", threshold=0.8, debiased=debiased)
    expected = [
        [rbf_cka(*pair, threshold=0.8, debiased=debiased) for pair in row] for row in pairs
    ]
    np.testing.assert_allclose(found, expected, atol=1e-12)
    kernels = [features @ features.T for features in representations]
    found = cka_matrix(kernels, kernel="given", debiased=debiased)
    expected = [[cka(a, b, debiased=debiased) for b in kernels] for a in kernels]
    np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize("panel_bytes", [1, 8 * 5 * 25 * 3, 8 * 5 * 25 * 7, 2**26])
def test_panels_of_any_size_give_the_same(panel_bytes, monkeypatch):
    representations = several()
    expected = cka_matrix([X @ X.T for X in representations], kernel="given", debiased=True)
    monkeypatch.setattr(matrix_module, "PANEL_BYTES", panel_bytes)
    monkeypatch.setattr(matrix_module, "_features_cheaper", lambda *_: False)
    torch.testing.assert_close(cka_matrix(representations, debiased=True), expected)


def test_little_memory_takes_panels_in_place_of_features():
    representations = several(200)
    needed = matrix_module._feature_bytes(representations)
    torch.testing.assert_close(
        cka_matrix(representations, max_bytes=needed - 1),
        cka_matrix(representations, max_bytes=needed),
    )


def test_the_matrix_is_symmetric_with_ones_and_keeps_inputs():
    representations = [torch.tensor(X).float() for X in several()]
    before = [X.clone() for X in representations]
    found = cka_matrix(representations)
    assert torch.equal(found, found.t())
    torch.testing.assert_close(found.diagonal(), torch.ones(5, dtype=torch.float64))
    assert all(torch.equal(a, b) for a, b in zip(representations, before, strict=True))


@pytest.mark.parametrize("value", [0.0, 2.0, 0.1])  # the mean of 0.1 is not 0.1
def test_a_representation_without_variance_has_no_cka(value):
    X, Y = few()
    constant = np.full_like(X, value)
    assert np.isnan(cka(X @ X.T, np.full((30, 30), value)))
    assert np.isnan(linear_cka(X, constant))
    assert np.isnan(linear_cka(X, constant, form="gram"))
    assert np.isnan(rbf_cka(X, constant))
    found = cka_matrix([X, constant, Y])
    assert torch.equal(found.isnan().sum(0), torch.tensor([1, 3, 1]))


NOT_SYMMETRIC = np.triu(np.ones((4, 4)))
REFUSED = [
    (lambda: cka(np.eye(4), NOT_SYMMETRIC), "second kernel must be symmetric"),
    (lambda: cka(np.ones((4, 3)), np.eye(4)), "first kernel must be symmetric.*linear_cka"),
    (lambda: cka(np.eye(4), np.eye(5)), "first and second must have as many rows, got 4 and 5"),
    (lambda: debiased_cka(np.eye(3), np.eye(3)), "debiased CKA needs at least 4 samples, got 3"),
    (lambda: linear_cka(np.ones((3, 2)), np.ones((4, 2))), "as many rows, got 3 and 4"),
    (lambda: linear_cka(np.ones((3, 2)), np.ones((3, 2)), debiased=True), "at least 4 samples"),
    (lambda: linear_cka(np.ones(3), np.ones((3, 2))), "first must be a matrix"),
    (lambda: linear_cka(np.eye(5), np.eye(5), form="dual"), "form must be one of auto, gram"),
    (lambda: linear_cka(np.eye(5), np.eye(5), debiased=1), "debiased must be true or false"),
    (lambda: rbf_cka(np.eye(5), np.eye(5), threshold=0), "threshold must be a number > 0"),
    (lambda: rbf_cka(np.eye(3), np.eye(3), debiased=True), "at least 4 samples"),
    (lambda: rbf_cka(np.eye(5), np.eye(5), max_bytes=799), "max_bytes must be >= 800 for two k"),
    (lambda: cka_matrix([]), "same number of samples, got no representation"),
    (lambda: cka_matrix([np.eye(4), np.eye(5)]), r"same number of samples, got \[4, 5\]"),
    (lambda: cka_matrix([np.eye(4)], kernel="cubic"), "kernel must be one of linear, rbf, given"),
    (lambda: cka_matrix([np.eye(3)], debiased=True), "at least 4 samples, got 3"),
    (lambda: cka_matrix([NOT_SYMMETRIC], kernel="given"), "each of representations must be sym"),
    (
        lambda: cka_matrix([np.ones((50, 90))] * 3, max_bytes=4000),
        "max_bytes must be >= 4,800 for a row of 3 kernels of 50 samples, got 4,000",
    ),
    (
        lambda: cka_matrix([np.eye(50)] * 3, kernel="rbf", max_bytes=10**5),
        "max_bytes must be >= 200,000 for 3 kernels of 50 samples",
    ),
]


@pytest.mark.refusal
@pytest.mark.parametrize(("call", "reason"), REFUSED)
def test_what_cannot_be_is_refused(call, reason):
    with pytest.raises(ValueError, match=reason):
        call()
