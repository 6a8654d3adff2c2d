"""Restricted, excluded and ablated losses: by definition, of nets known by hand, far below 1."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from grokscope.measures.fourier import (
    ablated_loss,
    ablated_scores,
    addition_scores,
    excluded_logits,
    excluded_loss,
    restricted_logits,
    restricted_loss,
)

P = 7
SUMS = torch.tensor([(a + b) % P for a in range(P) for b in range(P)])
TRAIN = np.random.default_rng(9).random(P * P) < 0.4


def logits(seed=0):
    return 3 * np.random.default_rng(seed).standard_normal((P * P, P))


def perfect(amplitudes):
    """Sum of A_k cos(w_k (s - c))."""
    differences = (SUMS[:, None] - torch.arange(P)).double()
    return sum(a * torch.cos(2 * math.pi * k / P * differences) for k, a in amplitudes.items())


def cross_entropy(L, mask=slice(None)):
    return F.cross_entropy(torch.as_tensor(L)[mask], SUMS[mask]).item()


def test_losses_and_hits_are_those_of_torch():
    L = logits()
    scores = addition_scores(L)
    expected = F.cross_entropy(torch.tensor(L), SUMS, reduction="none")
    torch.testing.assert_close(scores.losses, expected, rtol=1e-12, atol=1e-14)
    assert torch.equal(scores.hits, torch.tensor(L).argmax(1) == SUMS)
    assert addition_scores(L, TRAIN).loss.item() == pytest.approx(cross_entropy(L, TRAIN))
    assert addition_scores(L, TRAIN).accuracy == scores.hits[TRAIN].double().mean()
    torch.testing.assert_close(scores.of(torch.tensor(TRAIN)).losses, scores.losses[TRAIN])


def test_further_classes_count_as_wrong_answers():
    L = np.concatenate([logits(), np.full((P * P, 1), 2.0)], axis=1)
    assert addition_scores(L).loss.item() == pytest.approx(cross_entropy(L))


@pytest.mark.parametrize("margin", [5.0, 50.0, 300.0])
def test_losses_are_right_far_below_rounding_and_for_huge_logits(margin):
    L = margin * F.one_hot(SUMS, P).double() + 7000
    right, wrong = addition_scores(L), addition_scores(-1000 * L)
    np.testing.assert_allclose(right.losses, math.log1p(6 * math.exp(-margin)), rtol=1e-10)
    np.testing.assert_allclose(wrong.losses, 1000 * margin + math.log(6), rtol=1e-12)
    assert right.hits.all()
    assert not wrong.hits.any()


def test_a_tie_is_a_miss_and_no_inputs_have_no_mean():
    flat = np.zeros((P * P, P))
    assert addition_scores(flat).accuracy == 0
    assert addition_scores(flat).loss.item() == pytest.approx(math.log(P))
    assert addition_scores(flat, np.zeros(P * P, bool)).loss.isnan()


def test_restricted_and_excluded_loss_are_losses_of_those_logits():
    L = logits()
    for bias in (True, False):
        kept = restricted_logits(L, [1, 3], bias_correction=bias)
        assert restricted_loss(L, [1, 3], bias_correction=bias) == pytest.approx(
            cross_entropy(kept)
        )
        assert restricted_loss(L, [1, 3], TRAIN, bias_correction=bias) == pytest.approx(
            cross_entropy(kept, TRAIN)
        )
    for directions in ("2d", "3d"):
        rest = excluded_logits(L, [1, 3], directions=directions)
        assert excluded_loss(L, [1, 3], TRAIN, directions=directions) == pytest.approx(
            cross_entropy(rest, TRAIN)
        )


@pytest.mark.parametrize("directions", ["2d", "3d"])
@pytest.mark.parametrize("mask", [None, TRAIN, ~TRAIN])
def test_ablating_one_by_one_is_excluding_each_alone(directions, mask):
    L, rows = logits(), np.ones(P * P, bool) if mask is None else mask
    each = [excluded_loss(L, [k], rows, directions=directions) for k in (1, 2, 3)]
    np.testing.assert_allclose(ablated_loss(L, mask, directions=directions), each, rtol=1e-12)
    hits = ablated_scores(L, mask, directions=directions).hits
    for k in (1, 2, 3):
        rest = excluded_logits(L, [k], directions=directions)
        assert torch.equal(hits[k - 1], (rest.argmax(1) == SUMS)[rows])


def test_a_net_of_two_frequencies_is_nothing_but_these():
    L = perfect({1: 30.0, 3: 20.0}) + torch.arange(P)
    assert restricted_loss(L, [1, 3]) == pytest.approx(cross_entropy(L), rel=1e-9)
    assert restricted_loss(L, [1]) == pytest.approx(
        cross_entropy(perfect({1: 30.0}) + torch.arange(P))
    )
    bare = L - torch.arange(P)
    for directions in ("2d", "3d"):
        assert excluded_loss(bare, [1, 3], TRAIN, directions=directions) == pytest.approx(
            math.log(P), rel=1e-12
        )
    unused = ablated_loss(L)[1].item()
    assert unused == pytest.approx(cross_entropy(L), rel=1e-9)
    assert (ablated_loss(L)[[0, 2]] > 2 * unused).all()


def test_many_frequencies_restore_answers_that_were_only_memorised():
    """Half of each sum's pairs know the answer: their mean does for all, few waves do not."""
    L = np.where(TRAIN[:, None], 40.0 * F.one_hot(SUMS, P).numpy(), 0.0)
    assert addition_scores(L, ~TRAIN).loss.item() == pytest.approx(math.log(P))
    assert restricted_loss(L, [1, 2, 3]) < 0.1
    assert addition_scores(restricted_logits(L, [1, 2, 3])).accuracy == 1
    assert restricted_loss(L, [2]) > restricted_loss(L, [1, 2, 3])


def test_single_precision_and_tensors_are_taken_too():
    L = logits().astype(np.float32)
    expected = excluded_loss(L.astype(float), [2], TRAIN)
    assert excluded_loss(L, [2], TRAIN) == expected
    assert excluded_loss(torch.tensor(L), [2], torch.tensor(TRAIN)) == expected
    given = torch.tensor(logits())
    before = given.clone()
    ablated_loss(given, TRAIN)
    assert torch.equal(given, before)


@pytest.mark.refusal
@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (
            lambda: addition_scores(np.ones((49, 6))),
            r"^logits must have at least 7 columns, got 6",
        ),
        (lambda: addition_scores(np.ones(49)), r"^logits must be \(p\^2, n\)"),
        (
            lambda: addition_scores(logits(), TRAIN[:5]),
            r"^mask must be \(49,\) of bool, got \(5,\)",
        ),
        (lambda: ablated_loss(logits(), TRAIN.astype(int)), r"^mask must be .* of torch.int64"),
        (lambda: ablated_loss(logits(), directions="x"), r"^directions must be one of 2d, 3d"),
        (lambda: restricted_loss(logits(), [4]), r"^key_frequencies must be .* 1 to 3, got \[4\]"),
        (lambda: excluded_loss(logits(), [-1], TRAIN), r"^key_frequencies must be .* got \[-1\]"),
        (lambda: excluded_loss(np.ones((49, 8)), [1], TRAIN), r"^logits must be \(49, 7\)"),
    ],
)
def test_what_cannot_be_is_refused(call, reason):
    with pytest.raises(ValueError, match=reason):
        call()
