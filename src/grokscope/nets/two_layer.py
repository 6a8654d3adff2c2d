"""The two-layer net with its input Jacobian in closed form."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from grokscope.nets.mlp import ACTIVATIONS, MLP


class TwoLayerMLP(MLP):
    """An :class:`~grokscope.nets.MLP` of two layers that knows the size of its Jacobians.

    Args:
        widths: Input, hidden and output width.
        activation: As there.
        bias: As there.
        init_std: As there.
        scale: As there.
        seed: As there.

    Raises:
        ValueError: If there are not two layers, or as there.
    """

    def __init__(
        self,
        widths: Sequence[int],
        activation: str = "quadratic",
        bias: bool | Sequence[bool] = False,
        init_std: float | Sequence[float] | None = None,
        scale: float = 1.0,
        seed: int | None = None,
    ) -> None:
        super().__init__(widths, activation, bias, init_std, scale, seed)
        if len(self.layers) != 2:
            raise ValueError(f"widths must have three entries, got {widths!r}.")

    def slopes(self, inputs: Tensor) -> Tensor:
        """Derivative of the activation at each hidden unit (n, k), differentiable."""
        with torch.enable_grad():
            hidden = self.layers[0](inputs)
            hidden = hidden if hidden.requires_grad else hidden.requires_grad_()
            sums = ACTIVATIONS[self.activation](hidden).sum()
            return torch.autograd.grad(sums, hidden, create_graph=True)[0]

    def squared_jacobian(self, inputs: Tensor) -> Tensor:
        r"""Mean squared Frobenius norm of the input Jacobian: the trace of the AGOP.

        .. math:: \frac{1}{n} \sum_i \|W_2\, \mathrm{diag}(s_i)\, W_1\|_F^2
                  = \frac{1}{n} \sum_i s_i^\top (W_2^\top W_2 \odot W_1 W_1^\top)\, s_i

        with the slopes :math:`s_i = \phi'(W_1 x_i + b_1)`. Differentiable.

        Args:
            inputs: (n, d).

        Returns:
            A number. Cost: n k² + (c + d) k² multiply-adds for k hidden units.
        """
        first, second = self.layers
        slopes = self.slopes(inputs)
        form = (second.weight.T @ second.weight) * (first.weight @ first.weight.T)
        return ((slopes @ form) * slopes).sum() / len(inputs)
