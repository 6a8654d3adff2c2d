"""Inner products of single gradients, parameter by parameter, in one pass over memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from grokscope.gradients.layout import GradientLayout
from grokscope.measures.compilation import compiled

NATIVE = (torch.float32, torch.float64)


def slot_squares(a: Tensor, b: Tensor, layout: GradientLayout) -> tuple[Tensor, float]:
    """Squared norm of each parameter's part of ``a``, and the inner product of ``a`` and ``b``.

    Sums are float64. On the CPU numbers become float64 in the processor's registers: a sixth of
    the time that it takes to convert the gradient first.

    Args:
        a: (m,) floating point.
        b: (m,) of the same type, on the same device.
        layout: The m parameters.

    Returns:
        (slots,) float64 on the CPU, and the product.
    """
    sizes = [slot.size for slot in layout.slots]
    if a.device.type == "cpu" and a.dtype in NATIVE:
        squares = np.empty(len(sizes))
        product = _sums(a.numpy(), b.numpy(), np.cumsum(sizes), squares)
        return torch.from_numpy(squares), float(product)
    a, b = a.double(), b.double()
    sums = torch.stack([torch.dot(a, b), *(torch.dot(part, part) for part in a.split(sizes))])
    return sums[1:].cpu(), float(sums[0])


@compiled
def _sums(a: NDArray[Any], b: NDArray[Any], ends: NDArray[Any], squares: NDArray[Any]) -> Any:
    """Fill the squares of the parts that end there; return the product."""
    product, begin = 0.0, 0
    for k in range(len(ends)):
        squares[k], part = _part(a[begin : ends[k]], b[begin : ends[k]])
        product, begin = product + part, ends[k]
    return product


@compiled
def _part(a: NDArray[Any], b: NDArray[Any]) -> Any:
    square, product = 0.0, 0.0
    for i in range(len(a)):
        x = np.float64(a[i])
        square += x * x
        product += x * np.float64(b[i])
    return square, product
