"""Loss and accuracy of answers of several tokens, read at fixed positions."""

from __future__ import annotations

from torch import Tensor

from grokscope.models.losses import Accuracy, CrossEntropy, SoftmaxLoss
from grokscope.validation import require_choice

WHICH = ("all", "answer")


def _asked(which: str, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Logits and targets of the positions that count."""
    if outputs.shape[:-1] != targets.shape:
        raise ValueError(
            f"n_answers must be the number of target tokens, got logits "
            f"{tuple(outputs.shape)} for targets {tuple(targets.shape)}."
        )
    return (outputs[:, :-1], targets[:, :-1]) if which == "answer" else (outputs, targets)


class AnswerCrossEntropy(SoftmaxLoss):
    """Mean cross-entropy of the target tokens of a sample, in nats.

    Outputs (n, k, c) logits, targets (n, k) int64. The mean over samples is the mean over all
    tokens, as ``F.cross_entropy`` of the (n, c, k) logits takes it.

    Args:
        which: ``all`` tokens, or the ``answer`` without the end of sentence, the last one.
        precision: Of the log-softmax; see :class:`~grokscope.models.losses.CrossEntropy`.
            ``outputs``, float32, is the released code's; slingshots need it.

    Source:
        openai/grok:grok/training.py, ``_step``: mean over the answer and the end of sentence.
        The end is learnt within a few steps, so this is half the loss of the answer alone.
    """

    def __init__(self, which: str = "all", precision: str = "outputs") -> None:
        self.which = require_choice("which", which, WHICH)
        self._each = CrossEntropy(precision)

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:  # noqa: D102
        outputs, targets = _asked(self.which, outputs, targets)
        each = self._each(outputs.flatten(0, 1), targets.flatten())
        return each.view(targets.shape).mean(1)

    def mean(self, outputs: Tensor, targets: Tensor) -> Tensor:  # noqa: D102
        outputs, targets = _asked(self.which, outputs, targets)
        return self._each.mean(outputs.flatten(0, 1), targets.flatten())

    def logits(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:  # noqa: D102
        return self._each.logits(*_asked(self.which, outputs, targets))


class AnswerAccuracy(Accuracy):
    """Right if the largest logit is the target at every position that counts.

    Args:
        which: As for :class:`AnswerCrossEntropy`.

    Source:
        openai/grok:grok/training.py, ``_accuracy``: a row is right only if both tokens are.
    """

    def __init__(self, which: str = "all") -> None:
        self.which = require_choice("which", which, WHICH)

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:  # noqa: D102
        outputs, targets = _asked(self.which, outputs, targets)
        return (outputs.argmax(-1) == targets).all(1)
