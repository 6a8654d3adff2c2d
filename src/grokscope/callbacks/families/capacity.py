"""Manifold capacity of the layers, classes as manifolds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from lightning import LightningModule
from torch import Tensor

from grokscope.callbacks.progress_measures import ProgressMeasure
from grokscope.measures.activations import OUTPUT, hidden_layers, representations
from grokscope.measures.capacity import (
    MeanFieldCapacity,
    WarmStart,
    class_manifolds,
    mean_field_capacity,
)
from grokscope.measures.center_correlations import CommonSubspace
from grokscope.validation import require_bool, require_choice, require_int

COLUMNS = (
    "capacity",
    "radius",
    "dimension",
    "center_correlation",
    "n_components",
    "standard_error",
)


class CapacityProgress(ProgressMeasure):
    """Mean-field capacity, radius and dimension of each layer's class manifolds.

    Columns of one number a layer, (L,): ``capacity``, ``radius``, ``dimension``,
    ``center_correlation``, ``n_components`` (dimensions removed) and ``standard_error``
    (:func:`~grokscope.measures.capacity.mean_field_capacity`); names of the layers are an
    attribute. NaN for a layer that cannot be measured, such as one with a class at zero, and for
    a task whose targets are not one class a sample. All rows have the same samples and probes, and
    start from the row before.

    Args:
        schedule: When.
        layers: As in :func:`~grokscope.measures.activations.representations`.
        split: ``test`` or ``train``.
        n_classes: The first so many classes; None takes all.
        n_points: Samples of a class, the first so many; all, where it has fewer.
        n_probes: Of each manifold.
        remove_correlations: Whether what centers have in common is projected out.
        n_components: Dimensions to project out; None chooses at each row.
        seed: Of probes and starts.

    Source:
        Chung, Lee, Sompolinsky 2018, PRX 8:031003; Cohen et al. 2020, Nat. Commun. 11:746.
    """

    def __init__(
        self,
        schedule: Any = "log 5",
        layers: Sequence[str] | None = None,
        split: str = "test",
        n_classes: int | None = None,
        n_points: int = 50,
        n_probes: int = 200,
        remove_correlations: bool = True,
        n_components: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(schedule)
        self.layers = None if layers is None else tuple(layers)
        self.split = require_choice("split", split, ("train", "test"))
        for name, value in (("n_classes", n_classes), ("n_components", n_components)):
            if value is not None:
                require_int(name, value, minimum=2 if name == "n_classes" else 1)
        self.n_classes = n_classes
        self.n_points = require_int("n_points", n_points)
        self._settings: dict[str, Any] = {
            "n_probes": require_int("n_probes", n_probes),
            "remove_correlations": require_bool("remove_correlations", remove_correlations),
            "n_components": n_components,
            "seed": require_int("seed", seed, minimum=0),
        }
        self._warm: dict[str, WarmStart] = {}

    def columns(self, module: LightningModule) -> Mapping[str, tuple[int, ...]]:
        """As the class says."""
        return dict.fromkeys(COLUMNS, (len(self._names(module)),))

    def attributes(self, module: LightningModule) -> Mapping[str, Any]:
        """Names of the layers, and where they are measured."""
        return {"layers": self._names(module), "split": self.split, "n_points": self.n_points}

    def _names(self, module: LightningModule) -> list[str]:
        net = cast(Any, module).net
        return list(self.layers) if self.layers is not None else [*hidden_layers(net), OUTPUT]

    def measure(self, module: LightningModule) -> Mapping[str, Any]:
        """At the present weights."""
        own = cast(Any, module)
        samples = (own.test_batch if self.split == "test" else own.train_batch).split
        if samples.targets.ndim != 1 or samples.targets.is_floating_point():
            return dict.fromkeys(COLUMNS, [np.nan] * len(self._names(module)))
        rows, labels = self._chosen(samples.targets)
        activations = representations(own.net, samples.inputs[rows], self.layers)
        found = [self._of_layer(name, x.cpu(), labels) for name, x in activations.items()]
        return {c: [getattr(one, c, np.nan) for one in found] for c in COLUMNS}

    def _chosen(self, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Rows of the samples that count, and their classes."""
        classes = targets.unique()[: self.n_classes]
        each = [torch.nonzero(targets == c)[: self.n_points, 0] for c in classes]
        rows = torch.cat(each)
        return rows, targets[rows].cpu()

    def _of_layer(self, name: str, x: Tensor, labels: Tensor) -> MeanFieldCapacity | None:
        warm = self._warm.setdefault(name, WarmStart())
        try:
            return mean_field_capacity(class_manifolds(x, labels), warm=warm, **self._settings)
        except (ValueError, ArithmeticError):  # a class at zero, or all of them in one place
            self._warm.pop(name)
            return None

    def state(self) -> dict[str, Any]:
        """The common subspaces of the row before, from which the next search begins."""
        known = {name: warm.subspace for name, warm in self._warm.items()}
        return {name: _plain(subspace) for name, subspace in known.items() if subspace}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`state`."""
        self._warm = {name: WarmStart(_subspace(plain)) for name, plain in state.items()}


def _plain(subspace: CommonSubspace) -> dict[str, Any]:
    return {
        "correlations": torch.from_numpy(subspace.correlations),
        "bases": [torch.from_numpy(np.ascontiguousarray(b)) for b in subspace.bases],
        "stabilities": [float(s) for s in subspace.stabilities],
        "n_components": int(subspace.n_components),
    }


def _subspace(plain: dict[str, Any]) -> CommonSubspace:
    return CommonSubspace(
        plain["correlations"].numpy(),
        tuple(basis.numpy() for basis in plain["bases"]),
        tuple(plain["stabilities"]),
        plain["n_components"],
    )
