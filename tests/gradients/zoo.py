"""Small nets in float64 with data and loss, and their gradients one sample at a time."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm, weight_norm
from torch.utils.checkpoint import checkpoint

from grokscope.nets import MLP, LinearEstimator, OneLayerTransformer

N = 5  # also the number of positions and features of many nets: equal sizes must not confuse

Inputs = Tensor | tuple[Tensor, ...]
Loss = Callable[[Any, Tensor], Tensor]
Linear, Seq = nn.Linear, nn.Sequential


class Net(nn.Module):
    """A forward function and its parts: modules, shapes of free parameters, buffers."""

    def __init__(self, run: Callable[..., Any], **parts: Any) -> None:
        super().__init__()
        self.run = run
        for name, part in parts.items():
            if isinstance(part, tuple):
                part = nn.Parameter(torch.zeros(part))
            if isinstance(part, Tensor) and not isinstance(part, nn.Parameter):
                self.register_buffer(name, part)
            else:
                setattr(self, name, part)

    def forward(self, *inputs: Any) -> Any:
        return self.run(self, *inputs)


# ---- losses: one value a sample -----------------------------------------------------------


def squared(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs - targets).square().reshape(len(targets), -1).sum(1)


def crossentropy(outputs: Tensor, targets: Tensor) -> Tensor:
    losses = F.cross_entropy(outputs.movedim(-1, 1), targets, reduction="none")
    return losses.reshape(len(targets), -1).mean(1)


def last(outputs: Tensor, targets: Tensor) -> Tensor:
    return crossentropy(outputs[:, -1], targets[:, -1])


def both_outputs(outputs: tuple[Tensor, Tensor], targets: Tensor) -> Tensor:
    return squared(outputs[0], targets) + outputs[1].square().flatten(1).mean(1)


# ---- problems and their explicit gradients ------------------------------------------------


@dataclass(frozen=True)
class Problem:
    """What ``capture`` is called with."""

    net: nn.Module
    loss: Loss
    inputs: Inputs
    targets: Tensor

    def __iter__(self) -> Iterator[Any]:
        return iter((self.net, self.loss, self.inputs, self.targets))

    def take(self, index: Tensor | list[int]) -> Problem:
        return replace(self, inputs=select(self.inputs, index), targets=self.targets[index])


@dataclass(frozen=True)
class Case:
    """A net, the shapes of its inputs without n, tokens if there is a vocabulary, its loss.

    ``generic`` names the parameters that may be held without structure, "*" means all.
    """

    net: nn.Module
    shapes: tuple[tuple[int, ...], ...]
    loss: Loss
    vocabulary: int
    generic: tuple[str, ...]

    def build(self, n: int = N, dtype: torch.dtype = torch.float64, seed: int = 0) -> Problem:
        return problem(self.net, self.shapes, self.loss, self.vocabulary, n, dtype, seed)

    def may_be_generic(self, name: str) -> bool:
        return "*" in self.generic or name in self.generic


def problem(
    net: nn.Module,
    shapes: tuple[tuple[int, ...], ...],
    loss: Loss,
    vocabulary: int = 0,
    n: int = N,
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
) -> Problem:
    """A copy of the net with fresh values, in evaluation mode, with inputs and targets."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        net = copy.deepcopy(net).to(dtype).eval()
        draw_state(net)
        real = [torch.randn(n, *shape, dtype=torch.float64).to(dtype) for shape in shapes]
        tokens = [torch.randint(max(vocabulary, 1), (n, *shape)) for shape in shapes]
        inputs = tuple(tokens if vocabulary else real)
        outputs = net(*inputs)
        outputs = outputs[0] if isinstance(outputs, tuple) else outputs
        targets = torch.randn_like(outputs)
        if loss in (crossentropy, last):
            targets = torch.randint(outputs.shape[-1], outputs.shape[:-1])
    return Problem(net, loss, inputs if len(inputs) > 1 else inputs[0], targets)


def draw_state(net: nn.Module) -> None:
    """Nothing stays at zero or one: an error in a bias or gain must show."""
    for name, tensor in [*net.named_parameters(), *net.named_buffers()]:
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 2)
        elif tensor.is_floating_point() and not name.endswith(("_u", "_v")):
            tensor.normal_(std=0.5)


def select(inputs: Inputs, index: Tensor | list[int] | slice) -> Inputs:
    return tuple(x[index] for x in inputs) if isinstance(inputs, tuple) else inputs[index]


def trainable(net: nn.Module) -> list[nn.Parameter]:
    return [p for p in net.parameters() if p.requires_grad]


