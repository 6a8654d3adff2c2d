r"""Inside the one-layer transformer of modular addition, at all p^2 inputs (a, b, =).

Weights are a mapping under the authors' names and shapes (:data:`SHAPES`), with d the width, h
heads, e the width of a head, m hidden units and p + 1 tokens, of which p is "=".

.. math::
    x &= W_E t + W_{pos}, \qquad
    A^h = \mathrm{softmax}\left(\frac{(W_Q^h x_=)^\top W_K^h x}{\sqrt e}\right), \qquad
    r = x_= + W_O\, [\textstyle\sum_i A^h_i W_V^h x_i]_h \\
    n &= \mathrm{ReLU}(W_{in} r + b_{in}), \qquad
    \mathrm{logits} = (r + W_{out} n + b_{out}) W_U

The query is that of "=", one vector for all inputs, so scores and values are those of 2 p + 1
rows (position, token).

Source of everything here: Nanda et al. 2023, arXiv:2301.05217, and the authors' code
(transformers.py and notebook Grokking_Analysis). Everything is computed in float64.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from grokscope.measures.fourier_basis import (
    Array,
    as_double,
    fourier_components,
    require_odd,
)

SHAPES: dict[str, tuple[str, ...]] = {
    "embed.W_E": ("d", "p+1"),
    "pos_embed.W_pos": ("3", "d"),
    "blocks.0.attn.W_K": ("h", "e", "d"),
    "blocks.0.attn.W_Q": ("h", "e", "d"),
    "blocks.0.attn.W_V": ("h", "e", "d"),
    "blocks.0.attn.W_O": ("d", "h*e"),
    "blocks.0.mlp.W_in": ("m", "d"),
    "blocks.0.mlp.b_in": ("m",),
    "blocks.0.mlp.W_out": ("d", "m"),
    "blocks.0.mlp.b_out": ("d",),
    "unembed.W_U": ("d", "p+1"),
}
"""Name -> shape, in the authors' order."""


@dataclass(frozen=True)
class TransformerWeights:
    """Checked weights in float64.

    Attributes:
        by_name: The authors' name -> tensor.
        modulus: p.
    """

    by_name: dict[str, Tensor]
    modulus: int

    @classmethod
    def of(cls, weights: Mapping[str, Any], modulus: int) -> TransformerWeights:
        """Check a mapping of arrays or tensors; names other than :data:`SHAPES` are left out.

        Raises:
            ValueError: For an even modulus or one below 3, a name that is missing, or a shape
                that does not fit.
        """
        require_odd(modulus)
        if missing := [name for name in SHAPES if name not in weights]:
            raise ValueError(f"weights must have {', '.join(SHAPES)}; {missing[0]} is missing.")
        by_name = {name: as_double(weights[name]) for name in SHAPES}
        sizes = {"3": 3, "p+1": modulus + 1}
        for name in ("blocks.0.attn.W_K", "blocks.0.mlp.W_in", *SHAPES):
            _fit(name, by_name[name], sizes)
        return cls(by_name, modulus)

    def __getitem__(self, name: str) -> Tensor:
        """By the last part of the authors' name, such as ``W_E``."""
        return next(w for full, w in self.by_name.items() if full.endswith(f".{name}"))

    @property
    def embedding(self) -> Tensor:
        """W_E without "=", (d, p)."""
        return self["W_E"][:, : self.modulus]

    @property
    def last_row(self) -> Tensor:
        """Embedding and position of "=", (d,)."""
        return self["W_E"][:, self.modulus] + self["W_pos"][2]

    @property
    def key_directions(self) -> Tensor:
        """W_K^T W_Q x of each head, (h, d): scores are its products with x, over sqrt(e)."""
        query = self["W_Q"] @ self.last_row
        return torch.einsum("hed,he->hd", self["W_K"], query)

    @property
    def neuron_logit_map(self) -> Tensor:
        """W_L, (p, m)."""
        return neuron_logit_map(self["W_U"][:, : self.modulus], self["W_out"])


@dataclass(frozen=True)
class Activations:
    """Of all inputs, row a p + b, at the last position.

    Attributes:
        attention: (p^2, h, 3) weights on a, b and "="; they sum to one.
        neurons: (p^2, m) hidden units after the ReLU.
        logits: (p^2, p + 1), the last for "=".
    """

    attention: Tensor
    neurons: Tensor
    logits: Tensor


