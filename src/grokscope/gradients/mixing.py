"""Which module lets samples see each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from grokscope.gradients.network import Network, Samples
from grokscope.gradients.sites import SampleDim
from grokscope.gradients.trace import tensors


def mixer(network: Network, samples: Samples, alone: Sequence[Samples]) -> str:
    """The first module whose output for a sample depends on the others, in words."""
    among = _outputs(network, samples)
    for k, sample in enumerate(alone):
        for name, single in _outputs(network, sample).items():
            parts = _parts(among.get(name, single), single, k, len(samples))
            if parts and not any(close(single, part, part, network.eps) for part in parts):
                kind = type(network.module.get_submodule(name)).__name__
                return f"'{name}' ({kind}) mixes them"
    return "its outputs for a sample depend on the others"


def _outputs(network: Network, samples: Samples) -> dict[str, Tensor]:
    """Module -> the first tensor that it returns, in the order in which modules end."""
    found: dict[str, Tensor] = {}

    def keeper(name: str) -> Callable[[nn.Module, object, object], None]:
        def hook(_module: nn.Module, _inputs: object, outputs: object) -> None:
            first = next(iter(tensors(outputs)), None)
            if first is not None and first.is_floating_point():
                found.setdefault(name, first.detach().clone())

        return hook

    hooks = [
        part.register_forward_hook(keeper(name))
        for name, part in network.module.named_modules()
        if name
    ]
    try:
        network(samples)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _parts(among: Tensor, single: Tensor, k: int, n: int) -> list[Tensor]:
    """What may be sample k of n in an output: its dimension is the one that grows with n."""
    shapes = zip(among.shape, single.shape, strict=False)
    grown = [d for d, (several, one) in enumerate(shapes) if several == n * one]
    if among.dim() != single.dim() or len(grown) != 1 or n == 1:
        return []
    dim, fold = grown[0], single.shape[grown[0]]
    orders = (SampleDim(dim, fold), SampleDim(dim, fold, minor=True))
    return [order.front(among)[k].reshape(single.shape) for order in orders]


def close(a: Tensor, b: Tensor, scale: Tensor, eps: float) -> bool:
    """Equal up to rounding: relative to its own norm, or tiny beside that of ``scale``."""
    if a.shape != b.shape:
        return False
    eps = eps**0.5
    difference, size = torch.linalg.vector_norm(a - b), torch.linalg.vector_norm(b)
    limit = 3 * eps * size + 0.03 * eps * torch.linalg.vector_norm(scale)
    return not bool(difference > limit)
