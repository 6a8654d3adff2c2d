"""Subnetworks: a net whose weights are multiplied by fixed zeros and ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

Net = TypeVar("Net", bound=nn.Module)


class Mask(nn.Module):
    """Multiplies a weight by a mask of its shape; the mask is a buffer."""

    mask: Tensor

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.register_buffer("mask", mask)

    def forward(self, weight: Tensor) -> Tensor:
        """Zero where the mask is."""
        return weight * self.mask


def mask_weights(net: Net, masks: Mapping[str, Tensor]) -> Net:
    """Replace parameters θ of a net by θ ⊙ m in all its computations, in place.

    θ stays the trained parameter: an entry with m = 0 keeps its value and has no gradient, and
    weight decay still shrinks it. Masks are buffers, so they are saved with checkpoints:
    ``<name>`` becomes ``parametrizations.<name>.original`` and ``parametrizations.<name>.0.mask``
    of the module that owns it.

    Args:
        net: Any module.
        masks: Name of a parameter -> its mask, of zeros and ones.

    Returns:
        ``net`` itself.

    Raises:
        ValueError: For a name or shape that the net does not have, or an entry that is neither 0
            nor 1.
    """
    parameters = dict(net.named_parameters())
    for name, mask in masks.items():
        if name not in parameters or parameters[name].shape != mask.shape:
            known = ", ".join(f"{n} {tuple(p.shape)}" for n, p in parameters.items())
            raise ValueError(f"masks must be of {known}, got {name} {tuple(mask.shape)}.")
        if not ((mask == 0) | (mask == 1)).all():
            raise ValueError(f"masks must hold zeros and ones, got others in {name}.")
    for name, mask in masks.items():
        owner, _, own_name = name.rpartition(".")
        weight = parameters[name]
        made = Mask(mask.to(weight.device, weight.dtype))
        parametrize.register_parametrization(net.get_submodule(owner), own_name, made)
    return net


def masks_of(net: nn.Module) -> dict[str, Tensor]:
    """Name of each masked parameter, as it was before masking -> its mask."""
    return {name: mask for name, _, mask in _masked(net)}


def _masked(net: nn.Module) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Name, θ and m of each masked parameter."""
    for owner, module in net.named_modules():
        if not parametrize.is_parametrized(module):
            continue
        parametrizations = module.parametrizations
        assert isinstance(parametrizations, nn.ModuleDict)
        for own_name, chain in parametrizations.items():
            assert isinstance(chain, parametrize.ParametrizationList)
            first = chain[0]
            if isinstance(first, Mask):
                original = chain.original
                assert isinstance(original, torch.Tensor)
                yield f"{owner}.{own_name}".lstrip("."), original, first.mask
