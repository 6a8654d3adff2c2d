"""The linear probe."""

from __future__ import annotations

import pytest
import torch

from grokscope.measures.linear_probe import probe_accuracy, ridge_probe


def clusters(n=60, noise=0.1):
    g = torch.Generator().manual_seed(0)
    labels = torch.arange(n) % 3
    centres = torch.randn(3, 5, generator=g, dtype=torch.float64)
    return centres[labels] + noise * torch.randn(n, 5, generator=g).double(), labels


def test_it_is_ridge_regression_with_a_free_offset():
    X, y = clusters()
    weight, offset = ridge_probe(X, y, ridge=0.1)
    Y = torch.nn.functional.one_hot(y).double()
    scale = (X - X.mean(0)).square().sum() / 5
    residual = X @ weight + offset - Y
    torch.testing.assert_close(
        X.T @ residual + 0.1 * scale * weight, 0 * weight, atol=1e-9, rtol=0
    )
    torch.testing.assert_close(residual.sum(0), torch.zeros(3).double(), atol=1e-9, rtol=0)


def test_scale_and_offset_of_features_do_not_matter():
    X, y = clusters(noise=1.0)
    assert probe_accuracy(X, y, 30) == probe_accuracy(1e4 * X + 3, y, 30)


def test_what_is_linearly_there_is_read_out_and_noise_is_not():
    X, y = clusters()
    assert probe_accuracy(X, y, 30) == 1.0
    noise = torch.randn(600, 5, generator=torch.Generator().manual_seed(1))
    assert probe_accuracy(noise, torch.arange(600) % 3, 300) < 0.45
    assert probe_accuracy(torch.zeros(9, 2), torch.arange(9) % 3, 6) == pytest.approx(1 / 3)


@pytest.mark.refusal
def test_bad_arguments_are_refused():
    X, y = clusters()
    with pytest.raises(ValueError, match="n_fit must be within 1 and 59"):
        probe_accuracy(X, y, 60)
    with pytest.raises(ValueError, match="ridge must be a number > 0"):
        ridge_probe(X, y, 0.0)
    with pytest.raises(ValueError, match=r"features must be \(n, d\) with labels \(n,\)"):
        ridge_probe(X, y[:3])
