"""Fully connected nets with something beside the activation: dropout, batch norm, a factor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from grokscope.nets.lookup import Lookup
from grokscope.nets.mlp import ACTIVATIONS, MLP
from grokscope.validation import require_bool, require_choice, require_float, require_int


class RegularisedMLP(MLP):
    r"""An :class:`~grokscope.nets.MLP` with dropout and batch norm in its hidden layers.

    .. math:: x \mapsto W\, D_{after}\big(BN(\phi(D_{before}(x)))\big)

    Args:
        widths: As in ``MLP``, and so are ``activation``, ``bias``, ``init_std``, ``scale`` and
            ``seed``.
        dropout: Probability with which a hidden unit is zeroed in training.
        dropout_at: ``before`` the activation (Doshi et al. 2024, in paper and code) or ``after``
            it (the usual place). With ReLU and x^S both are the same up to the factor
            1 / (1 - dropout) that dropout applies.
        batch_norm: Whether hidden units are normalised over the batch, after the activation
            (Doshi et al.: ``W BN(phi(U e_m + V e_n))``, torch's defaults).

    Raises:
        ValueError: If an argument is out of its range.

    Source:
        Doshi et al. 2024, arXiv:2310.13061, d-doshi/Grokking:utils/models.py.
    """

    def __init__(
        self,
        widths: Sequence[int],
        activation: str = "relu",
        bias: bool | Sequence[bool] = True,
        init_std: float | Sequence[float] | None = None,
        scale: float = 1.0,
        dropout: float = 0.0,
        dropout_at: str = "before",
        batch_norm: bool = False,
        seed: int | None = None,
    ) -> None:
        super().__init__(widths, activation, bias, init_std, scale, seed)
        self.dropout = nn.Dropout(require_float("dropout", dropout, minimum=0.0, below=1.0))
        self.dropout_at = require_choice("dropout_at", dropout_at, ("before", "after"))
        normed = widths[1:-1] if require_bool("batch_norm", batch_norm) else ()
        self.norms = nn.ModuleList(nn.BatchNorm1d(width) for width in normed)

    def _through(self, layers: list[nn.Linear], x: Tensor) -> Tensor:
        for i, layer in enumerate(layers):
            x = layer(self._hidden(i, x))
        return x

    def _hidden(self, i: int, x: Tensor) -> Tensor:
        """What hidden layer ``i`` makes of its pre-activations."""
        if self.dropout_at == "before":
            x = self.dropout(x)
        x = ACTIVATIONS[self.activation](x)
        if self.norms:
            x = self.norms[i](x)
        return self.dropout(x) if self.dropout_at == "after" else x


class MeanFieldMLP(MLP):
    r"""Two layers without bias, divided by input and hidden width.

    .. math:: f(x) = \frac{1}{D N} W_2\, \phi(W_1 x), \quad W \sim N(0, 1)

    Weights are of order one before and after training, so plain gradient descent needs rates
    that grow with D N.

    Args:
        d_in: D.
        d_hidden: N.
        d_out: Outputs.
        activation: phi; ``quadratic`` in the paper.
        init_std: Standard deviation of all weights.
        seed: Seeds a private generator; None draws from torch's global one.

    Source:
        Gromov 2023, arXiv:2301.02679, eq. 3. That D is the input width 2p is our reading;
        another D is another learning rate for the second layer's factor.
    """

    def __init__(
        self,
        d_in: int,
        d_hidden: int,
        d_out: int,
        activation: str = "quadratic",
        init_std: float = 1.0,
        seed: int | None = None,
    ) -> None:
        for name, width in (("d_in", d_in), ("d_hidden", d_hidden), ("d_out", d_out)):
            require_int(name, width)
        super().__init__((d_in, d_hidden, d_out), activation, False, init_std, 1.0, seed)
        self.factor = 1 / (d_in * d_hidden)

    def forward(self, inputs: Tensor) -> Tensor:
        """Outputs (n, c) of inputs (n, d)."""
        return self.factor * super().forward(inputs)

    def forward_shared(self, plan: Lookup) -> Tensor:
        """As :meth:`forward`, of the inputs that ``plan`` was made from."""
        outputs: Any = super().forward_shared(plan)
        return self.factor * outputs
