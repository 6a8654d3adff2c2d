"""The ``sample`` kind against the matrix written out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from grokscope.gradients import capture
from grokscope.measures.sample_gop import gradient_statistics, sample_gop, sample_spectra
from grokscope.measures.spectra import METRICS


def cross_entropy(outputs, targets):
    return F.cross_entropy(outputs, targets, reduction="none")


def factors_of(n: int, hidden: int = 7, **settings):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, hidden), nn.Tanh(), nn.Linear(hidden, 3)).double()
    inputs, targets = torch.randn(n, 5, dtype=torch.float64), torch.randint(3, (n,))
    return capture(net, cross_entropy, inputs, targets, **settings)


def second_moment(factors, centered: bool, layer: str | None = None) -> torch.Tensor:
    rows = factors.dense(layer)
    rows = rows - rows.mean(0) if centered else rows
    return rows.T @ rows / len(rows)


def eigenvalues(matrix: torch.Tensor) -> np.ndarray:
    return torch.linalg.eigvalsh(matrix).flip(0).numpy()


@pytest.mark.parametrize("centered", [False, True])
@pytest.mark.parametrize("n", [12, 200], ids=["more parameters", "more samples"])
def test_spectra_are_those_of_the_matrix_written_out(n: int, centered: bool) -> None:
    factors = factors_of(n)
    whole, layers = sample_spectra(factors, centered=centered)
    for layer, found in ((None, whole), *layers.items()):
        true = eigenvalues(second_moment(factors, centered, layer))
        k = min(len(true), len(found.eigenvalues))
        np.testing.assert_allclose(found.eigenvalues[:k], true[:k], atol=1e-12 * true[0])
        np.testing.assert_allclose(found.trace, true.sum(), rtol=1e-12)
        alone = sample_gop(factors, layer, centered=centered)
        np.testing.assert_allclose(alone.eigenvalues, found.eigenvalues, atol=1e-12 * true[0])
        assert found.residuals is None
    assert whole.n_parameters == factors.layout.size


@pytest.mark.parametrize("centered", [False, True])
def test_all_metrics_are_those_of_the_whole_matrix(centered: bool) -> None:
    factors = factors_of(12)
    found = sample_gop(factors, centered=centered).metrics()
    lam = np.maximum(eigenvalues(second_moment(factors, centered)), 0)
    assert set(found) == set(METRICS)
    assert found["frobenius_norm"] == pytest.approx(np.sqrt((lam**2).sum()))
    assert found["eigenvalue_std"] == pytest.approx(lam.std(), rel=1e-9)
    assert found["rank"] == (lam > 1e-6 * lam[0]).sum()
    assert found["determinant"] == 0.0


@pytest.mark.parametrize("centered", [False, True])
@pytest.mark.parametrize(("n", "limit"), [(60, 8000), (400, 8000), (60, 10), (400, 10)])
def test_directions_are_the_top_eigenvectors(n: int, limit: int, centered: bool) -> None:
    factors = factors_of(n, hidden=20)
    found = sample_gop(factors, centered=centered, exact_limit=limit, n_directions=4)
    assert found.directions is not None
    vectors = torch.linalg.eigh(second_moment(factors, centered))[1].T.flip(0)[:4]
    torch.testing.assert_close((found.directions @ vectors.T).abs(), torch.eye(4).double())


@pytest.mark.parametrize("centered", [False, True])
@pytest.mark.parametrize("max_bytes", [2**31, 100_000], ids=["kept", "computed again"])
def test_the_largest_eigenvalues_without_the_matrix(max_bytes: int, centered: bool) -> None:
    factors = factors_of(150, hidden=40, max_bytes=max_bytes)
    assert factors.resident == (max_bytes > 10**6)
    found = sample_gop(factors, centered=centered, exact_limit=100, top_k=6)
    true = eigenvalues(second_moment(factors, centered))
    np.testing.assert_allclose(found.eigenvalues, true[:6], rtol=1e-10)
    assert found.residuals is not None
    assert (found.residuals <= 1e-10 * true[0]).all()
    metrics = found.metrics(top_k=6)
    assert metrics["trace"] == pytest.approx(true.sum())
    assert metrics["top_k_cumulative_variance"] == pytest.approx(true[:6].sum() / true.sum())
    assert metrics["eigenvalue_mean"] == pytest.approx(true.mean())
    assert np.isnan([metrics[n] for n in ("rank", "effective_rank", "frobenius_norm")]).all()


def test_the_second_moment_is_the_covariance_plus_the_batch_part() -> None:
    factors = factors_of(30)
    mean = factors.mean_gradient()
    torch.testing.assert_close(
        second_moment(factors, False), second_moment(factors, True) + torch.outer(mean, mean)
    )
    both = [sample_gop(factors, centered=c).trace for c in (False, True)]
    assert both[0] == pytest.approx(both[1] + float(mean @ mean), rel=1e-12)


@pytest.mark.parametrize("layer", [None, "0", "2"])
def test_noise_scale_and_coherence(layer: str | None) -> None:
    factors = factors_of(25)
    found, rows = gradient_statistics(factors, layer), factors.dense(layer)
    mean = rows.mean(0)
    covariance = torch.cov(rows.T, correction=0)
    assert found.noise_scale == pytest.approx(float(covariance.trace() / mean.square().sum()))
    coherence = rows.sum(0).square().sum() / (25 * rows.square().sum())
    assert found.coherence == pytest.approx(float(coherence))


def test_samples_that_agree_and_samples_that_cancel() -> None:
    net = nn.Linear(2, 1, bias=False).double()
    inputs = torch.tensor([[1.0, 2.0]] * 4, dtype=torch.float64)
    for signs, coherence in ((torch.ones(4, 1), 1.0), (torch.tensor([[1.0], [-1]] * 2), 0.0)):
        factors = capture(net, lambda o, t: (o * t)[:, 0], inputs, signs.double())
        assert gradient_statistics(factors).coherence == pytest.approx(coherence)
    assert np.isnan(gradient_statistics(factors).noise_scale) or (
        gradient_statistics(factors).noise_scale > 1e20
    )
