from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import jacfwd, jacrev
from torch.nn import functional as F

from grokscope.measures.gop import GOP
from grokscope.measures.input_gop import input_gop
from grokscope.nets import MLP, OneLayerTransformer

F64 = torch.float64
Func = Callable[[Tensor], Tensor]


def jacobians(func: Func, x: Tensor, jac: Callable = jacrev) -> Tensor:
    """(n, c, d), one sample at a time."""
    rows = [jac(lambda v: func(v[None])[0])(sample) for sample in x]
    return torch.stack(rows).reshape(len(x), -1, x[0].numel()).detach()


def explicit(func: Func, x: Tensor, *, centered: bool = False, jac: Callable = jacrev) -> Tensor:
    """The definition, with all Jacobians in memory."""
    rows = jacobians(func, x, jac)
    rows = rows - rows.mean(0) if centered else rows
    return torch.einsum("nci,ncj->ij", rows, rows) / len(x)


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def assert_same(a: GOP | Tensor, b: GOP | Tensor, tolerance: float = 1e-12) -> None:
    """Equal, relative to the norm of the matrix."""
    a, b = (m.dense() if isinstance(m, GOP) else m for m in (a, b))
    assert (a - b).norm() <= tolerance * b.norm()


def mlp(*widths: int, activation: str = "tanh") -> MLP:
    return MLP(widths, activation, seed=0).double()


def conv_net() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(2, 3, 3, padding=1),
            nn.BatchNorm2d(3),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Dropout(0.5),
            nn.Linear(12, 4),
        ).double()


@pytest.mark.parametrize("n", [1, 2, 50])
@pytest.mark.parametrize("mode", ["reverse", "forward"])
def test_linear_map_gives_gram_of_weights(mode: str, n: int) -> None:
    weight = randn(3, 7)
    gop = input_gop(lambda x: x @ weight.T, randn(n, 7, seed=1), mode=mode)
    assert_same(gop, weight.T @ weight)
    assert gop.n_parameters == 7
    np.testing.assert_allclose(
        gop.eigenvalues[:3], torch.linalg.svdvals(weight).square(), rtol=1e-12
    )
    assert gop.metrics()["rank"] == 3
    assert gop.metrics()["trace"] == pytest.approx(float(weight.square().sum()), rel=1e-12)


def test_quadratic_net_has_its_closed_form() -> None:
    net = mlp(6, 10, 4, activation="quadratic")
    for layer in net.layers:
        layer.bias.data.zero_()
    w1, w2 = (layer.weight.detach() for layer in net.layers)
    x = randn(20, 6)
    rows = torch.stack([2 * w2 @ torch.diag(w1 @ sample) @ w1 for sample in x])
    assert_same(input_gop(net, x), torch.einsum("nci,ncj->ij", rows, rows) / 20)


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # jacfwd
@pytest.mark.parametrize("centered", [False, True])
@pytest.mark.parametrize("shape", [(5, 8, 3), (3, 8, 6)], ids=["d>c", "d<c"])
def test_mlp_agrees_with_explicit_jacobians(shape: tuple[int, ...], centered: bool) -> None:
    net, x = mlp(*shape), randn(17, shape[0])
    expected = explicit(net, x, centered=centered)
    assert_same(explicit(net, x, centered=centered, jac=jacfwd), expected)
    for mode in ("auto", "reverse", "forward"):
        assert_same(input_gop(net, x, centered=centered, mode=mode), expected)


@pytest.mark.parametrize("n", [2, 12])
@pytest.mark.parametrize("mode", ["reverse", "forward"])
def test_conv_net_agrees_with_explicit_jacobians(mode: str, n: int) -> None:
    net, x = conv_net(), randn(n, 2, 4, 4)
    net(x)  # running statistics that are not trivial
    gop = input_gop(net, x, mode=mode)
    net.eval()
    assert_same(gop, explicit(lambda v: net(v.clone()), x))


def test_transformer_agrees_at_its_embedding_output() -> None:
    net = OneLayerTransformer(n_tokens=6, context=3, d_model=4, n_heads=2, d_head=2, d_mlp=5)
    net = net.double()

    def rest(e: Tensor) -> Tensor:
        x = e + net.position.weight
        x = x[:, -1] + net.attention(x)
        return net.unembed(x + net.mlp(x))

    tokens = torch.tensor([[a, b, 5] for a in range(5) for b in range(5)])
    assert_same(input_gop(rest, net.embed(tokens)), explicit(rest, net.embed(tokens).detach()))


@pytest.mark.parametrize("centered", [False, True])
@pytest.mark.parametrize("mode", ["reverse", "forward"])
@pytest.mark.parametrize("widths", [(6, 9, 4), (60, 9, 2)], ids=["as a matrix", "as rows"])
def test_chunks_and_order_do_not_matter(
    widths: tuple[int, ...], mode: str, centered: bool, generator: torch.Generator
) -> None:
    net, x = mlp(*widths), randn(11, widths[0])
    whole = input_gop(net, x, centered=centered, mode=mode)
    shuffled = x[torch.randperm(11, generator=generator)]
    for chunk_size in (1, 4, 10, 11):
        gop = input_gop(net, shuffled, centered=centered, mode=mode, chunk_size=chunk_size)
        assert_same(gop, whole)
        largest = whole.eigenvalues[0]
        k = min(len(gop.eigenvalues), len(whole.eigenvalues))
        np.testing.assert_allclose(
            gop.eigenvalues[:k], whole.eigenvalues[:k], rtol=0, atol=1e-12 * largest
        )


