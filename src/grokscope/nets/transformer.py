"""The one-layer transformer that learns modular addition, plain and with shared work."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from grokscope.nets.initialise import empty_embedding, empty_linear, normal_, private_generator
from grokscope.nets.lookup import Lookup
from grokscope.validation import require_choice, require_int


def softmax1(scores: Tensor, dim: int) -> Tensor:
    r"""Softmax that may also attend to nothing.

    .. math:: \frac{e^{x_i - m}}{e^{-m} + \sum_j e^{x_j - m}}, \quad m = \max(0, \max_j x_j)

    It is the softmax with one more score, zero, whose weight is left out.
    """
    nothing = torch.zeros_like(scores.narrow(dim, 0, 1))
    padded = torch.cat([scores, nothing], dim).softmax(dim)
    return padded.narrow(dim, 0, scores.shape[dim])


@dataclass(frozen=True)
class TransformerPlan:
    """The distinct (position, token) rows of a fixed input set, and who uses them.

    Attributes:
        tokens: (r,) int64, token of each distinct row; the last row is the query's.
        positions: (r,) int64, position of each distinct row.
        scores: Rows of an (r, heads) table, one for each of a sample's k keys: (n * k, 1).
        values: Rows of an (r * heads, d) table, k * heads of them a sample: (n, k * heads).
    """

    tokens: Tensor
    positions: Tensor
    scores: Lookup
    values: Lookup


class Attention(nn.Module):
    """Multi-head attention of the last position, without biases; heads lie one after the other."""

    def __init__(self, d_model: int, n_heads: int, d_head: int, softmax: str) -> None:
        super().__init__()
        self.n_heads, self.d_head, self.softmax = n_heads, d_head, softmax
        self.query = empty_linear(d_model, n_heads * d_head)
        self.key = empty_linear(d_model, n_heads * d_head)
        self.value = empty_linear(d_model, n_heads * d_head)
        self.output = empty_linear(n_heads * d_head, d_model)

    def heads(self, x: Tensor) -> Tensor:
        """(..., context, heads * d_head) as (..., heads, context, d_head)."""
        return x.view(*x.shape[:-1], self.n_heads, self.d_head).transpose(-3, -2)

    def forward(self, x: Tensor) -> Tensor:
        """What it adds to the last row of the residual stream ``x`` (..., context, d_model)."""
        query, key, value = (
            self.heads(f(rows))
            for f, rows in ((self.query, x[..., -1:, :]), (self.key, x), (self.value, x))
        )
        scores = query @ key.mT / math.sqrt(self.d_head)
        pattern = scores.softmax(-1) if self.softmax == "softmax" else softmax1(scores, -1)
        return self.output((pattern @ value).flatten(-3))


class FeedForward(nn.Module):
    """ReLU layer and its way back, both with biases."""

    def __init__(self, d_model: int, d_mlp: int) -> None:
        super().__init__()
        self.up = empty_linear(d_model, d_mlp, bias=True)
        self.down = empty_linear(d_mlp, d_model, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        """What the layer adds to the residual stream ``x`` (..., d_model)."""
        return self.down(torch.relu(self.up(x)))


class OneLayerTransformer(nn.Module):
    r"""Decoder of one layer, without LayerNorm, read at the last position, computed there only.

    .. math::
        x_0 &= W_E t + p, \qquad x_1 = x_0 + \sum_h W_O^h W_V^h x_0 A^h \\
        x_2 &= x_1 + W_{out}\, \mathrm{ReLU}(W_{in} x_1 + b_{in}) + b_{out}, \qquad
        \mathrm{logits} = W_U x_2

    Weights are drawn from N(0, 1/d_model), the unembedding from N(0, 1/n_tokens); biases
    start at zero. 226,816 parameters at the defaults.

    Args:
        n_tokens: Vocabulary, which is also the number of logits.
        context: Tokens in a sample, at least 2; the answer is read at the last.
        d_model: Width of the residual stream.
        n_heads: Attention heads.
        d_head: Width of a head.
        d_mlp: Hidden units of the feed-forward layer.
        softmax: ``softmax``, or ``softmax1``, which may attend to nothing (:func:`softmax1`).
        seed: Seeds a private generator; None draws from torch's global one.

    Raises:
        ValueError: If an argument is out of its range.

    Source:
        Nanda et al. 2023, arXiv:2301.05217; values from the authors' released Config. They
        draw W_out with 1/d_model too, although its inputs are d_mlp.
    """

    def __init__(
        self,
        n_tokens: int = 114,
        context: int = 3,
        d_model: int = 128,
        n_heads: int = 4,
        d_head: int = 32,
        d_mlp: int = 512,
        softmax: str = "softmax",
        seed: int | None = None,
    ) -> None:
        super().__init__()
        self.n_tokens = require_int("n_tokens", n_tokens)
        self.context = require_int("context", context, minimum=2)
        require_int("d_model", d_model)
        require_int("n_heads", n_heads)
        require_int("d_head", d_head)
        require_int("d_mlp", d_mlp)
        require_choice("softmax", softmax, ("softmax", "softmax1"))
        self.embed = empty_embedding(n_tokens, d_model)
        self.position = empty_embedding(context, d_model)
        self.attention = Attention(d_model, n_heads, d_head, softmax)
        self.mlp = FeedForward(d_model, d_mlp)
        self.unembed = empty_linear(d_model, n_tokens)
        self._initialise(d_model, private_generator(seed))

    def _initialise(self, d_model: int, generator: torch.Generator | None) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                variance = 1 / (self.n_tokens if module is self.unembed else d_model)
                normal_(module, math.sqrt(variance), generator)

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits (n, n_tokens) at the last position of tokens (n, context), int64.

        The last position sees all others, and nothing that they attend to themselves is read.
        """
        self._check(inputs)
        x = self.embed(inputs) + self.position.weight
        last = x[..., -1, :] + self.attention(x)
        return self.unembed(last + self.mlp(last))

    def _check(self, inputs: Tensor) -> None:
        if inputs.shape[-1:] != (self.context,) or inputs.dtype != torch.int64:
            raise ValueError(
                f"inputs must be (n, {self.context}) tokens of int64, "
                f"got {tuple(inputs.shape)} of {inputs.dtype}."
            )

    def share(self, inputs: Tensor) -> TransformerPlan | None:
        """Find the distinct (position, token) rows, for :meth:`forward_shared`.

        Args:
            inputs: (n, context) int64, fixed for as long as the plan is used. The step is a
                little faster if they are sorted.

        Returns:
            The plan, or None if the last token is not the same for all samples: then scores
            depend on pairs of tokens, and there is little to share.
        """
        self._check(inputs)
        if inputs.ndim != 2 or not len(inputs) or (inputs[:, -1] != inputs[0, -1]).any():
            return None
        offsets = self.n_tokens * torch.arange(self.context, device=inputs.device)
        codes, rows = torch.unique(inputs + offsets, return_inverse=True)
        rows = rows[:, : self.context - self._relative]
        heads = torch.arange(self.attention.n_heads, device=inputs.device)
        return TransformerPlan(
            tokens=codes % self.n_tokens,
            positions=codes // self.n_tokens,
            scores=Lookup.of(rows.reshape(-1, 1), len(codes)),
            values=Lookup.of(
                (rows[..., None] * len(heads) + heads).flatten(1), len(codes) * len(heads)
            ),
        )

    @property
    def _relative(self) -> bool:
        """Whether keys and values are taken relative to the query's own.

        A softmax does not see a common shift of the scores, and its weights sum to one. So
        the query's own key may serve as zero point, and its weight as the remainder: what is
        left is a softmax1 over the other positions.
        """
        return self.attention.softmax == "softmax"

    def forward_shared(self, plan: TransformerPlan) -> Tensor:
        """Logits (n, n_tokens) of the inputs that ``plan`` was made from.

        The query is the same vector for all samples, so keys, scores and values depend on
        (position, token) alone, a few hundred rows. Each row's way from its value to the
        hidden units and to the logits is computed once; a sample is then a sum of such rows,
        weighted by its attention pattern. Only the product of hidden units and logits remains
        to be done for each sample.
        """
        rows = self.embed(plan.tokens) + self.position(plan.positions)
        query = stream = rows[-1]
        if self._relative:
            stream = query + self.attention.output(self.attention.value(query))
            rows = rows - query
        pattern = self._pattern(query, rows, plan)
        values = self.attention.heads(self.attention.value(rows))
        hidden = plan.values.sum(self._through(values, self.mlp.up.weight), pattern)
        hidden = hidden.add_(self.mlp.up(stream)).relu_()
        logits = plan.values.sum(self._through(values, self.unembed.weight), pattern)
        logits = logits.add_(self.unembed(stream + self.mlp.down.bias))
        return logits.addmm_(hidden, (self.unembed.weight @ self.mlp.down.weight).t())

    def _pattern(self, query: Tensor, rows: Tensor, plan: TransformerPlan) -> Tensor:
        """Attention of the last position, (n, k * heads)."""
        attention = self.attention
        query = attention.query(query).view(-1, 1, attention.d_head)
        scores = (attention.heads(attention.key(rows)) * query).sum(-1).t()
        scores = plan.scores.sum(scores / math.sqrt(attention.d_head))
        n = plan.values.rows.shape[0]
        return softmax1(scores.view(n, -1, attention.n_heads), 1).flatten(1)

    def _through(self, values: Tensor, weight: Tensor) -> Tensor:
        """What each value (heads, r, d_head) adds to ``weight @ x``: (r * heads, outputs)."""
        attention = self.attention
        combined = (weight @ attention.output.weight).view(-1, attention.n_heads, attention.d_head)
        return torch.bmm(values, combined.permute(1, 2, 0)).transpose(0, 1).flatten(0, 1)
