"""Local complexity: counts that are known in advance, and a loop over single points."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import nn

from grokscope.measures.local_complexity import (
    LocalComplexity,
    local_complexity,
    orthonormal_directions,
)
from grokscope.nets import MLP
from grokscope.nets.resnet import PreActivationResNet


def points(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


def test_directions_are_orthonormal_and_depend_on_the_seed_alone() -> None:
    before = torch.get_rng_state()
    q = orthonormal_directions(25, 784, seed=3)
    torch.testing.assert_close(q @ q.T, torch.eye(25, dtype=torch.float64))
    assert torch.equal(q, orthonormal_directions(25, 784, seed=3))
    assert not torch.equal(q, orthonormal_directions(25, 784, seed=4))
    assert torch.equal(before, torch.get_rng_state())


def test_hyperplanes_of_one_layer_are_counted_by_their_distance() -> None:
    """With all directions of the axes, unit i is cut if |w_i x + b_i| < r max |w_i|."""
    layer = nn.Linear(6, 200).double()
    x, radius = points(30, 6), 0.3
    found = local_complexity(layer, x, radius=radius, directions=torch.eye(6), layers=[""])
    distance = layer(x).abs()
    expected = (distance < radius * layer.weight.abs().amax(1)).sum(1)
    assert torch.equal(found.counts[:, 0], expected)
    assert found.units.tolist() == [200]
    assert found.mean == pytest.approx(float(expected.double().mean()))


def slow(net: nn.Module, x: torch.Tensor, radius: float, q: torch.Tensor) -> list[list[int]]:
    """The recipe of the paper, one point and one unit at a time."""
    found = []
    for point in x:
        vertices = [point + sign * radius * d.reshape(point.shape) for d in q for sign in (1, -1)]
        values = [hidden(net, v) for v in vertices]
        row = []
        for layer in range(len(values[0])):
            signs = [[math.copysign(1, u) for u in v[layer].flatten().tolist()] for v in values]
            row.append(sum(len(set(unit)) > 1 for unit in zip(*signs, strict=True)))
        found.append(row)
    return found


def hidden(net: MLP, x: torch.Tensor) -> list[torch.Tensor]:
    values = [net.layers[0](x)]
    for layer in net.layers[1:]:
        values.append(layer(torch.relu(values[-1])))
    return values


@pytest.mark.parametrize("chunk_size", [1, 4, 64])
def test_it_is_the_published_recipe(chunk_size: int) -> None:
    net = MLP([10, 20, 20, 3], "relu", seed=0).double()
    x = points(7, 10)
    found = local_complexity(net, x, radius=0.5, n_directions=4, seed=2, chunk_size=chunk_size)
    assert found.layers == ("layers.0", "layers.1", "layers.2")  # the output layer too
    q = orthonormal_directions(4, 10, seed=2)
    assert found.counts.tolist() == slow(net, x, 0.5, q)
    assert found.units.tolist() == [20, 20, 3]
    assert torch.equal(found.total, found.counts.sum(1))
    torch.testing.assert_close(found.layer_means, found.counts.double().mean(0))


@pytest.mark.parametrize("n_directions", [2, 25, 200])
@pytest.mark.parametrize("radius", [1e-4, 1.0, 10.0])
def test_around_the_origin_of_a_linear_net_without_biases_all_are_found(
    radius: float, n_directions: int
) -> None:
    """The sanity check of appendix A: width 400, depth 50, 784 inputs."""
    net = DEEP()
    origin = torch.zeros(1, 784, dtype=torch.float64)
    found = local_complexity(net, origin, radius=radius, n_directions=n_directions)
    assert torch.equal(found.counts[0], found.units)
    assert found.total.tolist() == [50 * 400]


class _Deep:
    made: MLP | None = None

    def __call__(self) -> MLP:
        if self.made is None:
            self.made = MLP([784, *[400] * 50], "identity", bias=False, seed=0).double()
        return self.made


DEEP: Callable[[], MLP] = _Deep()


def test_a_larger_neighbourhood_of_the_same_directions_is_cut_more_by_the_first_layer() -> None:
    net, x = MLP([10, 50, 3], "relu", seed=0), points(40, 10).float()
    means = [
        float(local_complexity(net, x, radius=r, n_directions=5).layer_means[0])
        for r in (1e-3, 0.1, 1.0)
    ]
    assert means == sorted(means)
    assert means[0] < 1 < means[-1]


def test_every_place_of_a_convolution_is_a_unit() -> None:
    net = PreActivationResNet(2, seed=0)
    found = local_complexity(net, torch.randn(2, 3, 32, 32), n_directions=3, radius=0.05)
    assert found.layers == net.preactivations
    assert found.units.tolist() == [2048] * 5 + [1024] * 4 + [512] * 4 + [256] * 3
    assert (found.counts <= found.units).all()
    assert (found.total > 0).all()


def test_the_interval_is_that_of_a_normal_mean() -> None:
    counts = torch.tensor([[1, 2], [3, 4], [5, 9]])
    found = LocalComplexity(counts, torch.tensor([9, 9]), ("a", "b"))
    assert found.mean == pytest.approx(8)
    assert found.half_width == pytest.approx(2.5758293 * 31**0.5 / 3**0.5)
    assert math.isnan(LocalComplexity(counts[:1], found.units, ("a", "b")).half_width)


def test_the_net_is_left_as_it_was() -> None:
    net = MLP([4, 5, 2], "relu", seed=0)
    before, state = torch.get_rng_state(), {k: v.clone() for k, v in net.state_dict().items()}
    local_complexity(net, torch.zeros(3, 4), n_directions=2)
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(v, state[k]) for k, v in net.state_dict().items())
    assert not any(m._forward_hooks for m in net.modules())


@pytest.mark.refusal
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"radius": 0}, "radius must be a number > 0"),
        ({"n_directions": 5}, "n_directions must be an integer >= 1 and <= 4, got 5"),
        ({"chunk_size": 0}, "chunk_size must be an integer"),
        ({"points": torch.zeros(4)}, r"points must be \(n, ...\) with n >= 1, got \(4,\)"),
        ({"layers": ["none"]}, "layers must name modules of the net, got 'none'"),
        ({"net": nn.ReLU()}, "layers must be given for a net without linear layers"),
        ({"seed": -1}, "seed must be an integer >= 0"),
    ],
)
def test_wrong_arguments_are_refused(change: dict, message: str) -> None:
    given = {"net": MLP([4, 5, 2]), "points": torch.zeros(3, 4), "n_directions": 2} | change
    with pytest.raises(ValueError, match=message):
        local_complexity(given.pop("net"), given.pop("points"), **given)


@pytest.mark.refusal
def test_a_layer_that_is_not_called_is_refused() -> None:
    net = MLP([4, 5, 2])
    net.unused = nn.Linear(1, 1)
    with pytest.raises(ValueError, match="layers must be called by the net, got 'unused'"):
        local_complexity(net, torch.zeros(3, 4), n_directions=2)