def flat_gradient(value: Tensor, parameters: list[nn.Parameter]) -> Tensor:
    grads = torch.autograd.grad(value, parameters, allow_unused=True, retain_graph=True)
    pairs = zip(grads, parameters, strict=True)
    return torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for g, p in pairs])


def one_by_one(net: nn.Module, inputs: Inputs, n: int) -> Iterator[Any]:
    """The outputs for each sample by itself, a batch of one."""
    for i in range(n):
        one = select(inputs, slice(i, i + 1))
        yield net(*one) if isinstance(one, tuple) else net(one)


def explicit(net: nn.Module, loss: Loss, inputs: Inputs, targets: Tensor) -> Tensor:
    """A, (n, m) in float64: a forward and a backward pass for each sample by itself."""
    outputs = one_by_one(net, inputs, len(targets))
    values = (loss(out, targets[i : i + 1])[0] for i, out in enumerate(outputs))
    return torch.stack([flat_gradient(value, trainable(net)) for value in values]).double()


def explicit_jacobian(net: nn.Module, inputs: Inputs, n: int) -> Tensor:
    """(n c, m) in float64, sample-major."""
    outputs = torch.cat([out.flatten() for out in one_by_one(net, inputs, n)])
    return torch.stack([flat_gradient(value, trainable(net)) for value in outputs]).double()


def assert_near(
    got: Tensor,
    wanted: Tensor,
    tol: float = 1e-10,
    scale: Tensor | None = None,
    noise: float | Tensor = 0.0,
) -> None:
    """Equal up to ``tol`` times the largest entry of ``scale``, by default of ``wanted``.

    ``noise`` is added to that: for what vanishes in exact arithmetic.
    """
    assert got.shape == wanted.shape
    size = (wanted if scale is None else scale).abs().max().item()
    error = (got.double() - wanted.double()).abs().max().item()
    assert error <= tol * size + noise, f"differs by {error:.2e} where entries reach {size:.2e}"


CASES: dict[str, Case] = {}


def add(
    name: str,
    net: nn.Module,
    *shapes: tuple[int, ...],
    loss: Loss = squared,
    vocabulary: int = 0,
    generic: tuple[str, ...] = (),
) -> None:
    assert name not in CASES
    CASES[name] = Case(net, shapes, loss, vocabulary, generic)


# fmt: off
# ---- fully connected; the sample axis in odd places ---------------------------------------

add("mlp", MLP((5, 6, 3), "relu"), (5,), loss=crossentropy)
add("mlp without bias", MLP((5, 6, 3), "quadratic", bias=False), (5,))
add("linear estimator", LinearEstimator(5, 1), (5,))
add("mlp, more inputs than samples", Seq(Linear(40, 30), nn.Tanh(), Linear(30, 2)), (40,))
add("linear over positions", Seq(Linear(4, 6), nn.GELU(), Linear(6, 3)), (N, 4))
add("linear over two axes", Seq(Linear(3, 4), nn.Tanh(), Linear(4, 2)), (2, N, 3))
add("positions flattened into the batch",
    Net(lambda net, x: net.b(net.a(x.flatten(0, 1)).tanh().unflatten(0, x.shape[:2])),
        a=Linear(4, 6), b=Linear(6, 3)), (N, 4))
add("positions flattened, sample index fast",
    Net(lambda net, x: net.a(x.transpose(0, 1).flatten(0, 1)).tanh()
        .unflatten(0, (x.shape[1], -1)).transpose(0, 1) * net.gain,
        a=Linear(4, 6), gain=(6,)), (N, 4))
add("sequence first",
    Net(lambda net, x: net.b(net.norm(net.a(x.transpose(0, 1))).tanh().cumsum(0))
        .transpose(0, 1), a=Linear(4, 6), norm=nn.LayerNorm(6), b=Linear(6, 3)), (N, 4))
add("features first",
    Net(lambda net, x: (net.V @ (net.W @ x.T + net.b[:, None]).relu()).T,
        W=(N, N), b=(N,), V=(3, N)), (N,))
add("samples repeated as a whole",
    Net(lambda net, x: net.a(torch.cat([x, -x])).tanh().unflatten(0, (2, -1)).prod(0),
        a=Linear(4, 5)), (4,))
add("samples repeated each",
    Net(lambda net, x: net.a(x.repeat_interleave(3, 0)).unflatten(0, (-1, 3))
        .mul(torch.arange(3.0)[:, None]).tanh().sum(1), a=Linear(4, 5)), (4,))
