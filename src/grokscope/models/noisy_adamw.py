"""AdamW with noise in its steps, and with other forms of weight decay."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from grokscope.validation import require_choice, require_float

DECAYS = ("to_zero", "to_init", "jiggle", "honest")

# The bare function: torch wraps ``step`` to run its hooks, which ours is wrapped for already.
_adam_step = inspect.unwrap(torch.optim.Adam.step)


class NoisyAdamW(torch.optim.AdamW):
    r"""AdamW whose steps may be noisy and whose weights may decay elsewhere than to zero.

    .. math:: \theta \leftarrow \theta - \frac{\eta}{1 - \beta_1^t}\left(
              \frac{m}{\sqrt{\hat v} + \epsilon} + f \xi\right), \quad \xi \sim N(0, 1)

    after one of four kinds of weight decay w:

    - ``to_zero``: :math:`\theta (1 - \eta w)`, which is AdamW, bit for bit with f = 0;
    - ``to_init``: :math:`\theta + \eta w (\theta_0 - \theta)`, to the first weights it sees;
    - ``jiggle``: :math:`\theta\, e^{\eta w z}`, one :math:`z \sim N(0, 1)` a tensor;
    - ``honest``: :math:`w \theta` added to the gradient, as Adam does.

    Random numbers come from torch's global generator; :math:`\theta_0` is part of its state.

    Args:
        params: As ``torch.optim.AdamW``.
        lr: Likewise.
        betas: Likewise.
        eps: Likewise.
        weight_decay: Likewise.
        noise: f.
        decay: One of the four.

    Raises:
        ValueError: If an argument is out of its range.

    Source:
        openai/grok:grok/training.py (commit 3d64b1d), ``CustomAdamW``. The noise is divided by
        the bias correction there, which matters in the first steps only.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        noise: float = 0.0,
        decay: str = "to_zero",
    ) -> None:
        require_float("noise", noise, minimum=0.0)
        require_choice("decay", decay, DECAYS)
        super().__init__(params, lr, betas, eps, weight_decay)
        for group in self.param_groups:
            group.setdefault("noise", noise)
            group.setdefault("decay", decay)
            group["decoupled_weight_decay"] = group["decay"] != "honest"

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step; ``closure`` evaluates the loss again."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        first = self._decay()
        given = [group["weight_decay"] for group in self.param_groups]
        for group in self.param_groups:
            if group["decay"] in ("to_init", "jiggle"):
                group["weight_decay"] = 0.0
        try:
            _adam_step(self)
        finally:
            for group, weight_decay in zip(self.param_groups, given, strict=True):
                group["weight_decay"] = weight_decay
        for parameter, initial in first:
            self.state[parameter]["initial"] = initial
        self._add_noise()
        return loss

    def _moved(self) -> Iterator[tuple[dict[str, Any], Tensor]]:
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    yield group, parameter

    def _decay(self) -> list[tuple[Tensor, Tensor]]:
        """Decay the weights that AdamW itself does not; initial weights that are to be kept."""
        first = []
        for group, parameter in self._moved():
            rate = group["lr"] * group["weight_decay"]
            if group["decay"] == "jiggle" and rate:
                z = torch.randn((), dtype=parameter.dtype, device=parameter.device)
                parameter.mul_((z * rate).exp())
            if group["decay"] == "to_init":
                initial = self.state[parameter].get("initial") if self.state[parameter] else None
                if initial is None:
                    first.append((parameter, parameter.clone()))
                else:
                    parameter.add_(initial - parameter, alpha=rate)
        return first

    def _add_noise(self) -> None:
        for group, parameter in self._moved():
            if group["noise"]:
                steps = float(self.state[parameter]["step"])
                scale = group["lr"] / (1 - group["betas"][0] ** steps)
                parameter.add_(torch.randn_like(parameter), alpha=-scale * group["noise"])
