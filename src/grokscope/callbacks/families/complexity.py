"""How complex a fully connected net is while it trains."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from lightning import LightningModule
from torch import Tensor, nn
from torch.func import functional_call

from grokscope.callbacks.families.modular import two_layers
from grokscope.callbacks.progress_measures import ProgressMeasure
from grokscope.measures.complexity import (
    absolute_weight_entropy,
    activation_sparsity,
    linf_norm,
    local_circuit_complexity,
    similarity,
)
from grokscope.validation import require_choice


class Complexity(ProgressMeasure):
    """The three measures of Golechha 2024, and the norm, of a net of linear layers.

    Columns: ``activation_sparsity`` of each hidden layer (layers - 1,), on training inputs;
    ``weight_entropy`` of each weight matrix (layers,); ``local_circuit_complexity`` on test
    inputs, a sum over them; ``l2_norm`` of all parameters.

    Args:
        schedule: When.
        threshold: Activations below it count as zero.
        weights: Which weight matrices the circuits are cut in: ``all`` or the ``first``.
        fraction: Share of their entries that is cut.
        mask: ``exact`` or ``bernoulli``.
        seed: Of the entries that are cut.

    Source:
        Golechha 2024, arXiv:2405.12755; :mod:`grokscope.measures.complexity` has the formulas.
    """

    def __init__(
        self,
        schedule: Any = "log 20",
        threshold: float = 0.1,
        weights: str = "all",
        fraction: float = 0.1,
        mask: str = "exact",
        seed: int = 0,
    ) -> None:
        super().__init__(schedule)
        self.threshold, self.fraction, self.mask, self.seed = threshold, fraction, mask, seed
        self.weights = require_choice("weights", weights, ("all", "first"))

    def columns(self, module: LightningModule) -> Mapping[str, tuple[int, ...]]:
        """As the class says."""
        n = len(_layers(module))
        return {
            "activation_sparsity": (n - 1,),
            "weight_entropy": (n,),
            "local_circuit_complexity": (),
            "l2_norm": (),
        }

    def measure(self, module: LightningModule) -> Mapping[str, Any]:
        """At the present weights."""
        net, layers = cast(Any, module).net, list(_layers(module).values())
        inputs, test = _inputs(module)
        with torch.no_grad():
            sparsity = [
                activation_sparsity(a, threshold=self.threshold)
                for a in _hidden(net, layers, inputs)
            ]
            norm = sum(p.double().square().sum() for p in net.parameters())
            return {
                "activation_sparsity": [float(s) for s in sparsity],
                "weight_entropy": [float(absolute_weight_entropy(f.weight)) for f in layers],
                "local_circuit_complexity": float(self._cut(module, test)),
                "l2_norm": float(norm) ** 0.5,
            }

    def _cut(self, module: LightningModule, inputs: Tensor) -> Tensor:
        layers = _layers(module)
        names = [f"{name}.weight" for name in layers][: None if self.weights == "all" else 1]
        net = cast(Any, module).net

        def forward(weights: list[Tensor]) -> Tensor:
            return cast(
                Tensor, functional_call(net, dict(zip(names, weights, strict=True)), inputs)
            )

        own = dict(net.named_parameters())
        return local_circuit_complexity(
            forward,
            [own[name] for name in names],
            fraction=self.fraction,
            mask=self.mask,
            seed=self.seed,
        )


class ModuloAdditionComplexity(Complexity):
    """Those, and what is invariant in a two-layer ReLU net on one-hot pairs.

    Columns ``linf_norm``, ``similarity`` (between inputs of the same sum) and
    ``similarity_of_units`` (as the published code computes it).

    Source:
        JackCorner/BEP-Grokking-Public; :mod:`grokscope.measures.complexity` has the formulas.
    """

    def columns(self, module: LightningModule) -> Mapping[str, tuple[int, ...]]:
        """As the class says."""
        two_layers(module)
        more = ("linf_norm", "similarity", "similarity_of_units")
        return {**super().columns(module), **{name: () for name in more}}

    def measure(self, module: LightningModule) -> Mapping[str, Any]:
        """At the present weights."""
        first, last = two_layers(module)
        with torch.no_grad():
            more = {
                "linf_norm": linf_norm(first.weight, last.weight, first.bias),
                "similarity": similarity(first.weight, first.bias),
                "similarity_of_units": similarity(first.weight, first.bias, between="units"),
            }
        return {**super().measure(module), **{name: float(v) for name, v in more.items()}}


def _inputs(module: LightningModule) -> tuple[Tensor, Tensor]:
    """Those of the training and of the test split."""
    batches = cast(Any, module)
    return batches.train_batch.split.inputs, batches.test_batch.split.inputs


def _layers(module: LightningModule) -> dict[str, nn.Linear]:
    """Name -> linear layer, in their order.

    Raises:
        ValueError: For a net with fewer than two.
    """
    net = cast(Any, module).net
    found = {n: m for n, m in net.named_modules() if isinstance(m, nn.Linear)}
    if len(found) < 2:
        raise ValueError(
            "progress measures of complexity need a net with at least two linear layers, "
            f"got {type(net).__name__}."
        )
    return found


def _hidden(net: nn.Module, layers: list[nn.Linear], inputs: Tensor) -> list[Tensor]:
    """What every layer but the first takes in: the activations."""
    seen: list[Tensor] = []
    hooks = [
        layer.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
        for layer in layers[1:]
    ]
    try:
        net(inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return seen
