from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import jacrev

from grokscope.gradients.layout import gradient_layout
from grokscope.measures.gop import GOP
from grokscope.measures.input_gop import input_gop
from grokscope.measures.layer_gop import layer_input_gops, position_gops
from grokscope.nets import MLP, OneLayerTransformer

F64 = torch.float64


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def assert_same(a: GOP | Tensor, b: GOP | Tensor, tolerance: float = 1e-12) -> None:
    a, b = (m.dense() if isinstance(m, GOP) else m for m in (a, b))
    assert (a - b).norm() <= tolerance * b.norm()


def call_shapes(net: nn.Module, module: nn.Module, x: Tensor) -> list[tuple[int, ...]]:
    """Shapes of what each call of the module reads (linear) or gives (embedding), one sample."""
    shapes = []

    def note(module: nn.Module, args: tuple[Tensor], output: Tensor) -> None:
        shapes.append((args[0] if isinstance(module, nn.Linear) else output).shape)

    handle = module.register_forward_hook(note)
    net(x[:1])
    handle.remove()
    return shapes


def with_shift(net: nn.Module, module: nn.Module, x: Tensor, shifts: list[Tensor]) -> Tensor:
    """Outputs for one sample when the k-th call's input (embedding: output) is moved."""
    rest = iter(shifts)
    if isinstance(module, nn.Linear):
        handle = module.register_forward_pre_hook(lambda m, args: (args[0] + next(rest),))
    else:
        handle = module.register_forward_hook(lambda m, args, output: output + next(rest))
    try:
        return net(x[None]).flatten()
    finally:
        handle.remove()


def explicit(net: nn.Module, module: nn.Module, x: Tensor, *, centered: bool = False) -> Tensor:
    """AGOP from Jacobians with respect to a shift of what the layer reads, by torch.func."""
    zeros = [torch.zeros(shape, dtype=F64) for shape in call_shapes(net, module, x)]
    rows = []
    for sample in x:

        def moved(*shifts: Tensor, sample: Tensor = sample) -> Tensor:
            return with_shift(net, module, sample, list(shifts))

        jacobians = jacrev(moved, argnums=tuple(range(len(zeros))))(*zeros)
        d = zeros[0].shape[-1]
        rows.append(torch.cat([j.reshape(len(j), -1, d) for j in jacobians], dim=1).detach())
    stack = torch.stack(rows)  # (n, c, positions, d)
    if isinstance(module, nn.Embedding):
        stack = stack.flatten(2)[:, :, None]
    stack = stack - stack.mean(0) if centered else stack
    return torch.einsum("ncti,nctj->ij", stack, stack) / len(x)


def transformer(softmax: str = "softmax") -> OneLayerTransformer:
    return OneLayerTransformer(
        n_tokens=6, context=3, d_model=4, n_heads=2, d_head=3, d_mlp=7, softmax=softmax, seed=0
    ).double()


def tokens(modulus: int = 5) -> Tensor:
    pairs = torch.cartesian_prod(torch.arange(modulus), torch.arange(modulus))
    return torch.cat([pairs, torch.full((len(pairs), 1), modulus)], dim=1)


