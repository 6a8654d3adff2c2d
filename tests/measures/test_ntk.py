"""Tangent kernels: their spectra, modes, and the linearised net beside nets that are trained."""

from __future__ import annotations

import copy
import json
import math

import numpy as np
import pytest
import scipy.linalg
import torch
from kernel_recipes import drawn_nets
from torch import nn
from torch.func import functional_call, jacrev

from grokscope.gradients import empirical_ntk
from grokscope.measures.kernels import (
    kernel_distance,
    linearised_outputs,
    ntk_eigenvector,
    ntk_spectrum,
    ntk_svd,
)


def small_net(n_outputs=2, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, n_outputs)).double()


def points(n, d=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=generator, dtype=torch.float64)


def jacobian(net, x):
    """(n c, m) by torch.func, parameters in their order."""
    parameters = dict(net.named_parameters())
    found = jacrev(lambda p: functional_call(net, p, (x,)).flatten())(parameters)
    return torch.cat([found[name].flatten(1) for name in parameters], dim=1).detach()


def test_published_spectra(shared):
    cases = json.loads((shared / "reference" / "kernels.json").read_text())["cases"]
    cases = [case for case in cases if case["kind"] == "empirical_ntk_two_layer_mlp"]
    assert len(cases) == 2
    for case in cases:
        X, _, nets = drawn_nets(case["recipe"])
        values, traced = case["values"], case["values"]["output_traced_ntk"]
        distance = kernel_distance(*(empirical_ntk(net, X) for net in nets))
        assert distance == pytest.approx(traced["kernel_distance_0_1"], rel=1e-8)
        for i, net in enumerate(nets):
            full, trace = ntk_spectrum(net, X, "full"), ntk_spectrum(net, X)
            assert float(full.sum()) == pytest.approx(values["trace"][i], rel=1e-8)
            assert float(full.norm()) == pytest.approx(values["frobenius"][i], rel=1e-8)
            assert full[:5].tolist() == pytest.approx(values["top5_eigenvalues"][i], rel=1e-8)
            assert float(trace.norm()) == pytest.approx(traced["frobenius"][i], rel=1e-8)
            assert trace[:3].tolist() == pytest.approx(traced["top3_eigenvalues"][i], rel=1e-8)
            modes = ntk_svd(net, X, 5)
            found = modes.eigenvalues.tolist()
            assert found == pytest.approx(values["top5_eigenvalues"][i], rel=1e-8)


def test_modes_are_the_singular_vectors_of_the_jacobian():
    net, x = small_net(), points(7)
    J = jacobian(net, x)
    U, S, V = torch.linalg.svd(J, full_matrices=False)
    modes = ntk_svd(net, x, 6)
    torch.testing.assert_close(modes.singular_values, S[:6])
    signs = torch.sign((modes.left * U[:, :6]).sum(0))
    torch.testing.assert_close(modes.left * signs, U[:, :6])
    torch.testing.assert_close(modes.right * signs[:, None], V[:6])
    assert modes.layout.size == J.shape[1]


def test_modes_map_to_each_other_and_are_orthonormal():
    net, x = small_net(), points(30)
    J = jacobian(net, x)
    modes = ntk_svd(net, x, 60)
    rank = int(torch.linalg.matrix_rank(J, rtol=1e-5))
    assert len(modes.singular_values) == rank == J.shape[1] == 38
    torch.testing.assert_close(J @ modes.right.t(), modes.left * modes.singular_values)
    for vectors in (modes.left.t(), modes.right):
        torch.testing.assert_close(
            vectors @ vectors.t(), torch.eye(rank, dtype=torch.float64), atol=1e-6, rtol=0.0
        )


def test_spectra_of_trace_and_full_have_one_sum():
    net, x = small_net(3), points(10)
    full, trace = ntk_spectrum(net, x, "full"), ntk_spectrum(net, x)
    assert (len(full), len(trace)) == (30, 10)
    assert float(full.sum()) == pytest.approx(float(trace.sum()))
    assert bool((full.diff() <= 0).all())
    assert float(full.min()) >= 0
    torch.testing.assert_close(full.sum(), jacobian(net, x).square().sum())


def test_eigenvector_labels_are_eigenvectors(generator):
    net = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1)).double()
    x = torch.randn(12, 3, generator=generator, dtype=torch.float64)
    K = empirical_ntk(net, x)
    eigenvalues = torch.linalg.eigvalsh(K).flip(0)
    for index in (1, 5):
        y = ntk_eigenvector(net, x, index)
        torch.testing.assert_close(K @ y, eigenvalues[index - 1] * y)
        assert float(y.square().mean()) == pytest.approx(1.0)
        assert y[y.abs().argmax()] > 0


