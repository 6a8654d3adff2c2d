"""Normalisations and convolutions: their gains, biases and kernels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from grokscope.gradients.calls import PRODUCTS_AND_SUMS, Call, Handler, elementwise, with_bias
from grokscope.gradients.sites import Convolution, Site


def layer_norm(call: Call) -> list[Site] | None:
    """Gain and bias after normalisation over the last dimensions."""
    x, shape, weight, bias, eps = call.arguments(
        "input", "normalized_shape", "weight", "bias", "eps"
    )
    keep = tuple(range(x.dim() - len(shape), x.dim()))
    plain = functional.layer_norm(x.detach(), shape, eps=1e-5 if eps is None else eps)
    return _gain_and_bias(call, plain, weight, bias, keep)


def rms_norm(call: Call) -> list[Site] | None:
    """Gain after division by the root mean square."""
    x, shape, weight, eps = call.arguments("input", "normalized_shape", "weight", "eps")
    keep = tuple(range(x.dim() - len(shape), x.dim()))
    return _gain_and_bias(
        call, functional.rms_norm(x.detach(), shape, eps=eps), weight, None, keep
    )


def group_norm(call: Call) -> list[Site] | None:
    """Gain and bias of each channel after normalisation over groups of channels."""
    x, groups, weight, bias, eps = call.arguments("input", "num_groups", "weight", "bias", "eps")
    plain = functional.group_norm(x.detach(), groups, eps=1e-5 if eps is None else eps)
    return _gain_and_bias(call, plain, weight, bias, (1,))


def batch_norm(call: Call) -> list[Site] | None:
    """Gain and bias of each channel after normalisation by stored statistics."""
    x, mean, variance, weight, bias, training, _, eps = call.arguments(
        *["input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps"]
    )
    if training or mean is None:
        return None
    plain = functional.batch_norm(x.detach(), mean, variance, eps=1e-5 if eps is None else eps)
    return _gain_and_bias(call, plain, weight, bias, (1,))


def convolution(call: Call) -> list[Site] | None:
    """Convolution in one or two dimensions."""
    x, weight, bias, stride, padding, dilation, groups = call.arguments(
        *["input", "weight", "bias", "stride", "padding", "dilation", "groups"]
    )
    count = weight.dim() - 2
    stride, dilation = _each(stride or 1, count), _each(dilation or 1, count)
    at, at_y, view = call.samples(x), call.samples(call.out), call.view(weight)
    if at is None or at_y is None or at.dim or at_y.dim or at.fold != at_y.fold:
        return None
    site = None
    if view is not None and not call.view(x):
        padded = _padded(x.detach(), weight.shape[2:], padding or 0, dilation)
        site = Convolution(view, padded, stride, dilation, groups or 1, (at, at_y))
    return with_bias(call, weight, site, bias, (1,))


def _padded(
    x: Tensor, kernel: torch.Size, padding: int | str | tuple[int, ...], dilation: tuple[int, ...]
) -> Tensor:
    sides: list[int] = []
    for d, size in enumerate(kernel):
        if padding == "same":
            total = dilation[d] * (size - 1)
            sides = [total // 2, total - total // 2, *sides]
        else:
            one = 0 if isinstance(padding, str) else _each(padding, len(kernel))[d]
            sides = [one, one, *sides]
    return functional.pad(x, sides)


def _each(value: int | tuple[int, ...], count: int) -> tuple[int, ...]:
    return (value,) * count if isinstance(value, int) else tuple(value) * (count // len(value))


def _gain_and_bias(
    call: Call, plain: Tensor, weight: Any, bias: Any, keep: tuple[int, ...]
) -> list[Site] | None:
    if call.view(call.args[0]):
        return None
    sites = []
    if call.view(weight):
        sites.append(elementwise(call, weight, plain, keep))
    if call.view(bias):
        sites.append(elementwise(call, bias, 1.0, keep))
    return [s for s in sites if s] if all(sites) else None


HANDLERS: dict[str, Handler] = {
    **PRODUCTS_AND_SUMS,
    "layer_norm": layer_norm,
    "rms_norm": rms_norm,
    "group_norm": group_norm,
    "batch_norm": batch_norm,
    **dict.fromkeys(("conv1d", "conv2d"), convolution),
}
