"""Constraints on a net that hold after every optimizer step."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from grokscope.validation import require_float


class FixedNorm(nn.Module):
    r"""Keeps a net on a sphere: one factor for all parameters after every step.

    .. math:: \theta \leftarrow \frac{\alpha \|\theta_0\|}{\|\theta\|}\, \theta

    with :math:`\theta_0` all initial parameters, biases included. The net starts on the sphere
    too: :meth:`begin`, which :class:`~grokscope.models.GrokkingModule` calls once when it is
    built, multiplies every parameter by alpha. The norm is part of checkpoints.

    Args:
        alpha: Radius of the sphere over the initial norm.

    Source:
        Liu et al. 2023 (Omnigrok), arXiv:2210.01117, section 2; code
        KindXiaoming/Omnigrok:mnist/landscape (``rescale`` after ``optimizer.step``).
    """

    norm: Tensor

    def __init__(self, alpha: float = 1.0) -> None:
        super().__init__()
        self.alpha = require_float("alpha", alpha, above=0.0)
        self.register_buffer("norm", torch.zeros(()))

    @torch.no_grad()
    def begin(self, net: nn.Module) -> None:
        """Put the initial net on the sphere."""
        for parameter in net.parameters():
            parameter.mul_(self.alpha)
        self.norm = total_norm(net)

    @torch.no_grad()
    def forward(self, net: nn.Module) -> None:
        """Put the net back on the sphere."""
        factor = self.norm / total_norm(net)
        for parameter in net.parameters():
            parameter.mul_(factor)


def total_norm(net: nn.Module) -> Tensor:
    """Euclidean norm of all parameters together, a 0-d tensor."""
    return torch.stack([p.detach().norm() for p in net.parameters()]).norm()
