"""A fully connected net whose widths are divided out in the forward pass."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from grokscope.nets.lookup import Lookup
from grokscope.nets.mlp import ACTIVATIONS, MLP


class NTKMLP(MLP):
    r"""Layers without bias in NTK scaling, read out by a mean over the last hidden units.

    .. math:: h_1 = \frac{W_1 x}{\sqrt{D}}, \quad h_{l+1} = \frac{W_{l+1} \phi(h_l)}{\sqrt{N_l}},
              \quad f = \frac{\alpha}{N_L} W_{L+1} \phi(h_L)

    Args:
        widths: As in ``MLP``, and so are ``activation``, ``init_std``, ``scale`` and ``seed``.
        output_scale: alpha; large is lazy.

    Raises:
        ValueError: If an argument is out of its range.

    Source:
        Kumar et al. 2023, arXiv:2310.06110, as in the adapted code
        giovana-morais/amlds_final_project:grokking_mnist.ipynb.
    """

    def __init__(
        self,
        widths: Sequence[int],
        activation: str = "relu",
        init_std: float | Sequence[float] = 1.0,
        scale: float = 1.0,
        output_scale: float = 1.0,
        seed: int | None = None,
    ) -> None:
        super().__init__(widths, activation, False, init_std, scale, seed, output_scale)

    def forward(self, inputs: Tensor) -> Tensor:
        """Outputs (n, c) of inputs (n, d), or (n, ...) that flatten to it."""
        first, *_ = self.layers
        return self._read_out(first(inputs.flatten(1) if inputs.ndim > 2 else inputs))

    def forward_shared(self, plan: Lookup) -> Tensor:
        """As :meth:`forward`, of the inputs that ``plan`` was made from."""
        first, *_ = self.layers
        return self._read_out(plan.sum(first.weight.t().contiguous()))

    def _read_out(self, x: Tensor) -> Tensor:
        """From the product of the first matrix."""
        first, *rest = self.layers
        activation = ACTIVATIONS[self.activation]
        x = x / math.sqrt(first.in_features)
        for layer in rest:
            last = layer is rest[-1]
            n = layer.in_features
            x = layer(activation(x)) * (self.output_scale / n if last else 1 / math.sqrt(n))
        return x
