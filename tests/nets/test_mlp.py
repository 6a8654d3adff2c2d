import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from grokscope.nets import MLP, doshi_std, mlp


@pytest.fixture
def _always_worth_sharing(monkeypatch):
    monkeypatch.setattr(mlp, "_WORTH_SHARING", 1)


def one_hot_pairs(modulus: int, order: Tensor | None = None) -> Tensor:
    pairs = torch.cartesian_prod(torch.arange(modulus), torch.arange(modulus))
    pairs = pairs if order is None else pairs[order]
    return F.one_hot(pairs, modulus).flatten(1).double()


def assert_shared_equals_plain(net: MLP, inputs: Tensor) -> None:
    plan = net.share(inputs)
    assert plan is not None
    plain, shared = net(inputs), net.forward_shared(plan)
    torch.testing.assert_close(shared, plain, rtol=1e-12, atol=1e-12)
    for got, expected in zip(
        torch.autograd.grad(shared.sin().sum(), list(net.parameters())),
        torch.autograd.grad(plain.sin().sum(), list(net.parameters())),
        strict=True,
    ):
        assert (got - expected).norm() < 1e-12 * expected.norm()


@pytest.mark.parametrize(
    ("arguments", "n_parameters"),
    [
        ({"widths": (194, 500, 97), "activation": "quadratic", "bias": False}, 145_500),
        ({"widths": (26, 91, 13), "bias": [True, False]}, 3_640),
        ({"widths": (784, 200, 200, 10)}, 199_210),
        ({"widths": (5, 100, 100, 5), "activation": "tanh"}, 11_205),
    ],
)
def test_published_nets_have_their_number_of_parameters(arguments, n_parameters):
    assert sum(p.numel() for p in MLP(**arguments).parameters()) == n_parameters


def test_forward_is_layer_by_layer_with_no_activation_at_the_end(generator):
    net = MLP((3, 4, 2), "quadratic", seed=0)
    first, second = net.layers
    x = torch.randn(5, 3, generator=generator)
    hidden = (x @ first.weight.T + first.bias) ** 2
    torch.testing.assert_close(net(x), hidden @ second.weight.T + second.bias)


@pytest.mark.parametrize(
    ("activation", "function"),
    [
        ("relu", lambda x: x.clamp(min=0)),
        ("tanh", torch.tanh),
        ("quadratic", lambda x: x * x),
        ("quartic", lambda x: x * x * x * x),
        ("identity", lambda x: x),
    ],
)
def test_activation_is_what_its_name_says(activation, function, generator):
    net = MLP((2, 6, 1), activation, seed=0).double()
    x = torch.randn(7, 2, dtype=torch.float64, generator=generator)
    first, second = net.layers
    torch.testing.assert_close(net(x), second(function(first(x))))


def test_images_are_flattened(generator):
    net, images = MLP((784, 10), seed=0), torch.rand(3, 1, 28, 28, generator=generator)
    assert torch.equal(net(images), net(images.view(3, 784)))


def test_a_seed_gives_the_net_that_torch_would_draw():
    before = torch.get_rng_state()
    net = MLP((6, 5, 4), bias=[True, False], seed=7)
    assert torch.equal(before, torch.get_rng_state())
    with torch.random.fork_rng():
        torch.manual_seed(7)
        layers = [nn.Linear(6, 5), nn.Linear(5, 4, bias=False)]
        torch.manual_seed(7)
        unseeded = MLP((6, 5, 4), bias=[True, False])
    expected = [p for layer in layers for p in layer.parameters()]
    for other in (expected, list(unseeded.parameters())):
        assert all(torch.equal(a, b) for a, b in zip(net.parameters(), other, strict=True))


def test_scale_multiplies_weights_and_biases():
    for plain, scaled in zip(
        MLP((6, 5, 4), seed=0).parameters(),
        MLP((6, 5, 4), scale=8.0, seed=0).parameters(),
        strict=True,
    ):
        assert torch.equal(8 * plain, scaled)


