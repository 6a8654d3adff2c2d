"""Where the weights are and how far they have come."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning import LightningModule
from torch import Tensor

from grokscope.callbacks.progress_measures import ProgressMeasure
from grokscope.measures.weights import weight_movement


class WeightMovement(ProgressMeasure):
    """Norm of each trained parameter, and distance and cosine from the first row.

    Columns ``norms``, ``distances``, ``cosines``, one number a parameter in the order of the
    attribute ``parameters``, and ``norm``, ``distance``, ``cosine`` of all together. The first
    row holds the initial weights unless the schedule leaves out epoch 0; they are kept in
    checkpoints.
    """

    def __init__(self, schedule: Any = "log 20") -> None:
        super().__init__(schedule)
        self._initial: dict[str, Tensor] = {}

    def columns(self, module: LightningModule) -> Mapping[str, tuple[int, ...]]:
        """As the class says."""
        each = (len(_trained(module)),)
        return {
            **dict.fromkeys(("norms", "distances", "cosines"), each),
            **dict.fromkeys(("norm", "distance", "cosine"), ()),
        }

    def attributes(self, module: LightningModule) -> Mapping[str, Any]:
        """The parameters' names."""
        return {"parameters": list(_trained(module))}

    def measure(self, module: LightningModule) -> Mapping[str, Any]:
        """At the present weights."""
        weights = _trained(module)
        if not self._initial:
            self._initial = {name: weight.clone() for name, weight in weights.items()}
        found = weight_movement(weights, self._initial)
        columns = {"norm": found.norm, "distance": found.distance, "cosine": found.cosine}
        arrays = {name: values.cpu().numpy() for name, values in columns.items()}
        return {
            **{f"{name}s": values[:-1] for name, values in arrays.items()},
            **{name: values[-1] for name, values in arrays.items()},
        }

    def state(self) -> dict[str, Any]:
        """The weights of the first row."""
        return {"initial": self._initial}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`state`."""
        self._initial = state["initial"]


def _trained(module: LightningModule) -> dict[str, Tensor]:
    return {name: p.detach() for name, p in module.named_parameters() if p.requires_grad}
