"""Where a row's losses and accuracies come from."""

from __future__ import annotations

from typing import Any

from lightning import LightningModule, Trainer
from torch import Tensor

LOGGED = {
    "train_loss": ("train_loss", "train/loss", "loss"),
    "train_acc": ("train_acc", "train/acc", "train_accuracy"),
    "test_loss": ("test_loss", "test/loss", "val_loss", "val/loss"),
    "test_acc": ("test_acc", "test/acc", "val_acc", "val/acc", "val_accuracy"),
}


class LossReader:
    """Losses of one pass, asked from the module or gathered from what it logged.

    A module with ``evaluation_metrics() -> dict[str, float]`` is asked at the first step of the
    pass; ``extra_metrics`` names its entries beyond the four of :data:`LOGGED`. Any other
    module: the mean of the losses that ``training_step`` returned in the pass, and the
    latest logged values of the others.
    """

    def __init__(self, module: LightningModule) -> None:
        self._evaluate = getattr(module, "evaluation_metrics", None)
        self.extra: tuple[str, ...] = tuple(getattr(module, "extra_metrics", ()))

    def start(self) -> None:
        """A pass begins."""
        self._losses: list[Tensor] = []
        self._values: dict[str, float] = self.now()

    def now(self) -> dict[str, float]:
        """The module's own evaluation of its present weights; empty if it has none."""
        return dict(self._evaluate()) if self._evaluate else {}

    def add(self, outputs: Any) -> None:
        """Take the loss of one training step."""
        loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
        if self._evaluate is None and isinstance(loss, Tensor):
            self._losses.append(loss.detach())

    def finish(self, trainer: Trainer) -> dict[str, float]:
        """Losses of the pass."""
        if self._evaluate:
            return self._values
        values = {
            name: float(trainer.callback_metrics[key])
            for name, keys in LOGGED.items()
            for key in keys[::-1]
            if key in trainer.callback_metrics
        }
        if self._losses:
            values["train_loss"] = float(sum(map(float, self._losses)) / len(self._losses))
        return values
