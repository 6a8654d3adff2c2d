"""A net seen from its beginning: the change of its outputs, and its linearisation."""

from __future__ import annotations

import warnings
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call, jvp


def frozen(net: nn.Module) -> nn.Module:
    """A copy whose parameters are not trained; checkpoints hold it."""
    copy = deepcopy(net)
    for parameter in copy.parameters():
        parameter.requires_grad_(False)
    return copy


@dataclass(frozen=True)
class CentredPlan:
    """Inputs, what the net shares among them, and its outputs at the beginning."""

    inputs: Tensor
    inner: Any
    offset: Tensor


class Centred(nn.Module):
    r"""What training has changed: :math:`\tilde f(x) = f(x; \theta) - f(x; \theta_0)`.

    It starts at zero exactly. With ``net.output_scale`` it is alpha (f - f_0).

    Args:
        net: Any net; a frozen copy of it is kept.

    Source:
        Chizat, Oyallon and Bach 2019, arXiv:1812.07956; Kumar et al. 2023, arXiv:2310.06110.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net, self.initial = net, frozen(net)

    def forward(self, inputs: Tensor) -> Tensor:
        """Outputs (n, c) of inputs (n, ...)."""
        return self.net(inputs) - self.initial(inputs)

    def share(self, inputs: Tensor) -> CentredPlan:
        """What the net shares among these inputs, and its outputs there at the beginning."""
        make_plan = getattr(self.net, "share", None)
        with torch.no_grad():
            offset = self.initial(inputs)
        return CentredPlan(inputs, make_plan and make_plan(inputs), offset)

    def forward_shared(self, plan: CentredPlan) -> Tensor:
        """As :meth:`forward`, of the inputs that ``plan`` was made from."""
        if plan.inner is None:
            return self.net(plan.inputs) - plan.offset
        return cast(Any, self.net).forward_shared(plan.inner) - plan.offset


class Linearised(nn.Module):
    r"""A net to first order in its weights, about where they begin.

    .. math:: f_{lin}(x) = f(x; \theta_0) + J_0(x) (\theta - \theta_0)

    Trained by gradient descent it is kernel regression with the kernel at initialisation; where it
    parts from ``net``, features are learned. A pass costs about three of ``net``'s.

    Args:
        net: Any net; its weights are the trained ones, and a frozen copy is kept.

    Source:
        Lee et al. 2019, arXiv:1902.06720; Kumar et al. 2023, arXiv:2310.06110 (Fig. 1b).
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net, self.initial = net, frozen(net)
        _load_forward_mode()

    def forward(self, inputs: Tensor) -> Tensor:
        """Outputs (n, c) of inputs (n, ...)."""
        start = dict(self.initial.named_parameters())
        change = {name: p - start[name] for name, p in self.net.named_parameters()}
        outputs = jvp(
            lambda weights: functional_call(self.initial, weights, (inputs,)), (start,), (change,)
        )
        value, slope = cast(tuple[Tensor, Tensor], outputs)
        return value + slope


def _load_forward_mode() -> None:
    """Torch's first use of it warns about torch's own code."""
    zero = torch.zeros(1)
    with warnings.catch_warnings(action="ignore"):
        jvp(torch.sin, (zero,), (zero,))
