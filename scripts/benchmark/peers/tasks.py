"""The nets and data of the timings."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from grokscope.data import ModularDataModule
from grokscope.nets import MLP, OneLayerTransformer

Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Task:
    """A net, its loss (outputs, targets) -> (n,), and samples."""

    net: nn.Module
    loss: Loss
    inputs: Tensor
    targets: Tensor

    @property
    def n(self) -> int:
        """Number of samples."""
        return len(self.inputs)

    @property
    def parameters(self) -> list[Tensor]:
        """Those that require a gradient."""
        return [p for p in self.net.parameters() if p.requires_grad]

    @property
    def m(self) -> int:
        """Number of trainable parameters."""
        return sum(p.numel() for p in self.parameters)

    def first(self, n: int) -> Task:
        """The same with the first ``n`` samples."""
        return replace(self, inputs=self.inputs[:n], targets=self.targets[:n])

    def double(self) -> Task:
        """A copy in float64."""
        inputs = self.inputs.double() if self.inputs.is_floating_point() else self.inputs
        return replace(self, net=copy.deepcopy(self.net).double(), inputs=inputs)


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Float64 loss of each sample, the mean over the positions where there are several.

    The package's own ``CrossEntropy`` has the same values, but a backward that ``torch.func``
    cannot transform.
    """
    losses = F.cross_entropy(outputs.double().flatten(0, -2), targets.flatten(), reduction="none")
    return losses.view(len(targets), -1).mean(1)


def transformer(n: int | None = None) -> Task:
    """Addition modulo 113: ``n`` of all pairs, or (None) the 30 % that Nanda et al. train on."""
    data = ModularDataModule(113, "add", 0.3, "tokens", "python")
    data.setup()
    inputs = torch.cat([data.train.inputs, data.test.inputs])
    targets = torch.cat([data.train.targets, data.test.targets])
    net = OneLayerTransformer(seed=0)
    return Task(net, cross_entropy, inputs, targets).first(n or len(data.train.inputs))


def mlp(widths: tuple[int, ...] = (784, 200, 200, 10), n: int = 1000) -> Task:
    """Random pixels and labels, as many as MNIST has."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.rand(n, widths[0], generator=generator)
    targets = torch.randint(widths[-1], (n,), generator=generator)
    return Task(MLP(widths, seed=0), cross_entropy, inputs, targets)


class Block(nn.Module):
    """Causal attention and a feed-forward layer, each behind its LayerNorm."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(n, t, width) to the same."""
        parts = self.qkv(self.norm_1(x)).unflatten(-1, (3, self.heads, -1))
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.output(mixed.transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.norm_2(x))))


class GPT2(nn.Module):
    """Decoder of GPT-2's shape with a small vocabulary; logits at every position."""

    def __init__(self, n_tokens: int, context: int, width: int, heads: int, layers: int) -> None:
        super().__init__()
        self.embed, self.position = nn.Embedding(n_tokens, width), nn.Embedding(context, width)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(layers)))
        self.norm = nn.LayerNorm(width)
        self.unembed = nn.Linear(width, n_tokens, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (n, t) to logits (n, t, n_tokens)."""
        positions = torch.arange(tokens.shape[1], device=tokens.device)
        x = self.embed(tokens) + self.position(positions)
        return self.unembed(self.norm(self.blocks(x)))


def gpt2(n: int = 512, width: int = 768, heads: int = 12, layers: int = 8) -> Task:
    """Sequences of 5 tokens out of 114, the loss at all positions averaged."""
    torch.manual_seed(0)
    tokens = torch.randint(114, (n, 6), generator=torch.Generator().manual_seed(0))
    net = GPT2(114, 5, width, heads, layers)
    return Task(net, cross_entropy, tokens[:, :-1], tokens[:, 1:])
