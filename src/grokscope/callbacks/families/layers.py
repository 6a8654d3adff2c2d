"""How alike the layers' representations are, and how they change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from lightning import LightningModule
from torch import Tensor

from grokscope.callbacks.progress_measures import ProgressMeasure
from grokscope.measures.activations import OUTPUT, hidden_layers, representations
from grokscope.measures.cka import linear_cka, rbf_cka
from grokscope.measures.kernels import cka_matrix, participation_ratio
from grokscope.validation import require_bool, require_choice, require_int


class LayerProgress(ProgressMeasure):
    """CKA between layers, CKA of each with its first row, and participation ratios.

    Columns ``cka`` (L, L), ``cka_start`` (L,) and ``participation_ratio`` (L,); the layers' names
    are an attribute. The first row is epoch 0 unless the schedule leaves it out; its
    activations are kept in checkpoints.

    Args:
        schedule: When.
        layers: As in :func:`~grokscope.measures.activations.representations`.
        split: ``test`` or ``train``.
        probe: Samples of it, evenly spaced.
        kernel: ``linear`` or ``rbf`` of the CKA; the latter's width is the median distance.
        debiased: CKA in its debiased form.

    Source:
        Kornblith et al. 2019, arXiv:1905.00414.
    """

    def __init__(
        self,
        schedule: Any = "log 5",
        layers: Sequence[str] | None = None,
        split: str = "test",
        probe: int = 500,
        kernel: str = "linear",
        debiased: bool = False,
    ) -> None:
        super().__init__(schedule)
        self.layers = None if layers is None else tuple(layers)
        self.split = require_choice("split", split, ("train", "test"))
        self.probe = require_int("probe", probe, minimum=4)
        self.kernel = require_choice("kernel", kernel, ("linear", "rbf"))
        self.debiased = require_bool("debiased", debiased)
        self._first: dict[str, Tensor] = {}

    def columns(self, module: LightningModule) -> Mapping[str, tuple[int, ...]]:
        """As the class says."""
        count = len(self._names(module))
        each = {"cka_start": (count,), "participation_ratio": (count,)}
        return {"cka": (count, count), **each}

    def attributes(self, module: LightningModule) -> Mapping[str, Any]:
        """Names of the layers, and where they are measured."""
        names = self._names(module)
        return {"layers": names, "split": self.split, "probe": self.probe}

    def _names(self, module: LightningModule) -> list[str]:
        net = cast(Any, module).net
        return list(self.layers) if self.layers is not None else [*hidden_layers(net), OUTPUT]

    def measure(self, module: LightningModule) -> Mapping[str, Any]:
        """At the present weights."""
        inputs, _ = probe_of(module, self.split, self.probe)
        net = cast(Any, module).net
        found = {n: x.cpu() for n, x in representations(net, inputs, self.layers).items()}
        if not self._first:
            self._first = found
        return {
            "cka": self._between(list(found.values())),
            "cka_start": [self._cka(self._first[name], x) for name, x in found.items()],
            "participation_ratio": [participation_ratio(x) for x in found.values()],
        }

    def _cka(self, first: Tensor, second: Tensor) -> float:
        of = linear_cka if self.kernel == "linear" else rbf_cka
        return of(first, second, debiased=self.debiased)

    def _between(self, layers: Sequence[Tensor]) -> Any:
        """(L, L)."""
        if self.kernel == "linear":
            return cka_matrix(layers, debiased=self.debiased).numpy()
        return [[self._cka(a, b) for b in layers] for a in layers]

    def state(self) -> dict[str, Any]:
        """The activations of the first row."""
        return {"first": self._first}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`state`."""
        self._first = state["first"]


def probe_of(module: LightningModule, split: str, count: int) -> tuple[Tensor, Tensor]:
    """Inputs and targets of so many samples of a split, evenly spaced."""
    own = cast(Any, module)
    samples = (own.test_batch if split == "test" else own.train_batch).split
    rows = torch.linspace(0, len(samples) - 1, min(count, len(samples))).round().long()
    return samples.inputs[rows], samples.targets[rows]
