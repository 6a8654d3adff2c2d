"""Loss and accuracy of models that predict a token at every position."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from grokscope.models.losses import Accuracy, SoftmaxLoss

IGNORED = -100


class TargetCrossEntropy(SoftmaxLoss):
    """Cross-entropy of the target tokens of a sample, their mean, in nats.

    Outputs (n, t, c) are logits of the next token; targets (n, t) int64 are that token, or
    -100 where none is asked for. With as many targets in every sample, the mean over samples is
    the causal language model's mean over target tokens.
    """

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:  # noqa: D102
        flat = F.cross_entropy(
            self.logits(outputs, targets)[0].flatten(0, 1),
            targets.flatten(),
            ignore_index=IGNORED,
            reduction="none",
        )
        return flat.view(targets.shape).sum(1) / (targets != IGNORED).sum(1)

    def logits(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:  # noqa: D102
        return outputs.float() if outputs.itemsize < 4 else outputs, targets


class TargetsAccuracy(Accuracy):
    """Right if every target token is the largest output at its position.

    Inputs hold the right answer up to each position, so this is an exact match of greedy
    decoding: a sample is right only if the first token is, and then the model's own
    continuation is read after the very tokens that it was given here.
    """

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:  # noqa: D102
        return ((outputs.argmax(-1) == targets) | (targets == IGNORED)).all(1)
