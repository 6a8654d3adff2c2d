"""Norms of weights, how far they have moved, and symmetries that leave the function alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from grokscope.validation import require_choice, require_float

NORMS = {"max": torch.inf, "l1": 1, "l2": 2}


Weights = Mapping[str, Tensor]


@dataclass(frozen=True)
class Movement:
    """Where weights are, and where they came from; the last entry is all of them together.

    Attributes:
        norm: Euclidean norm of each tensor, (t + 1,).
        distance: From the initial one, (t + 1,).
        cosine: With the initial one, (t + 1,); NaN where either is zero.
    """

    norm: Tensor
    distance: Tensor
    cosine: Tensor


def weight_norms(weights: Weights) -> Tensor:
    """Euclidean (Frobenius) norm of each tensor and of all together, (t + 1,), float64."""
    each = torch.stack([weight.detach().double().norm() for weight in weights.values()])
    return torch.cat([each, each.norm()[None]])


def weight_movement(weights: Weights, initial: Weights) -> Movement:
    """Norms, distances and cosines from the initial weights, tensor by tensor, in float64.

    Raises:
        ValueError: If names or shapes differ.
    """
    shapes = [{name: tuple(w.shape) for name, w in each.items()} for each in (weights, initial)]
    if shapes[0] != shapes[1] or not shapes[0]:
        raise ValueError(f"weights must be those of the start, {shapes[1]}, got {shapes[0]}.")
    moved = {n: w.detach().double() - initial[n].double() for n, w in weights.items()}
    dots = torch.stack(
        [(w.detach().double() * initial[n].double()).sum() for n, w in weights.items()]
    )
    norms = weight_norms(weights)
    products = torch.cat([dots, dots.sum()[None]])
    return Movement(norms, weight_norms(moved), products / (norms * weight_norms(initial)))


def remove_bias(weight: Tensor, bias: Tensor, *, ones: float = 2.0) -> Tensor:
    r"""The weights of a layer without bias that does the same on inputs that sum to ``ones``.

    .. math:: W' = W + \tfrac{1}{k}\, b\, 1^\top, \quad W' x = W x + b \text{ if } 1^\top x = k

    Args:
        weight: W, (h, d).
        bias: b, (h,).
        ones: k; 2 for two one-hot blocks.

    Returns:
        W', (h, d), a new tensor.

    Raises:
        ValueError: If shapes do not fit, or k is not above 0.

    Source:
        JackCorner/BEP-Grokking-Public:invariance_and_analysis_functions.py.
    """
    require_float("ones", ones, above=0.0)
    if weight.ndim != 2 or bias.shape != weight.shape[:1]:
        raise ValueError(
            f"weight must be (h, d) and bias (h,), got {tuple(weight.shape)} and "
            f"{tuple(bias.shape)}."
        )
    return weight + bias[:, None] / ones


def normalize_scale(
    first: Tensor,
    last: Tensor,
    bias: Tensor | None = None,
    *,
    norm: str = "max",
    of: str = "first",
) -> tuple[Tensor, Tensor, Tensor | None]:
    r"""Move the scale of each hidden ReLU unit from one layer to the other.

    .. math:: W_1 \to \mathrm{diag}(c)^{-1} W_1, \quad b \to \mathrm{diag}(c)^{-1} b, \quad
              W_2 \to W_2\, \mathrm{diag}(c)

    leaves the function as it is for any c > 0, since ReLU is positively homogeneous. Here c_i is
    the norm of what unit i reads, which is 1 afterwards, or one over the norm of what it writes,
    which then is 1. Units whose norm is 0 stay.

    Args:
        first: W_1, (h, d).
        last: W_2, (c, h).
        bias: b, (h,). It is not part of the norm: :func:`remove_bias` first makes it so.
        norm: ``max`` (largest absolute entry), ``l1`` or ``l2``.
        of: ``first`` makes rows of W_1 of norm 1; ``last``, the dual choice, columns of W_2.

    Returns:
        New W_1, W_2 and b.

    Raises:
        ValueError: For unknown names, or shapes that do not fit.

    Source:
        JackCorner/BEP-Grokking-Public:invariance_and_analysis_functions.py.
    """
    order = NORMS[require_choice("norm", norm, NORMS)]
    require_choice("of", of, ("first", "last"))
    if first.ndim != 2 or last.ndim != 2 or last.shape[1] != first.shape[0]:
        raise ValueError(
            f"first must be (h, d) and last (c, h), got {tuple(first.shape)} and "
            f"{tuple(last.shape)}."
        )
    rows = first if of == "first" else last.t()
    size = torch.linalg.vector_norm(rows, ord=order, dim=1)
    size = torch.where(size > 0, size, torch.ones_like(size))
    scale = size if of == "first" else 1 / size
    return first / scale[:, None], last * scale, None if bias is None else bias / scale