class RandomFeatures(nn.Module):
    """Linear in its parameters, not in its inputs."""

    def __init__(self, n_outputs, width=20):
        super().__init__()
        self.register_buffer("hidden", points(width, seed=5).t())
        self.out = nn.Linear(width, n_outputs).double()

    def forward(self, x):
        return self.out(torch.tanh(x @ self.hidden))


def trained(net, x, y, steps, rate, loss):
    """Plain gradient descent of a copy."""
    net = copy.deepcopy(net)
    optimizer = torch.optim.SGD(net.parameters(), lr=rate)
    for _ in range(steps):
        optimizer.zero_grad()
        loss(net(x), y).backward()
        optimizer.step()
    return net


@pytest.mark.parametrize("steps", [0, 1, 10, 300])
def test_descent_of_a_net_that_is_linear_in_its_parameters(steps):
    net, x, y, there = RandomFeatures(2), points(12), points(12, 2, seed=1), points(5, seed=2)
    found = trained(net, x, y, steps, 0.02, lambda f, y: 0.5 * (f - y).square().sum())
    settings = {"rate": 0.02, "dynamics": "descent"}
    at_training = linearised_outputs(net, x, y, [steps], **settings)
    torch.testing.assert_close(at_training, found(x).detach()[None])
    elsewhere = linearised_outputs(net, x, y, [steps], at=there, **settings)
    torch.testing.assert_close(elsewhere, found(there).detach()[None])


def test_descent_on_mean_squared_error_has_a_rate_of_two_over_n_and_outputs():
    net, x, y = RandomFeatures(3), points(12), points(12, 3, seed=1)
    found = trained(net, x, y, 40, 0.3, nn.MSELoss())
    rate = 2 * 0.3 / (12 * 3)
    predicted = linearised_outputs(net, x, y, [40], rate=rate, dynamics="descent")
    torch.testing.assert_close(predicted[0], found(x).detach())


def test_flow_is_the_matrix_exponential_with_the_cross_kernel():
    net, x, y, there = small_net(), points(8), points(8, 2, seed=1), points(5, seed=2)
    J, J_there = jacobian(net, x), jacobian(net, there)
    K, cross = (J @ J.t()).numpy(), (J_there @ J.t()).numpy()
    missing = (y - net(x)).detach().flatten().numpy()
    times, rate = [0.0, 0.3, 4.0, math.inf], 0.2
    found = linearised_outputs(net, x, y, times, at=there, rate=rate)
    for time, predicted in zip(times, found, strict=True):
        left = np.zeros_like(K) if time == math.inf else scipy.linalg.expm(-rate * time * K)
        moved = cross @ np.linalg.solve(K, (np.eye(len(K)) - left) @ missing)
        expected = net(there).detach().numpy() + moved.reshape(5, 2)
        np.testing.assert_allclose(predicted, expected, rtol=1e-6, atol=1e-9)


def test_flow_is_descent_with_small_steps():
    net, x, y, there = RandomFeatures(1), points(12), points(12, 1, seed=1), points(5, seed=2)
    flow = linearised_outputs(net, x, y, [3.0], at=there, rate=0.05)
    small = linearised_outputs(
        net, x, y, [3 * 10**5], at=there, rate=0.05 / 10**5, dynamics="descent"
    )
    torch.testing.assert_close(small, flow, rtol=1e-4, atol=1e-5)


def test_the_end_of_training_fits_and_moves_parameters_least():
    net, x, y, there = small_net(), points(8), points(8, 2, seed=1), points(5, seed=2)
    for settings in ({}, {"dynamics": "descent", "rate": 1e-3}):
        end = linearised_outputs(net, x, y, [math.inf], **settings)
        torch.testing.assert_close(end[0], y)
    moved = torch.linalg.lstsq(
        jacobian(net, x), (y - net(x)).detach().flatten()[:, None], driver="gelsd"
    ).solution
    expected = net(there).detach() + (jacobian(net, there) @ moved).view(5, 2)
    torch.testing.assert_close(
        linearised_outputs(net, x, y, [math.inf], at=there)[0], expected, rtol=1e-6, atol=1e-8
    )


def test_more_samples_than_parameters_end_at_least_squares():
    net, x, y = RandomFeatures(1, width=6), points(60), points(60, 1, seed=1)
    features = torch.cat([torch.tanh(x @ net.hidden), torch.ones(60, 1)], dim=1)
    best = features @ torch.linalg.lstsq(features, y).solution
    for time in (math.inf, 1e9):
        found = linearised_outputs(net, x, y, [time], at=x)
        torch.testing.assert_close(found[0], best, rtol=1e-6, atol=1e-6)


