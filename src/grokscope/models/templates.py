"""Right or wrong where the targets are fixed vectors, one for each answer."""

from __future__ import annotations

import torch
from torch import Tensor

from grokscope.data.toy_groups import templates
from grokscope.models.losses import Accuracy


class NearestTemplateAccuracy(Accuracy):
    """Right if the answer whose template is nearest in L2 is the target's.

    Args:
        task: As in :class:`~grokscope.data.ToyGroupDataModule`, whose templates it takes; so
            are the others.
        size: Symbols or items.
        target_dim: Length of a template.
        seed: Of the templates.

    Source:
        Liu et al. 2022, arXiv:2205.10343; ejmichaud/grokking-squared:toy/train_add.py.
    """

    def __init__(self, task: str, size: int, target_dim: int = 30, seed: int = 0) -> None:
        self.templates = templates(task, size, target_dim, seed)

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:  # noqa: D102
        table = self.templates.to(outputs)
        return self._nearest(outputs, table) == self._nearest(targets, table)

    def _nearest(self, values: Tensor, table: Tensor) -> Tensor:
        return torch.argmin((values[:, None] - table).square().sum(dim=2), dim=1)
