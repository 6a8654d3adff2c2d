"""Pruning scores against closed forms, masks against the released rule."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from grokscope.measures.pruning import (
    fourier_entropy,
    global_masks,
    grasp_scores,
    jaccard_distance,
    magnitude_scores,
    random_scores,
    snip_scores,
    synflow_scores,
)


def problem():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Linear(4, 5, bias=False), nn.Tanh(), nn.Linear(5, 3, bias=False)
    ).double()
    x, y = torch.randn(9, 4).double(), torch.randn(9, 3).double()
    return net, x, lambda out: F.mse_loss(out, y), dict(net.named_parameters())


def released_rule(scores, kept):
    flat = torch.cat([s.flatten() for s in scores.values()])
    k = int((1.0 - kept) * flat.numel())
    threshold, _ = torch.kthvalue(flat, k)
    return {n: torch.where(s <= threshold, 0.0, 1.0).to(s) for n, s in scores.items()}


@pytest.mark.parametrize("kept", [0.5, 0.25, 0.75])
def test_masks_are_those_of_the_released_rule(kept):
    scores = magnitude_scores(problem()[3])
    ours, theirs = global_masks(scores, 1 - kept), released_rule(scores, kept)
    assert all(torch.equal(ours[n], theirs[n]) for n in scores)
    n_zero = sum(int((m == 0).sum()) for m in ours.values())
    assert n_zero == int((1 - kept) * 35)


def test_pruning_is_global_not_by_matrix():
    masks = global_masks({"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([[3.0, 4.0]])}, 0.5)
    assert masks["a"].tolist() == [0, 0]
    assert masks["b"].tolist() == [[1, 1]]
    whole = global_masks({"a": torch.tensor([0.0, 2.0])}, 0.0)
    assert whole["a"].tolist() == [1, 1]


def test_snip_is_the_gradient_by_the_mask():
    net, x, loss, weights = problem()
    masks = {n: torch.ones_like(p, requires_grad=True) for n, p in weights.items()}
    made = {n: p.detach() * masks[n] for n, p in weights.items()}
    value = loss(torch.func.functional_call(net, made, (x,)))
    expected = torch.autograd.grad(value, list(masks.values()))
    found = snip_scores(net, x, loss, weights)
    for ours, theirs in zip(found.values(), expected, strict=True):
        torch.testing.assert_close(ours, theirs.abs())
    assert all(p.grad is None for p in net.parameters())


def test_grasp_is_theta_times_hessian_times_gradient():
    net, x, loss, weights = problem()
    flat = torch.cat([p.detach().flatten() for p in weights.values()])
    sizes, shapes = [p.numel() for p in weights.values()], [p.shape for p in weights.values()]

    def value(vector):
        parts = [v.view(s) for v, s in zip(vector.split(sizes), shapes, strict=True)]
        return loss(
            torch.func.functional_call(net, dict(zip(weights, parts, strict=True)), (x,)) / 2.0
        )

    hessian = torch.autograd.functional.hessian(value, flat)
    gradient = torch.autograd.functional.jacobian(value, flat)
    found = grasp_scores(net, x, loss, weights, temperature=2.0)
    ours = torch.cat([score.flatten() for score in found.values()])
    torch.testing.assert_close(ours, flat * (hessian @ gradient))


def test_grasp_keeps_what_carries_the_gradient_flow():
    """For a small change of theta_i to (1 - d) theta_i, |g|^2 changes by -2 d score_i."""
    net, x, loss, weights = problem()
    score = grasp_scores(net, x, loss, weights, temperature=1.0)["0.weight"]

    def flow():
        gradients = torch.autograd.grad(loss(net(x)), list(net.parameters()))
        return sum(float(g.square().sum()) for g in gradients)

    before, d = flow(), 1e-6
    with torch.no_grad():
        weights["0.weight"][1, 2] *= 1 - d
    assert (flow() - before) / d == pytest.approx(-2 * float(score[1, 2]), rel=1e-3)


def test_synflow_of_a_linear_chain_is_the_sum_over_its_paths():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Linear(4, 5, bias=False), nn.ReLU(), nn.Linear(5, 3, bias=False)
    ).double()
    first, second = (p.detach().abs() for p in net.parameters())
    found = synflow_scores(net, torch.ones(1, 4).double(), dict(net.named_parameters()))
    torch.testing.assert_close(found["0.weight"], first * second.sum(0)[:, None])
    torch.testing.assert_close(found["2.weight"], second * first.sum(1)[None])
    total = (second @ first).sum()
    for score in found.values():  # conservation: the flow through each layer is the whole
        torch.testing.assert_close(score.sum(), total)


def test_random_scores_depend_on_the_generator_alone():
    weights = problem()[3]
    a, b = (random_scores(weights, torch.Generator().manual_seed(1)) for _ in range(2))
    assert all(torch.equal(a[n], b[n]) for n in weights)


def test_jaccard_distance_by_hand():
    a, b = torch.tensor([1, 1, 0, 0]), torch.tensor([1, 0, 1, 0])
    assert jaccard_distance(a, b) == pytest.approx(1 - 1 / 3)
    assert jaccard_distance(a, a) == 0.0
    assert jaccard_distance(a, 1 - a) == 1.0
    assert jaccard_distance(0 * a, 0 * a) == 0.0


def test_fourier_entropy_of_cosines_spikes_and_nothing():
    p = 67
    t = torch.arange(p)
    cosine = torch.cos(2 * math.pi * 5 * t / p + 0.3)
    spike = F.one_hot(torch.tensor(4), p).float()
    weight = torch.stack([cosine, spike, torch.ones(p), torch.zeros(p)], 1)
    expected = torch.tensor([math.log(2), math.log(p), 0.0, 0.0], dtype=torch.float64)
    torch.testing.assert_close(fourier_entropy(weight), expected, rtol=1e-5, atol=1e-4)


@pytest.mark.refusal
@pytest.mark.parametrize("pruned", [-0.1, 1.0, math.nan, "0.5"])
def test_a_share_out_of_range_is_refused(pruned):
    with pytest.raises(ValueError, match="pruned must be a number >= 0 and < 1"):
        global_masks({"a": torch.ones(3)}, pruned)


@pytest.mark.refusal
def test_other_mistakes_are_refused():
    with pytest.raises(ValueError, match="scores must be of at least one parameter"):
        global_masks({}, 0.5)
    with pytest.raises(ValueError, match=r"weight must be \(tokens, neurons\)"):
        fourier_entropy(torch.ones(3))
