r"""Closed forms of a quadratic committee on Gaussian inputs.

.. math:: f(x) = \frac{\alpha}{N} \sum_i \phi(w_i \cdot x), \quad
          \phi(h) = h + \tfrac{\epsilon}{2} h^2

depends on the weights through :math:`\bar w = \frac1N \sum_i w_i` and
:math:`M = \frac1N \sum_i w_i w_i^\top` alone. Teacher :math:`y = \frac12 (\beta \cdot x)^2`,
inputs
:math:`x \sim N(0, I/D)`. Source: Kumar et al. 2023, arXiv:2310.06110; the normalised kernel is
:math:`N / \alpha^2` times the empirical neural tangent kernel.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class CommitteeError:
    """The expected squared error over all inputs, and its three parts.

    Attributes:
        linear: Power of the linear part, which the teacher does not have.
        variance: From the difference of the means of f and y, squared.
        misalignment: Of the quadratic forms.
    """

    linear: float
    variance: float
    misalignment: float

    @property
    def total(self) -> float:
        """The expected squared error."""
        return self.linear + self.variance + self.misalignment


def moments(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (d,) and second moment (d, d) of the rows of (n, d) hidden weights."""
    return weight.mean(0), weight.t() @ weight / len(weight)


def committee_outputs(weight: Tensor, inputs: Tensor, scale: float, epsilon: float) -> Tensor:
    r"""(n,) outputs :math:`\alpha \bar w \cdot x + \frac{\alpha \epsilon}{2} x^\top M x`."""
    mean, second = moments(weight)
    quadratic = ((inputs @ second) * inputs).sum(1)
    return scale * (inputs @ mean + 0.5 * epsilon * quadratic)


def committee_kernel(weight: Tensor, first: Tensor, second: Tensor, epsilon: float) -> Tensor:
    r"""(n, m) normalised kernel of present weights.

    .. math:: K = x \cdot x'
              \left(1 + \epsilon\, \bar w \cdot (x + x') + \epsilon^2 x^\top M x'\right)
    """
    mean, moment = moments(weight)
    linear = (first @ mean)[:, None] + (second @ mean)[None]
    return (first @ second.t()) * (
        1 + epsilon * linear + epsilon**2 * (first @ moment @ second.t())
    )


def initial_committee_kernel(first: Tensor, second: Tensor, epsilon: float) -> Tensor:
    r"""(n, m) kernel at initialisation for many hidden units.

    .. math:: K_0 = x \cdot x' + \epsilon^2 (x \cdot x')^2
    """
    products = first @ second.t()
    return products + epsilon**2 * products.square()


def committee_error(
    weight: Tensor, teacher: Tensor, scale: float, epsilon: float, initial: Tensor | None = None
) -> CommitteeError:
    r"""Expected squared error of the committee over x ~ N(0, I/D).

    .. math:: \frac{\alpha^2 |\bar w|^2}{D} + \frac14 \left(\frac{\mathrm{tr} A}{D}\right)^2
              + \frac{\|A\|_F^2}{2 D^2}, \quad A = \alpha \epsilon M - \beta \beta^\top

    the exact population value by Isserlis' theorem. With ``initial`` weights it is that of the
    centred predictor f - f_0, whose moments are differences.

    Args:
        weight: (N, D).
        teacher: beta, (D,).
        scale: alpha.
        epsilon: Of the activation.
        initial: (N, D), or None.

    Source:
        Kumar et al. 2023, arXiv:2310.06110 (linear power, variance, misalignment).
    """
    mean, second = moments(weight)
    if initial is not None:
        first_mean, first_second = moments(initial)
        mean, second = mean - first_mean, second - first_second
    d = len(teacher)
    excess = scale * epsilon * second - torch.outer(teacher, teacher)
    return CommitteeError(
        linear=float(scale**2 * mean.square().sum() / d),
        variance=float((excess.trace() / d).square() / 4),
        misalignment=float(excess.square().sum() / (2 * d**2)),
    )


def lazy_motion(kernel: Tensor, residual: Tensor) -> float:
    r"""Squared length of the weights' way to zero training error if the kernel stays what it is.

    .. math:: |w - w_0|^2 = (y - f_0)^\top K_0^{-1} (y - f_0)

    with the kernel of the weights themselves, not the normalised one. With y alone it is what
    Kumar et al. call the difficulty of the labels.
    """
    column = residual.reshape(-1, 1)
    return float((column * torch.linalg.solve(kernel, column)).sum())
