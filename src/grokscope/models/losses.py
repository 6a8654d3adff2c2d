"""Per-sample losses and accuracies."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from grokscope.validation import require_choice, require_float


class Loss:
    """Maps outputs (n, c) and targets to one value a sample, shape (n,)."""

    def prepare(self, targets: Tensor, outputs: int) -> Tensor:
        """Targets in the form that the loss takes, made once for a split."""
        return targets

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Loss of each sample (n,)."""
        raise NotImplementedError

    def mean(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean over the samples, as cheaply as it comes."""
        return self(outputs, targets).mean()


class SoftmaxLoss(Loss):
    """One that takes a softmax over the last dimension of its outputs."""

    def logits(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Those that count, (..., c), in the float type of the softmax, and their classes (...).

        Classes below zero are not asked for.
        """
        return outputs, targets


class CrossEntropy(SoftmaxLoss):
    """Cross-entropy of class targets (n,), in nats.

    Args:
        precision: Of the log-softmax. ``float64`` as in the notebook of Nanda et al. 2023: in
            float32 the loss of a network that has grokked is rounding noise, which causes
            spikes in training. ``outputs`` keeps the dtype of the logits.
    """

    def __init__(self, precision: str = "float64") -> None:
        self.precision = require_choice("precision", precision, ("float64", "outputs"))

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:  # noqa: D102
        return F.cross_entropy(*self.logits(outputs, targets), reduction="none")

    def logits(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:  # noqa: D102
        return outputs.double() if self.precision == "float64" else outputs, targets

    def mean(self, outputs: Tensor, targets: Tensor) -> Tensor:  # noqa: D102
        if self.precision == "float64":
            return cast(Tensor, _CrossEntropy64.apply(outputs, targets)).mean()
        return F.cross_entropy(outputs, targets)


class _CrossEntropy64(Function):
    """``F.cross_entropy(logits.double())`` with one float64 array instead of three."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor) -> Tensor:
        column = targets[:, None]
        shifted = logits.to(torch.float64, copy=True)
        shifted -= shifted.amax(1, keepdim=True)
        at_target = shifted.gather(1, column)
        exponentials = shifted.exp_()
        total = exponentials.sum(1, keepdim=True)
        ctx.save_for_backward(exponentials, total, column)
        ctx.dtype = logits.dtype
        return (total.log() - at_target).squeeze(1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        exponentials, total, column = ctx.saved_tensors
        grad = grad[:, None]
        gradient = exponentials * (grad / total)
        gradient.scatter_add_(1, column, -grad)
        return gradient.to(ctx.dtype), None


class SquaredError(Loss):
    """Squared error, the mean over the c outputs; class targets stand for one-hot rows.

    The mean over samples is then torch's ``MSELoss``. A predictor of zeros on p classes has
    loss 1/p.
    """

    def prepare(self, targets: Tensor, outputs: int) -> Tensor:  # noqa: D102
        return targets if targets.is_floating_point() else F.one_hot(targets, outputs).float()

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:  # noqa: D102
        return (outputs - targets).square().mean(dim=1)

    def mean(self, outputs: Tensor, targets: Tensor) -> Tensor:  # noqa: D102
        return F.mse_loss(outputs, targets)


class Accuracy:
    """Maps outputs (n, c) and the split's targets to right or wrong, shape (n,) bool."""

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Whether each sample is right."""
        raise NotImplementedError


class ArgmaxAccuracy(Accuracy):
    """Right if the largest output is the target class."""

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:  # noqa: D102
        return outputs.argmax(dim=1) == targets


class ThresholdAccuracy(Accuracy):
    """Right if the squared error, the mean over outputs, is below ``threshold``.

    Levi et al. 2023 (arXiv 2310.16441): eps = 1e-3. Only a threshold on the loss: another
    value moves the time of generalisation.
    """

    def __init__(self, threshold: float = 1e-3) -> None:
        self.threshold = require_float("threshold", threshold, above=0.0)

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:  # noqa: D102
        return (outputs - targets).square().mean(dim=1) < self.threshold


def squared_norm(parameters: list[Tensor]) -> Tensor:
    """Sum of the squares of all entries."""
    return torch.stack([p.square().sum() for p in parameters]).sum()
