"""A GPT-2 shaped decoder: pre-LayerNorm blocks, learned positions, tied embeddings."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from grokscope.nets.initialise import empty_embedding, empty_linear, normal_, private_generator
from grokscope.validation import require_bool, require_float, require_int

INIT_STD = 0.02


class CausalAttention(nn.Module):
    """Causal multi-head attention; queries, keys and values come from one matrix."""

    def __init__(self, d_model: int, n_heads: int, dropout: float) -> None:
        super().__init__()
        self.n_heads, self.dropout = n_heads, dropout
        self.input = empty_linear(d_model, 3 * d_model, bias=True)
        self.output = empty_linear(d_model, d_model, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        """(n, t, d_model) to what attention adds to the residual stream."""
        parts = self.input(x).unflatten(-1, (3, self.n_heads, -1)).transpose(-4, -2)
        query, key, value = parts.unbind(-3)
        p = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(query, key, value, dropout_p=p, is_causal=True)
        return self.output(mixed.transpose(-3, -2).flatten(-2))


class GPT2Block(nn.Module):
    """``x + attention(norm(x))``, then ``x + mlp(norm(x))``; dropout on both additions."""

    def __init__(self, d_model: int, n_heads: int, d_mlp: int, dropout: float) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(d_model)
        self.attention = CausalAttention(d_model, n_heads, dropout)
        self.mlp_norm = nn.LayerNorm(d_model)
        self.up = empty_linear(d_model, d_mlp, bias=True)
        self.down = empty_linear(d_mlp, d_model, bias=True)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """The residual stream (n, t, d_model) after this block."""
        x = x + self.dropout(self.attention(self.attention_norm(x)))
        hidden = F.gelu(self.up(self.mlp_norm(x)), approximate="tanh")  # "gelu_new"
        return x + self.dropout(self.down(hidden))


class GPT2(nn.Module):
    r"""Decoder with the shape, the activation and the initialisation of GPT-2.

    Matrices and embeddings are drawn from N(0, 0.02^2), those that write to the residual
    stream (``attention.output``, ``down``) from N(0, 0.02^2 / (2 n_layers)); biases start at
    zero. The unembedding is the embedding. At the defaults 59,185,152 parameters,
    56,702,976 of them in the blocks.

    Args:
        n_tokens: Rows of the embedding, and logits. Wang et al. keep GPT-2's own 50,257 tokens
            beside those of the task, and pad the table to 52,464 rows.
        context: Largest number of tokens in a sample (rows of the position table).
        d_model: Width of the residual stream; a multiple of ``n_heads``.
        n_layers: Blocks.
        n_heads: Attention heads.
        d_mlp: Hidden units of the feed-forward layers; None is ``4 * d_model``.
        dropout: Probability, on embeddings, attention patterns and both additions of a block.
        passes: How often the blocks run one after the other, with the same weights: the
            parameter sharing of Wang et al. (appendix E.2) is 4 layers and 2 passes.
        compile: Whether blocks are compiled by ``torch.compile``; names and weights stay.
        seed: Seeds a private generator; None draws from torch's global one.

    Raises:
        ValueError: If an argument is out of its range.

    Source:
        Radford et al. 2019; as ``GPT2LMHeadModel`` of Hugging Face, which Wang et al. 2024
        (arXiv:2405.15071) train from scratch with 8 layers.
    """

    def __init__(
        self,
        n_tokens: int = 2206,
        context: int = 1024,
        d_model: int = 768,
        n_layers: int = 8,
        n_heads: int = 12,
        d_mlp: int | None = None,
        dropout: float = 0.1,
        passes: int = 1,
        compile: bool = False,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        self.n_tokens = require_int("n_tokens", n_tokens)
        self.context = require_int("context", context)
        require_int("n_layers", n_layers)
        self.passes = require_int("passes", passes)
        if require_int("d_model", d_model) % require_int("n_heads", n_heads):
            raise ValueError(f"d_model must be a multiple of n_heads={n_heads}, got {d_model}.")
        width = 4 * d_model if d_mlp is None else require_int("d_mlp", d_mlp)
        p = require_float("dropout", dropout, minimum=0.0, below=1.0)
        self.embed = empty_embedding(n_tokens, d_model)
        self.position = empty_embedding(context, d_model)
        self.dropout = nn.Dropout(p)
        self.blocks = nn.ModuleList(GPT2Block(d_model, n_heads, width, p) for _ in range(n_layers))
        self.norm = nn.LayerNorm(d_model)
        self._initialise(private_generator(seed))
        if require_bool("compile", compile):
            for block in self.blocks:
                block.compile()

    def _initialise(self, generator: torch.Generator | None) -> None:
        into_stream = INIT_STD / math.sqrt(2 * len(self.blocks))
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                std = into_stream if name.endswith((".output", ".down")) else INIT_STD
                normal_(module, std, generator)

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits (n, t, n_tokens) of the next token at each position of (n, t) tokens, int64."""
        stream = self.start(inputs)
        for layer in self.layers:
            stream = layer(stream)
        return self.read(stream)

    @property
    def layers(self) -> list[nn.Module]:
        """Blocks in the order in which they run; with two passes each comes twice."""
        return [*self.blocks] * self.passes

    def start(self, inputs: Tensor) -> Tensor:
        """The residual stream (n, t, d_model) before the first block."""
        if inputs.ndim != 2 or inputs.shape[1] > self.context or inputs.dtype != torch.int64:
            raise ValueError(
                f"inputs must be (n, at most {self.context}) tokens of int64, "
                f"got {tuple(inputs.shape)} of {inputs.dtype}."
            )
        return self.dropout(self.embed(inputs) + self.position.weight[: inputs.shape[1]])

    def read(self, stream: Tensor) -> Tensor:
        """Logits (..., n_tokens) of a residual stream (..., d_model): the last norm, then tied."""
        return F.linear(self.norm(stream), self.embed.weight)