def test_doshi_std_is_a_twentieth_for_500_hidden_units():
    assert doshi_std(500) == pytest.approx(0.05)
    assert doshi_std(128) == pytest.approx(0.5 / (2 * 128) ** (1 / 3))


@pytest.mark.parametrize("init_std", [0.05, (0.1, 2.0)])
def test_normal_weights_have_their_standard_deviation(init_std):
    net = MLP((194, 500, 97), init_std=init_std, seed=0)
    stds = (init_std, init_std) if isinstance(init_std, float) else init_std
    for layer, std in zip(net.layers, stds, strict=True):
        n = layer.weight.numel()
        assert abs(layer.weight.square().mean() / std**2 - 1) < 6 * math.sqrt(2 / n)
        assert not layer.bias.any()


@pytest.mark.usefixtures("_always_worth_sharing")
@pytest.mark.parametrize("modulus", [8, 11])
@pytest.mark.parametrize("bias", [True, False])
def test_shared_forward_has_the_same_values_and_gradients(modulus, bias):
    net = MLP((2 * modulus, 20, modulus), "quadratic", bias, seed=0).double()
    assert_shared_equals_plain(net, one_hot_pairs(modulus))


@pytest.mark.usefixtures("_always_worth_sharing")
@pytest.mark.parametrize("n", [1, 30])
def test_shared_forward_takes_any_subset_in_any_order(n):
    net = MLP((22, 20, 11), bias=[True, False], seed=0).double()
    order = torch.randperm(121, generator=torch.Generator().manual_seed(n))[:n]
    assert_shared_equals_plain(net, one_hot_pairs(11, order))


def test_shared_forward_matches_at_the_published_size():
    net = MLP((194, 500, 97), "quadratic", False, doshi_std(500), seed=0).double()
    assert_shared_equals_plain(net, one_hot_pairs(97)[::10])


def test_shared_forward_is_bit_equal_when_run_twice():
    net, inputs = MLP((94, 128, 47), seed=0), one_hot_pairs(47).float()
    runs = []
    for _ in range(2):
        outputs = net.forward_shared(net.share(inputs))
        gradient = torch.autograd.grad(outputs.square().sum(), list(net.parameters()))
        runs.append([outputs.detach(), *gradient])
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


@pytest.mark.usefixtures("_always_worth_sharing")
@pytest.mark.parametrize(
    "inputs",
    [
        torch.linspace(-3, 3, 110).view(5, 22),
        torch.full((5, 22), torch.nan),
        0.5 * one_hot_pairs(11),
        one_hot_pairs(11).clamp(min=0.5),
        torch.eye(22)[:5].cumsum(0).clamp(max=1),
        torch.ones(5, 22),
        torch.zeros(5, 22),
        torch.zeros(0, 22),
        one_hot_pairs(11).view(-1, 2, 11),
    ],
    ids=[
        "real",
        "nan",
        "halves",
        "ones and halves",
        "varying count",
        "dense",
        "zeros",
        "no samples",
        "not flat",
    ],
)
def test_nothing_is_shared_unless_inputs_are_sparse_zeros_and_ones(inputs):
    assert MLP((22, 20, 11)).share(inputs) is None


def test_nothing_is_shared_by_a_net_so_small_that_the_dense_product_is_faster():
    assert MLP((26, 91, 13)).share(one_hot_pairs(13)) is None


@pytest.mark.refusal
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"widths": (3,)}, "widths must name inputs and outputs"),
        ({"widths": (3, 0, 2)}, r"widths\[1\] must be an integer >= 1"),
        ({"activation": "swish"}, "activation must be one of relu, tanh"),
        ({"bias": [True]}, "bias must have one value for each of 2 layers"),
        ({"init_std": (0.1, 0.2, 0.3)}, "init_std must have one value for each of 2 layers"),
        ({"init_std": 0.0}, "init_std must be a number > 0"),
        ({"scale": -1.0}, "scale must be a number > 0"),
        ({"seed": -1}, "seed must be an integer >= 0"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        MLP(**{"widths": (3, 4, 2), **arguments})
