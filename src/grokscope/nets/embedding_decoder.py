"""Embeddings that are added or multiplied, and a decoder: the toy of representation learning."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from grokscope.nets.initialise import drawing_from, empty_embedding
from grokscope.nets.mlp import MLP
from grokscope.validation import require_choice, require_float, require_int


class EmbeddingDecoder(nn.Module):
    r"""A decoder on two trainable embeddings, whose combination is built in.

    .. math:: f(i, j) = \mathrm{Dec}(E_i + E_j) \quad \text{or} \quad
              f(a, b) = \mathrm{Dec}(\mathrm{vec}(E_a E_b))

    Args:
        n_symbols: Rows of the embedding table.
        d_embed: Length of an embedding; a square number for ``multiply``.
        combine: ``add``, or ``multiply``: embeddings are square matrices.
        hidden: Widths of the decoder's hidden layers, tanh.
        d_out: Outputs.
        embed_range: Embeddings are drawn uniformly from an interval of this length around 0.
        scale: Multiplies every initial parameter of the decoder, biases included.
        seed: Seeds a private draw; None draws from torch's global generator. Numbers are drawn
            as in the released code: for ``add`` embeddings, then decoder; for ``multiply`` an
            encoder 1-200-200-d_embed that is not used, the decoder, then embeddings.

    Raises:
        ValueError: If an argument is out of its range.

    Source:
        Liu et al. 2022, arXiv:2205.10343; ejmichaud/grokking-squared:toy/train_add.py and
        toy/Figure5d_permutation.ipynb. 46,640 parameters at the defaults.
    """

    def __init__(
        self,
        n_symbols: int = 10,
        d_embed: int = 1,
        combine: str = "add",
        hidden: Sequence[int] = (200, 200),
        d_out: int = 30,
        embed_range: float = 1.0,
        scale: float = 1.0,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        require_int("n_symbols", n_symbols)
        self.combine = require_choice("combine", combine, ("add", "multiply"))
        self.side = math.isqrt(require_int("d_embed", d_embed))
        if combine == "multiply" and self.side**2 != d_embed:
            raise ValueError(f"d_embed must be a square number to multiply, got {d_embed}.")
        require_float("embed_range", embed_range, above=0)
        self.embedding = empty_embedding(n_symbols, d_embed)
        with torch.no_grad(), drawing_from(seed):
            if combine == "multiply":
                MLP((1, 200, 200, d_embed), "tanh")
                self.decoder = MLP((d_embed, *hidden, d_out), "tanh", scale=scale)
                self._draw(embed_range)
            else:
                self._draw(embed_range)
                self.decoder = MLP((d_embed, *hidden, d_out), "tanh", scale=scale)

    def _draw(self, embed_range: float) -> None:
        table = self.embedding.weight
        table.copy_((torch.rand(table.shape) - 1 / 2) * embed_range)

    def forward(self, inputs: Tensor) -> Tensor:
        """Outputs (n, d_out) of pairs of symbols (n, 2), int64."""
        first, second = self.embedding(inputs).unbind(-2)
        if self.combine == "add":
            return self.decoder(first + second)
        shape = (-1, self.side, self.side)
        return self.decoder((first.reshape(shape) @ second.reshape(shape)).flatten(1))
