"""How complex a trained net is: sparsity, weight entropy, local circuits, similarity.

"The paper" below is Golechha 2024, arXiv:2405.12755, of which we found no code. "The code" is
JackCorner/BEP-Grokking-Public, a bachelor end project that uses its measures on a small ReLU net
for modular addition (ModuloAdditionNet), with an L-infinity norm and a similarity of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from grokscope.measures.weights import normalize_scale, remove_bias
from grokscope.validation import require_choice, require_float, require_int

LOG_EPSILON = 1e-10
"""What the code adds within the logarithm of :func:`absolute_weight_entropy`."""


def activation_sparsity(activations: Tensor, *, threshold: float = 0.1) -> Tensor:
    r"""Share of activations (n, h), after the ReLU, that are below ``threshold``.

    .. math:: \frac1n \sum_x \frac1h \sum_j 1[a_j(x) < \tau]

    Source: the paper, section 3, which leaves tau open; the code's tau is 0.1.
    """
    require_float("threshold", threshold)
    return (activations < threshold).double().mean()


def absolute_weight_entropy(weight: Tensor, *, epsilon: float = 0.0) -> Tensor:
    r"""Entropy of absolute weights, in nats; not normalised, so negative for large weights.

    .. math:: H(W) = -\sum_{ij} |w_{ij}| \log(|w_{ij}| + \epsilon), \quad 0 \log 0 = 0

    Uniform weights in (-a, a) have mn(a/4 - (a/2) log a) on average.

    Args:
        weight: Any shape.
        epsilon: Zero as in the paper; the code has :data:`LOG_EPSILON` and takes the first
            layer alone.
    """
    size = weight.double().abs()
    return -torch.special.xlogy(size, size + require_float("epsilon", epsilon, minimum=0.0)).sum()


def local_circuit_complexity(
    forward: Callable[[list[Tensor]], Tensor],
    weights: Sequence[Tensor],
    *,
    fraction: float = 0.1,
    seed: int = 0,
    mask: str = "exact",
) -> Tensor:
    r"""How much the answers change when a random tenth of the weights is zeroed.

    .. math:: \sum_x KL\big(\mathrm{softmax}\, o_W(x) \,\|\, \mathrm{softmax}\, o_{W'}(x)\big)

    Args:
        forward: Maps weights, in the order given, to logits (n, c).
        weights: What is zeroed in; never written to. The code takes the first layer alone and
            zeroes it in place for good, so its later measures see a damaged net.
        fraction: Share of the entries.
        seed: Of the choice, the same at every call.
        mask: ``exact``: ``round(fraction * size)`` entries of each tensor; ``bernoulli``: each
            entry with this probability, as in the code.

    Returns:
        A sum over inputs, in nats, float64.

    Source:
        The paper, section 3, "approximate local circuit complexity".
    """
    require_float("fraction", fraction, minimum=0.0, maximum=1.0)
    require_choice("mask", mask, ("exact", "bernoulli"))
    generator = torch.Generator().manual_seed(require_int("seed", seed, minimum=0))
    thinned = [w * _kept(w, fraction, mask, generator).to(w) for w in weights]
    before = forward(list(weights)).double().log_softmax(-1)
    after = forward(thinned).double().log_softmax(-1)
    return (before.exp() * (before - after)).sum()


def _kept(weight: Tensor, fraction: float, mask: str, generator: torch.Generator) -> Tensor:
    """One for entries that stay; drawn on the CPU, so the same on any device."""
    if mask == "bernoulli":
        return torch.rand(weight.shape, generator=generator) >= fraction
    kept = torch.ones(weight.numel(), dtype=torch.bool)
    kept[torch.randperm(weight.numel(), generator=generator)[: round(fraction * len(kept))]] = (
        False
    )
    return kept.view(weight.shape)


def linf_norm(first: Tensor, last: Tensor, bias: Tensor | None = None) -> Tensor:
    r"""Largest weight of a two-layer net after its first layer is scaled to one.

    .. math:: \max_{q,i} |W_{2,qi}|\, \max_j |W'_{1,ij}|

    with the bias put into W_1 first (:func:`~grokscope.measures.weights.remove_bias`). Invariant
    under :func:`~grokscope.measures.weights.normalize_scale`.

    Args:
        first: W_1, (h, d), from inputs with two ones.
        last: W_2, (c, h).
        bias: (h,), or None.

    Source:
        JackCorner/BEP-Grokking-Public:invariance_and_analysis_functions.py.
    """
    first = first if bias is None else remove_bias(first, bias)
    return (last.abs().amax(0) * first.abs().amax(1)).max()


def similarity(first: Tensor, bias: Tensor | None = None, *, between: str = "inputs") -> Tensor:
    r"""How alike the hidden ReLU units answer to pairs (a, b) with the same sum modulo p.

    The bias is put into the weights and every unit is scaled to an l1 norm of 1; h(a, b) are the
    activations then.

    Args:
        first: W_1, (h, 2p).
        bias: (h,), or None.
        between: ``inputs``, as intended: the mean over sums s and over pairs of inputs of sum s of
            the l1 distance of their h; 0 where equal sums are represented alike. ``units``,
            as the code computes it:
            :math:`\frac1{p^3} \sum_s \sum_{i<j} \sum_k |h_{ki} - h_{kj}|` where k runs over the
            inputs of sum s and i, j over the first p *hidden units*, most likely a slip of axes.

    Raises:
        ValueError: For an odd number of inputs, or fewer units than p with ``units``.

    Source:
        JackCorner/BEP-Grokking-Public ("Definition 5.20").
    """
    require_choice("between", between, ("inputs", "units"))
    first = first if bias is None else remove_bias(first, bias)
    n_units, d = first.shape
    p = d // 2
    if d != 2 * p or p < 2 or (between == "units" and n_units < p):
        raise ValueError(
            f"first must be (h, 2p) with p >= 2, and h >= p between units, got "
            f"{tuple(first.shape)}."
        )
    first, _, _ = normalize_scale(first.double(), first.new_zeros(1, n_units).double(), norm="l1")
    a = torch.arange(p, device=first.device)
    classes = (a[:, None] - a) % p  # row s: the b of (a, b) with a + b = s
    total = first.new_zeros(())
    for partners in classes:
        h = torch.relu(first[:, a] + first[:, p + partners])  # (h, p inputs)
        rows = h.t() if between == "inputs" else h[:p]
        total = total + torch.nn.functional.pdist(rows.contiguous(), p=1).sum()
    pairs = p * (p - 1) / 2 if between == "inputs" else p**2
    return total / (p * pairs)
