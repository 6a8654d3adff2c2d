"""What can be read out linearly from features."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from grokscope.validation import require_float


def ridge_probe(features: Tensor, labels: Tensor, ridge: float = 1e-3) -> tuple[Tensor, Tensor]:
    r"""Ridge regression from features to one-hot labels, in closed form.

    .. math:: W = (X^\top X + \lambda s I)^{-1} X^\top Y, \quad s = \mathrm{tr}(X^\top X) / d

    with centred X and Y, so the offset is not penalised, and the same for any scale of the
    features.

    Args:
        features: (n, d).
        labels: (n,) classes.
        ridge: lambda.

    Returns:
        W (d, c) and the offset (c,), float64, c being the largest label plus one.

    Raises:
        ValueError: For shapes that do not fit, or a negative ridge.
    """
    require_float("ridge", ridge, above=0.0)
    if features.ndim != 2 or labels.shape != features.shape[:1] or not len(labels):
        raise ValueError(
            f"features must be (n, d) with labels (n,), got {tuple(features.shape)} and "
            f"{tuple(labels.shape)}."
        )
    X, Y = features.detach().double(), F.one_hot(labels).double()
    x_mean, y_mean = X.mean(0), Y.mean(0)
    X, Y = X - x_mean, Y - y_mean
    covariance = X.t() @ X
    scale = covariance.trace() / len(covariance)
    shift = ridge * torch.where(scale > 0, scale, 1.0)
    weight = torch.linalg.solve(covariance + shift * torch.eye(len(covariance)).to(X), X.t() @ Y)
    return weight, y_mean - x_mean @ weight


def probe_accuracy(features: Tensor, labels: Tensor, n_fit: int, ridge: float = 1e-3) -> float:
    """Share of samples from the ``n_fit``-th on that a probe fitted to those before gets right.

    Raises:
        ValueError: As :func:`ridge_probe`, or if no sample is left.
    """
    if not 0 < n_fit < len(labels):
        raise ValueError(f"n_fit must be within 1 and {len(labels) - 1}, got {n_fit}.")
    weight, offset = ridge_probe(features[:n_fit], labels[:n_fit], ridge)
    found = (features[n_fit:].double() @ weight + offset).argmax(1)
    return float((found == labels[n_fit:]).double().mean())