def test_a_mean_far_above_the_deviations_does_not_cancel() -> None:
    slope, bend = 1e6 * randn(5), randn(4, 5)

    def func(x: Tensor) -> Tensor:
        return (x @ slope)[:, None] + (x @ bend.T).sin()

    x = randn(40, 5, seed=1)
    expected = explicit(lambda v: (v @ bend.T).sin(), x, centered=True)
    assert_same(input_gop(func, x, centered=True, chunk_size=7), expected, 1e-9)


def test_centering_subtracts_the_product_of_mean_gradients() -> None:
    net, x = mlp(5, 8, 3), randn(30, 5)
    mean = jacobians(net, x).mean(0)
    difference = input_gop(net, x).dense() - input_gop(net, x, centered=True).dense()
    assert_same(difference, mean.T @ mean)


def test_a_linear_map_has_nothing_left_when_centered() -> None:
    weight = randn(3, 4)
    gop = input_gop(lambda x: x @ weight.T, randn(9, 4), centered=True, chunk_size=4)
    assert gop.eigenvalues.max() < 1e-28


def test_rotating_the_input_rotates_the_matrix() -> None:
    net, x = mlp(5, 8, 3), randn(12, 5)
    rotation, _ = torch.linalg.qr(randn(5, 5, seed=1))
    gop = input_gop(net, x)
    rotated = input_gop(lambda v: net(v @ rotation), x @ rotation.T)
    assert_same(rotated, rotation @ gop.dense() @ rotation.T)
    np.testing.assert_allclose(rotated.eigenvalues, gop.eigenvalues, rtol=1e-9)


def test_rotating_the_outputs_changes_nothing() -> None:
    net, x = mlp(5, 8, 3), randn(12, 5)
    rotation, _ = torch.linalg.qr(randn(3, 3, seed=1))
    assert_same(input_gop(lambda v: net(v) @ rotation, x), input_gop(net, x))


@given(
    n=st.integers(1, 7),
    d=st.integers(1, 6),
    c=st.integers(1, 6),
    chunk_size=st.integers(1, 8),
    centered=st.booleans(),
    mode=st.sampled_from(["auto", "reverse", "forward"]),
)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_any_shape_gives_the_explicit_positive_matrix(
    n: int, d: int, c: int, chunk_size: int, centered: bool, mode: str
) -> None:
    net, x = mlp(d, 4, c), randn(n, d, seed=n)
    gop = input_gop(net, x, centered=centered, mode=mode, chunk_size=chunk_size)
    expected = explicit(net, x, centered=centered)
    scale = float(explicit(net, x).norm())
    assert (gop.dense() - expected).norm() <= 1e-12 * scale
    assert torch.equal(gop.dense(), gop.dense().T)
    assert torch.linalg.eigvalsh(gop.dense()).min() >= -1e-12 * scale
    assert len(gop.eigenvalues) <= d == gop.n_parameters
    assert (np.diff(gop.eigenvalues) <= 0).all()
    assert gop.eigenvalues.sum() == pytest.approx(float(expected.trace()), abs=1e-12 * scale)


@pytest.mark.parametrize("widths", [(6, 9, 4), (60, 9, 2)], ids=["as a matrix", "as rows"])
def test_eigenvectors_satisfy_their_equation(widths: tuple[int, ...]) -> None:
    gop = input_gop(mlp(*widths), randn(9, widths[0]))
    vectors = gop.eigenvectors(3)
    values = torch.tensor(gop.eigenvalues[:3].copy())
    torch.testing.assert_close(vectors @ gop.dense(), values[:, None] * vectors)
    torch.testing.assert_close(vectors @ vectors.T, torch.eye(3, dtype=F64))


def test_few_gradients_are_kept_as_rows() -> None:
    assert input_gop(mlp(60, 4, 2), randn(5, 60)).factor.shape == (10, 60)
    assert input_gop(mlp(6, 4, 2), randn(5, 6)).factor.shape == (6, 6)


def test_scalar_outputs_and_scalar_inputs_are_one_dimension() -> None:
    x = randn(6)
    gop = input_gop(torch.sin, x)
    assert gop.dense().shape == (1, 1)
    assert gop.eigenvalues[0] == pytest.approx(float(x.cos().square().mean()))


def test_float32_nets_accumulate_in_float64() -> None:
    net, x = mlp(5, 8, 3), randn(40, 5)
    expected = input_gop(net, x)
    single = input_gop(net.float(), x.float())
    assert single.factor.dtype == F64
    assert_same(single, expected, 1e-6)