def activations(weights: Mapping[str, Any] | TransformerWeights, modulus: int) -> Activations:
    """Attention, neurons and logits at all inputs.

    About p^2 (2 m d + d h e) multiply-adds and p^2 (m + p + 3 h e) numbers of memory.

    Args:
        weights: As the module says.
        modulus: p.

    Raises:
        ValueError: As in :meth:`TransformerWeights.of`.
    """
    w = checked(weights, modulus)
    rows = [w.embedding.t() + w["W_pos"][i] for i in range(2)] + [w.last_row[None]]
    attention = _attention(w, rows)
    n_heads, d_head, width = w["W_V"].shape
    values = [(x @ w["W_V"].view(-1, width).t()).view(-1, n_heads, d_head) for x in rows]
    mixed = attention[..., 0, None] * values[0][:, None]
    mixed += attention[..., 1, None] * values[1]
    mixed += attention[..., 2, None] * values[2]
    stream = w.last_row + mixed.view(modulus**2, -1) @ w["W_O"].t()
    neurons = (stream @ w["W_in"].t() + w["b_in"]).relu_()
    logits = (stream + neurons @ w["W_out"].t() + w["b_out"]) @ w["W_U"]
    return Activations(attention.flatten(0, 1), neurons, logits)


def attention_fourier(weights: Mapping[str, Any] | TransformerWeights, modulus: int) -> Tensor:
    """Fourier components of each head's score of a token, without its position: (h, p).

    F W_E^T W_K^T W_Q x_=, without "=", not divided by sqrt(e).

    Args:
        weights: As the module says.
        modulus: p.

    Raises:
        ValueError: As in :meth:`TransformerWeights.of`.
    """
    w = checked(weights, modulus)
    return fourier_components(w.key_directions @ w.embedding)


def neuron_logit_map(unembedding: Array, down: Array) -> Tensor:
    """W_L = W_U^T W_out, (p, m): what each hidden unit adds to each logit, without biases.

    Of a two-layer net, the last layer's weight is this.

    Args:
        unembedding: W_U without "=", (d, p).
        down: W_out, (d, m).

    Raises:
        ValueError: If they are not two such matrices.
    """
    W_U, W_out = as_double(unembedding), as_double(down)
    if W_U.ndim != 2 or W_out.ndim != 2 or len(W_U) != len(W_out):
        raise ValueError(
            f"unembedding must be (d, p) and down (d, m), got {tuple(W_U.shape)} and "
            f"{tuple(W_out.shape)}."
        )
    return W_U.t() @ W_out


def checked(weights: Mapping[str, Any] | TransformerWeights, modulus: int) -> TransformerWeights:
    """Weights that may have been checked already."""
    if isinstance(weights, TransformerWeights):
        return weights
    return TransformerWeights.of(weights, modulus)


def _attention(w: TransformerWeights, rows: list[Tensor]) -> Tensor:
    """(p, p, h, 3) from the rows of a, of b and of "="."""
    p, (n_heads, d_head, _) = w.modulus, w["W_K"].shape
    scores = [x @ w.key_directions.t() / math.sqrt(d_head) for x in rows]
    scores = [scores[0][:, None], scores[1][None], scores[2][None]]
    return torch.stack([s.expand(p, p, n_heads) for s in scores], dim=-1).softmax(-1)


def _fit(name: str, weight: Tensor, sizes: dict[str, int]) -> None:
    """Check one shape; lengths that are not known yet become so."""
    letters = SHAPES[name]
    if weight.ndim == len(letters):
        for letter, length in zip(letters, weight.shape, strict=True):
            sizes.setdefault(letter, length)
        if name.endswith("W_K"):
            sizes["h*e"] = sizes["h"] * sizes["e"]
    wanted = tuple(sizes.get(letter, letter) for letter in letters)
    if tuple(weight.shape) != wanted:
        shown = f"({', '.join(map(str, wanted))}{',' if len(wanted) == 1 else ''})"
        raise ValueError(f"weights of {name} must be {shown}, got {tuple(weight.shape)}.")
