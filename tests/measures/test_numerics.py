"""Softmax collapse, sums of logit gradients, and gradients along the weights."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from grokscope.measures.numerics import naive_loss_minimisation, softmax_numerics


def gap(distance, dtype, n_classes=3):
    """Logits of one sample whose first class leads all others by so much, and the gradient."""
    z = torch.full((1, n_classes), -distance, dtype=dtype)
    z[0, 0] = 0
    return z


def gradient_of(z, y):
    z = z.detach().requires_grad_()
    return torch.autograd.grad(F.cross_entropy(z, y), z)[0]


def measured(z, y):
    y = torch.as_tensor(y)
    return softmax_numerics(z, y, gradient_of(z, y))


@pytest.mark.parametrize(("dtype", "bits"), [(torch.float32, 24), (torch.float64, 53)])
def test_terms_below_half_a_unit_of_the_last_place_are_absorbed(dtype, bits):
    edge = bits * math.log(2)  # e^-edge is half the distance from 1 to the next float
    z = torch.cat([gap(edge + 1, dtype, 2), gap(edge - 1, dtype, 2)])
    found = measured(z, [0, 0])
    assert (found.absorbed, found.collapsed) == (0.5, 0.5)
    assert F.cross_entropy(z, torch.tensor([0, 0]), reduction="none")[0] == 0


def test_many_small_terms_together_are_not_absorbed():
    distance = 25 * math.log(2)  # each is absorbed alone; a thousand are not
    assert measured(gap(distance, torch.float32, 2), [0]).absorbed == 1
    assert measured(gap(distance, torch.float32, 1001), [0]).absorbed == 0


def test_a_wrong_answer_is_absorbed_but_not_collapsed():
    found = measured(gap(30.0, torch.float32), [1])
    assert (found.absorbed, found.collapsed) == (1, 0)


def test_logit_gradients_sum_to_zero_up_to_rounding_and_not_at_all_after_collapse():
    rng = torch.Generator().manual_seed(0)
    z = torch.randn(50, 7, generator=rng)
    y = torch.randint(7, (50,), generator=rng)
    assert measured(z, y).zero_sum < 1e-7
    assert measured(z.double(), y).zero_sum < 1e-15
    assert measured(gap(20.0, torch.float32), [0]).zero_sum == 1  # the right logit's is gone
    assert measured(gap(20.0, torch.float64), [0]).zero_sum < 1e-7
    assert math.isnan(measured(gap(200.0, torch.float32), [0]).zero_sum)  # all underflow


def test_negative_targets_do_not_count():
    z = torch.cat([gap(30.0, torch.float32), gap(0.0, torch.float32)])
    g = torch.ones_like(z)
    y = torch.tensor([0, -100])
    assert softmax_numerics(z, y, g) == softmax_numerics(z[:1], y[:1], g[:1])
    assert math.isnan(softmax_numerics(z, torch.tensor([-1, -1]), g).absorbed)


def test_the_gradient_of_a_scaled_loss_points_along_the_weights():
    rng = torch.Generator().manual_seed(0)
    weights = [torch.randn(3, 4, generator=rng), torch.randn(5, generator=rng)]
    assert naive_loss_minimisation([-2 * w for w in weights], weights) == pytest.approx(1)
    assert naive_loss_minimisation(weights, weights) == pytest.approx(-1)
    other = [torch.randn(w.shape, generator=rng) for w in weights]
    g, t = (np.concatenate([w.numpy().ravel() for w in each]) for each in (other, weights))
    expected = -g @ t / np.linalg.norm(g) / np.linalg.norm(t)
    assert naive_loss_minimisation(other, weights) == pytest.approx(expected, rel=1e-6)


def test_a_net_that_is_right_everywhere_drifts_along_its_weights():
    X = torch.eye(3, dtype=torch.float64)
    W = (10 * torch.eye(3, dtype=torch.float64) - 5).requires_grad_()
    gradient = torch.autograd.grad(F.cross_entropy(X @ W, torch.arange(3)), W)
    assert naive_loss_minimisation(gradient, [W]) > 0.9


@pytest.mark.refusal
def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"for targets \(3,\), got \(2, 4\)"):
        softmax_numerics(torch.zeros(2, 4), torch.zeros(3, dtype=torch.int64), torch.zeros(2, 4))
    with pytest.raises(ValueError, match=r"weights' shapes \[\(3,\)\], got \[\(2,\)\]"):
        naive_loss_minimisation([torch.zeros(2)], [torch.zeros(3)])
