"""Nets whose weights are written down, not trained: modular addition, multiplication, polynomials.

The solutions of Gromov 2023 (arXiv:2301.02679), Doshi et al. 2024 ("To grok or not to grok",
arXiv:2310.13061, eq. 2) and Doshi et al. 2024 ("Grokking modular polynomials", arXiv:2406.03495,
eqs. 6, 11-13). Both papers of Doshi et al. print the amplitude (2/N)^(-1/3); the product of three
weights must be 2/N, so the exponent is +1/3, as used here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from grokscope.arithmetic import powers_of_a_primitive_root
from grokscope.nets.mlp import MLP
from grokscope.validation import require_float, require_int

POWERS = {2: "quadratic", 3: "cubic", 4: "quartic"}


@torch.no_grad()
def addition_net(
    modulus: int, n_hidden: int, coefficients: Sequence[int] = (1, 1), seed: int = 0
) -> MLP:
    r"""A net that knows :math:`\sum_s c_s n_s \bmod p` from S one-hot blocks; S is 2, 3 or 4.

    .. math::
        U^{(s)}_{ki} = A \cos(2\pi \sigma_k c_s i / p + \psi^{(s)}_k), \quad
        W_{qk} = A \cos(-2\pi \sigma_k q / p - \textstyle\sum_s \psi^{(s)}_k), \quad
        A = \Big(\frac{2^S}{N S!}\Big)^{1/(S+1)}, \quad \phi(x) = x^S

    with random phases and sigma a permutation of 0, ..., N - 1. The logits are
    :math:`\frac1N \sum_k \cos(2\pi\sigma_k(\sum_s c_s n_s - q)/p)`, nearly the one-hot target,
    plus terms whose random phases cancel as N grows.

    Args:
        modulus: p.
        n_hidden: N, hidden units.
        coefficients: c_s, one a term.
        seed: Seeds phases and permutation.

    Returns:
        A float64 net of widths (S p, N, p) without biases.

    Raises:
        ValueError: For another number of terms.
    """
    terms = len(coefficients)
    if terms not in POWERS:
        raise ValueError(f"coefficients must be 2, 3 or 4 integers, got {coefficients!r}.")
    generator = torch.Generator().manual_seed(require_int("seed", seed, minimum=0))
    net = MLP((terms * modulus, n_hidden, modulus), POWERS[terms], bias=False, seed=0).double()
    amplitude = (2**terms / (n_hidden * math.factorial(terms))) ** (1 / (terms + 1))
    phases = _phases(terms, n_hidden, generator)
    frequencies = torch.randperm(n_hidden, generator=generator)
    residues = torch.arange(modulus)
    blocks = [
        _waves(frequencies, c * residues, modulus, phase)
        for c, phase in zip(coefficients, phases, strict=True)
    ]
    first, last = net.layers
    first.weight.copy_(amplitude * torch.cat(blocks, 1))
    last.weight.copy_(amplitude * _waves(frequencies, -residues, modulus, -phases.sum(0)).T)
    return net


@torch.no_grad()
def multiplication_net(
    modulus: int, n_hidden: int, exponents: tuple[int, int] = (1, 1), seed: int = 0
) -> MLP:
    r"""A net that knows :math:`n_1^a n_2^b \bmod p` from two one-hot blocks, for a prime p.

    It adds a log n_1 + b log n_2 modulo p - 1, logarithms to a primitive root, as
    :func:`addition_net` does with N - 1 hidden units and phi(x) = x^2; hidden unit 0 is for
    factors that are zero.

    Args:
        modulus: p.
        n_hidden: N.
        exponents: (a, b), >= 0 and not both 0. Zero to the power of zero is one.
        seed: Seeds phases and permutation.

    Returns:
        A float64 net of widths (2p, N, p) without biases.

    Raises:
        ValueError: For a modulus that is no prime or exponents out of range.
    """
    for index, exponent in enumerate(exponents):
        require_int(f"exponents[{index}]", exponent, minimum=0)
    if not any(exponents):
        raise ValueError(f"exponents must not both be 0, got {exponents!r}.")
    require_int("n_hidden", n_hidden, minimum=2)
    units = torch.tensor(powers_of_a_primitive_root(modulus))
    logarithms = torch.arange(modulus - 1)
    generator = torch.Generator().manual_seed(require_int("seed", seed, minimum=0))
    net = MLP((2 * modulus, n_hidden, modulus), "quadratic", bias=False, seed=0).double()
    phases = _phases(2, n_hidden - 1, generator)
    frequencies = torch.randperm(n_hidden - 1, generator=generator)
    amplitude = (2 / (n_hidden - 1)) ** (1 / 3)
    first, last = (layer.weight.zero_() for layer in net.layers)
    for block, exponent, phase in zip(first.split(modulus, 1), exponents, phases, strict=True):
        waves = amplitude * _waves(frequencies, exponent * logarithms, modulus - 1, phase)
        block[1:, units] = waves
        if exponent:
            block[0, 0] = 1
        else:
            block[1:, 0] = waves[:, 0]
    last[units, 1:] = amplitude * _waves(frequencies, -logarithms, modulus - 1, -phases.sum(0)).T
    last[0, 0] = 1
    return net


class PolynomialExperts(nn.Module):
    r"""A net that knows :math:`\sum_s c_s n_1^{a_s} n_2^{b_s} \bmod p`, for a prime p.

    One multiplication expert a term, a softmax that makes its answer one-hot, and an addition
    expert over the terms.

    Args:
        modulus: p.
        terms: (c, a, b) of each term; 2, 3 or 4 of them.
        n_multiply: Hidden units of each multiplication expert.
        n_add: Hidden units of the addition expert.
        inverse_temperature: Of the softmax; about 100 in the paper.
        seed: Seeds everything; each expert has a stream of its own.

    Source:
        Doshi et al. 2024, arXiv:2406.03495, section 5.
    """

    def __init__(
        self,
        modulus: int,
        terms: Sequence[tuple[int, int, int]],
        n_multiply: int = 500,
        n_add: int = 2000,
        inverse_temperature: float = 100.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.inverse_temperature = require_float(
            "inverse_temperature", inverse_temperature, above=0.0
        )
        stream = (len(terms) + 1) * require_int("seed", seed, minimum=0)
        self.multiply = nn.ModuleList(
            multiplication_net(modulus, n_multiply, (a, b), stream + 1 + s)
            for s, (_, a, b) in enumerate(terms)
        )
        self.add = addition_net(modulus, n_add, [c for c, _, _ in terms], stream)

    def forward(self, inputs: Tensor) -> Tensor:
        """Outputs (n, p) of one-hot pairs (n, 2p)."""
        answers = [expert(inputs) for expert in self.multiply]
        sharp = [(self.inverse_temperature * answer).softmax(1) for answer in answers]
        return self.add(torch.cat(sharp, 1))


def _phases(terms: int, n_hidden: int, generator: torch.Generator) -> Tensor:
    """Uniform in (-pi, pi], (terms, N)."""
    shape = (terms, n_hidden)
    return math.pi * (1 - 2 * torch.rand(shape, dtype=torch.float64, generator=generator))


def _waves(frequencies: Tensor, positions: Tensor, period: int, phases: Tensor) -> Tensor:
    """One cosine a row, (N, positions); reduced in integers, so exact for any size."""
    turns = (frequencies[:, None] * positions[None]) % period
    return (2 * math.pi / period * turns + phases[:, None]).cos()
