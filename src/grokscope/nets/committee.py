"""The committee of quadratic units with fixed readouts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from grokscope.nets.initialise import empty_linear, normal_, private_generator
from grokscope.nets.lazy import Centred, Linearised
from grokscope.validation import require_float, require_int

Net = TypeVar("Net", bound=Callable[..., nn.Module])


class Committee(nn.Module):
    r"""Mean of slightly quadratic units; only the hidden weights are trained.

    .. math:: f(x) = \frac{\alpha}{N} \sum_i \phi(w_i \cdot x), \quad
              \phi(h) = h + \tfrac{\epsilon}{2} h^2, \quad w_i \sim N(0, \sigma^2 I)

    Args:
        d_in: Input features.
        width: N.
        epsilon: Curvature of the units: how much of the kernel is aligned with a quadratic task.
        output_scale: alpha; large is lazy.
        weight_scale: sigma.
        seed: Seeds a private generator; None draws from torch's global one.

    Raises:
        ValueError: If an argument is out of its range.

    Source:
        Kumar et al. 2023, arXiv:2310.06110; readouts of one, N(0, I) weights.
    """

    def __init__(
        self,
        d_in: int = 100,
        width: int = 500,
        epsilon: float = 0.02,
        output_scale: float = 1.0,
        weight_scale: float = 1.0,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        self.hidden = empty_linear(require_int("d_in", d_in), require_int("width", width))
        self.epsilon = require_float("epsilon", epsilon, minimum=0.0)
        self.output_scale = require_float("output_scale", output_scale, above=0.0)
        std = require_float("weight_scale", weight_scale, above=0.0)
        normal_(self.hidden, std, private_generator(seed))

    def forward(self, inputs: Tensor) -> Tensor:
        """Outputs (n, 1) of inputs (n, d_in)."""
        h = self.hidden(inputs)
        units = h + 0.5 * self.epsilon * h * h
        return self.output_scale * units.mean(-1, keepdim=True)

    def share(self, inputs: Tensor) -> Tensor | None:
        """The inputs themselves, where their number makes :meth:`forward_shared` worth it."""
        fits = inputs.ndim == 2 and len(inputs) > self.hidden.in_features
        return inputs if fits else None

    def forward_shared(self, plan: Tensor) -> Tensor:
        """Outputs (n, 1) through the mean and the second moment of the weights.

        (n + N) d^2 multiply-adds instead of n N d.
        """
        weight: Tensor = self.hidden.weight
        moment = weight.t() @ weight / len(weight)
        quadratic = ((plan @ moment) * plan).sum(1, keepdim=True)
        linear = plan @ weight.mean(0)[:, None]
        return self.output_scale * torch.add(linear, quadratic, alpha=0.5 * self.epsilon)


def _takes_settings_of(kind: type) -> Callable[[Net], Net]:
    """``inspect.signature`` then names the arguments and their types."""

    def mark(function: Net) -> Net:
        function.__wrapped__ = kind  # type: ignore[attr-defined]
        return function

    return mark


@_takes_settings_of(Committee)
def centred_committee(**settings: Any) -> Centred:
    """The change of a committee's outputs since the start; settings of :class:`Committee`."""
    return Centred(Committee(**settings))


@_takes_settings_of(Committee)
def linearised_committee(**settings: Any) -> Linearised:
    """A committee to first order in its weights; settings of :class:`Committee`."""
    return Linearised(Committee(**settings))
