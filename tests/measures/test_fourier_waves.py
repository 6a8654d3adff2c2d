"""What frequencies have of the logits, against explicit unit vectors; cosines and centring."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from grokscope.measures.fourier import (
    centred,
    cosine_coefficients,
    cosine_fraction,
    cosine_similarity,
    dominant_frequencies,
    excluded_logits,
    restricted_logits,
    sum_waves,
)
from grokscope.nets import addition_net

P = 7


def grid(p=P):
    a, b = np.divmod(np.arange(p * p), p)
    return (a + b) % p


def logits(seed=0, p=P):
    rng = np.random.default_rng(seed)
    return 3 * rng.standard_normal((p * p, p)) + rng.standard_normal(p) + 10


def directions(k, p=P):
    """Unit vectors u_k, v_k over inputs, and C_k over inputs and classes."""
    angle = 2 * np.pi * k / p
    u, v = (wave(angle * grid(p)) for wave in (np.cos, np.sin))
    C = np.cos(angle * (grid(p)[:, None] - np.arange(p)))
    return u / np.linalg.norm(u), v / np.linalg.norm(v), C / np.linalg.norm(C)


def slow_projection(L, k, kind):
    u, v, C = directions(k, L.shape[1])
    if kind == "2d":
        return np.outer(u, u @ L) + np.outer(v, v @ L)
    return (C * L).sum() * C


@pytest.mark.parametrize("kind", ["2d", "3d"])
def test_waves_are_the_projections_on_the_directions(kind):
    L = logits()
    found = sum_waves(L, kind)
    assert found.shape == (3, P, P)
    for k in (1, 2, 3):
        np.testing.assert_allclose(
            found[k - 1][grid()], slow_projection(L, k, kind), rtol=0, atol=1e-12
        )


@pytest.mark.parametrize("kind", ["2d", "3d"])
def test_excluded_logits_have_nothing_left_of_the_key_frequencies(kind):
    rest = excluded_logits(logits(), [1, 3], directions=kind)
    np.testing.assert_allclose(sum_waves(rest, kind)[[0, 2]], 0, atol=1e-13)
    np.testing.assert_allclose(sum_waves(rest, kind)[1], sum_waves(logits(), kind)[1], atol=1e-13)


def test_restricted_and_excluded_logits_are_the_whole():
    L = logits()
    bare = restricted_logits(L, [2, 3], bias_correction=False)
    np.testing.assert_allclose(bare + excluded_logits(L, [2, 3]), L, atol=1e-13)
    kept = restricted_logits(L, [2, 3])
    np.testing.assert_allclose(kept - bare, np.broadcast_to(L.mean(0), L.shape), atol=1e-13)


def test_all_frequencies_leave_the_mean_over_pairs_of_the_same_sum():
    L = logits()
    means = np.stack([L[grid() == s].mean(0) for s in range(P)])
    np.testing.assert_allclose(restricted_logits(L, [1, 2, 3]), means[grid()], atol=1e-13)


def test_no_frequencies_leave_the_means_of_the_classes():
    L = logits()
    kept = restricted_logits(L, [])
    np.testing.assert_allclose(kept, np.broadcast_to(L.mean(0), L.shape), rtol=1e-14)
    np.testing.assert_array_equal(excluded_logits(L, []), L)


def test_cosine_coefficients_are_inner_products_that_no_centring_changes():
    L = logits()
    expected = [(directions(k)[2] * L).sum() for k in (1, 2, 3)]
    for over in ("none", "inputs", "both"):
        np.testing.assert_allclose(cosine_coefficients(centred(L, over)), expected, atol=1e-12)


def test_centring_takes_out_the_means():
    L = logits()
    np.testing.assert_array_equal(centred(L, "none"), L)
    np.testing.assert_allclose(centred(L, "inputs").mean(0), 0, atol=1e-13)
    both = centred(L)
    np.testing.assert_allclose(both.mean(0), 0, atol=1e-13)
    np.testing.assert_allclose(both.mean(1), 0, atol=1e-13)


@pytest.mark.parametrize("over", ["none", "inputs", "both"])
def test_share_of_the_waves_by_its_definition(over):
    L = logits()
    total = (centred(L, over).numpy() ** 2).sum()
    expected = sum((directions(k)[2] * L).sum() ** 2 for k in (1, 3)) / total
    assert cosine_fraction(L, [1, 3], over=over) == pytest.approx(expected, rel=1e-11)


def test_logits_that_are_waves_have_share_one_and_their_frequencies_dominate():
    C = 5 * directions(1)[2] - 2 * directions(3)[2]
    assert cosine_fraction(C + 4, [1, 3]) == pytest.approx(1, rel=1e-12)
    np.testing.assert_allclose(cosine_coefficients(C), [5, 0, -2], atol=1e-13)
    assert dominant_frequencies(C) == [1, 3]
    assert dominant_frequencies(C, fraction=0.5) == [1]


def test_nothing_dominates_what_does_not_depend_on_the_sum():
    a = np.arange(P * P) // P
    assert dominant_frequencies(np.random.default_rng(0).standard_normal((P, P))[a]) == []
    assert dominant_frequencies(np.zeros((P * P, P))) == []


def test_a_net_that_adds_by_all_frequencies_has_them_all():
    p, net = 11, addition_net(11, 4000)
    a, b = np.divmod(np.arange(p * p), p)
    one_hot = np.concatenate([np.eye(p)[a], np.eye(p)[b]], axis=1)
    with torch.no_grad():
        found = net(torch.from_numpy(one_hot))
    assert dominant_frequencies(found) == [1, 2, 3, 4, 5]
    assert cosine_fraction(found, [1, 2, 3, 4, 5]) > 0.9


def test_cosine_of_arrays_as_vectors():
    assert cosine_similarity([[1.0, 0.0], [0.0, 1.0]], [[1.0, 1.0], [1.0, 1.0]]) == pytest.approx(
        2 / math.sqrt(8)
    )
    assert math.isnan(cosine_similarity(np.zeros(3), np.ones(3)))


@pytest.mark.refusal
@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (lambda: sum_waves(np.ones((49, 8))), r"^logits must be \(49, 7\), without further"),
        (lambda: sum_waves(np.ones((48, 7))), r"^logits must be \(p\^2, n\), .*\(48, 7\)"),
        (lambda: sum_waves(np.ones((16, 4))), r"^modulus must be odd, got 4"),
        (lambda: sum_waves(logits(), "1d"), r"^directions must be one of 2d, 3d, got '1d'"),
        (lambda: restricted_logits(logits(), [4]), r"^key_frequencies must be .* 1 to 3"),
        (lambda: excluded_logits(logits(), [0]), r"^key_frequencies must be .* 1 to 3"),
        (lambda: cosine_fraction(logits(), [4]), r"^key_frequencies must be .* 1 to 3"),
        (lambda: cosine_coefficients(np.ones((49, 6))), r"^logits must be \(49, 7\)"),
        (lambda: centred(logits(), "classes"), r"^over must be one of none, inputs, both"),
        (lambda: cosine_similarity([1.0], [1.0, 2.0]), r"^first and second must have one shape"),
        (lambda: dominant_frequencies(logits(), fraction=0), r"^fraction must be a number > 0"),
    ],
)
def test_what_cannot_be_is_refused(call, reason):
    with pytest.raises(ValueError, match=reason):
        call()
