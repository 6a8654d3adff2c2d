"""Local complexity and adversarial accuracy (Humayun, Balestriero, Baraniuk 2024)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from lightning import LightningModule
from torch import Tensor

from grokscope.callbacks.progress_measures import ProgressMeasure
from grokscope.measures.adversarial import adversarial_accuracy
from grokscope.measures.local_complexity import local_complexity, preactivations
from grokscope.validation import require_choice, require_float, require_int

SETS = ("train", "test", "random")


class LocalComplexities(ProgressMeasure):
    """Mean local complexity around training, test and random points.

    Columns: for each set ``<set>``, the mean number of units that cut a point's neighbourhood,
    summed over layers; ``<set>_99``, half its 99 % interval over points; ``<set>_layers``
    (layers,), means by layer. Attributes: ``layers`` and ``units``. The points, the directions and
    hence all rows depend on ``seed`` only; random points are uniform between ``low`` and ``high``.

    Args:
        schedule: When.
        radius: r. Published: 0.005; 1e-4 for ResNets on Imagenette.
        n_directions: P.
        n_points: Points of each set, at most those there are. Published: 1,000 and more.
        low: Least value of an input.
        high: Largest.
        sets: Some of ``train``, ``test`` and ``random``.
        chunk_size: Points at once.
        seed: Of private generators.
    """

    def __init__(
        self,
        schedule: Any = "log 10",
        radius: float = 0.005,
        n_directions: int = 25,
        n_points: int = 1000,
        low: float = 0.0,
        high: float = 1.0,
        sets: Sequence[str] = SETS,
        chunk_size: int = 64,
        seed: int = 0,
    ) -> None:
        super().__init__(schedule)
        self.radius = require_float("radius", radius, above=0)
        self.n_directions = require_int("n_directions", n_directions)
        self.n_points = require_int("n_points", n_points)
        self.low, self.high = require_float("low", low), require_float("high", high, above=low)
        self.sets = tuple(require_choice("sets", name, SETS) for name in sets)
        self.chunk_size = require_int("chunk_size", chunk_size)
        self.seed = require_int("seed", seed, minimum=0)

    def columns(self, module: LightningModule) -> Mapping[str, tuple[int, ...]]:
        """As the class says."""
        n_layers = len(preactivations(_net(module)))
        found: dict[str, tuple[int, ...]] = {}
        for name in self.sets:
            found |= {name: (), f"{name}_99": (), f"{name}_layers": (n_layers,)}
        return found

    def attributes(self, module: LightningModule) -> Mapping[str, Any]:
        """Names of the layers, and the settings that a reader must know."""
        names = list(preactivations(_net(module)))
        return {"layers": names, "radius": self.radius, "n_directions": self.n_directions}

    def measure(self, module: LightningModule) -> Mapping[str, Any]:
        """At the present weights."""
        found: dict[str, Any] = {}
        for name in self.sets:
            result = local_complexity(
                _net(module),
                self._points(module, name),
                radius=self.radius,
                n_directions=self.n_directions,
                seed=self.seed,
                chunk_size=self.chunk_size,
            )
            found |= {name: result.mean, f"{name}_99": result.half_width}
            found[f"{name}_layers"] = result.layer_means.numpy()
        return found

    def _points(self, module: Any, name: str) -> Tensor:
        if name != "random":
            return chosen(getattr(module, f"{name}_batch").split.inputs, self.n_points, self.seed)
        like = module.train_batch.split.inputs
        generator = torch.Generator().manual_seed(self.seed + 1)
        shape = self.n_points, *like.shape[1:]
        uniform = torch.rand(shape, dtype=torch.float64, generator=generator)
        return (self.low + (self.high - self.low) * uniform).to(like)


class AdversarialAccuracy(ProgressMeasure):
    """Accuracy of test samples under projected gradient descent, for each ε.

    Column ``accuracy`` (ε's), ``epsilons`` among the attributes, and ``clean``, the accuracy of
    the same samples unchanged. Samples and random starts depend on ``seed`` only.

    Args:
        schedule: When.
        epsilons: Largest changes of an entry, in units of the inputs.
        alpha: Step. Published: 4 / 255.
        steps: Published: 10; the paper says 100 for MNIST.
        n_samples: Test samples, at most those there are.
        low: Least value of an input.
        high: Largest.
        chunk_size: Samples at once.
        seed: Of private generators.
    """

    def __init__(
        self,
        schedule: Any = "log 10",
        epsilons: Sequence[float] = (0.03, 0.06, 0.10, 0.13, 0.16, 0.20),
        alpha: float = 4 / 255,
        steps: int = 10,
        n_samples: int = 1000,
        low: float = 0.0,
        high: float = 1.0,
        chunk_size: int = 1000,
        seed: int = 0,
    ) -> None:
        super().__init__(schedule)
        self.epsilons = [require_float("epsilons", e, minimum=0) for e in epsilons]
        if not self.epsilons:
            raise ValueError("epsilons must hold at least one number, got none.")
        self.alpha = require_float("alpha", alpha, above=0)
        self.steps, self.n_samples = (
            require_int("steps", steps),
            require_int("n_samples", n_samples),
        )
        self.clip = require_float("low", low), require_float("high", high, above=low)
        self.chunk_size = require_int("chunk_size", chunk_size)
        self.seed = require_int("seed", seed, minimum=0)

    def columns(self, module: LightningModule) -> Mapping[str, tuple[int, ...]]:
        """As the class says."""
        return {"accuracy": (len(self.epsilons),), "clean": ()}

    def attributes(self, module: LightningModule) -> Mapping[str, Any]:
        """The ε's."""
        return {"epsilons": self.epsilons, "alpha": self.alpha, "steps": self.steps}

    def measure(self, module: LightningModule) -> Mapping[str, Any]:
        """At the present weights."""
        split = _test_split(module)
        inputs = chosen(split.inputs, self.n_samples, self.seed)
        targets = chosen(split.targets, self.n_samples, self.seed)
        net = _net(module)
        with torch.no_grad():
            parts = [net(part).argmax(1) for part in inputs.split(self.chunk_size)]
        clean = float((torch.cat(parts) == targets).double().mean())
        found = [
            adversarial_accuracy(
                net,
                inputs,
                targets,
                chunk_size=self.chunk_size,
                epsilon=epsilon,
                alpha=self.alpha,
                steps=self.steps,
                clip=self.clip,
                generator=torch.Generator().manual_seed(self.seed),
            )
            for epsilon in self.epsilons
        ]
        return {"accuracy": found, "clean": clean}


def chosen(samples: Tensor, count: int, seed: int) -> Tensor:
    """At most ``count`` random rows, the same for the same seed and number of rows."""
    if len(samples) <= count:
        return samples
    rows = torch.randperm(len(samples), generator=torch.Generator().manual_seed(seed))[:count]
    return samples[rows.sort().values.to(samples.device)]


def _net(module: Any) -> Any:
    return module.net


def _test_split(module: Any) -> Any:
    return module.test_batch.split
