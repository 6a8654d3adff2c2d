r"""Which weights to keep: scores, global masks from them, and how masks differ.

Every score has one value an entry of a parameter; the entries with the smallest are pruned, all
parameters together. Shapes: a mapping name -> tensor, as ``dict(net.named_parameters())``.

Source: Minegishi et al. 2023, arXiv:2310.19470, and gouki510/Grokking-Tickets:pruner.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call

from grokscope.validation import require_float

Tensors = Mapping[str, Tensor]
MeanLoss = Callable[[Tensor], Tensor]
"""Maps outputs of all training samples to one number."""

GRASP_TEMPERATURE = 200.0
"""What GraSP divides the outputs by (Wang et al. 2020 and the released code)."""


def global_masks(scores: Tensors, pruned: float) -> dict[str, Tensor]:
    """Zeros at the ``int(pruned * n)`` smallest scores of all n together, ones elsewhere.

    Entries that tie with the last pruned score are pruned too. The released code's ``sparsity`` is
    the fraction kept, 1 - ``pruned``.

    Raises:
        ValueError: If ``pruned`` is not within [0, 1), or there is no score.
    """
    require_float("pruned", pruned, minimum=0.0, below=1.0)
    if not scores:
        raise ValueError("scores must be of at least one parameter, got none.")
    everything = torch.cat([score.flatten() for score in scores.values()])
    count = int(pruned * len(everything))
    if count == 0:
        return {name: torch.ones_like(score) for name, score in scores.items()}
    threshold = everything.kthvalue(count).values
    return {name: (score > threshold).to(score.dtype) for name, score in scores.items()}


def magnitude_scores(weights: Tensors) -> dict[str, Tensor]:
    """The absolute value of each weight."""
    return {name: weight.detach().abs() for name, weight in weights.items()}


def random_scores(weights: Tensors, generator: torch.Generator) -> dict[str, Tensor]:
    """Independent normal values, drawn on the CPU."""
    return {
        name: torch.randn(weight.shape, generator=generator, dtype=weight.dtype).to(weight.device)
        for name, weight in weights.items()
    }


def snip_scores(net: nn.Module, inputs: Tensor, loss: MeanLoss, weights: Tensors) -> dict:
    r"""Connection sensitivity :math:`|g \odot \theta|`, g the gradient of the loss.

    Source:
        Lee, Ajanthan and Torr 2019, arXiv:1810.02340.
    """
    leaves = _leaves(weights)
    value = loss(functional_call(net, leaves, (inputs,)))
    gradients = torch.autograd.grad(value, list(leaves.values()))
    pairs = zip(leaves.items(), gradients, strict=True)
    return {name: (gradient * weight).abs().detach() for (name, weight), gradient in pairs}


def grasp_scores(
    net: nn.Module,
    inputs: Tensor,
    loss: MeanLoss,
    weights: Tensors,
    temperature: float = GRASP_TEMPERATURE,
) -> dict[str, Tensor]:
    r"""Share of a weight in the gradient flow: :math:`\theta \odot H g`.

    Setting a weight to zero changes :math:`\|g\|^2` by :math:`-2\,\theta \odot H g` to first
    order,
    so the entries with the largest score are kept: Wang et al. write :math:`-\theta \odot H g`
    and prune the largest.

    Args:
        net: Maps ``inputs`` to outputs.
        inputs: All training samples.
        loss: Of the outputs divided by ``temperature``.
        weights: Name -> parameter; others of the net are constants.
        temperature: T.

    Source:
        Wang, Zhang and Grosse 2020, arXiv:2002.07376.
    """
    leaves = _leaves(weights)
    value = loss(functional_call(net, leaves, (inputs,)) / temperature)
    gradients = torch.autograd.grad(value, list(leaves.values()), create_graph=True)
    flow = torch.stack([(g * g.detach()).sum() for g in gradients]).sum()
    products = torch.autograd.grad(flow, list(leaves.values()))
    pairs = zip(leaves.items(), products, strict=True)
    return {name: (weight * product).detach() for (name, weight), product in pairs}


def synflow_scores(net: nn.Module, inputs: Tensor, weights: Tensors) -> dict[str, Tensor]:
    r"""Synaptic flow :math:`|\theta| \odot \partial R / \partial |\theta|`, in one shot.

    R is the sum of all outputs of the net with :math:`|\theta|` in place of its weights, on the
    training samples as in the released code of Minegishi et al. Tanaka et al. take a single input
    of ones, and prune in 100 rounds.

    Source:
        Tanaka et al. 2020, arXiv:2006.05467.
    """
    everything = {name: p.detach().abs() for name, p in net.named_parameters()}
    leaves = _leaves({name: everything[name] for name in weights})
    total = functional_call(net, everything | leaves, (inputs,)).sum()
    gradients = torch.autograd.grad(total, list(leaves.values()))
    pairs = zip(leaves.items(), gradients, strict=True)
    return {name: (weight * gradient).detach() for (name, weight), gradient in pairs}


def jaccard_distance(first: Tensor, second: Tensor) -> float:
    r"""Jaccard distance of two masks, :math:`1 - |a \wedge b| / |a \vee b|`; empty: 0."""
    a, b = first != 0, second != 0
    union = int((a | b).sum())
    return 1.0 - int((a & b).sum()) / union if union else 0.0


def fourier_entropy(weight: Tensor) -> Tensor:
    r"""Entropy of each neuron's spectrum over the tokens, in nats.

    .. math:: H_j = -\sum_k p_{kj} \log p_{kj}, \quad p_{kj} = |F_{kj}| / \sum_l |F_{lj}|

    with F the discrete Fourier transform over the p tokens, all p frequencies. A neuron of one
    cosine has log 2, any other at most log p, one without weights 0.

    Args:
        weight: (p, n), how a token enters each of n neurons, such as W_E W_in.

    Returns:
        (n,), float64.

    Raises:
        ValueError: If ``weight`` is not a matrix.
    """
    if weight.ndim != 2:
        raise ValueError(f"weight must be (tokens, neurons), got shape {tuple(weight.shape)}.")
    amplitudes = torch.fft.fft(weight.detach().double(), dim=0).abs()
    total = amplitudes.sum(0, keepdim=True)
    shares = amplitudes / torch.where(total > 0, total, 1.0)
    return -torch.xlogy(shares, shares).sum(0)


def _leaves(weights: Tensors) -> dict[str, Tensor]:
    return {name: weight.detach().clone().requires_grad_() for name, weight in weights.items()}