def test_a_wide_net_follows_its_linearisation():
    torch.manual_seed(0)

    class Wide(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.first, self.second = nn.Linear(3, width), nn.Linear(width, 1)
            for weight in (self.first.weight, self.second.weight):
                nn.init.normal_(weight)
            self.double()

        def forward(self, x):
            return self.second(torch.tanh(self.first(x) / 3**0.5)) / self.first.out_features**0.5

    x, y, there = points(8), points(8, 1, seed=1), points(5, seed=2)
    errors = []
    for width in (50, 5000):
        net = Wide(width)
        found = trained(net, x, y, 200, 0.1, lambda f, y: 0.5 * (f - y).square().sum())
        settings = {"rate": 0.1, "dynamics": "descent", "at": there}
        predicted = linearised_outputs(net, x, y, [200], **settings)[0]
        errors.append(float((predicted - found(there).detach()).abs().max()))
    assert errors[1] < 0.05
    assert errors[1] < errors[0] / 3


def test_classes_and_shapes_of_one_output():
    net, x = small_net(3), points(6)
    labels = torch.tensor([0, 1, 2, 1, 0, 2])
    one_hot = torch.nn.functional.one_hot(labels).double()
    found = linearised_outputs(net, x, labels, [1.0, 2.0])
    assert found.shape == (2, 6, 3)
    assert torch.equal(found, linearised_outputs(net, x, one_hot, [1.0, 2.0]))
    y = points(6)[:, 0]
    assert linearised_outputs(small_net(1), x, y, [1.0], at=points(4)).shape == (1, 4, 1)


def test_little_memory_gives_the_same_a_few_times_at_once():
    net, x, y, there = small_net(), points(8), points(8, 2, seed=1), points(5, seed=2)
    times = np.linspace(0, 3, 9).tolist()
    expected = linearised_outputs(net, x, y, times, at=there)
    needed = 24 * 16 * 16
    found = linearised_outputs(net, x, y, times, at=there, max_bytes=needed)
    assert needed // (16 * 38) > 1
    torch.testing.assert_close(found, expected)


def test_the_net_is_as_before():
    net, x = small_net(), points(6)
    net.train()
    before = copy.deepcopy(net.state_dict())
    ntk_svd(net, x, 2)
    linearised_outputs(net, x, points(6, 2), [1.0], at=x)
    assert net.training
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(parameter.grad is None for parameter in net.parameters())


def predict(net=None, targets=None, times=(1.0,), **settings):
    net = small_net() if net is None else net
    targets = points(6, 2) if targets is None else targets
    return linearised_outputs(net, points(6), targets, times, **settings)


REFUSED = [
    (lambda: ntk_spectrum(small_net(), points(4), "each"), "outputs must be one of trace, full"),
    (
        lambda: ntk_spectrum(small_net(), points(40), "full", max_bytes=100_000),
        "max_bytes must be >= 153,600 for a kernel of 80 x 80, decomposed, got 100,000",
    ),
    (
        lambda: ntk_spectrum(small_net(), points(40), max_bytes=30_000),
        "max_bytes must be >= 38,400 for a kernel of 40 x 40",
    ),
    (lambda: ntk_svd(small_net(), points(4), 0), "top_k must be an integer >= 1"),
    (lambda: ntk_svd(small_net(), points(4), rank_threshold=1.0), "rank_threshold must be a num"),
    (
        lambda: ntk_svd(nn.Linear(500, 1), torch.ones(20, 500), 20, max_bytes=100_000),
        "max_bytes must be >= 160,320 for 20 directions of 501 parameters",
    ),
    (lambda: ntk_eigenvector(nn.Linear(2, 2), torch.ones(3, 2), 1), "net must have one output"),
    (lambda: ntk_eigenvector(nn.Linear(2, 1), torch.ones(3, 2), 4), "index must be an integer"),
    (lambda: predict(dynamics="euler"), "dynamics must be one of flow, descent"),
    (lambda: predict(rate=0.0), "rate must be a number > 0"),
    (lambda: predict(rank_threshold=-1.0), "rank_threshold must be a number >= 0"),
    (lambda: predict(times=[]), "times must be numbers >= 0, at least one"),
    (lambda: predict(times=[-1.0]), "times must be numbers >= 0"),
    (lambda: predict(times=[math.nan]), "times must be numbers >= 0"),
    (lambda: predict(times=[0.5], dynamics="descent"), "times must be whole steps"),
    (lambda: predict(times=[math.inf], dynamics="descent", rate=10.0), "rate must be < 0"),
    (lambda: predict(targets=points(6, 3)), r"targets must be \(6, 2\) like the outputs"),
    (lambda: predict(max_bytes=1000), "max_bytes must be >= 3,456 for a kernel of 12 x 12"),
    (
        lambda: linearised_outputs(
            nn.Linear(500, 1), torch.ones(3, 500), [1.0] * 3, [1], at=torch.ones(2, 500),
            max_bytes=8000,
        ),
        "max_bytes must be >= 8,016 for displacements of 501 parameters",
    ),
]  # fmt: skip


@pytest.mark.refusal
@pytest.mark.parametrize(("call", "reason"), REFUSED)
def test_what_cannot_be_is_refused(call, reason):
    with pytest.raises(ValueError, match=reason):
        call()
