"""Nets of two tokens whose order does not count: summed embeddings, and bare attention."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from grokscope.nets.initialise import empty_embedding, empty_linear, normal_, private_generator
from grokscope.nets.lookup import Lookup
from grokscope.nets.transformer import Attention
from grokscope.validation import require_float, require_int


class SummedEmbeddingMLP(nn.Module):
    r"""One hidden layer on the sum of the tokens' embeddings, without biases.

    .. math:: f(a, b) = W_U W_{out}\, \mathrm{ReLU}(W_{in} (E_a + E_b))

    Weights are drawn from N(0, (scale / sqrt(d))^2), d the width that a matrix reads: the number
    of tokens for E. 115,000 parameters at the defaults.

    Args:
        n_tokens: Tokens, which is also the number of logits.
        d_embed: Width of the embedding and of what the unembedding reads.
        d_hidden: Hidden units.
        scale: kappa, multiplies every initial weight.
        seed: Seeds a private generator; None draws from torch's global one.

    Raises:
        ValueError: If an argument is out of its range.

    Source:
        Minegishi et al. 2023, arXiv:2310.19470, and gouki510/Grokking-Tickets:model.py (OnlyMLP).
    """

    def __init__(
        self,
        n_tokens: int = 67,
        d_embed: int = 500,
        d_hidden: int = 48,
        scale: float = 1.0,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        self.n_tokens = require_int("n_tokens", n_tokens)
        require_int("d_embed", d_embed)
        require_int("d_hidden", d_hidden)
        require_float("scale", scale, above=0.0)
        self.embed = empty_embedding(n_tokens, d_embed)
        self.hidden = empty_linear(d_embed, d_hidden)
        self.output = empty_linear(d_hidden, d_embed)
        self.unembed = empty_linear(d_embed, n_tokens)
        generator = private_generator(seed)
        normal_(self.embed, scale / math.sqrt(n_tokens), generator)
        for layer in (self.hidden, self.output, self.unembed):
            normal_(layer, scale / math.sqrt(layer.in_features), generator)

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits (n, n_tokens) of tokens (n, k), int64."""
        require_tokens(inputs, None)
        x = self.hidden(self.embed(inputs).sum(-2))
        return self.unembed(self.output(torch.relu(x)))

    def share(self, inputs: Tensor) -> Lookup | None:
        """Which embeddings each sample sums, for :meth:`forward_shared`."""
        require_tokens(inputs, None)
        return Lookup.of(inputs, self.n_tokens) if inputs.ndim == 2 and len(inputs) else None

    def forward_shared(self, plan: Lookup) -> Tensor:
        """Logits (n, n_tokens) of the inputs that ``plan`` was made from.

        Each token's way to the hidden units is computed once, and so is the product of the last
        two matrices: n (k + n_tokens) d_hidden multiply-adds a pass instead of
        n (2 d_hidden + n_tokens) d_embed.
        """
        x = torch.relu(plan.sum(self.hidden(self.embed.weight)))
        return x @ (self.unembed.weight @ self.output.weight).t()


class BareTransformer(nn.Module):
    r"""Decoder of one layer without positions, biases and LayerNorm, read at the last token.

    Embeddings are drawn from N(0, 1/n_tokens), all other weights from N(0, 1/d_model). 115,456
    parameters at the defaults.

    Args:
        n_tokens: Tokens, which is also the number of logits.
        context: Tokens in a sample.
        d_model: Width of the residual stream.
        n_heads: Attention heads.
        d_head: Width of a head.
        d_mlp: Hidden units of the feed-forward layer.
        seed: Seeds a private generator; None draws from torch's global one.

    Raises:
        ValueError: If an argument is out of its range.

    Source:
        Minegishi et al. 2023, gouki510/Grokking-Tickets:model.py (Transformer). The paper's
        appendix B.2 has positions and biases too.
    """

    def __init__(
        self,
        n_tokens: int = 67,
        context: int = 2,
        d_model: int = 128,
        n_heads: int = 1,
        d_head: int = 128,
        d_mlp: int = 128,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        self.n_tokens = require_int("n_tokens", n_tokens)
        self.context = require_int("context", context, minimum=2)
        for name, value in {"d_model": d_model, "n_heads": n_heads, "d_head": d_head}.items():
            require_int(name, value)
        self.embed = empty_embedding(n_tokens, d_model)
        self.attention = Attention(d_model, n_heads, d_head, "softmax")
        self.up = empty_linear(d_model, require_int("d_mlp", d_mlp))
        self.down = empty_linear(d_mlp, d_model)
        self.unembed = empty_linear(d_model, n_tokens)
        generator = private_generator(seed)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                width = n_tokens if module is self.embed else d_model
                normal_(module, 1 / math.sqrt(width), generator)

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits (n, n_tokens) at the last of the tokens (n, context), int64."""
        require_tokens(inputs, self.context)
        x = self.embed(inputs)
        x = x[..., -1, :] + self.attention(x)
        return self.unembed(x + self.down(torch.relu(self.up(x))))


def require_tokens(inputs: Tensor, context: int | None) -> None:
    """Refuse what is not tokens (..., context) of int64; None takes any context."""
    right = inputs.ndim > 0 and context in (None, inputs.shape[-1])
    if not right or inputs.dtype != torch.int64:
        raise ValueError(
            f"inputs must be (n, {context or 'k'}) tokens of int64, "
            f"got {tuple(inputs.shape)} of {inputs.dtype}."
        )
