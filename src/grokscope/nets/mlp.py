"""Fully connected nets, with a gathered first layer for one-hot inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from grokscope.nets.initialise import empty_linear, normal_, private_generator, torch_default_
from grokscope.nets.lookup import Lookup
from grokscope.validation import require_choice, require_float, require_int

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "tanh": torch.tanh,
    "quadratic": lambda x: x * x,  # torch.square goes back in more passes over memory
    "cubic": lambda x: x * x * x,
    "quartic": lambda x: (x * x) * (x * x),
    "identity": lambda x: x,
}

# Multiply-adds of a first layer below which the dense product is the faster one
# (two CPU cores: 0.3 million 0.26 against 0.32 ms a step, 13 million 1.16 against 0.99 ms).
_WORTH_SHARING = 2_000_000


class MLP(nn.Module):
    r"""Linear layers with one activation between them and none at the end.

    .. math:: f(x) = W_L\, \phi(\dots \phi(W_1 x + b_1) \dots) + b_L

    Args:
        widths: Input, hidden and output widths, e.g. ``(194, 500, 97)``.
        activation: ``relu``, ``tanh``, ``quadratic`` (x^2), ``cubic`` (x^3), ``quartic`` (x^4) or
            ``identity``.
        bias: For all layers, or one value a layer.
        init_std: Standard deviation of normal weights, biases starting at zero; one number, or
            one a layer. None draws weights and biases as ``nn.Linear`` does.
        scale: Multiplies every parameter once drawn, biases included (alpha in Omnigrok).
        output_scale: Multiplies the outputs of every pass (alpha in Kumar et al.); large is lazy.
        seed: Seeds a private generator; the same seed given to ``torch.manual_seed`` before
            stacking ``nn.Linear`` layers gives the same net. None draws from the global one.

    Raises:
        ValueError: If an argument is out of its range or has the wrong length.

    Source:
        Quadratic, no bias: Gromov 2023, arXiv:2301.02679; Doshi et al. 2024, arXiv:2310.13061.
        ``scale``: Liu et al. 2023 (Omnigrok), arXiv:2210.01117. ``output_scale``: Kumar et al.
        2023, arXiv:2310.06110.
    """

    def __init__(
        self,
        widths: Sequence[int],
        activation: str = "relu",
        bias: bool | Sequence[bool] = True,
        init_std: float | Sequence[float] | None = None,
        scale: float = 1.0,
        seed: int | None = None,
        output_scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.output_scale = require_float("output_scale", output_scale, above=0)
        if not isinstance(widths, Sequence) or len(widths) < 2:
            raise ValueError(f"widths must name inputs and outputs, got {widths!r}.")
        sizes = [require_int(f"widths[{i}]", width) for i, width in enumerate(widths)]
        self.activation = require_choice("activation", activation, ACTIVATIONS)
        biases = _one_a_layer("bias", bias, len(sizes) - 1)
        self.layers: Sequence[nn.Linear] = nn.ModuleList(  # type: ignore[assignment]
            empty_linear(d_in, d_out, bias=with_bias)
            for d_in, d_out, with_bias in zip(sizes, sizes[1:], biases, strict=False)
        )
        self._initialise(init_std, require_float("scale", scale, above=0), seed)

    @torch.no_grad()
    def _initialise(
        self, init_std: float | Sequence[float] | None, scale: float, seed: int | None
    ) -> None:
        generator = private_generator(seed)
        stds = _one_a_layer("init_std", init_std, len(self.layers))
        for layer, std in zip(self.layers, stds, strict=True):
            if std is None:
                torch_default_(layer, generator)
            else:
                normal_(layer, require_float("init_std", std, above=0), generator)
        for parameter in self.parameters():
            parameter.mul_(scale)

    def forward(self, inputs: Tensor) -> Tensor:
        """Outputs (n, c) of inputs (n, d), or (n, ...) that flatten to it."""
        if inputs.ndim > 2:
            inputs = inputs.flatten(1)
        first, *rest = self.layers
        return self._scaled(self._through(rest, first(inputs)))

    def _through(self, layers: list[nn.Linear], x: Tensor) -> Tensor:
        activation = ACTIVATIONS[self.activation]
        for layer in layers:
            x = layer(activation(x))
        return x

    def share(self, inputs: Tensor) -> Lookup | None:
        """Find the ones of 0/1 inputs, for :meth:`forward_shared`.

        Args:
            inputs: (n, d), fixed for as long as the plan is used.

        Returns:
            The weight columns that each sample sums, or None: if an entry is neither 0 nor 1,
            if the rows differ in their number of ones or have more than d / 8, or if the
            dense product is so small that a gather would take longer.
        """
        first, n = self.layers[0], len(inputs)
        if inputs.ndim != 2 or n * first.weight.numel() < _WORTH_SHARING:
            return None
        ones = inputs == 1
        n_ones = int(ones[0].sum())
        if not 1 <= n_ones <= first.in_features // 8 or (ones.sum(1) != n_ones).any():
            return None
        if not (ones | (inputs == 0)).all():
            return None
        return Lookup.of(ones.nonzero()[:, 1].view(n, n_ones), first.in_features)

    def forward_shared(self, plan: Lookup) -> Tensor:
        """Outputs (n, c) of the inputs that ``plan`` was made from.

        The first layer sums columns of its weight matrix, n * k * width additions for k ones
        a sample, where the dense product takes n * d * width multiply-adds.
        """
        first, *rest = self.layers
        x = plan.sum(first.weight.t().contiguous())
        return self._scaled(self._through(rest, x if first.bias is None else x.add_(first.bias)))

    def _scaled(self, outputs: Tensor) -> Tensor:
        return outputs if self.output_scale == 1.0 else self.output_scale * outputs


def _one_a_layer(name: str, value: object, n_layers: int) -> list:
    if not isinstance(value, Sequence):
        return [value] * n_layers
    if len(value) != n_layers:
        raise ValueError(
            f"{name} must have one value for each of {n_layers} layers, got {value!r}."
        )
    return list(value)
