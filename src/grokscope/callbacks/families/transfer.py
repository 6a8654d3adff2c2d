"""How far what a net has learned reaches on another distribution."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from lightning import LightningModule
from torch import Tensor, nn

from grokscope.callbacks.progress_measures import ProgressMeasure
from grokscope.measures.linear_probe import probe_accuracy
from grokscope.validation import require_float, require_int


class Transfer(ProgressMeasure):
    """Accuracies on a further split whose classes are the net's first ones.

    Columns: ``readout_acc``, of the largest of all outputs; ``classes_acc``, of the largest among
    the outputs of the split's classes; ``probe_acc``, of a ridge regression on what the last
    linear layer reads, fitted to the first half of the split and tested on the other.

    Args:
        split: Its name; one of ``model.extra_splits``.
        n_classes: Classes of the split.
        ridge: Of the probe (:func:`~grokscope.measures.linear_probe.ridge_probe`).
        schedule: When.
    """

    def __init__(
        self,
        split: str = "mnist",
        n_classes: int = 10,
        ridge: float = 1e-3,
        schedule: Any = "log 10",
    ) -> None:
        super().__init__(schedule)
        self.split = split
        self.n_classes = require_int("n_classes", n_classes)
        self.ridge = require_float("ridge", ridge, above=0.0)

    def columns(self, module: LightningModule) -> Mapping[str, tuple[int, ...]]:
        """As the class says."""
        known = getattr(module, "extra_splits", ())
        if self.split not in known:
            raise ValueError(
                f"split must be one of model.extra_splits ({', '.join(known) or 'none'}), "
                f"got {self.split!r}."
            )
        return dict.fromkeys(("readout_acc", "classes_acc", "probe_acc"), ())

    def measure(self, module: LightningModule) -> Mapping[str, Any]:
        """At the present weights."""
        own = cast(Any, module)
        samples = own.extra_batches[self.split].split
        outputs, features = outputs_and_features(own.net, samples.inputs)
        labels = samples.targets
        return {
            "readout_acc": _share(outputs.argmax(1) == labels),
            "classes_acc": _share(outputs[:, : self.n_classes].argmax(1) == labels),
            "probe_acc": probe_accuracy(features, labels, len(labels) // 2, self.ridge),
        }


@torch.no_grad()
def outputs_and_features(net: nn.Module, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Outputs (n, c), and what the last linear layer reads, (n, d)."""
    last = [module for module in net.modules() if isinstance(module, nn.Linear)][-1]
    seen: list[Tensor] = []
    handle = last.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    try:
        outputs = net(inputs)
    finally:
        handle.remove()
    return outputs, seen[-1].flatten(1)


def _share(right: Tensor) -> float:
    return float(right.double().mean())
