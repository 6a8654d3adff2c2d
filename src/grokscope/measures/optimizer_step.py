"""What one optimizer step does: curvature along it, change of features, distance from start."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

Tensors = Sequence[Tensor]


def update_sharpness(loss: Tensor, parameters: Tensors, update: Tensors) -> float:
    r"""Curvature of the loss along the optimizer's actual update.

    .. math:: \frac{u_t^\top H_t u_t}{\|u_t\|^2}, \quad u_t = \theta_{t+1} - \theta_t,
              \quad H_t = \nabla^2 L(\theta_t)

    It is no largest eigenvalue, only bounded by it. One Hessian-vector product: two more
    backward passes, no matrix. NaN for an update of zero.

    Args:
        loss: L at the weights before the step, a scalar with its graph.
        parameters: The weights, those the loss does not depend on included.
        update: u, shapes as the parameters.

    Raises:
        ValueError: If the update does not fit the parameters.

    Source:
        Thilak et al. 2022, arXiv:2206.04817, section 3.
    """
    _require_fit(parameters, update)
    square = _dot(update, update)
    if not square:
        return float("nan")
    gradients = torch.autograd.grad(loss, parameters, create_graph=True, allow_unused=True)
    slopes = [(g * u).sum() for g, u in zip(gradients, update, strict=True) if g is not None]
    slope = torch.stack(slopes).sum() if slopes else loss.new_zeros(())
    if not slope.requires_grad:
        return 0.0
    products = torch.autograd.grad(slope, parameters, allow_unused=True)
    pairs = [(h, u) for h, u in zip(products, update, strict=True) if h is not None]
    return _dot(*zip(*pairs, strict=True)) / square if pairs else 0.0


def feature_change(before: Tensor, after: Tensor) -> float:
    r"""Relative change :math:`\|h_{t+1} - h_t\| / \|h_t\|` of features (n, ...); NaN at zero.

    Source:
        Thilak et al. 2022, arXiv:2206.04817: features of a layer on a fixed batch.
    """
    norm = before.double().norm()
    return float((after.double() - before.double()).norm() / norm) if norm else float("nan")


def cosine_distance(weights: Tensors, initial: Tensors) -> float:
    r"""Distance from the start :math:`1 - \langle\theta_t, \theta_0\rangle / (\|\theta_t\|
    \|\theta_0\|)`, in float64.

    Source:
        Thilak et al. 2022, arXiv:2206.04817: of the representation (all but the last layer) and
        of the classifier.

    Raises:
        ValueError: If the two do not fit.
    """  # noqa: D205
    _require_fit(weights, initial)
    norms = (_dot(weights, weights) * _dot(initial, initial)) ** 0.5
    return 1 - _dot(weights, initial) / norms if norms else float("nan")


def _dot(a: Tensors, b: Tensors) -> float:
    return sum(
        float(torch.dot(x.detach().double().flatten(), y.detach().double().flatten()))
        for x, y in zip(a, b, strict=True)
    )


def _require_fit(a: Tensors, b: Tensors) -> None:
    shapes = [[tuple(t.shape) for t in tensors] for tensors in (a, b)]
    if shapes[0] != shapes[1] or not shapes[0]:
        raise ValueError(f"tensors must have the shapes {shapes[0]}, got {shapes[1]}.")
