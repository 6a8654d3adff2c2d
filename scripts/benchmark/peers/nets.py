"""Small nets, one a row of the table that says what each library can do."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from grokscope.nets import MLP, OneLayerTransformer
from peers.tasks import Task, cross_entropy

N, CLASSES, WIDTH, CONTEXT = 6, 5, 8, 4


class EinsumAttention(nn.Module):
    """Two heads written as einsum over raw parameters."""

    def __init__(self) -> None:
        super().__init__()
        shape = (2, WIDTH // 2, WIDTH)
        self.query, self.key, self.value, self.back = (  # backpack takes the name "output"
            nn.Parameter(torch.randn(shape) / WIDTH**0.5) for _ in range(4)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(n, t, WIDTH) to the same."""
        q, k, v = (torch.einsum("hed,ntd->nhte", w, x) for w in (self.query, self.key, self.value))
        pattern = torch.einsum("nhse,nhte->nhst", q, k).softmax(-1)
        return x + torch.einsum("hed,nhst,nhte->nsd", self.back, pattern, v)


class SelfAttention(nn.Module):
    """``nn.MultiheadAttention`` with a residual connection."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(WIDTH, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        """(n, t, WIDTH) to the same."""
        return x + self.attention(x, x, x, need_weights=False)[0]


class Tied(nn.Module):
    """One matrix embeds and unembeds; mean over the positions between."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(CLASSES, WIDTH)
        self.hidden = nn.Linear(WIDTH, WIDTH)
        self.unembed = nn.Linear(WIDTH, CLASSES, bias=False)
        self.unembed.weight = self.embed.weight

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (n, t) to logits."""
        return self.unembed(torch.tanh(self.hidden(self.embed(tokens).mean(1))))


class Twice(nn.Module):
    """The same layer two times."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.out = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """(n, WIDTH) to logits."""
        return self.out(torch.tanh(self.layer(torch.tanh(self.layer(x)))))


class Mean(nn.Module):
    """Mean over the positions."""

    def forward(self, x: Tensor) -> Tensor:
        """(n, t, WIDTH) to (n, WIDTH)."""
        return x.mean(1)


def _frozen() -> nn.Module:
    net = MLP((WIDTH, 7, 6, CLASSES), "tanh", seed=0)
    net.layers[1].requires_grad_(False)
    return net


def _convolutions(groups: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, stride=2, padding=1),
        nn.Tanh(),
        nn.Conv2d(4, 6, 3, padding=2, dilation=2, groups=groups, bias=False),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(54, CLASSES),
    )


def _normed() -> nn.Module:
    linear = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, CLASSES)
    return nn.Sequential(nn.LayerNorm(WIDTH), linear[0], nn.Tanh(), nn.LayerNorm(WIDTH), linear[1])


def _positions() -> nn.Module:
    return nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Tanh(), Mean(), nn.Linear(WIDTH, CLASSES))


def _embedding() -> nn.Module:
    return nn.Sequential(nn.Embedding(CLASSES, WIDTH), nn.Flatten(), nn.Linear(32, CLASSES))


def _attention(layer: Callable[[], nn.Module]) -> nn.Module:
    return nn.Sequential(layer(), Mean(), nn.Linear(WIDTH, CLASSES))


def _transformer() -> nn.Module:
    return OneLayerTransformer(CLASSES, CONTEXT, WIDTH, 2, 4, 16, seed=0)


VECTORS, SEQUENCES, IMAGES, TOKENS = (WIDTH,), (CONTEXT, WIDTH), (2, 6, 6), None
NETS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...] | None]] = {
    "MLP": (lambda: MLP((WIDTH, 7, 6, CLASSES), seed=0), VECTORS),
    "MLP, a layer frozen": (_frozen, VECTORS),
    "a layer called twice": (Twice, VECTORS),
    "LayerNorm gains": (_normed, VECTORS),
    "Conv2d: stride, padding, dilation": (lambda: _convolutions(1), IMAGES),
    "the same with groups": (lambda: _convolutions(2), IMAGES),
    "Linear at several positions": (_positions, SEQUENCES),
    "embedding": (_embedding, TOKENS),
    "tied embedding and unembedding": (Tied, TOKENS),
    "p = 113 transformer, small": (_transformer, TOKENS),
    "attention by einsum": (lambda: _attention(EinsumAttention), SEQUENCES),
    "nn.MultiheadAttention": (lambda: _attention(SelfAttention), SEQUENCES),
}


def task(name: str) -> Task:
    """The net of that row with random samples, in float64."""
    make, shape = NETS[name]
    torch.manual_seed(0)
    net, tokens = make(), torch.randint(CLASSES, (N, CONTEXT))
    inputs = tokens if shape is None else torch.randn(N, *shape)
    return Task(net, cross_entropy, inputs, torch.randint(CLASSES, (N,))).double()
