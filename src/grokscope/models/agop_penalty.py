"""Training with a penalty on the size of the net's input Jacobian."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.func import jacrev, vmap

from grokscope.models.grokking import GrokkingModule
from grokscope.models.loop import Batch
from grokscope.validation import require_float


class AGOPPenaltyModule(GrokkingModule):
    r"""A :class:`~grokscope.models.GrokkingModule` that also minimises the trace of the AGOP.

    .. math:: L + \lambda \operatorname{tr} G, \qquad
              \operatorname{tr} G = \frac{1}{n} \sum_i \|J(x_i)\|_F^2

    over the samples of the step, exactly: a net's own ``squared_jacobian(inputs)`` where it has
    one (:class:`grokscope.nets.two_layer.TwoLayerMLP`), otherwise :func:`agop_trace`. The recorded
    loss is without it.

    Args:
        net: As there; must treat samples separately.
        agop_weight: λ.
        **settings: As there.

    Raises:
        ValueError: For an argument out of range.

    Source:
        Mallinar et al. 2024, arXiv:2407.20199.
    """

    def __init__(self, net: nn.Module, agop_weight: float = 0.0, **settings: Any) -> None:
        super().__init__(net, **settings)
        self.agop_weight = require_float("agop_weight", agop_weight, minimum=0.0)

    def _objective(self, loss: Tensor, batch: Batch) -> Tensor:
        objective = super()._objective(loss, batch)
        if not self.agop_weight:
            return objective
        own: Callable[[Tensor], Tensor] | None = getattr(self.net, "squared_jacobian", None)
        inputs = batch.split.inputs
        trace = agop_trace(self.net, inputs) if own is None else own(inputs)
        return objective + self.agop_weight * batch.weight * trace


def agop_trace(net: nn.Module, inputs: Tensor) -> Tensor:
    """Trace of the uncentred AGOP of any net that treats samples separately, differentiable.

    Args:
        net: Maps (n, ...) to (n, c).
        inputs: (n, ...), floating point.

    Returns:
        A number. Cost: c backward passes; memory: activations of n c samples.
    """
    jacobians = vmap(jacrev(lambda x: net(x[None])[0]))(inputs)
    return jacobians.square().sum() / len(inputs)
