"""Yes or no from one logit."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from grokscope.models.losses import Accuracy, Loss


class BinaryCrossEntropy(Loss):
    """Cross-entropy in nats of one logit (n, 1) and targets 0.0 or 1.0, (n, 1).

    The same as torch's ``BCELoss`` of the sigmoid, which cuts logarithms off at -100.
    """

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:  # noqa: D102
        return F.binary_cross_entropy_with_logits(outputs, targets, reduction="none").mean(dim=1)


class BinaryAccuracy(Accuracy):
    """Right if the logit is positive and the target 1, or neither."""

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:  # noqa: D102
        return ((outputs > 0) == (targets > 0.5)).all(dim=1)
