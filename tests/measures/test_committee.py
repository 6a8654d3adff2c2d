"""The closed forms of the quadratic committee, at the beginning and after training."""

from __future__ import annotations

import pytest
import torch

from grokscope.gradients import empirical_ntk
from grokscope.measures.committee import (
    committee_error,
    committee_kernel,
    committee_outputs,
    initial_committee_kernel,
    lazy_motion,
)
from grokscope.nets import Centred, Committee, Linearised

D, N, ALPHA, EPS = 6, 20, 1.7, 0.3


def problem(n=15):
    g = torch.Generator().manual_seed(0)
    x = torch.randn(n, D, generator=g, dtype=torch.float64) / D**0.5
    beta = torch.randn(D, generator=g, dtype=torch.float64)
    return x, 0.5 * (x @ beta).square()[:, None], beta


def committee(**settings):
    return Committee(
        D, N, **{"epsilon": EPS, "output_scale": ALPHA, "seed": 0} | settings
    ).double()


def descend(net, x, y, steps, lr):
    optimizer = torch.optim.SGD(net.parameters(), lr=lr)
    for _ in range(steps):
        optimizer.zero_grad()
        (net(x) - y).square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize("steps", [0, 1, 200])
def test_outputs_and_kernel_are_the_closed_forms_at_every_step(steps):
    net, (x, y, _) = committee(), problem()
    descend(net, x, y, steps, lr=1.0)
    weight = net.hidden.weight.detach()
    expected = committee_outputs(weight, x, ALPHA, EPS)
    torch.testing.assert_close(net(x)[:, 0], expected, rtol=1e-10, atol=1e-10)
    kernel = N / ALPHA**2 * empirical_ntk(net, x)
    closed = committee_kernel(weight, x, x, EPS)
    torch.testing.assert_close(kernel, closed, rtol=1e-10, atol=1e-10)
    assert (steps == 0) or (weight - committee().hidden.weight).norm() > 0.01


def test_shared_forward_has_the_same_values_and_gradients():
    net, (x, _, _) = committee(), problem()
    shared, plain = net.forward_shared(net.share(x)), net(x)
    torch.testing.assert_close(shared, plain, rtol=1e-12, atol=1e-12)
    ours, theirs = (
        torch.autograd.grad(f.sin().sum(), net.hidden.weight)[0] for f in (shared, plain)
    )
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    assert net.share(x[:D]) is None


def test_the_kernel_of_many_units_is_the_initial_one():
    x, _, _ = problem()
    net = Committee(D, 200_000, epsilon=EPS, seed=1).double()
    kernel = committee_kernel(net.hidden.weight.detach(), x, x, EPS)
    torch.testing.assert_close(kernel, initial_committee_kernel(x, x, EPS), rtol=0.03, atol=0.01)


def isserlis(weight, beta, initial=None):
    """E (f - y)^2 over x ~ N(0, I/D) from moments of Gaussians of degree two and four."""
    mean, M = weight.mean(0), weight.T @ weight / len(weight)
    if initial is not None:
        mean, M = mean - initial.mean(0), M - initial.T @ initial / len(initial)
    A = 0.5 * (ALPHA * EPS * M - torch.outer(beta, beta))
    eye = torch.eye(D, dtype=torch.float64) / D
    fourth = sum(
        torch.einsum(f"{a},{b}->ijkl", eye, eye)
        for a, b in (("ij", "kl"), ("ik", "jl"), ("il", "jk"))
    )
    quartic = torch.einsum("ij,kl,ijkl->", A, A, fourth)
    return float(ALPHA**2 * mean @ eye @ mean + quartic)


@pytest.mark.parametrize("steps", [0, 50])
@pytest.mark.parametrize("centred", [False, True])
def test_the_expected_error_is_isserlis(steps, centred):
    x, y, beta = problem()
    net = Centred(committee()) if centred else committee()
    descend(net, x, y, steps, lr=1.0)
    weight = (net.net if centred else net).hidden.weight.detach()
    initial = committee().hidden.weight.detach() if centred else None
    error = committee_error(weight, beta, ALPHA, EPS, initial)
    assert error.total == pytest.approx(isserlis(weight, beta, initial), abs=1e-10)


