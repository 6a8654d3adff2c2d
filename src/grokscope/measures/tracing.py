r"""What the residual stream of a transformer holds, and what depends on it.

``S[i, a]`` is the residual stream after layer ``i`` at the position of token ``a``; ``S[0, a]``
is the embedding. All functions run the net as it is: put it in evaluation mode.

Source:
    Wang, Yue, Su, Sun 2024, arXiv:2405.15071, section 3.3 and appendix; the authors'
    ``causal_tracing_composition.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor


class Layered(Protocol):
    """A net whose layers follow each other: ``net(x) = read(layers[-1](...start(x)))``."""

    @property
    def layers(self) -> Sequence[Callable[[Tensor], Tensor]]:
        """Maps of the stream (n, t, d) to itself, in order."""

    def start(self, inputs: Tensor) -> Tensor:
        """The stream before the first layer."""

    def read(self, stream: Tensor) -> Tensor:
        """Logits (..., v) of a stream (..., d)."""


def residual_stream(net: Layered, inputs: Tensor) -> Tensor:
    """``S``: (layers + 1, n, t, d)."""
    states = [net.start(inputs)]
    for layer in net.layers:
        states.append(layer(states[-1]))
    return torch.stack(states)


def token_ranks(logits: Tensor, tokens: Tensor) -> Tensor:
    """How many tokens have a larger logit, float (...,); tied ones count a half.

    Args:
        logits: (..., v).
        tokens: (...,) int64, broadcast over the leading axes.
    """
    tokens = tokens.expand(logits.shape[:-1])
    own = logits.gather(-1, tokens[..., None])
    tied = (logits == own).sum(-1) - 1
    return (logits > own).sum(-1) + tied / 2


def lens_reciprocal_rank(net: Layered, inputs: Tensor, position: int, tokens: Tensor) -> Tensor:
    r"""Mean reciprocal rank of a token in what the net would read off each layer.

    .. math:: \frac{1}{n} \sum_j \frac{1}{1 + \mathrm{rank}_j}

    The rank is that of token j among all logits of ``read(S[i, a])`` ("logit lens"), 0 for the
    largest.

    Args:
        net: The net, v logits.
        inputs: (n, t) tokens.
        position: Of ``a`` in the inputs.
        tokens: (n,) int64, what is looked for in each sample.

    Returns:
        (layers + 1,), from the embedding to the last layer.
    """
    ranks = token_ranks(net.read(residual_stream(net, inputs)[:, :, position]), tokens)
    return (1 / (1 + ranks)).mean(1)


def patched_logits(
    net: Layered, states: Tensor, others: Tensor, layer: int, position: int | slice
) -> Tensor:
    """Logits (n, t, v) of a run in which ``S[layer, position]`` is that of another run.

    Args:
        net: The net.
        states: :func:`residual_stream` of the run, (layers + 1, n, t, d).
        others: That of the other run.
        layer: From 0, the embedding, to the number of layers.
        position: One position, or several.
    """
    stream = states[layer].clone()
    stream[:, position] = others[layer][:, position]
    for following in net.layers[layer:]:
        stream = following(stream)
    return net.read(stream)


def causal_strength(
    net: Layered, inputs: Tensor, perturbed: Tensor, position: int | slice, target: int
) -> Tensor:
    """Share of samples in which a state from a perturbed run changes the answer.

    The answer is the token with the largest logit at ``target``. Of each sample, ``S[i,
    position]`` is replaced by that of the same position in the perturbed run, one layer i at a
    time, and the layers above run again. (The authors' code asks whether the right answer has
    lost the first rank; this is the paper's definition, the same where the net is right.)

    Args:
        net: The net.
        inputs: (n, t) tokens.
        perturbed: (n, t), the same with a token replaced.
        position: Where the state is replaced, one position or several.
        target: Where the answer is read.

    Returns:
        (layers + 1,), from the embedding to the last layer.
    """
    states, others = residual_stream(net, inputs), residual_stream(net, perturbed)
    answers = net.read(states[-1][:, target]).argmax(-1)
    changed = [
        patched_logits(net, states, others, layer, position)[:, target].argmax(-1) != answers
        for layer in range(len(states))
    ]
    return torch.stack(changed).double().mean(1)
