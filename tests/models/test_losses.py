from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from grokscope.models.losses import (
    ArgmaxAccuracy,
    CrossEntropy,
    SquaredError,
    ThresholdAccuracy,
    squared_norm,
)


def logits_and_targets(generator: torch.Generator, dtype=torch.float64):
    logits = torch.randn(20, 7, generator=generator, dtype=dtype) * 5
    return logits.requires_grad_(), torch.randint(7, (20,), generator=generator)


def test_float64_cross_entropy_is_torchs_in_value_and_gradient(generator) -> None:
    logits, targets = logits_and_targets(generator)
    weights = torch.rand(20, generator=generator, dtype=torch.float64)
    ours = CrossEntropy()(logits, targets)
    (gradient,) = torch.autograd.grad(ours @ weights, logits)
    expected = F.cross_entropy(logits, targets, reduction="none")
    torch.testing.assert_close(ours, expected, rtol=1e-13, atol=1e-14)
    (reference,) = torch.autograd.grad(expected @ weights, logits)
    torch.testing.assert_close(gradient, reference, rtol=1e-12, atol=1e-15)


def test_its_gradient_passes_the_finite_difference_check(generator) -> None:
    logits, targets = logits_and_targets(generator)
    assert torch.autograd.gradcheck(lambda x: CrossEntropy()(x, targets), (logits,))


def test_it_keeps_a_grokked_networks_tiny_loss_that_float32_rounds_away(generator) -> None:
    logits = torch.zeros(1, 114).index_fill(1, torch.tensor([3]), 25.0)
    target = torch.tensor([3])
    exact = torch.log1p(113 * torch.exp(torch.tensor(-25.0, dtype=torch.float64)))
    assert float(CrossEntropy()(logits, target)) == pytest.approx(float(exact), rel=1e-5)
    assert float(CrossEntropy("outputs")(logits, target)) == 0.0


def test_gradients_come_in_the_logits_precision(generator) -> None:
    logits, targets = logits_and_targets(generator, torch.float32)
    CrossEntropy().mean(logits, targets).backward()
    assert logits.grad is not None
    assert logits.grad.dtype == torch.float32


def test_squared_error_is_the_mean_over_samples_and_outputs(generator) -> None:
    outputs = torch.randn(9, 4, generator=generator)
    classes = torch.randint(4, (9,), generator=generator)
    loss = SquaredError()
    targets = loss.prepare(classes, 4)
    by_hand = sum(
        (float(outputs[i, c]) - (c == int(classes[i]))) ** 2 for i in range(9) for c in range(4)
    )
    assert float(loss.mean(outputs, targets)) == pytest.approx(by_hand / 36, rel=1e-6)
    torch.testing.assert_close(loss(outputs, targets).mean(), loss.mean(outputs, targets))


def test_zero_outputs_on_p_classes_have_loss_one_over_p() -> None:
    loss = SquaredError()
    targets = loss.prepare(torch.arange(10), 10)
    assert float(loss.mean(torch.zeros(10, 10), targets)) == pytest.approx(0.1)


def test_accuracies_say_which_samples_are_right() -> None:
    outputs = torch.tensor([[0.1, 0.9], [0.8, 0.2]])
    assert ArgmaxAccuracy()(outputs, torch.tensor([1, 1])).tolist() == [True, False]
    near = ThresholdAccuracy(0.01)(torch.tensor([[0.0], [0.2]]), torch.zeros(2, 1))
    assert near.tolist() == [True, False]


def test_squared_norm_sums_over_all_parameters() -> None:
    assert float(squared_norm([torch.tensor([3.0]), torch.tensor([[4.0]])])) == 25.0


@pytest.mark.refusal
def test_wrong_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="precision must be one of float64, outputs, got 'half'"):
        CrossEntropy("half")
    with pytest.raises(ValueError, match="threshold must be a number > 0, got 0"):
        ThresholdAccuracy(0)
