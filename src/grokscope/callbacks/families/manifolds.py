"""Classes as manifolds in the layers' activations: what all capacities are measured from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, ClassVar, cast

import numpy as np
import torch
from lightning import LightningModule
from numpy.typing import NDArray
from torch import Tensor

from grokscope.callbacks.progress_measures import ProgressMeasure
from grokscope.measures.activations import OUTPUT, hidden_layers, representations
from grokscope.measures.capacity import class_manifolds, glue_capacity, simulated_capacity
from grokscope.measures.glue import DICHOTOMIES, GlueCapacity
from grokscope.validation import require_choice, require_int

Manifolds = list[NDArray[np.float64]]


class ManifoldProgress(ProgressMeasure):
    """Numbers of each layer's class manifolds, one column (L,) each.

    Names of the layers are an attribute. NaN for a layer that cannot be measured, such as one
    with all classes in one place, and for a task whose targets are not one class a sample.

    Args:
        schedule: When.
        layers: As in :func:`~grokscope.measures.activations.representations`.
        split: ``test`` or ``train``.
        n_classes: The first so many classes; None takes all.
        n_points: Samples of a class, the first so many; all, where it has fewer.
    """

    names: ClassVar[tuple[str, ...]]

    def __init__(
        self,
        schedule: Any = "log 5",
        layers: Sequence[str] | None = None,
        split: str = "test",
        n_classes: int | None = None,
        n_points: int = 50,
    ) -> None:
        super().__init__(schedule)
        self.layers = None if layers is None else tuple(layers)
        self.split = require_choice("split", split, ("train", "test"))
        if n_classes is not None:
            require_int("n_classes", n_classes, minimum=2)
        self.n_classes = n_classes
        self.n_points = require_int("n_points", n_points)

    def of_manifolds(self, layer: str, manifolds: Manifolds) -> object:
        """An object with the columns as attributes.

        Raises:
            ValueError: Or ``ArithmeticError``, if these manifolds have no such numbers.
        """
        raise NotImplementedError

    def columns(self, module: LightningModule) -> Mapping[str, tuple[int, ...]]:
        """As the class says."""
        return dict.fromkeys(self.names, (len(self._layers(module)),))

    def attributes(self, module: LightningModule) -> Mapping[str, Any]:
        """Names of the layers, and where they are measured."""
        return {"layers": self._layers(module), "split": self.split, "n_points": self.n_points}

    def _layers(self, module: LightningModule) -> list[str]:
        net = cast(Any, module).net
        return list(self.layers) if self.layers is not None else [*hidden_layers(net), OUTPUT]

    def measure(self, module: LightningModule) -> Mapping[str, Any]:
        """At the present weights."""
        own = cast(Any, module)
        samples = (own.test_batch if self.split == "test" else own.train_batch).split
        if samples.targets.ndim != 1 or samples.targets.is_floating_point():
            return dict.fromkeys(self.names, [np.nan] * len(self._layers(module)))
        rows, labels = self._chosen(samples.targets)
        activations = representations(own.net, samples.inputs[rows], self.layers)
        found = [self._of_layer(name, x.cpu(), labels) for name, x in activations.items()]
        return {name: [getattr(one, name, np.nan) for one in found] for name in self.names}

    def _chosen(self, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Rows of the samples that count, and their classes."""
        classes = targets.unique()[: self.n_classes]
        rows = torch.cat([torch.nonzero(targets == c)[: self.n_points, 0] for c in classes])
        return rows, targets[rows].cpu()

    def _of_layer(self, name: str, x: Tensor, labels: Tensor) -> object:
        try:
            return self.of_manifolds(name, class_manifolds(x, labels))
        except (ValueError, ArithmeticError):  # a class at zero, or all of them in one place
            return None


class GlueProgress(ManifoldProgress):
    """GLUE capacity and effective geometry of each layer's class manifolds.

    Columns: the attributes of :class:`~grokscope.measures.glue.GlueCapacity`, ``alpha``,
    ``D_eff``, ``R_eff``, ``Psi_eff`` and the alignments among them. All rows have the same probes
    and dichotomies.

    Args:
        schedule: When; the other settings of the samples are those of :class:`ManifoldProgress`.
        n_probes: Of :func:`~grokscope.measures.glue.glue_capacity`.
        dichotomies: Of the same.
        seed: Of probes and dichotomies.
        **samples: Arguments of :class:`ManifoldProgress`.

    Source:
        Chou et al., arXiv:2503.18114v2.
    """

    names = tuple(field.name for field in fields(GlueCapacity))

    def __init__(
        self,
        schedule: Any = "log 5",
        n_probes: int = 200,
        dichotomies: str = "one_vs_rest",
        seed: int = 0,
        **samples: Any,
    ) -> None:
        super().__init__(schedule, **samples)
        self._settings: dict[str, Any] = {
            "n_probes": require_int("n_probes", n_probes),
            "dichotomies": require_choice("dichotomies", dichotomies, DICHOTOMIES),
            "seed": require_int("seed", seed, minimum=0),
        }

    def of_manifolds(self, layer: str, manifolds: Manifolds) -> GlueCapacity:
        """All columns."""
        return glue_capacity(manifolds, **self._settings)


class SimulatedCapacityProgress(ManifoldProgress):
    """Simulated capacity of each layer's class manifolds: ``alpha_sim`` and ``N_critical``.

    Args:
        schedule: When.
        n_repeats: Of :func:`~grokscope.measures.simulated_capacity.simulated_capacity`.
        seed: Of projections and labels, the same at all rows.
        **samples: Arguments of :class:`ManifoldProgress`.

    Source:
        Chung, Lee, Sompolinsky 2018, PRX 8:031003.
    """

    names = ("alpha_sim", "N_critical")

    def __init__(
        self, schedule: Any = "log 2", n_repeats: int = 20, seed: int = 0, **samples: Any
    ) -> None:
        super().__init__(schedule, **samples)
        self.n_repeats = require_int("n_repeats", n_repeats)
        self.seed = require_int("seed", seed, minimum=0)

    def of_manifolds(self, layer: str, manifolds: Manifolds) -> object:
        """Both columns."""
        return simulated_capacity(manifolds, n_repeats=self.n_repeats, seed=self.seed)
