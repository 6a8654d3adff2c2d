"""Nets on one-hot modular arithmetic: how periodic their hidden units are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from lightning import LightningModule
from torch import nn

from grokscope.arithmetic import powers_of_a_primitive_root
from grokscope.callbacks.progress_measures import ProgressMeasure
from grokscope.measures.fourier import neuron_periodicity
from grokscope.validation import require_choice


class InverseParticipation(ProgressMeasure):
    """Inverse participation ratio of each hidden unit of a two-layer net, and their mean.

    Columns ``units`` (h,) and ``mean``; units without weights are NaN and not in the mean. See
    :func:`grokscope.measures.fourier.neuron_periodicity`.

    Args:
        schedule: When.
        operation: ``add``, or ``multiply`` for a net that multiplies: its weights are periodic
            in the discrete logarithm.
    """

    def __init__(self, schedule: Any = "log 20", operation: str = "add") -> None:
        super().__init__(schedule)
        self.operation = require_choice("operation", operation, ("add", "multiply"))

    def columns(self, module: LightningModule) -> Mapping[str, tuple[int, ...]]:
        """One number a hidden unit, and the mean."""
        return {"units": (two_layers(module)[0].out_features,), "mean": ()}

    def measure(self, module: LightningModule) -> Mapping[str, Any]:
        """At the present weights."""
        first, last = two_layers(module)
        multiply = self.operation == "multiply"
        order = powers_of_a_primitive_root(last.out_features) if multiply else None
        with torch.no_grad():
            units = neuron_periodicity(first.weight, last.weight, order=order).cpu()
        return {"units": units.numpy(), "mean": float(units.nanmean())}


def two_layers(module: LightningModule) -> tuple[nn.Linear, nn.Linear]:
    """First and last layer of a net that has just these.

    Raises:
        ValueError: For another net.
    """
    layers: Any = getattr(cast(Any, module).net, "layers", ())
    if len(layers) != 2 or not all(isinstance(layer, nn.Linear) for layer in layers):
        raise ValueError(
            "progress measures of hidden units need a net with two linear layers, "
            f"got {type(cast(Any, module).net).__name__}."
        )
    return layers[0], layers[1]
