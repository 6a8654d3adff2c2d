"""The samples at which a network is looked at, and how its loss is computed there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from lightning import LightningModule
from torch import Tensor, nn

from grokscope.validation import require_int

DEFAULT_SIZE = 1_000
Inputs = Tensor | tuple[Tensor, ...]


@dataclass(frozen=True)
class Probe:
    """Samples, and the loss of each of them.

    Attributes:
        inputs: (n, ...), or a tuple of such, one for each argument of the net.
        targets: (n, ...), in the form that ``loss`` takes.
        loss: (outputs, targets) -> (n,), one value a sample.
        net: Name of the submodule that maps inputs to outputs; empty for the module itself.
    """

    inputs: Inputs
    targets: Tensor
    loss: Callable[[Any, Tensor], Tensor]
    net: str = ""

    def __len__(self) -> int:
        return len(self.targets)

    def network(self, module: nn.Module) -> nn.Module:
        """The module that maps inputs to outputs."""
        return module.get_submodule(self.net)

    def take(self, rows: Tensor) -> Probe:
        """Some of the samples."""
        parts = (self.inputs,) if isinstance(self.inputs, Tensor) else self.inputs
        chosen = tuple(part[rows.to(part.device)] for part in parts)
        inputs = chosen[0] if isinstance(self.inputs, Tensor) else chosen
        return replace(self, inputs=inputs, targets=self.targets[rows.to(self.targets.device)])

    def to(self, device: torch.device) -> Probe:
        """On another device."""
        parts = (self.inputs,) if isinstance(self.inputs, Tensor) else self.inputs
        moved = tuple(part.to(device) for part in parts)
        inputs = moved[0] if isinstance(self.inputs, Tensor) else moved
        return replace(self, inputs=inputs, targets=self.targets.to(device))


Given = Probe | tuple[Inputs, Tensor] | int | None


def require_probe(given: Any) -> Given:
    """Refuse what cannot be a probe, before anything is made.

    Raises:
        ValueError: Naming what is allowed.
    """
    pair = isinstance(given, tuple) and len(given) == 2 and isinstance(given[1], Tensor)
    if given is None or pair or isinstance(given, Probe):
        return given
    return require_int("probe", given)


def require_source(module: LightningModule, given: Given) -> None:
    """Refuse a module without the attributes that the probe needs.

    Raises:
        ValueError: Naming what is missing.
    """
    if not isinstance(given, Probe):
        needed = ("loss",) if isinstance(given, tuple) else ("training_samples", "loss")
        for name in needed:
            _attribute(module, name)


def find_probe(
    module: LightningModule, given: Probe | tuple[Inputs, Tensor] | int | None
) -> Probe:
    """The probe that was given, with what it lacks from the module's documented attributes.

    A module may have ``training_samples() -> (inputs, targets)``, ``loss(outputs, targets) ->
    (n,)`` and ``net``; :class:`grokscope.models.GrokkingModule` has all three.

    Args:
        module: What is trained.
        given: A whole probe; inputs and targets, for the module's loss; or a number of training
            samples, evenly spaced (None: 1,000).

    Raises:
        ValueError: If something is missing, or is not what it should be.
    """
    if isinstance(given, Probe):
        return given.to(module.device)
    if isinstance(given, tuple):
        inputs, targets = given
        probe = Probe(inputs, targets, _attribute(module, "loss"), _net(module))
        return probe.to(module.device)
    count = require_int("probe", DEFAULT_SIZE if given is None else given)
    inputs, targets = _attribute(module, "training_samples")()
    probe = Probe(inputs, targets, _attribute(module, "loss"), _net(module))
    rows = torch.linspace(0, len(probe) - 1, min(count, len(probe))).round().long()
    return probe.take(rows).to(module.device)


def _net(module: LightningModule) -> str:
    return "net" if isinstance(getattr(module, "net", None), nn.Module) else ""


def _attribute(module: LightningModule, name: str) -> Any:
    found = getattr(module, name, None)
    if not callable(found):
        raise ValueError(
            f"probe must be a grokscope.callbacks.Probe(inputs, targets, loss) for a "
            f"{type(module).__name__}, which has no '{name}': kinds 'sample' and 'input' need "
            "samples and their loss."
        )
    return found
