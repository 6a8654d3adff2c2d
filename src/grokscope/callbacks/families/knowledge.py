"""What a transformer holds of facts that it composes (Wang et al. 2024)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from lightning import LightningModule

from grokscope.callbacks.progress_measures import ProgressMeasure
from grokscope.measures.tracing import causal_strength, lens_reciprocal_rank
from grokscope.validation import require_int

SPLIT = "train_inferred"


class LogitLens(ProgressMeasure):
    """Mean reciprocal rank of a token at each layer, by the net's own unembedding.

    One column (layers + 1,) a name, from the embedding to the last layer: 1 where the token
    is read off at the first rank in all samples. Samples are the first of
    ``data.extra["train_inferred"]``, which are in random order.

    Args:
        schedule: When.
        names: Of ``data.lens``: ``bridge`` (the entity b, at r1) and ``relation`` (r2, at r2)
            of compositions, ``value_1`` and ``value_2`` (at their entities) of comparisons.
        samples: How many; 300 in Wang et al.
    """

    def __init__(
        self,
        schedule: Any = "log 10",
        names: Sequence[str] = ("bridge", "relation"),
        samples: int = 300,
    ) -> None:
        super().__init__(schedule)
        self.names, self.samples = tuple(names), require_int("samples", samples)

    def columns(self, module: LightningModule) -> Mapping[str, tuple[int, ...]]:
        """As the class says."""
        return dict.fromkeys(self.names, (_depth(module),))

    def measure(self, module: LightningModule) -> Mapping[str, Any]:
        """At the present weights."""
        lens = _known(module, "lens", self.names)
        net: Any = module.net
        inputs = _inputs(module)[: self.samples]
        with torch.no_grad():
            return {
                name: lens_reciprocal_rank(
                    net, inputs, lens[name][0], lens[name][1][: self.samples].to(module.device)
                ).tolist()
                for name in self.names
            }


class CausalTracing(ProgressMeasure):
    """Share of samples whose answer changes with one state, by layer: causal strength.

    One column (layers + 1,) a name: the state at the position of that token comes from a run
    in which the token is another of its kind (``data.perturbed``). Samples are the first 300 of
    ``data.extra["train_inferred"]``. A row costs about half as many runs of these samples as
    there are layers, for each name.

    Args:
        schedule: When.
        names: Of ``data.perturbed``: ``head``, ``relation_1`` and ``relation_2`` of
            compositions; ``attribute``, ``entity_1`` and ``entity_2`` of comparisons.
    """

    def __init__(
        self,
        schedule: Any = "log 5",
        names: Sequence[str] = ("head", "relation_1", "relation_2"),
    ) -> None:
        super().__init__(schedule)
        self.names = tuple(names)

    def columns(self, module: LightningModule) -> Mapping[str, tuple[int, ...]]:
        """As the class says."""
        return dict.fromkeys(self.names, (_depth(module),))

    def measure(self, module: LightningModule) -> Mapping[str, Any]:
        """At the present weights."""
        perturbed = _known(module, "perturbed", self.names)
        data = _data(module)
        net: Any = module.net
        found = {}
        with torch.no_grad():
            for name in self.names:
                position, others = perturbed[name]
                inputs = _inputs(module)[: len(others)]
                found[name] = causal_strength(
                    net, inputs, others.to(module.device), position, data.answer_position
                ).tolist()
        return found


def _depth(module: LightningModule) -> int:
    net: Any = module.net
    return len(net.layers) + 1


def _data(module: LightningModule) -> Any:
    data: Any = module.data
    return data


def _inputs(module: LightningModule) -> torch.Tensor:
    inputs: torch.Tensor = _data(module).extra[SPLIT].inputs.to(module.device)
    return inputs


def _known(module: LightningModule, kind: str, names: Sequence[str]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = getattr(_data(module), kind, {})
    if missing := [name for name in names if name not in found]:
        known = ", ".join(found) or "none"
        raise ValueError(f"names must be of {known} for this task, got {missing[0]!r}.")
    return found
