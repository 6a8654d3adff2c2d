"""Spectra beside curvlinops, in the environment of the other libraries: ``make oracle``."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from grokscope.gradients import capture

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # its own, at import
    curvlinops = pytest.importorskip("curvlinops", reason="curvlinops is in .bench-venv only")

pytestmark = [pytest.mark.oracle, pytest.mark.filterwarnings("ignore::DeprecationWarning")]
N, CLASSES = 14, 4


def mlp() -> tuple[nn.Module, Tensor]:
    net = nn.Sequential(nn.Linear(6, 7), nn.Tanh(), nn.Linear(7, 5), nn.GELU(), nn.Linear(5, 4))
    return net, torch.randn(N, 6)


def convolutions() -> tuple[nn.Module, Tensor]:
    net = nn.Sequential(
        nn.Conv2d(2, 4, 3, stride=2, padding=1),
        nn.Tanh(),
        nn.Conv2d(4, 6, 3, padding=1, groups=2, bias=False),
        nn.GELU(),
        nn.Flatten(),
        nn.Linear(54, CLASSES),
    )
    return net, torch.randn(N, 2, 6, 6)


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(outputs, targets, reduction="none")


def empirical_fisher(net: nn.Module, parameters: list[nn.Parameter], data: list) -> Tensor:
    """Eigenvalues of (1/N) sum g gᵀ, dense, by curvlinops; ascending."""
    operator = curvlinops.EFLinearOperator(net, nn.CrossEntropyLoss(), parameters, data)
    size = sum(p.numel() for p in parameters)
    return torch.linalg.eigvalsh(operator @ torch.eye(size, dtype=torch.float64))


def assert_same_spectrum(gram: Tensor, truth: Tensor) -> None:
    found, zeros = torch.linalg.eigvalsh(gram / N), truth[: max(len(truth) - N, 0)]
    top, bound = truth[-N:], 1e-8 * truth[-1]
    padded = F.pad(top, (N - len(top), 0))  # fewer parameters than samples
    torch.testing.assert_close(found, padded, rtol=0, atol=float(bound))
    assert (zeros.abs() < bound).all()


@pytest.mark.parametrize("make", [mlp, convolutions])
def test_spectrum_is_that_of_the_empirical_fisher(make) -> None:
    torch.manual_seed(0)
    net, inputs = make()
    net, inputs, targets = net.double(), inputs.double(), torch.randint(CLASSES, (N,))
    data = [(inputs[:9], targets[:9]), (inputs[9:], targets[9:])]
    factors = capture(net, cross_entropy, inputs, targets)
    truth = empirical_fisher(net, list(net.parameters()), data)
    assert_same_spectrum(factors.gram(), truth)
    for layer in factors.layers:
        truth = empirical_fisher(net, list(net.get_submodule(layer).parameters()), data)
        assert_same_spectrum(factors.gram(layer), truth)
