"""Random shapes and random architectures against gradients taken one sample at a time."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from gradients.zoo import Net, Problem, assert_near, explicit, last, problem, squared
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from grokscope.gradients import capture
from grokscope.nets import MLP, OneLayerTransformer

few = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
size = st.integers(1, 6)
seeds = st.integers(0, 2**16)


def check(given: Problem, max_bytes: int = 2**31) -> None:
    A = explicit(*given)
    factors = capture(*given, max_bytes=max_bytes)
    n, m = A.shape
    assert_near(factors.gram(), A @ A.T)
    assert_near(sum(factors.gram(layer) for layer in factors.layers), factors.gram())
    assert_near(factors.sample_norms(), A.norm(dim=1))
    assert_near(
        factors.vjp(torch.arange(1.0, n + 1).double()),
        torch.arange(1.0, n + 1).double() @ A,
        scale=n * A,
    )
    assert_near(factors.jvp(torch.ones(m).double()), A.sum(1), scale=m * A)


@few
@given(
    st.lists(size, min_size=2, max_size=4),
    st.sampled_from(["relu", "tanh", "quadratic"]),
    st.booleans(),
    st.lists(size, max_size=2),
    size,
    seeds,
)
def test_fully_connected_nets(widths, activation, bias, axes, n, seed) -> None:
    layers = [nn.Linear(i, o, bias) for i, o in pairwise(widths)]
    net = nn.Sequential(*layers) if axes else MLP(widths, activation, bias)
    check(problem(net, ((*axes, widths[0]),), squared, n=n, seed=seed))


@few
@given(st.data(), st.sampled_from([1, 2]), seeds, size)
def test_convolutions(data, dims, seed, n) -> None:
    draw = data.draw
    groups = draw(st.integers(1, 3))
    c_in, c_out = groups * draw(st.integers(1, 2)), groups * draw(st.integers(1, 3))
    kernel, dilation = (
        tuple(draw(st.lists(st.integers(1, 3), min_size=dims, max_size=dims))) for _ in range(2)
    )
    stride, padding = draw(st.integers(1, 3)), draw(st.integers(0, 2))
    extent = [d * (k - 1) + draw(st.integers(1, 5)) for k, d in zip(kernel, dilation, strict=True)]
    conv = nn.Conv1d if dims == 1 else nn.Conv2d
    options = {"groups": groups, "dilation": dilation, "bias": draw(st.booleans())}
    net = conv(c_in, c_out, kernel, stride, padding, **options)
    check(problem(nn.Sequential(net, nn.Tanh()), ((c_in, *extent),), squared, n=n, seed=seed))


@few
@given(st.integers(2, 7), st.integers(2, 5), size, st.integers(1, 3), size, size, size, seeds)
def test_transformers(tokens, context, d, heads, d_head, d_mlp, n, seed) -> None:
    net = OneLayerTransformer(tokens, context, d, heads, d_head, d_mlp)
    loss = squared if seed % 2 else lambda out, y: squared(out.sin(), y)
    check(problem(net, ((context,),), loss, tokens, n=n, seed=seed))


# ---- architectures: a stream (n, t, d) goes through a random list of blocks ------------------


def attention(d: int, heads: int) -> nn.Module:
    def run(net: Net, x: Tensor) -> Tensor:
        return net.inner(x, x, x, need_weights=False)[0]

    return Net(run, inner=nn.MultiheadAttention(d, heads, batch_first=True))


def over_positions(d: int, groups: int) -> nn.Module:
    inner = nn.Conv1d(d, d, 3, padding=1, groups=groups)
    return Net(lambda net, x: net.inner(x.mT).mT, inner=inner)


BLOCKS: dict[str, Callable[[int, int], nn.Module]] = {
    "linear": lambda d, t: nn.Linear(d, d),
    "linear without bias": lambda d, t: nn.Linear(d, d, bias=False),
    "tanh": lambda d, t: nn.Tanh(),
    "LayerNorm": lambda d, t: nn.LayerNorm(d),
    "RMSNorm": lambda d, t: nn.RMSNorm(d),
    "attention": lambda d, t: attention(d, 2),
    "convolution": lambda d, t: over_positions(d, 2),
    "gain": lambda d, t: Net(lambda net, x: x * net.g, g=(d,)),
    "position": lambda d, t: Net(lambda net, x: x + net.p, p=(t, d)),
    "between positions": lambda d, t: Net(lambda net, x: net.W @ x, W=(t, t)),
    "einsum": lambda d, t: Net(
        lambda net, x: torch.einsum(
            "bphk,hkd->bpd", torch.einsum("bpd,hdk->bphk", x, net.A), net.B
        ),
        A=(2, d, 3),
        B=(2, 3, d),
    ),
    "sequence first": lambda d, t: Net(
        lambda net, x: net.a(x.transpose(0, 1)).transpose(0, 1), a=nn.Linear(d, d)
    ),
    "flattened": lambda d, t: Net(
        lambda net, x: net.a(x.flatten(0, 1)).view_as(x), a=nn.Linear(d, d)
    ),
    "GRU": lambda d, t: Net(lambda net, x: net.a(x)[0], a=nn.GRU(d, d, batch_first=True)),
}

step = st.tuples(
    st.sampled_from([*BLOCKS, "again", "transposed"]),
    st.sampled_from(["plain", "residual", "add in place"]),
)


class Stream(nn.Module):
    """Blocks in a row; some come again, or come again with their matrix transposed."""

    def __init__(self, steps: list[tuple[str, str]], t: int, d: int, tokens: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(tokens, d) if tokens else nn.Identity()
        self.blocks, self.ways = nn.ModuleList(), [way for _, way in steps]
        self.kinds = [kind for kind, _ in steps]
        for kind in self.kinds:
            if kind in BLOCKS:
                self.blocks.append(BLOCKS[kind](d, t))
        if tokens:
            self.tied = self.embed.weight
        self.shared = nn.Parameter(torch.zeros(d, d))

    def forward(self, x: Tensor) -> Tensor:
        x, blocks = self.embed(x), iter(self.blocks)
        block: Any = nn.Identity()
        for kind, way in zip(self.kinds, self.ways, strict=True):
            if kind == "transposed":
                new = (x @ self.shared).tanh() @ self.shared.T
            else:
                block = block if kind == "again" else next(blocks)
                new = block(x)
            if way == "plain":
                x = new
            elif way == "residual":
                x = x + new
            else:
                x = x.clone()
                x += new
        return x @ (self.tied.T if hasattr(self, "tied") else self.shared)


@settings(few, max_examples=60)
@given(
    st.lists(step, min_size=1, max_size=6),
    st.integers(1, 5),
    st.sampled_from([2, 4]),
    st.sampled_from([0, 5]),
    st.booleans(),
    st.integers(1, 5),
    st.sampled_from([2**31, 3000]),
    seeds,
)
def test_random_architectures(steps, t, d, tokens, at_last, n, max_bytes, seed) -> None:
    net = Stream(steps, t, d, tokens)
    loss = last if at_last else squared
    shape = (t,) if tokens else (t, d)
    check(problem(net, (shape,), loss, tokens, n=n, seed=seed), max_bytes)