add("a loop over the samples",
    Net(lambda net, x: torch.stack([net.a(row).tanh().sum(0) for row in x]),
        a=Linear(4, 3)), (N, 4), generic=("*",))
add("samples sorted by route",
    Net(lambda net, x: torch.zeros_like(x).index_put((x[:, 0] > 0,), net.a(x[x[:, 0] > 0]))
        .index_put((x[:, 0] <= 0,), net.b(x[x[:, 0] <= 0])),
        a=Linear(4, 4), b=Linear(4, 4)), (4,), generic=("*",))

# ---- tokens and positions -----------------------------------------------------------------

add("embedding, mean pooling",
    Net(lambda net, x: net.out(net.embed(x).mean(1)), embed=nn.Embedding(7, 4),
        out=Linear(4, 3)), (N,), vocabulary=7, loss=crossentropy)
add("embedding with padding",
    Net(lambda net, x: net.out(net.embed(x).sum(1)),
        embed=nn.Embedding(4, 3, padding_idx=2), out=Linear(3, 2)), (N,), vocabulary=4)
add("embedding of two axes",
    Net(lambda net, x: net.embed(x).tanh().sum(1), embed=nn.Embedding(4, 3)),
    (2, 3), vocabulary=4)
add("embedding of one token",
    Net(lambda net, x: net.out(net.embed(x)), embed=nn.Embedding(4, 3), out=Linear(3, 2)),
    (), vocabulary=4)
add("embedding bag",
    Net(lambda net, x: net.out(net.embed(x)), embed=nn.EmbeddingBag(6, 4, mode="mean"),
        out=Linear(4, 2)), (3,), vocabulary=6, generic=("embed.weight",))
add("one-hot tokens times a table",
    Net(lambda net, x: (F.one_hot(x, 6).to(net.W) @ net.W).tanh().sum(1), W=(6, 4)),
    (3,), vocabulary=6)
add("one-hot tokens flattened",
    Net(lambda net, x: net.mlp(F.one_hot(x, 6).double()),
        mlp=MLP((12, 5, 6), "quadratic", bias=False)), (2,), vocabulary=6)
add("position as a free parameter",
    Net(lambda net, x: net.out((net.embed(x) + net.pos[: x.shape[1]]).tanh()),
        embed=nn.Embedding(6, 3), pos=(N, 3), out=Linear(3, 6)),
    (4,), vocabulary=6, loss=last)
add("position with an axis for the samples",
    Net(lambda net, x: (x + net.pos).tanh() * net.gain, pos=(1, N, 3), gain=(1, 1, 3)), (N, 3))
add("position from a table",
    Net(lambda net, x: net.out((net.embed(x) + net.pos(torch.arange(x.shape[1]))).tanh()),
        embed=nn.Embedding(6, 3), pos=nn.Embedding(7, 3), out=Linear(3, 6)),
    (N,), vocabulary=6, loss=crossentropy)
add("position from a table, multiplied",
    Net(lambda net, x: x * net.pos(torch.arange(x.shape[1])), pos=nn.Embedding(N, 3)), (N, 3))
add("class token",
    Net(lambda net, x: net.out(torch.cat([net.token.expand(len(x), -1, -1), x], 1).cumsum(1)
        .tanh())[:, -1], token=(1, 1, 3), out=Linear(3, 2)), (N, 3))
add("a layer that no input reaches",
    Net(lambda net, x: net.out(net.token.expand(len(x), -1)).tanh() + 0 * x,
        token=(1, 4), out=Linear(4, 3)), (3,))

# ---- attention ----------------------------------------------------------------------------


def causal(scores: Tensor) -> Tensor:
    future = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
    return scores.masked_fill(future, -math.inf).softmax(-1)


def nanda(net: Net, x: Tensor) -> Tensor:
    x = torch.einsum("dbp->bpd", net.W_E[:, x]) + net.W_pos[: x.shape[-1]]
    key = torch.einsum("ihd,bpd->biph", net.W_K, x)
    query = torch.einsum("ihd,bpd->biph", net.W_Q, x)
    value = torch.einsum("ihd,bpd->biph", net.W_V, x)
    pattern = causal(torch.einsum("biph,biqh->biqp", key, query) / math.sqrt(2))
    mixed = torch.einsum("biph,biqp->biqh", value, pattern).transpose(1, 2).flatten(2)
    x = x + torch.einsum("df,bqf->bqd", net.W_O, mixed)
    hidden = F.relu(torch.einsum("md,bpd->bpm", net.W_in, x) + net.b_in)
    x = x + torch.einsum("dm,bpm->bpd", net.W_out, hidden) + net.b_out
    return x @ net.W_U


