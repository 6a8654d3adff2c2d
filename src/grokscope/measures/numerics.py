"""Where float arithmetic, not the task, drives or stops training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Tensors = Sequence[Tensor]


@dataclass(frozen=True)
class SoftmaxNumerics:
    """What rounding does to a cross-entropy at some samples.

    Attributes:
        absorbed: Share of samples whose softmax denominator is its largest term: the others,
            summed in the loss's float type, vanish beside it.
        collapsed: Share for which that term is the target's as well: softmax collapse. The loss
            is exactly zero, and so is the gradient of the right logit.
        zero_sum: Sum over samples of |sum over classes of the logit gradient|, over the sum of
            all its absolute entries. 0 in exact arithmetic; 1 where rounding took the
            target's gradient and left those of the others; NaN where no gradient is left.
    """

    absorbed: float
    collapsed: float
    zero_sum: float


def softmax_numerics(logits: Tensor, targets: Tensor, gradient: Tensor) -> SoftmaxNumerics:
    r"""Softmax collapse, and the violation of :math:`\sum_k \partial L / \partial z_k = 0`.

    A sample is absorbed if :math:`\mathrm{fl}(\sum_k e^{z_k - \max_j z_j}) = 1`: about
    :math:`\log 2^{24} = 16.6` between the two largest logits in float32, 36.7 in float64.

    Args:
        logits: (..., c), in the float type in which the loss takes its softmax.
        targets: (...) classes; negative ones do not count.
        gradient: (..., c) of the loss with respect to the net's outputs, as backward gave it.

    Returns:
        Shares of the samples that count; NaN if none does.

    Raises:
        ValueError: For shapes that do not fit.

    Source:
        Prieto et al. 2025, arXiv:2501.04697, section 3 (softmax collapse); arXiv:2605.06152
        (the logit gradients no longer sum to zero).
    """
    if not logits.shape[:-1] == targets.shape or gradient.shape != logits.shape:
        raise ValueError(
            f"logits and gradient must be (..., c) for targets {tuple(targets.shape)}, "
            f"got {tuple(logits.shape)} and {tuple(gradient.shape)}."
        )
    asked = targets >= 0
    z, y, g = logits[asked], targets[asked], gradient[asked].double()
    largest = z.max(-1, keepdim=True) if z.numel() else None
    if largest is None:
        return SoftmaxNumerics(float("nan"), float("nan"), float("nan"))
    absorbed = (z - largest.values).exp_().sum(-1) == 1
    collapsed = absorbed & (z.gather(-1, y[:, None]) == largest.values)[:, 0]
    return SoftmaxNumerics(
        float(absorbed.double().mean()),
        float(collapsed.double().mean()),
        float(g.sum(-1).abs().sum() / g.abs().sum()),
    )


def naive_loss_minimisation(gradients: Tensors, weights: Tensors) -> float:
    r"""Cosine of the gradient with minus the weights, :math:`-\langle g, \theta\rangle /
    \|g\| \|\theta\|`, in float64.

    1 where a step of gradient descent only scales the weights up: the loss of a homogeneous net
    that is right everywhere falls without a change of its decisions.

    Returns:
        Within [-1, 1]; NaN where a norm is zero.

    Raises:
        ValueError: If the two do not fit.

    Source:
        Prieto et al. 2025, arXiv:2501.04697, section 4 (naive loss minimisation).
    """  # noqa: D205
    shapes = [[tuple(t.shape) for t in tensors] for tensors in (gradients, weights)]
    if shapes[0] != shapes[1] or not shapes[0]:
        raise ValueError(f"gradients must have the weights' shapes {shapes[1]}, got {shapes[0]}.")
    g, theta = (_flat(tensors) for tensors in (gradients, weights))
    return float(-(g @ theta) / (g.norm() * theta.norm()))


def _flat(tensors: Tensors) -> Tensor:
    return torch.cat([tensor.detach().double().flatten() for tensor in tensors])
