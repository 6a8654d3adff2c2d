"""Where each parameter lies in the flat gradient vector, and which layer it belongs to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class ParameterSlot:
    """One trainable parameter: ``offset`` and ``shape`` in the flat vector, owning ``layer``."""

    name: str
    layer: str
    offset: int
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of entries."""
        return int(torch.Size(self.shape).numel())

    @property
    def matrix_shape(self) -> tuple[int, int] | None:
        """(o, i) of the weight matrix, further dimensions flattened into i; None for vectors."""
        if len(self.shape) < 2:
            return None
        return self.shape[0], self.size // max(self.shape[0], 1)


@dataclass(frozen=True)
class GradientLayout:
    """The trainable parameters of a module in the order of ``named_parameters()``.

    A layer is a submodule that owns parameters (``attention.query``) or a parameter of the
    root module itself. A first name that all parameters share (``net.``) is left out, unless
    only a number would remain.

    Attributes:
        slots: One entry a parameter, by offset.
        layers: Layer names in order of first appearance.
        matrices: Name -> slot of each parameter with two dimensions or more. The name is the
            layer's where the layer has one such parameter, else the parameter's.
    """

    slots: tuple[ParameterSlot, ...]

    @cached_property
    def size(self) -> int:
        """M: entries of the flat vector."""
        return sum(slot.size for slot in self.slots)

    @cached_property
    def layers(self) -> tuple[str, ...]:  # noqa: D102
        return tuple(dict.fromkeys(slot.layer for slot in self.slots))

    @cached_property
    def owners(self) -> list[int]:
        """For each slot the number of its layer."""
        return [self.layers.index(slot.layer) for slot in self.slots]

    @cached_property
    def matrices(self) -> dict[str, ParameterSlot]:  # noqa: D102
        found = [slot for slot in self.slots if slot.matrix_shape is not None]
        owners = [slot.layer for slot in found]
        return {s.layer if owners.count(s.layer) == 1 else s.name: s for s in found}

    def layer_sizes(self) -> list[int]:
        """Entries of each layer, in the order of ``layers``."""
        return [sum(s.size for s in self.slots if s.layer == layer) for layer in self.layers]

    def describe(self) -> list[dict[str, Any]]:
        """The slots as plain dicts, for a file's attributes."""
        return [asdict(slot) for slot in self.slots]


def gradient_layout(named_parameters: Iterable[tuple[str, nn.Parameter]]) -> GradientLayout:
    """Layout of all parameters that require a gradient.

    Raises:
        ValueError: If there is none.
    """
    named = [(name, p) for name, p in named_parameters if p.requires_grad]
    if not named:
        raise ValueError("the module must have a parameter that requires a gradient, got none.")
    prefix = _shared_prefix([name for name, _ in named])
    slots, offset = [], 0
    for full_name, parameter in named:
        name = full_name.removeprefix(prefix)
        layer = name.rpartition(".")[0] or name
        slots.append(ParameterSlot(name, layer, offset, tuple(parameter.shape)))
        offset += parameter.numel()
    return GradientLayout(tuple(slots))


def _shared_prefix(names: list[str]) -> str:
    """``net.`` if every name begins with it and what remains still names a module."""
    first, *rest = {name.partition(".")[0] for name in names}
    remains = [name.partition(".")[2] for name in names]
    named = all("." in name and not name[0].isdigit() for name in remains)
    return f"{first}." if named and not rest else ""


def gradients_of(parameters: Iterable[nn.Parameter]) -> list[Tensor]:
    """The ``.grad`` of each parameter that requires one; zeros where backward left none."""
    wanted = (p for p in parameters if p.requires_grad)
    return [torch.zeros_like(p) if p.grad is None else p.grad for p in wanted]


def flatten(gradients: list[Tensor]) -> Tensor:
    """One contiguous copy (m,) of the listed tensors, in their order."""
    return torch.cat([g.reshape(-1) for g in gradients])
