"""Adversarial examples by projected gradient descent."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from grokscope.validation import require_float, require_int

Attacked = Callable[[Tensor], Tensor]


def pgd(
    net: Attacked,
    inputs: Tensor,
    targets: Tensor,
    *,
    epsilon: float,
    alpha: float = 4 / 255,
    steps: int = 10,
    clip: tuple[float, float] | None = (0.0, 1.0),
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Samples within :math:`\epsilon` (maximum norm) that raise the cross-entropy of the outputs.

    .. math:: x \leftarrow \Pi_{\mathrm{clip}} \Pi_{\|x - x_0\|_\infty \le \epsilon}
              \left(x + \alpha\, \mathrm{sign}\, \nabla_x L(x)\right)

    Args:
        net: Maps (n, ...) to outputs (n, c), in the modes that it is in; its parameters get no
            gradient.
        inputs: x_0, (n, ...).
        targets: Classes (n,).
        epsilon: Largest change of an entry, in units of the inputs.
        alpha: Step.
        steps: Number of steps.
        clip: Smallest and largest value of an entry; None does not clip.
        generator: Draws the start, uniform in the ball; None starts at x_0.

    Returns:
        (n, ...).

    Raises:
        ValueError: For an argument out of range.

    Source:
        Madry et al. 2018, arXiv:1706.06083, as in AhmedImtiazPrio/grok-adversarial:attacks.py.
    """
    require_float("epsilon", epsilon, minimum=0)
    require_float("alpha", alpha, above=0)
    require_int("steps", steps)
    if clip is not None and not clip[0] < clip[1]:
        raise ValueError(f"clip must be a smaller and a larger number, got {clip!r}.")
    found = inputs.detach()
    if generator is not None:
        noise = torch.rand(inputs.shape, generator=generator, dtype=torch.float64)
        found = _within(found + epsilon * (2 * noise - 1).to(found), inputs, epsilon, clip)
    for _ in range(steps):
        leaf = found.clone().requires_grad_()
        with torch.enable_grad():
            loss = F.cross_entropy(net(leaf), targets, reduction="sum")
            (gradient,) = torch.autograd.grad(loss, leaf)
        found = _within(found + alpha * gradient.sign(), inputs, epsilon, clip)
    return found


def adversarial_accuracy(
    net: Attacked, inputs: Tensor, targets: Tensor, *, chunk_size: int = 1000, **settings: object
) -> float:
    """Share of samples that are still right after :func:`pgd`.

    Args:
        net: As there.
        inputs: As there.
        targets: As there.
        chunk_size: Samples attacked at once.
        **settings: As there.
    """
    require_int("chunk_size", chunk_size)
    right = 0
    for x, y in zip(inputs.split(chunk_size), targets.split(chunk_size), strict=True):
        attacked = pgd(net, x, y, **settings)  # type: ignore[arg-type]
        with torch.no_grad():
            right += int((net(attacked).argmax(1) == y).sum())
    return right / len(inputs)


def _within(
    found: Tensor, inputs: Tensor, epsilon: float, clip: tuple[float, float] | None
) -> Tensor:
    found = inputs + (found - inputs).clamp(-epsilon, epsilon)
    return found if clip is None else found.clamp(*clip)
