"""Layers without their default draw, and the draws that experiments publish."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from grokscope.validation import require_int


def private_generator(seed: int | None) -> torch.Generator | None:
    """A generator that only this net draws from; None, torch's global one, without a seed."""
    if seed is None:
        return None
    return torch.Generator().manual_seed(require_int("seed", seed, minimum=0))


@contextmanager
def drawing_from(seed: int | None) -> Iterator[None]:
    """Torch's global CPU generator seeded, and put back at the end; as it is without a seed.

    For layers of torch that draw from the global generator alone, such as ``nn.LSTM``.
    """
    if seed is None:
        yield
        return
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(require_int("seed", seed, minimum=0))
        yield


def empty_linear(d_in: int, d_out: int, *, bias: bool = False) -> nn.Linear:
    """A linear layer whose values are still to be drawn; touches no random state."""
    return nn.Linear(d_in, d_out, bias=bias, device="meta").to_empty(device="cpu")


def empty_embedding(n_rows: int, d_model: int) -> nn.Embedding:
    """An embedding whose values are still to be drawn; touches no random state."""
    return nn.Embedding(n_rows, d_model, device="meta").to_empty(device="cpu")


def torch_default_(layer: nn.Linear, generator: torch.Generator | None) -> None:
    """Draw as ``nn.Linear`` itself does, with the same numbers for the same generator state."""
    nn.init.kaiming_uniform_(layer.weight, a=math.sqrt(5), generator=generator)
    if layer.bias is not None:
        bound = 1 / math.sqrt(layer.in_features)
        nn.init.uniform_(layer.bias, -bound, bound, generator=generator)


def normal_(
    layer: nn.Linear | nn.Embedding, std: float, generator: torch.Generator | None
) -> None:
    """Draw the weight from N(0, std^2); a bias starts at zero."""
    nn.init.normal_(layer.weight, std=std, generator=generator)
    if isinstance(layer, nn.Linear) and layer.bias is not None:
        nn.init.zeros_(layer.bias)


def doshi_std(n_hidden: int) -> float:
    r"""Standard deviation :math:`(16 N)^{-1/3}` of every weight of a quadratic net.

    It is 0.05 at N = 500.

    Source:
        Doshi et al. 2024, arXiv:2310.13061: variance :math:`(16 N)^{-2/3}`; the released code
        writes it :math:`0.5 / (2 N)^{1/3}`.
    """
    return float((16 * require_int("n_hidden", n_hidden)) ** (-1 / 3))


def power_std(n_hidden: int, terms: int = 2) -> float:
    r"""Standard deviation of every weight of a net with S terms and activation x^S.

    .. math:: 32^{-1/3} \Big(\frac{2^S}{N S!}\Big)^{1/(S+1)}

    the same share of the analytic solution's amplitude (:mod:`grokscope.nets.analytic`) for all
    S; :func:`doshi_std` for S = 2. Our choice: the paper does not say how it starts for S > 2.

    Source:
        Doshi et al. 2024, arXiv:2310.13061 for S = 2; arXiv:2406.03495.
    """
    require_int("n_hidden", n_hidden)
    amplitude = 2 ** require_int("terms", terms) / (n_hidden * math.factorial(terms))
    return float(32 ** (-1 / 3) * amplitude ** (1 / (terms + 1)))


def levi_std(d_in: int, d_out: int) -> float:
    r"""Standard deviation :math:`(2 d_{in} d_{out})^{-1/2}` of a teacher's or student's layer.

    Source:
        Levi, Beck and Bar-Sinai 2024, arXiv:2310.16441, section 2.
    """
    return (2 * require_int("d_in", d_in) * require_int("d_out", d_out)) ** -0.5
