"""Kumar et al. 2023, arXiv 2310.06110: the committee's closed forms; nothing is trained long."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from grokscope.gradients import empirical_ntk
from grokscope.measures.committee import (
    committee_error,
    committee_kernel,
    committee_outputs,
    initial_committee_kernel,
)
from grokscope.nets import Committee
from replications._series import Runs
from replications.claims import SEEDS, Claim, Replication

PAPER = "Kumar et al. 2023"
D, N, ALPHA, EPSILON = 6, 50, 1.5, 0.2
SAMPLES, MANY = 1500, 400_000


def worst(_: Runs, error: Callable[[int], float]) -> float:
    return max(map(error, SEEDS))


def inputs(n: int, seed: int, d: int = D) -> Tensor:
    generator = torch.Generator().manual_seed(seed + 100)
    return torch.randn(n, d, dtype=torch.float64, generator=generator) / d**0.5


def teacher(seed: int) -> Tensor:
    return inputs(1, seed + 1)[0] * D**0.5


def trained(seed: int, steps: int = 200) -> Committee:
    """A committee after some steps of gradient descent."""
    net = Committee(D, N, EPSILON, ALPHA, seed=seed).double()
    x = inputs(60, seed)
    y = 0.5 * (x @ teacher(seed)).square()[:, None]
    optimizer = torch.optim.SGD(net.parameters(), lr=N / ALPHA**2)
    for _ in range(steps):
        optimizer.zero_grad()
        (net(x) - y).square().mean().backward()
        optimizer.step()
    return net


def output_error(seed: int) -> float:
    """F against alpha w.x + alpha epsilon x'Mx / 2."""
    net, x = trained(seed), inputs(200, seed + 2)
    closed = committee_outputs(net.hidden.weight.detach(), x, ALPHA, EPSILON)
    return float((net(x)[:, 0].detach() - closed).abs().max() / closed.abs().max())


def kernel_error(seed: int) -> float:
    """The autograd kernel against its closed form."""
    net, x = trained(seed), inputs(50, seed + 2)
    kernel = N / ALPHA**2 * empirical_ntk(net, x)
    closed = committee_kernel(net.hidden.weight.detach(), x, x, EPSILON)
    return float((kernel - closed).norm() / closed.norm())


def test_error(seed: int) -> float:
    """Mean squared error of many samples against the exact expectation."""
    net, x, beta = trained(seed), inputs(MANY, seed + 2), teacher(seed)
    with torch.no_grad():
        found = (net(x)[:, 0] - 0.5 * (x @ beta).square()).square().mean()
    exact = committee_error(net.hidden.weight.detach(), beta, ALPHA, EPSILON)
    return abs(float(found) / exact.total - 1)


def initial_error(seed: int, width: int = 20_000) -> float:
    """The kernel of a wide net at the start against K0."""
    net, x = Committee(D, width, EPSILON, ALPHA, seed=seed).double(), inputs(50, seed)
    kernel = width / ALPHA**2 * empirical_ntk(net, x)
    closed = initial_committee_kernel(x, x, EPSILON)
    return float((kernel - closed).norm() / closed.norm())


def eigenvalues(seed: int) -> Tensor:
    """Of K0 over inputs, descending: D linear ones, that of the trace, then the quadratic ones."""
    x = inputs(SAMPLES, seed)
    kernel = initial_committee_kernel(x, x, EPSILON) / SAMPLES
    return torch.linalg.eigvalsh(kernel).flip(0)


def linear_error(seed: int) -> float:
    return abs(float(eigenvalues(seed)[:D].mean()) * D - 1)


def quadratic_error(seed: int) -> float:
    n_forms = D * (D + 1) // 2
    found = float(eigenvalues(seed)[D + 1 : D + n_forms].mean())
    return abs(found * D**2 / (2 * EPSILON**2) - 1)


def claim(says: str, error: Callable[[int], float], most: float, tolerance: str) -> Claim:
    measure = partial(worst, error=error)
    return Claim(f"{says}: relative distance", PAPER, "0", measure, lambda v: v <= most, tolerance)


REPLICATIONS = [
    Replication(
        "kumar_theory",
        {},
        (
            claim("outputs through the weights' two moments", output_error, 1e-10, "<= 1e-10"),
            claim("kernel through the weights' two moments", kernel_error, 1e-10, "<= 1e-10"),
            claim("test error by its three parts", test_error, 0.02, "<= 2 %: 400,000 samples"),
            claim("kernel at the start, K0", initial_error, 0.05, "<= 5 %: 20,000 units"),
            claim("linear eigenvalues of K0, 1/D", linear_error, 0.1, "<= 10 %: 1,500 samples"),
            claim(
                "quadratic eigenvalues of K0, 2 epsilon^2/D^2 (the text prints 2 epsilon)",
                quadratic_error,
                0.1,
                "<= 10 %: 1,500 samples",
            ),
        ),
    )
]
