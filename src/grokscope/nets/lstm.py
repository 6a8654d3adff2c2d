"""A recurrent classifier of word sequences."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from grokscope.nets.initialise import drawing_from
from grokscope.validation import require_float, require_int


class LastStateLSTM(nn.Module):
    """Embedding, LSTM, and one linear map of the last position's state.

    Every batch starts from a state of zeros (the released code carries it over from the batch
    before, whose reviews have nothing to do with it). The padding has an embedding of its own,
    which is trained. No sigmoid at the end.

    Args:
        n_tokens: Rows of the embedding table: known words and the padding.
        d_embed: Length of an embedding.
        d_hidden: Units of each LSTM layer.
        n_layers: LSTM layers.
        d_out: Outputs.
        scale: Multiplies every initial parameter (alpha in Omnigrok).
        seed: Seeds a private draw; None draws from torch's global generator.

    Source:
        Liu et al. 2023 (Omnigrok), arXiv:2210.01117; KindXiaoming/Omnigrok:imdb/grokking:
        920,385 parameters at the defaults. The paper says 128 hidden units.
    """

    def __init__(
        self,
        n_tokens: int = 1001,
        d_embed: int = 64,
        d_hidden: int = 256,
        n_layers: int = 2,
        d_out: int = 1,
        scale: float = 1.0,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        sizes = (("n_tokens", n_tokens), ("d_embed", d_embed), ("d_hidden", d_hidden))
        for name, value in (*sizes, ("n_layers", n_layers), ("d_out", d_out)):
            require_int(name, value)
        require_float("scale", scale, above=0)
        with torch.no_grad(), drawing_from(seed):
            self.embedding = nn.Embedding(n_tokens, d_embed)
            self.lstm = nn.LSTM(d_embed, d_hidden, n_layers, batch_first=True)
            self.head = nn.Linear(d_hidden, d_out)
            for parameter in self.parameters():
                parameter.mul_(scale)

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits (n, d_out) of word numbers (n, length), int64."""
        states, _ = self.lstm(self.embedding(inputs))
        return self.head(states[:, -1])