def lens(net: Net, x: Tensor) -> Tensor:
    x = net.W_E[x] + net.W_pos[: x.shape[1]]
    query, key, value = (
        torch.einsum("bpd,hdk->bphk", x, W) + b
        for W, b in ((net.W_Q, net.b_Q), (net.W_K, net.b_K), (net.W_V, net.b_V))
    )
    pattern = causal(torch.einsum("bqhk,bphk->bhqp", query, key))
    mixed = torch.einsum("bphk,bhqp->bqhk", value, pattern)
    return (x + torch.einsum("bqhk,hkd->bqd", mixed, net.W_O) + net.b_O) @ net.W_U + net.b_U


class Block(nn.Module):
    """A block of nanoGPT."""

    def __init__(self, d: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.ln_1, self.ln_2 = nn.LayerNorm(d), nn.LayerNorm(d, bias=False)
        self.c_attn, self.c_proj = Linear(d, 3 * d), Linear(d, d)
        self.mlp = Seq(Linear(d, 2 * d), nn.GELU(), Linear(2 * d, d), nn.Dropout(0.2))

    def forward(self, x: Tensor) -> Tensor:
        n, t, d = x.shape
        parts = self.c_attn(self.ln_1(x)).split(d, 2)
        heads = (part.view(n, t, self.heads, -1).transpose(1, 2) for part in parts)
        mixed = F.scaled_dot_product_attention(*heads, is_causal=True)
        x = x + self.c_proj(mixed.transpose(1, 2).contiguous().view(n, t, d))
        return x + self.mlp(self.ln_2(x))


def gpt(tied: bool) -> Net:
    def run(net: Net, x: Tensor) -> Tensor:
        x = net.wte(x) + net.wpe(torch.arange(x.shape[1]))
        return net.head(net.ln_f(net.blocks(x)))

    table, head = nn.Embedding(6, 4), Linear(4, 6, bias=False)
    if tied:
        head.weight = table.weight
    blocks = Seq(Block(4, 2), Block(4, 2))
    return Net(run, wte=table, wpe=nn.Embedding(7, 4), blocks=blocks, ln_f=nn.LayerNorm(4),
               head=head)


NANDA = Net(nanda, W_E=(4, 6), W_pos=(N, 4), W_K=(2, 2, 4), W_Q=(2, 2, 4), W_V=(2, 2, 4),
            W_O=(4, 4), W_in=(5, 4), b_in=(5,), W_out=(4, 5), b_out=(4,), W_U=(4, 6))
LENS = Net(lens, W_E=(6, 4), W_pos=(N, 4), W_Q=(2, 4, 3), b_Q=(2, 3), W_K=(2, 4, 3),
           b_K=(2, 3), W_V=(2, 4, 3), b_V=(2, 3), W_O=(2, 3, 4), b_O=(4,), W_U=(4, 6), b_U=(6,))
OURS = OneLayerTransformer(6, 3, 4, 2, 2, 5), OneLayerTransformer(6, 3, 4, 2, 2, 5, "softmax1")

add("transformer of grokscope", OURS[0], (3,), vocabulary=6, loss=crossentropy)
add("transformer of grokscope, softmax1", OURS[1], (3,), vocabulary=6, loss=crossentropy)
add("transformer of Nanda, last position", NANDA, (N,), vocabulary=6, loss=last)
add("transformer of Nanda, all positions", NANDA, (N,), vocabulary=6, loss=crossentropy)
add("transformer of TransformerLens", LENS, (4,), vocabulary=6, loss=last)
add("nanoGPT", gpt(tied=False), (N,), vocabulary=6, loss=crossentropy)
add("nanoGPT, tied", gpt(tied=True), (N,), vocabulary=6, loss=last)
add("MultiheadAttention",
    Net(lambda net, x: net.attention(x, x, x, need_weights=False)[0],
        attention=nn.MultiheadAttention(4, 2, batch_first=True)), (N, 4))
add("MultiheadAttention, sequence first",
    Net(lambda net, x: net.attention(*[x.transpose(0, 1)] * 3)[0].transpose(0, 1),
        attention=nn.MultiheadAttention(4, 2)), (N, 4))
add("MultiheadAttention, cross, added keys",
    Net(lambda net, x, y: net.attention(x, y, y)[0],
        attention=nn.MultiheadAttention(4, 2, kdim=6, vdim=6, add_bias_kv=True,
                                        batch_first=True)),
    (3, 4), (N, 6), generic=("attention.bias_k", "attention.bias_v"))
add("TransformerEncoderLayer", nn.TransformerEncoderLayer(4, 2, 6, batch_first=True), (N, 4))
add("TransformerEncoderLayer, sequence first",
    Net(lambda net, x: net.layer(x.transpose(0, 1)).transpose(0, 1),
        layer=nn.TransformerEncoderLayer(4, 2, 6, norm_first=True)), (N, 4))
add("heads folded into the batch",
    Net(lambda net, x: torch.bmm(causal(torch.bmm(h := net.a(x).unflatten(2, (2, 3))
        .transpose(1, 2).flatten(0, 1), h.mT)), h).unflatten(0, (-1, 2)), a=Linear(4, 6)), (N, 4))

# ---- norms and gains ----------------------------------------------------------------------

add("LayerNorm", Seq(nn.LayerNorm(4), nn.Tanh(), nn.LayerNorm(4, bias=False)), (4,))
add("LayerNorm over positions", Seq(nn.LayerNorm(4), Linear(4, 3)), (N, 4))
add("LayerNorm of two axes", Seq(nn.LayerNorm((N, 4)), Linear(4, 3)), (N, 4))
add("RMSNorm", Seq(nn.RMSNorm(4), nn.Tanh(), Linear(4, 3)), (N, 4))
add("GroupNorm", Seq(nn.GroupNorm(2, 4), nn.Tanh(), nn.Conv1d(4, 2, 1)), (4, N))
add("InstanceNorm", Seq(nn.InstanceNorm1d(4, affine=True), nn.Tanh()), (4, N), generic=("*",))
add("BatchNorm in evaluation", Seq(Linear(4, N), nn.BatchNorm1d(N), nn.Tanh()), (4,))
add("BatchNorm2d in evaluation",
    Seq(nn.Conv2d(2, 3, 2), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten()), (2, 3, 4))
add("PReLU", Seq(Linear(4, 3), nn.PReLU(), Linear(3, 3), nn.PReLU(3)), (4,),
    generic=("1.weight", "3.weight"))
add("gain and bias by hand",
    Net(lambda net, x: (x * net.g + net.b).tanh() * net.h[None], g=(4,), b=(4,), h=(N, 1)), (N, 4))
add("RMS gain by hand",
    Net(lambda net, x: net.out(net.g * (x * x.square().mean(-1, keepdim=True).rsqrt())),
        g=(4,), out=Linear(4, 2)), (N, 4))
add("temperature",
    Net(lambda net, x: net.out(x) / net.tau.exp() + net.shift,
        out=Linear(4, 3), tau=(), shift=()), (4,), generic=("tau",))
add("scalar gain",
    Net(lambda net, x: net.out((x * net.a).tanh()) * (1 - net.c),
        out=Linear(4, 3), a=(), c=(1,)), (4,), generic=("c",))

# ---- convolutions -------------------------------------------------------------------------

for _name, _options in {
    "plain": {"kernel_size": 3},
    "without bias": {"kernel_size": 2, "bias": False},
    "strided and padded": {"kernel_size": 3, "stride": 2, "padding": 1},
    "dilated": {"kernel_size": 2, "dilation": 2, "padding": (1, 2)},
    "grouped": {"kernel_size": (2, 3), "groups": 2, "stride": (1, 2)},
    "depthwise": {"kernel_size": 3, "groups": 4, "out_channels": 8, "padding": 1},
    "same": {"kernel_size": (1, 3), "padding": "same", "dilation": (1, 2)},
    "circular": {"kernel_size": 3, "padding": 1, "padding_mode": "circular"},
    "all at once": {"kernel_size": (3, 2), "stride": (2, 1), "padding": (2, 1),
                    "dilation": (1, 3), "groups": 2},
    "pointwise": {"kernel_size": 1},
}.items():
    add(f"Conv2d, {_name}",
        Seq(nn.Conv2d(4, **{"out_channels": 6, **_options}), nn.Tanh(), nn.Flatten()), (4, 5, 6))
add("Conv1d", Seq(nn.Conv1d(3, 4, 3, stride=2, padding=1), nn.ReLU(),
                  nn.Conv1d(4, 2, 2, dilation=2, groups=2)), (3, 8))
add("Conv3d", Seq(nn.Conv3d(2, 3, 2), nn.Tanh()), (2, 3, 3, 4), generic=("*",))
add("ConvTranspose2d", Seq(nn.ConvTranspose2d(2, 3, 2, stride=2), nn.Tanh()), (2, 2, 3),
    generic=("*",))
add("small CNN",
    Seq(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(3, 4, 2, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), Linear(4, 3)), (1, 8, 8), loss=crossentropy)
add("frames folded into the batch",
    Net(lambda net, x: net.conv(x.flatten(0, 1)).tanh().unflatten(0, x.shape[:2]),
        conv=nn.Conv2d(2, 3, 2)), (N, 2, 4, 4))
add("convolution of a raw kernel",
    Net(lambda net, x: F.conv1d(x, net.W, net.b, padding=1).tanh(), W=(4, 3, 3), b=(4,)), (3, 6))
add("convolution called at two sizes",
    Net(lambda net, x: net.conv(x).tanh().flatten(1).sum(1, keepdim=True)
        + net.conv(F.avg_pool2d(x, 2)).flatten(1), conv=nn.Conv2d(2, 3, 2)), (2, 4, 4))

# ---- one parameter, several uses ----------------------------------------------------------


def recur(net: Net, x: Tensor) -> Tensor:
    state, seen = net.start.expand(len(x), -1), []
    for t in range(x.shape[1]):
        state = torch.tanh(net.a(x[:, t]) + net.h(state))
        seen.append(state)
    return torch.stack(seen, 1)


def halve(net: Net, x: Tensor) -> Tensor:
    while x.shape[1] > 1:
        odd = x[:, 1::2]
        even = x[:, : 2 * odd.shape[1] : 2]
        x = torch.cat([net.a(even).tanh() + odd, x[:, 2 * odd.shape[1] :]], 1)
    return x[:, 0]


def cells(net: Net, x: Tensor) -> Tensor:
    state = x.new_zeros(len(x), 3)
    for part in x.unbind(1):
        state = net.cell(part, state)
    return state


add("tied embedding",
    Net(lambda net, x: net.mid(net.embed(x)).tanh() @ net.embed.weight.T,
        embed=nn.Embedding(6, 4), mid=Linear(4, 4)), (N,), vocabulary=6, loss=crossentropy)
add("a layer called twice", Net(lambda net, x: net.a(net.a(x).tanh()), a=Linear(4, 4)), (4,))
add("a layer called with and without positions",
    Net(lambda net, x: net.a(x).tanh().sum(1) + net.a(x[:, 0]), a=Linear(4, 4)), (N, 4))
add("a layer called with two orders of axes",
    Net(lambda net, x: net.a(x).tanh() * net.a(x.transpose(0, 1)).transpose(0, 1),
        a=Linear(4, 4)), (N, 4))
add("a layer called once without gradient",
    Net(lambda net, x: net.a(x).tanh() - net.a(2 * x).detach(), a=Linear(4, 4)), (4,))
add("autoencoder, tied",
    Net(lambda net, x: F.linear(F.linear(x, net.W, net.b).tanh(), net.W.T, net.c),
        W=(3, 4), b=(3,), c=(4,)), (N, 4))
add("autoencoder, tied, raw", Net(lambda net, x: (x @ net.W).tanh() @ net.W.T, W=(4, 3)), (4,))
add("a weight and its square",
    Net(lambda net, x: F.linear(x, net.W).tanh() + F.linear(x, net.W.square()), W=(4, 4)), (4,),
    generic=("W",))
add("a bias that is also a gain", Net(lambda net, x: (x + net.b).tanh() * net.b, b=(4,)), (4,))
add("a table that is also a matrix",
    Net(lambda net, x: (net.W[x] + net.W.mean(0)).tanh() @ net.W.T, W=(6, 4)), (N,),
    vocabulary=6, generic=("W",))
add("a loop over positions",
    Net(recur, a=Linear(3, 4), h=Linear(4, 4, bias=False), start=(4,)), (N, 3))
add("a loop that halves the positions", Net(halve, a=Linear(4, 4)), (N, 4))
add("LSTM",
    Net(lambda net, x: net.out(net.cell(x)[0][:, -1]), cell=nn.LSTM(2, 3, batch_first=True),
        out=Linear(3, 2)), (3, 2), generic=("*",))
add("GRU, sequence first",
    Net(lambda net, x: net.out(net.cell(x.transpose(0, 1))[0][-1]), cell=nn.GRU(2, 3),
        out=Linear(3, 2)), (N, 2), generic=("*",))
add("GRUCell", Net(cells, cell=nn.GRUCell(2, 3)), (3, 2), generic=("*",))

# ---- parameters in other places -----------------------------------------------------------


class Cube(torch.autograd.Function):
    """Has no rule for vmap nor forward mode."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return 3 * x**2 * grad


def guarded(x: Tensor) -> Tensor:
    if torch.isnan(x).any() or x.abs().max().item() > 1e6:
        raise FloatingPointError
    return x


add("raw matrix",
    Net(lambda net, x: (x @ net.W + net.b).relu() @ net.V, W=(4, 5), b=(5,), V=(5, 2)), (4,))
add("raw matrix over positions",
    Net(lambda net, x: torch.matmul(x, net.W) + net.b, W=(4, 5), b=(N, 5)), (N, 4))
add("addmm", Net(lambda net, x: torch.addmm(net.b, x, net.W, beta=0.5, alpha=2).tanh(),
                 W=(4, 5), b=(5,)), (4,), generic=("*",))
add("baddbmm", Net(lambda net, x: torch.baddbmm(net.b, x, net.W.expand(len(x), -1, -1)).tanh(),
                   W=(1, 4, 3), b=(1, 1, 3)), (N, 4), generic=("*",))
add("a matrix for each position",
    Net(lambda net, x: torch.einsum("ntd,tde->nte", x, net.W).tanh(), W=(N, 4, 3)), (N, 4),
    generic=("W",))
add("a matrix between positions", Net(lambda net, x: (net.W @ x).tanh(), W=(3, N)), (N, 4))
add("a vector", Net(lambda net, x: (x @ net.w).tanh()[:, None], w=(4,)), (4,))
add("a vector in place of a matrix",
    Net(lambda net, x: F.linear(x, net.w).tanh()[:, None], w=(4,)), (4,), generic=("w",))
add("bilinear", Net(lambda net, x, y: net.a(x, y).tanh(), a=nn.Bilinear(3, 4, 2)), (3,), (4,),
    generic=("a.weight", "a.bias"))
add("quadratic form", Net(lambda net, x: torch.einsum("ni,oij,nj->no", x, net.Q, x), Q=(2, 3, 3)),
    (3,), generic=("Q",))
add("softplus of a weight",
    Net(lambda net, x: F.linear(x, F.softplus(net.W), net.b).tanh(), W=(3, 4), b=(3,)), (4,),
    generic=("W",))
add("weight norm", Seq(weight_norm(Linear(4, 3)), nn.Tanh(), Linear(3, 2)), (4,),
    generic=tuple(f"0.parametrizations.weight.original{i}" for i in range(2)))
add("spectral norm", Seq(spectral_norm(Linear(4, 3)), nn.Tanh()), (4,),
    generic=("0.parametrizations.weight.original",))
add("masked weight",
    Net(lambda net, x: F.linear(x, net.W * net.mask).tanh() @ net.V,
        W=(3, 4), mask=torch.eye(3, 4), V=(3, 2)), (4,), generic=("W",))
add("product of two weights",
    Net(lambda net, x: net.out((net.A @ net.B @ x[:, :, None])[:, :, 0]),
        A=(3, 2), B=(2, 4), out=Linear(3, 2)), (4,), generic=("A", "B"))
add("low-rank addition",
    Net(lambda net, x: F.linear(x, net.base.weight + net.A @ net.B, net.base.bias),
        base=Linear(4, 3).requires_grad_(False), A=(3, 2), B=(2, 4)), (N, 4), generic=("A", "B"))
add("weight in pieces",
    Net(lambda net, x: F.linear(x, torch.cat([net.A, net.B]), torch.stack([net.b, net.c]).view(4)),
        A=(1, 4), B=(3, 4), b=(2,), c=(2,)), (4,), generic=("*",))
add("part of a weight",
    Net(lambda net, x: F.linear(x, net.W[1:, :4], net.b[:3]).tanh(), W=(4, 6), b=(5,)), (4,),
    generic=("*",))
add("weight of the chosen expert",
    Net(lambda net, x: torch.bmm(net.W[(x[:, 0] > 0).long()], x[:, :, None])[:, :, 0],
        W=(2, 3, 4)), (4,), generic=("W",))
add("weights made by a layer without samples",
    Net(lambda net, x: F.linear(x, net.hyper(net.code)).tanh(),
        hyper=Linear(3, 4), code=torch.zeros(N, 3)), (4,), generic=("hyper.weight", "hyper.bias"))
add("norm of a free parameter",
    Net(lambda net, x: x + net.norm(net.free), norm=nn.LayerNorm(3), free=(N, 3)), (N, 3),
    generic=("*",))
add("a guard in the forward pass",
    Net(lambda net, x: guarded(x) @ F.softplus(net.W), W=(4, 3)), (4,), generic=("W",))
add("a custom autograd function",
    Net(lambda net, x: net.out(Cube.apply(net.a(x)) + Cube.apply(net.w)),
        a=Linear(4, 3), w=(3,), out=Linear(3, 2)), (4,), generic=("w",))
add("checkpointed block",
    Net(lambda net, x: net.out(checkpoint(net.a, x, use_reentrant=False).tanh()),
        a=Seq(Linear(4, 3), nn.Tanh(), Linear(3, 3)), out=Linear(3, 2)), (4,))

# ---- what is trained and what is not; ways to write a net ----------------------------------


def freeze(net: nn.Module, ending: str) -> nn.Module:
    for name, parameter in net.named_parameters():
        parameter.requires_grad_(not name.endswith(ending))
    return net


def add_in_place(net: Net, x: Tensor) -> Tensor:
    h = net.a(x)
    h += x
    h = net.b(h.tanh())
    h += net.g
    h.tanh_()
    y = h + x
    y[:, 0] += 1
    return y


def write(net: Net, x: Tensor) -> Tensor:
    y = x.new_zeros(*x.shape[:2], 3)
    y[:, ::2] = net.a(x[:, ::2])
    y[:, 1::2] = net.b(x[:, 1::2]).tanh()
    return y.cumsum(1).tanh()


add("frozen parts",
    Net(lambda net, x: net.c(net.b(net.a(x).tanh()).tanh()) * net.g,
        a=Linear(4, 3), b=Linear(3, 3).requires_grad_(False), c=Linear(3, 2),
        g=nn.Parameter(torch.ones(2), requires_grad=False)), (4,))
add("frozen bias, trained weight", freeze(MLP((4, 3, 2), "tanh"), "bias"), (4,))
add("frozen weight, trained bias", freeze(MLP((4, 3, 2), "tanh"), "weight"), (4,))
add("a parameter that is never used",
    Net(lambda net, x: net.a(x), idle=(3,), a=Linear(4, 2), spare=Linear(2, 2)), (4,),
    generic=("idle", "spare.weight", "spare.bias"))
add("a parameter used without gradient",
    Net(lambda net, x: net.a(x) * net.g.detach() + net.b(x).detach(),
        a=Linear(4, 2), g=(2,), b=Linear(4, 2)), (4,), generic=("g", "b.weight", "b.bias"))
add("a layer that some samples use",
    Net(lambda net, x: net.a(x) * (x[:, :1] > 0), a=Linear(4, 3)), (4,))
add("in-place additions", Net(add_in_place, a=Linear(4, 4), b=Linear(4, 4), g=(4,)), (N, 4))
add("in-place ReLU", Seq(Linear(4, 6), nn.ReLU(inplace=True), Linear(6, 6), nn.ReLU(inplace=True),
                         Linear(6, 2)), (4,))
add("in-place ReLU over positions",
    Seq(Linear(4, 6), nn.ReLU(inplace=True), Linear(6, 6), nn.ReLU(inplace=True)), (N, 4))
add("in-place bias",
    Net(lambda net, x: (x @ net.W).add_(net.b).relu_() * net.g, W=(4, 3), b=(3,), g=(3,)), (4,),
    generic=("b",))
add("rows written into a buffer", Net(write, a=Linear(4, 3), b=Linear(4, 3)), (N, 4))
add("tuple inputs with a mask",
    Net(lambda net, x, mask: net.out((net.a(x).tanh() * (mask > 0)[..., None]).sum(1)),
        a=Linear(4, 3), out=Linear(3, 2)), (N, 4), (N,))
add("tuple outputs",
    Net(lambda net, x: (net.out(h := net.a(x).tanh()), h), a=Linear(4, 3), out=Linear(3, 2)),
    (4,), loss=both_outputs)
add("one output without an axis", Net(lambda net, x: net.a(x)[..., 0], a=Linear(4, 1)), (4,))
add("a net inside a wrapper", Seq(Seq(MLP((4, 3, 2)))), (4,))
add("positions used twice or never",
    Net(lambda net, x: net.out(net.a(x).tanh()[:, [0, 3, 3]]), a=Linear(4, 3), out=Linear(3, 2)),
    (N, 4))
add("one output, three uses",
    Net(lambda net, x: (h := net.a(x)) * h.tanh() + h, a=Linear(4, 3)), (4,))