class Recurrent(nn.Module):
    """Calls one layer three times, on one and on two positions, and an embedding twice."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(5, 4)
        self.cell = nn.Linear(4, 4)
        self.out = nn.Linear(4, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        x = torch.stack([self.embed(inputs[:, 0]), self.embed(inputs[:, 1])], dim=1)
        x = torch.tanh(self.cell(x)).sum(1)
        return self.out(torch.tanh(self.cell(torch.tanh(self.cell(x)))))


class Gpt(nn.Module):
    """Positions are embedded once for all samples; the head's weight is the embedding's."""

    def __init__(self, context: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(6, 4)
        self.position = nn.Embedding(context, 4)
        self.mix = nn.Linear(4, 4)
        self.head = nn.Linear(4, 6, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, inputs: Tensor) -> Tensor:
        x = self.embed(inputs) + self.position(torch.arange(inputs.shape[1]))
        return self.head(x + torch.relu(self.mix(x)).cumsum(1))[:, -1]


def seeded(make: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make().double()


@pytest.mark.parametrize("centered", [False, True])
@pytest.mark.parametrize("softmax", ["softmax", "softmax1"])
def test_every_layer_of_a_transformer_agrees_with_explicit_jacobians(
    softmax: str, centered: bool
) -> None:
    net, x = transformer(softmax), tokens()
    gops = layer_input_gops(net, x, centered=centered, chunk_size=10)
    names = [n for n in gradient_layout(net.named_parameters()).layers if n != "position"]
    assert list(gops) == names
    for name in names:
        module = net.get_submodule(name)
        difference = gops[name].dense() - explicit(net, module, x, centered=centered)
        assert difference.norm() <= 1e-12 * explicit(net, module, x).norm()
    assert gops["embed"].n_parameters == 12
    assert gops["attention.query"].n_parameters == 4
    assert gops["mlp.down"].n_parameters == 7


def test_every_layer_of_an_mlp_has_the_agop_of_the_rest_of_the_net() -> None:
    net, x = MLP((5, 9, 3, 8, 4), "quadratic", seed=0).double(), randn(30, 5)
    gops = layer_input_gops(net, x)
    first, second, third, last = net.layers
    assert_same(gops["layers.0"], input_gop(net, x))
    h = first(x).square().detach()
    assert_same(gops["layers.1"], input_gop(lambda v: last(third(second(v) ** 2) ** 2), h))
    h = second(h).square().detach()
    assert_same(gops["layers.2"], input_gop(lambda v: last(third(v) ** 2), h))
    assert_same(gops["layers.3"], last.weight.T @ last.weight)


def test_the_blocks_of_an_embedding_are_its_positions() -> None:
    net, x = transformer(), tokens()
    joint = layer_input_gops(net, x, ["embed"])["embed"]
    blocks = position_gops(joint, 3)
    for t, block in enumerate(blocks):
        start, stop = 4 * t, 4 * t + 4
        assert_same(block, joint.dense()[start:stop, start:stop])
        expected = torch.linalg.eigvalsh(joint.dense()[start:stop, start:stop]).flip(0)
        np.testing.assert_allclose(block.eigenvalues, expected, atol=1e-12 * expected[0])
    traces = [block.metrics()["trace"] for block in blocks]
    assert sum(traces) == pytest.approx(joint.metrics()["trace"], rel=1e-12)


def test_the_rest_of_the_net_sees_the_whole_embedding_output() -> None:
    net, x = transformer(), tokens()

    def rest(e: Tensor) -> Tensor:
        h = e + net.position.weight
        h = h[:, -1] + net.attention(h)
        return net.unembed(h + net.mlp(h))

    gop = layer_input_gops(net, x, ["embed"])["embed"]
    assert_same(gop, input_gop(rest, net.embed(x)))


@pytest.mark.parametrize("centered", [False, True])
def test_all_calls_of_a_layer_count(centered: bool) -> None:
    net = seeded(Recurrent)
    x = torch.cartesian_prod(torch.arange(5), torch.arange(5))
    gops = layer_input_gops(net, x, centered=centered, chunk_size=7)
    assert list(gops) == ["embed", "cell", "out"]
    assert gops["embed"].n_parameters == 8
    for name, gop in gops.items():
        module = net.get_submodule(name)
        difference = gop.dense() - explicit(net, module, x, centered=centered)
        assert difference.norm() <= 1e-12 * explicit(net, module, x).norm()


@pytest.mark.parametrize("centered", [False, True])
def test_chunks_and_order_do_not_matter(centered: bool, generator: torch.Generator) -> None:
    net, x = transformer(), tokens()
    whole = layer_input_gops(net, x, centered=centered)
    shuffled = x[torch.randperm(len(x), generator=generator)]
    for chunk_size in (1, 7, 24):
        parts = layer_input_gops(net, shuffled, centered=centered, chunk_size=chunk_size)
        assert list(parts) == list(whole)
        scale = max(gop.metrics()["trace"] for gop in whole.values())
        for name, gop in parts.items():
            difference = gop.dense() - whole[name].dense()
            assert difference.norm() <= 1e-12 * max(scale, float(whole[name].dense().norm()))


def test_few_samples_are_kept_as_rows_and_agree() -> None:
    net, x = MLP((40, 30, 50, 2), "tanh", seed=0).double(), randn(3, 40)
    gops = layer_input_gops(net, x)
    assert [gop.factor.shape for gop in gops.values()] == [(6, 40), (6, 30), (2, 50)]
    for layer, gop in zip(net.layers, gops.values(), strict=True):
        assert_same(gop, explicit(net, layer, x))


def test_names_are_those_of_the_layout_below_a_wrapper() -> None:
    class Wrapper(nn.Module):
        def __init__(self, net: nn.Module) -> None:
            super().__init__()
            self.net = net

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x)

    net = MLP((3, 4, 2), seed=0)
    wrapped, x = Wrapper(net), torch.ones(2, 3)
    names = gradient_layout(wrapped.named_parameters()).layers
    assert tuple(layer_input_gops(wrapped, x)) == names == ("layers.0", "layers.1")
    assert tuple(layer_input_gops(nn.Linear(3, 2), x)) == ("weight",)
    assert tuple(layer_input_gops(net, x, ["layers.1", "layers.0"])) == names


@pytest.mark.parametrize("context", [2, 3, 4])
def test_an_embedding_that_is_not_called_by_sample_is_left_out(context: int) -> None:
    net, x = seeded(lambda: Gpt(context)), torch.randint(0, 6, (context, context))
    gops = layer_input_gops(net, x)
    assert list(gops) == ["embed", "mix"]
    for name, gop in gops.items():
        assert_same(gop, explicit(net, net.get_submodule(name), x))


class SequenceFirst(nn.Module):
    """Its layers see (T, b, d)."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.embed, self.cell, self.out = net.embed, net.cell, net.out

    def forward(self, inputs: Tensor) -> Tensor:
        return self.out(torch.tanh(self.cell(self.embed(inputs.T))).sum(0))


