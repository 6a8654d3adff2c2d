"""The decoder-only transformer in which grokking was first seen."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from grokscope.nets.initialise import (
    empty_embedding,
    empty_linear,
    normal_,
    private_generator,
    torch_default_,
)
from grokscope.validation import require_bool, require_choice, require_float, require_int

MAX_CONTEXT = 50
HIDDEN: dict[str, Callable[[Tensor], Tensor]] = {"relu": torch.relu, "gelu": F.gelu}


def sinusoids(context: int, width: int) -> Tensor:
    r"""Fixed positions (context, width), float32, computed in float64.

    .. math:: P_{ti} = \sin(t / 10000^{i/d}) \text{ for even } i, \quad
              \cos(t / 10000^{(i-1)/d}) \text{ for odd } i
    """
    times = torch.arange(context, dtype=torch.float64)[:, None]
    even = torch.arange(width) // 2 * 2
    angles = times / 10000 ** (even.double() / width)
    return torch.where(torch.arange(width) % 2 == 0, angles.sin(), angles.cos()).float()


class SelfAttention(nn.Module):
    """Causal multi-head attention without biases, for the last ``n_queries`` positions."""

    def __init__(self, d_model: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.query = empty_linear(d_model, d_model)
        self.key = empty_linear(d_model, d_model)
        self.value = empty_linear(d_model, d_model)
        self.output = empty_linear(d_model, d_model)

    def forward(self, x: Tensor, n_queries: int) -> Tensor:
        """(..., context, d_model) to (..., n_queries, d_model)."""
        query = self._heads(self.query(x[..., -n_queries:, :]))
        key, value = self._heads(self.key(x)), self._heads(self.value(x))
        scores = query @ key.mT / math.sqrt(query.shape[-1])
        context = x.shape[-2]
        future = torch.ones(context, context, dtype=torch.bool, device=x.device).triu(1)
        scores = scores.masked_fill(future[-n_queries:], -math.inf)
        return self.output((scores.softmax(-1) @ value).transpose(-3, -2).flatten(-2))

    def _heads(self, x: Tensor) -> Tensor:
        """(..., context, d_model) as (..., heads, context, d_head)."""
        return x.unflatten(-1, (self.n_heads, -1)).transpose(-3, -2)


class Block(nn.Module):
    """Attention and a feed-forward layer, each added and then normalised (post-LN)."""

    def __init__(self, d_model: int, n_heads: int, d_ff: int, hidden: str, dropout: float) -> None:
        super().__init__()
        self.attention = SelfAttention(d_model, n_heads)
        self.attention_norm = nn.LayerNorm(d_model)
        self.up = empty_linear(d_model, d_ff)
        self.down = empty_linear(d_ff, d_model)
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(d_model)
        self.hidden = hidden

    def forward(self, x: Tensor, n_queries: int) -> Tensor:
        """(..., context, d_model) to its last ``n_queries`` positions after the block."""
        x = self.attention_norm(x[..., -n_queries:, :] + self.attention(x, n_queries))
        return self.norm(x + self.dropout(self.down(HIDDEN[self.hidden](self.up(x)))))


class DecoderTransformer(nn.Module):
    r"""Post-LN decoder with fixed positions and no biases; logits at the last positions.

    .. math::
        x_0 &= W_E t + P, \qquad h = \mathrm{LN}_1(x + \mathrm{Attention}(x)) \\
        x'  &= \mathrm{LN}_2(h + \mathrm{drop}(W_2\, \phi(W_1 h))), \qquad
        \mathrm{logits} = W_U x_L

    455,424 parameters at the defaults. The last block is evaluated only where logits are read:
    what no logit depends on is left out.

    Args:
        n_tokens: Vocabulary.
        n_answers: Positions at the end of a sequence whose logits are returned.
        n_layers: Blocks.
        d_model: Width, a multiple of ``n_heads``.
        n_heads: Attention heads.
        d_ff: Hidden units of the feed-forward layer; null is 4 ``d_model``.
        hidden: ``relu`` or ``gelu``.
        dropout: Of the feed-forward layer's output, the only one in the code.
        weight_noise: In training, every forward pass uses :math:`\theta + \sigma\epsilon` for
            every parameter, with fresh standard normal numbers of torch's global generator.
        unit_head: Logits are cosines: the features and each row of the head are normalised to
            unit length (Thilak et al. 2022's alternative to weight decay; rows are our reading).
        seed: Seeds a private generator for the initial weights; None draws from torch's global
            one.

    Raises:
        ValueError: If an argument is out of its range.

    Source:
        Power et al. 2022, arXiv:2201.02177; openai/grok:grok/transformer.py (commit 3d64b1d).
        Weights are drawn as PyTorch does by default, heads as separate matrices there and side
        by side here, which is the same.
    """

    positions: Tensor

    def __init__(
        self,
        n_tokens: int = 239,
        n_answers: int = 2,
        n_layers: int = 2,
        d_model: int = 128,
        n_heads: int = 4,
        d_ff: int | None = None,
        hidden: str = "relu",
        dropout: float = 0.0,
        weight_noise: float = 0.0,
        unit_head: bool = False,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        require_int("n_tokens", n_tokens)
        self.n_answers = require_int("n_answers", n_answers, maximum=MAX_CONTEXT)
        require_int("n_heads", n_heads)
        if require_int("d_model", d_model) % n_heads:
            raise ValueError(f"d_model must be a multiple of {n_heads} heads, got {d_model}.")
        width = 4 * d_model if d_ff is None else require_int("d_ff", d_ff)
        require_choice("hidden", hidden, HIDDEN)
        require_float("dropout", dropout, minimum=0.0, below=1.0)
        self.weight_noise = require_float("weight_noise", weight_noise, minimum=0.0)
        self.differs_in_training = self.weight_noise > 0
        self.unit_head = require_bool("unit_head", unit_head)
        self.embed = empty_embedding(n_tokens, d_model)
        self.register_buffer("positions", sinusoids(MAX_CONTEXT, d_model), persistent=False)
        self.blocks = nn.ModuleList(
            Block(d_model, n_heads, width, hidden, dropout)
            for _ in range(require_int("n_layers", n_layers))
        )
        self.unembed = empty_linear(d_model, n_tokens)
        self._initialise(private_generator(seed))

    def _initialise(self, generator: torch.Generator | None) -> None:
        for module in self.modules():
            if isinstance(module, nn.Embedding):
                normal_(module, 1.0, generator)
            elif isinstance(module, nn.Linear):
                torch_default_(module, generator)

    def forward(self, inputs: Tensor, noisy: bool = True) -> Tensor:
        """Logits (n, n_answers, n_tokens) after the last tokens of ``inputs`` (n, context)."""
        if noisy and self.training and self.weight_noise:
            return cast(Tensor, functional_call(self, self._perturbed(), (inputs, False)))
        features = self.features(inputs)
        if self.unit_head:
            return F.normalize(features, dim=-1) @ F.normalize(self.unembed.weight, dim=1).mT
        return self.unembed(features)

    def features(self, inputs: Tensor) -> Tensor:
        """What the head reads, (n, n_answers, d_model)."""
        context = inputs.shape[-1]
        if inputs.dtype != torch.int64 or not self.n_answers <= context <= MAX_CONTEXT:
            raise ValueError(
                f"inputs must be (n, {self.n_answers} to {MAX_CONTEXT}) tokens of int64, "
                f"got {tuple(inputs.shape)} of {inputs.dtype}."
            )
        x = self.embed(inputs) + self.positions[:context]
        for block in self.blocks:
            last = block is self.blocks[-1]
            x = block(x, self.n_answers if last else context)
        return x

    def _perturbed(self) -> dict[str, Tensor]:
        """Every parameter with noise added."""
        return {
            name: parameter + self.weight_noise * torch.randn_like(parameter)
            for name, parameter in self.named_parameters()
        }
