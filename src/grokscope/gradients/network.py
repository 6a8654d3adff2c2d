"""A net, its loss and its samples: how they are evaluated, and what it takes back afterwards."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from grokscope.gradients.layout import GradientLayout, gradient_layout
from grokscope.validation import require_choice

Loss = Callable[[Any, Tensor], Tensor]
Values = Callable[[Any, Tensor | None], Tensor]
Inputs = Tensor | Sequence[Tensor]
MODES = ("eval", "train", "as_is")


@dataclass(frozen=True)
class Samples:
    """Inputs and targets of n samples.

    Attributes:
        inputs: One tensor for each argument of the net, samples along the first dimension.
        targets: (n, ...), or None where the outputs themselves are differentiated.
    """

    inputs: tuple[Tensor, ...]
    targets: Tensor | None

    def __len__(self) -> int:
        return len(self.inputs[0])

    def take(self, rows: slice | list[int]) -> Samples:
        """A copy of some of them: nobody else changes it."""
        inputs = tuple(x[rows].detach().clone() for x in self.inputs)
        return Samples(inputs, None if self.targets is None else self.targets[rows].clone())


class Network:
    """A module, what is differentiated of its outputs, and the parameters that it depends on.

    Args:
        module: Any module that treats samples separately.
        values: (outputs, targets) -> (n, h), the h numbers of a sample that are differentiated:
            one loss, or several outputs.
        mode: ``eval``, ``train`` or ``as_is``.

    Raises:
        ValueError: If a module mixes samples by its very kind, or no parameter is trainable.
    """

    def __init__(self, module: nn.Module, values: Values, mode: str = "eval") -> None:
        require_choice("mode", mode, MODES)
        self.module = _plain(module)
        self.values, self.mode = values, mode
        self.layout: GradientLayout = gradient_layout(self.module.named_parameters())
        named = [(n, p) for n, p in self.module.named_parameters() if p.requires_grad]
        self.names, self.parameters = [n for n, _ in named], [p for _, p in named]
        with self.evaluated():
            _refuse_batch_norm(self.module)

    @property
    def eps(self) -> float:
        """Rounding of its coarsest parameter."""
        return max(torch.finfo(p.dtype).eps for p in self.parameters)

    def __call__(self, samples: Samples) -> Tensor:
        """(n, h) values of some samples, with a graph."""
        return self.values(self.module(*samples.inputs), samples.targets)

    @contextmanager
    def evaluated(self) -> Iterator[None]:
        """The module in the chosen mode, gradients on, autocast off; everything is put back."""
        modes = [(module, module.training) for module in self.module.modules()]
        saved = _saved(self.module)
        devices = [p.device for p in self.parameters if p.device.type == "cuda"]
        try:
            if self.mode != "as_is":
                self.module.train(self.mode == "train")
            with (
                torch.random.fork_rng(sorted(set(devices), key=str)),
                eager(),
                torch.inference_mode(False),
                torch.enable_grad(),
                torch.autocast(self.parameters[0].device.type, enabled=False),
            ):
                yield
        finally:
            for module, training in modes:
                module.training = training
            for each in saved:
                each.restore()


def eager() -> AbstractContextManager[object]:
    """Compiled modules pass over hooks, and may free what the second backward pass needs."""
    loaded = "torch._dynamo" in sys.modules
    return torch.compiler.set_stance("force_eager") if loaded else nullcontext()


def _plain(module: nn.Module) -> nn.Module:
    """The module inside the wrappers of ``torch.compile`` and of distributed training."""
    while isinstance(inner := getattr(module, "_orig_mod", None), nn.Module) or (
        isinstance(module, nn.parallel.DistributedDataParallel)
        and isinstance(inner := module.module, nn.Module)
    ):
        module = inner
    return module


def samples_of(inputs: Inputs, targets: Tensor | None) -> Samples:
    """Inputs and targets together.

    Raises:
        ValueError: If their lengths differ or there is none.
    """
    several = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    counts = {len(x) for x in several} | ({len(targets)} if targets is not None else set())
    if len(counts) != 1:
        raise ValueError(
            "inputs and targets must hold the same number of samples, got "
            f"{[len(x) for x in several]} and {len(targets) if targets is not None else '-'}."
        )
    if 0 in counts:
        raise ValueError("inputs must hold at least one sample, got none.")
    return Samples(several, targets)


@dataclass(frozen=True)
class Saved:
    """A tensor that a forward pass may change, in place or by another."""

    owner: dict[str, Any]
    name: str
    tensor: Tensor
    version: int
    values: Tensor

    def restore(self) -> None:
        """Put it back, with its values."""
        self.owner[self.name] = self.tensor
        if self.tensor._version != self.version:
            with torch.no_grad():
                self.tensor.copy_(self.values)


def _saved(module: nn.Module) -> list[Saved]:
    """Buffers, and tables that are renormalised when they are read."""
    places: list[tuple[dict[str, Any], str]] = [
        (part._buffers, name) for part in module.modules() for name in part._buffers
    ]
    places += [(part._parameters, "weight") for part in module.modules() if renormalises(part)]
    return [
        Saved(owner, name, tensor, tensor._version, tensor.detach().clone())
        for owner, name in places
        if (tensor := owner[name]) is not None and not tensor.is_inference()
    ]


def renormalises(module: nn.Module) -> bool:
    """Whether a forward pass changes the module's weight."""
    return getattr(module, "max_norm", None) is not None


def _refuse_batch_norm(module: nn.Module) -> None:
    for name, part in module.named_modules():
        statistics = isinstance(part, nn.modules.batchnorm._BatchNorm)
        if statistics and (part.training or part.running_mean is None):
            raise ValueError(
                f"net must treat samples separately, but '{name}' ({type(part).__name__}) "
                "normalises over the batch: use mode='eval' and running statistics."
            )