def test_the_expected_error_is_that_of_many_samples():
    net, (_, _, beta) = committee(), problem()
    g = torch.Generator().manual_seed(5)
    x = torch.randn(400_000, D, generator=g, dtype=torch.float64) / D**0.5
    with torch.no_grad():
        losses = (net(x)[:, 0] - 0.5 * (x @ beta).square()).square()
    error = committee_error(net.hidden.weight.detach(), beta, ALPHA, EPS)
    assert abs(float(losses.mean()) - error.total) < 5 * float(losses.std()) / 400_000**0.5


def test_the_optimum_has_no_error():
    _, _, beta = problem()
    w = beta * (2 / (ALPHA * EPS)) ** 0.5 / 2**0.5
    error = committee_error(torch.stack([w, -w]), beta, ALPHA, EPS)
    assert error.total == pytest.approx(0.0, abs=1e-12)


def test_a_centred_net_begins_at_zero_and_has_the_net_s_kernel():
    x, y, _ = problem()
    net, plain = Centred(committee()), committee()
    assert not net(x).any()
    torch.testing.assert_close(empirical_ntk(net, x), empirical_ntk(plain, x))
    descend(net, x, y, 20, lr=1.0)
    offset = committee()(x)
    torch.testing.assert_close(net(x), net.net(x) - offset)
    torch.testing.assert_close(net.forward_shared(net.share(x)), net(x), rtol=1e-12, atol=1e-12)
    assert [p.requires_grad for p in net.parameters()] == [True, False]


def test_a_linearised_net_is_its_tangent():
    x, y, _ = problem()
    net = Linearised(committee())
    torch.testing.assert_close(net(x), committee()(x))
    torch.testing.assert_close(empirical_ntk(net, x), empirical_ntk(committee(), x))
    descend(net, x, y, 30, lr=1.0)
    start = committee().hidden.weight.detach()
    change = net.net.hidden.weight.detach() - start
    h = x @ start.T
    by_hand = committee()(x) + ALPHA * ((1 + EPS * h) * (x @ change.T)).mean(1, keepdim=True)
    torch.testing.assert_close(net(x), by_hand, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(empirical_ntk(net, x), empirical_ntk(committee(), x))


def test_a_linearised_net_ends_at_kernel_regression():
    x, y, _ = problem(n=5)
    g = torch.Generator().manual_seed(9)
    fresh = torch.randn(7, D, generator=g, dtype=torch.float64) / D**0.5
    net, start = Linearised(committee()), committee()
    K = (
        ALPHA**2
        / N
        * committee_kernel(start.hidden.weight.detach(), torch.cat([x, fresh]), x, EPS)
    )
    rate = 0.9 * len(x) / float(torch.linalg.eigvalsh(K[:5]).max())
    descend(net, x, y, 600, lr=rate)
    solved = torch.linalg.solve(K[:5], y - start(x))
    predicted = start(fresh) + K[5:] @ solved
    torch.testing.assert_close(net(fresh), predicted, rtol=1e-8, atol=1e-8)
    motion = (net.net.hidden.weight - start.hidden.weight).detach().square().sum()
    assert float(motion) == pytest.approx(lazy_motion(K[:5], (y - start(x)).detach()), rel=1e-8)


def test_a_large_scale_is_lazy():
    x, y, _ = problem()
    distances = []
    for scale in (1.0, 100.0):
        net = Centred(committee(output_scale=scale))
        line = Centred(Linearised(committee(output_scale=scale)))
        for one in (net, line):
            descend(one, x, y, 100, lr=2.0 / scale**2)
        distances.append(float((net(x) - line(x)).detach().norm()))
    assert distances[1] < 0.05 * distances[0]


@pytest.mark.refusal
@pytest.mark.parametrize(
    "settings", [{"width": 0}, {"epsilon": -1.0}, {"output_scale": 0.0}, {"weight_scale": -1.0}]
)
def test_bad_arguments_are_refused(settings):
    (name,) = settings
    with pytest.raises(ValueError, match=f"{name} must be"):
        Committee(**{"d_in": 3, **settings})