def test_an_output_that_ignores_the_input_gives_zero() -> None:
    offset = nn.Parameter(torch.ones(1, dtype=F64))
    gop = input_gop(lambda x: offset.expand(len(x), 1), randn(4, 2))
    assert gop.eigenvalues.max() == 0
    assert gop.metrics()["rank"] == 0


@pytest.mark.parametrize("widths", [(6, 9, 4), (60, 9, 2)], ids=["as a matrix", "as rows"])
def test_a_gradient_that_is_not_finite_gives_nan_not_an_exception(widths: tuple[int, ...]) -> None:
    net, x = mlp(*widths), randn(8, widths[0])
    x[3, 1] = float("nan")
    gop = input_gop(net, x)
    assert np.isnan(gop.eigenvalues).all()
    assert np.isnan(gop.metrics()["trace"])
    assert gop.dense().isnan().all()


class Doubled(torch.autograd.Function):
    """Has no forward mode."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        return 2 * x

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        return 2 * grad


def test_an_operation_without_forward_mode_goes_backward() -> None:
    weight = randn(5, 2)
    gop = input_gop(lambda x: Doubled.apply(x) @ weight.T, randn(4, 2))
    assert_same(gop, 4 * weight.T @ weight)
    with pytest.raises(NotImplementedError):
        input_gop(lambda x: Doubled.apply(x) @ weight.T, randn(4, 2), mode="forward")


def test_a_function_may_write_into_its_input() -> None:
    x = randn(5, 3)
    before = x.clone()
    gop = input_gop(lambda v: F.relu(v, inplace=True) * 3, x)
    assert torch.equal(x, before)
    assert_same(gop, 9 * torch.diag((x > 0).double().mean(0)))


@pytest.mark.parametrize("mode", ["reverse", "forward"])
@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_gradients_are_taken_where_they_are_switched_off(context: Callable, mode: str) -> None:
    net, x = mlp(4, 6, 3), randn(5, 4)
    expected = input_gop(net, x)
    with context():
        assert_same(input_gop(net, x.clone(), mode=mode), expected)


def test_nothing_is_disturbed() -> None:
    net, x = conv_net(), randn(6, 2, 4, 4)
    net[1].eval()
    net[6].weight.grad = torch.ones_like(net[6].weight)
    net[0].weight.requires_grad_(False)
    modes = [m.training for m in net.modules()]
    state = {k: v.clone() for k, v in net.state_dict().items()}
    torch.manual_seed(5)
    random = torch.get_rng_state()
    input_gop(net, x)
    input_gop(lambda v: net(v) + torch.randn(()), x)
    assert torch.equal(torch.get_rng_state(), random)
    assert [m.training for m in net.modules()] == modes
    assert all(torch.equal(state[k], v) for k, v in net.state_dict().items() if k[0] != "1")
    assert torch.equal(net[6].weight.grad, torch.ones_like(net[6].weight))
    assert net[0].weight.grad is None
    assert not net[0].weight.requires_grad
    assert not x.requires_grad


def test_modes_come_back_after_an_exception() -> None:
    net = nn.Sequential(nn.Linear(3, 2), nn.Dropout())
    with pytest.raises(RuntimeError):
        input_gop(net, torch.ones(4, 5))
    assert net.training
    assert net[1].training


def test_a_compiled_module_gives_the_same() -> None:
    net, x = mlp(4, 6, 3), randn(5, 4)
    compiled = torch.compile(net, backend="eager")
    compiled(x)
    assert_same(input_gop(compiled, x), input_gop(net, x))


@pytest.mark.refusal
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": torch.zeros(0, 3)}, r"x must hold at least one sample, got shape \(0, 3\)"),
        ({"x": torch.tensor(1.0)}, r"x must hold at least one sample, got shape \(\)"),
        ({"x": torch.ones(2, 3).long()}, "x must be floating point, got torch.int64"),
        ({"mode": "backward"}, "mode must be one of auto, reverse, forward"),
        ({"chunk_size": 0}, "chunk_size must be an integer >= 1"),
        ({"max_bytes": 0}, "max_bytes must be an integer >= 1"),
        ({"max_bytes": 71}, "max_bytes must be >= 72 for this input GOP, got 71"),
        ({"func": lambda x: x.sum()}, r"func must return outputs \(b, ...\) .* got \(\) for 2"),
        ({"func": lambda x: x.sum(0)}, r"func must return outputs .* got \(3,\) for 2"),
        ({"func": lambda x: (x, x)}, "func must return a tensor, got tuple"),
        ({"func": lambda x: x.detach()}, "func must be differentiable"),
        (
            {"func": nn.Sequential(nn.BatchNorm1d(3, track_running_stats=False))},
            "func must treat samples separately; '0', a BatchNorm1d without running statistics",
        ),
    ],
)
def test_wrong_arguments_are_refused(change: dict, message: str) -> None:
    arguments = {"func": lambda x: 2 * x, "x": torch.ones(5, 3)} | change
    with pytest.raises(ValueError, match=message):
        input_gop(arguments.pop("func"), arguments.pop("x"), **arguments)
