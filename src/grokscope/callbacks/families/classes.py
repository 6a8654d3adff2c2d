"""Which classes are right, and by how much."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from lightning import LightningModule
from torch import nn

from grokscope.callbacks.progress_measures import ProgressMeasure
from grokscope.measures.classes import confusion_matrix, margins_by_class
from grokscope.validation import require_choice, require_int


class ClassProgress(ProgressMeasure):
    """Confusion matrix and logit margins by class of a split.

    Columns ``confusion`` (c, c), rows are true classes; ``margin`` (c,) and ``smallest_margin``
    (c,), mean and minimum over a class's samples of the right output minus the largest other, NaN
    for a class without samples; ``mean_margin`` over all samples
    (:mod:`grokscope.measures.classes`).

    Args:
        schedule: When.
        split: ``test`` or ``train``.
        classes: c; default: the outputs of the net's last linear layer.
    """

    def __init__(
        self, schedule: Any = "log 5", split: str = "test", classes: int | None = None
    ) -> None:
        super().__init__(schedule)
        self.split = require_choice("split", split, ("train", "test"))
        self.classes = None if classes is None else require_int("classes", classes, minimum=2)

    def columns(self, module: LightningModule) -> Mapping[str, tuple[int, ...]]:
        """As the class says."""
        c = self.classes or _outputs(module)
        return {"confusion": (c, c), "margin": (c,), "smallest_margin": (c,), "mean_margin": ()}

    def attributes(self, module: LightningModule) -> Mapping[str, Any]:
        """Of which split."""
        return {"split": self.split}

    def measure(self, module: LightningModule) -> Mapping[str, Any]:
        """At the present weights."""
        own = cast(Any, module)
        split = (own.test_batch if self.split == "test" else own.train_batch).split
        with torch.no_grad():
            outputs = own.net(split.inputs)
        counts = confusion_matrix(outputs, split.targets)
        margin, smallest = margins_by_class(outputs, split.targets)
        samples = counts.sum(1).double()
        return {
            "confusion": counts.cpu().numpy(),
            "margin": margin.cpu().numpy(),
            "smallest_margin": smallest.cpu().numpy(),
            "mean_margin": float((margin * samples).nansum() / samples.sum()),
        }


def _outputs(module: LightningModule) -> int:
    layers = [m for m in cast(Any, module).net.modules() if isinstance(m, nn.Linear)]
    if not layers:
        name = type(cast(Any, module).net).__name__
        raise ValueError(f"classes must be given for a net without linear layers, got {name}.")
    return layers[-1].out_features
