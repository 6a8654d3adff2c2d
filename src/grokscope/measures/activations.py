"""What the layers of a net make of some inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

OUTPUT = "output"


def representations(
    net: nn.Module, inputs: Tensor, layers: Sequence[str] | None = None
) -> dict[str, Tensor]:
    """Activations of a net by layer.

    Args:
        net: In the mode that is meant; nothing of it changes.
        inputs: (n, ...).
        layers: Names of modules, whose outputs are taken. None: what each linear layer but the
            first reads, under the name of that layer, and the net's outputs as ``output``: the
            activations after the nonlinearities.

    Returns:
        Name -> (n, d), in the order of the names; what a sample has beyond one dimension, such as
        positions, is laid side by side. A module that is called several times gives its last.

    Raises:
        ValueError: For a name that is no module's, or of one that takes no part.
    """
    names = list(layers) if layers is not None else hidden_layers(net)
    modules, seen = dict(net.named_modules()), {}
    if unknown := [name for name in names if name not in modules]:
        known = ", ".join(name for name in modules if name)
        raise ValueError(f"layers must be of {known}, got {unknown[0]!r}.")

    def keep(name: str, tensor: Any) -> None:
        seen[name] = tensor.detach()

    handles = [_hook(modules[name], partial(keep, name), layers is None) for name in names]
    try:
        with torch.no_grad():
            outputs = net(inputs)
    finally:
        for handle in handles:
            handle.remove()
    if missing := [name for name in names if name not in seen]:
        raise ValueError(f"layers must take part in the forward pass, got {missing[0]!r}.")
    found = {name: seen[name].flatten(1) for name in names}
    return found if layers is not None else found | {OUTPUT: outputs.flatten(1)}


def hidden_layers(net: nn.Module) -> list[str]:
    """Names of all linear layers but the first; they read what is hidden."""
    return [name for name, module in net.named_modules() if isinstance(module, nn.Linear)][1:]


def _hook(module: nn.Module, keep: Callable[[Any], None], reads: bool) -> Any:
    if reads:
        return module.register_forward_pre_hook(lambda _, arguments: keep(arguments[0]))
    return module.register_forward_hook(lambda _, arguments, result: keep(result))