@pytest.mark.parametrize("centered", [False, True])
@pytest.mark.parametrize("n", [2, 3, 11])
def test_samples_may_come_second(n: int, centered: bool) -> None:
    net = SequenceFirst(seeded(Recurrent))
    x = torch.randint(0, 5, (n, 2), generator=torch.Generator().manual_seed(1))
    first = nn.Sequential(net.embed, net.cell, nn.Tanh(), Summed(), net.out)
    gops = layer_input_gops(net, x, centered=centered, chunk_size=4)
    expected = layer_input_gops(first, x, centered=centered)
    for gop, same in zip(gops.values(), expected.values(), strict=True):
        assert (gop.dense() - same.dense()).norm() <= 1e-13
        assert gop.n_parameters == same.n_parameters


class Summed(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.sum(1)


def test_a_frozen_net_has_the_gops_of_its_trained_layers() -> None:
    net, x = transformer(), tokens()
    expected = layer_input_gops(net, x)
    net.requires_grad_(False)
    net.mlp.down.weight.requires_grad_(True)
    gops = layer_input_gops(net, x)
    assert list(gops) == ["down"]  # the layout leaves out the name that all parameters share
    assert_same(gops["down"], expected["mlp.down"])
    net.requires_grad_(True)
    net.embed.requires_grad_(False)
    net.position.requires_grad_(False)
    assert_same(layer_input_gops(net, x)["attention.key"], expected["attention.key"])


def test_what_follows_a_layer_may_write_into_its_output() -> None:
    def net(inplace: bool) -> nn.Module:
        return seeded(lambda: nn.Sequential(nn.Linear(3, 5), nn.ReLU(inplace), nn.Linear(5, 2)))

    x = randn(20, 3)
    for name, gop in layer_input_gops(net(True), x).items():
        assert_same(gop, layer_input_gops(net(False), x)[name])
    frozen = net(True)
    frozen[0].requires_grad_(False)
    weight = frozen[2].weight.detach()
    assert_same(layer_input_gops(frozen, x)["2"], weight.T @ weight)


def test_a_batch_norm_layer_and_dropout_are_in_eval_mode_and_come_back() -> None:
    net = seeded(
        lambda: nn.Sequential(
            nn.Linear(3, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Dropout(), nn.Linear(6, 2)
        )
    )
    x = randn(20, 3)
    net(x)
    net[3].eval()
    net[4].weight.grad = torch.ones_like(net[4].weight)
    modes = [m.training for m in net.modules()]
    state = {k: v.clone() for k, v in net.state_dict().items()}
    random = torch.get_rng_state()
    gops = layer_input_gops(net, x, chunk_size=6)
    assert [m.training for m in net.modules()] == modes
    assert all(torch.equal(v, state[k]) for k, v in net.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)
    assert torch.equal(net[4].weight.grad, torch.ones_like(net[4].weight))
    assert net[0].weight.grad is None
    assert not any(m._forward_hooks for m in net.modules())
    net.eval()
    assert_same(gops["0"], explicit(net, net[0], x))
    assert_same(gops["4"], explicit(net, net[4], x))


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_gradients_are_taken_where_they_are_switched_off(context: Callable) -> None:
    net, x = transformer(), tokens()
    expected = layer_input_gops(net, x)
    with context():
        found = layer_input_gops(net, x.clone())
    assert all(torch.equal(found[k].dense(), expected[k].dense()) for k in expected)


def test_compiled_modules_are_seen_through() -> None:
    net, x = MLP((3, 4, 2), seed=0).double(), randn(6, 3)
    expected = layer_input_gops(net, x)
    compiled = torch.compile(net, backend="eager")
    compiled(x)
    found = layer_input_gops(compiled, x)
    assert list(found) == list(expected)
    assert all(torch.equal(found[k].dense(), expected[k].dense()) for k in expected)


def test_a_gradient_that_is_not_finite_gives_nan() -> None:
    net = MLP((3, 4, 2), "relu", seed=0).double()
    net.layers[1].weight.data[0, 0] = float("inf")
    gops = layer_input_gops(net, randn(9, 3))
    assert all(np.isnan(gop.eigenvalues).all() for gop in gops.values())


class Halved(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x / 2)


@pytest.mark.refusal
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layers": ["embde"]}, "layers must be one of embed, position, attention.query"),
        ({"layers": "embed"}, "layers must be a list of names, got 'embed'"),
        ({"layers": ["position"]}, "layers must be called sample by sample, 'position' is not"),
        ({"inputs": torch.zeros(0, 3).long()}, "inputs must hold at least one sample"),
        ({"chunk_size": 0}, "chunk_size must be an integer >= 1"),
        ({"max_bytes": 1000}, r"max_bytes must be >= 2,208 for this input GOP, got 1,000"),
        ({"net": nn.Conv2d(1, 1, 1)}, "net must have an nn.Linear or nn.Embedding"),
        ({"net": Halved(3, 3)}, "net must have an nn.Linear or nn.Embedding"),
    ],
)
def test_wrong_arguments_are_refused(change: dict, message: str) -> None:
    arguments = {"net": transformer(), "inputs": tokens()} | change
    with pytest.raises(ValueError, match=message):
        layer_input_gops(arguments.pop("net"), arguments.pop("inputs"), **arguments)


@pytest.mark.refusal
def test_a_module_that_mixes_samples_is_refused() -> None:
    net = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2, track_running_stats=False))
    with pytest.raises(ValueError, match="net must treat samples separately; '1', a BatchNorm1d"):
        layer_input_gops(net, torch.ones(4, 3))


@pytest.mark.refusal
def test_outputs_without_a_gradient_are_refused() -> None:
    class Guess(MLP):
        def forward(self, inputs: Tensor) -> Tensor:
            return super().forward(inputs).argmax(1)

    with pytest.raises(ValueError, match="net must be differentiable, got outputs without"):
        layer_input_gops(Guess((3, 2)), torch.ones(4, 3))


@pytest.mark.refusal
def test_positions_must_divide_the_side() -> None:
    gop = layer_input_gops(transformer(), tokens(), ["embed"])["embed"]
    with pytest.raises(ValueError, match="n_positions must divide the side 12, got 5"):
        position_gops(gop, 5)
