from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from grokscope.gradients.layout import gradient_layout
from grokscope.measures.gop import (
    batch_gop,
    batch_spectra,
    slot_grams,
    subspace_overlap,
    weight_gop,
)


def explicit(rows: torch.Tensor) -> torch.Tensor:
    """The mean outer product, one pair of entries at a time would be the same."""
    return sum(torch.outer(row, row) for row in rows.double()) / len(rows)


@pytest.mark.parametrize("batches", [1, 2, 5])
def test_batch_gop_has_the_spectrum_of_the_explicit_matrix(
    batches: int, generator: torch.Generator
) -> None:
    rows = torch.randn(batches, 30, generator=generator, dtype=torch.float64)
    gop = batch_gop(rows)
    expected = torch.linalg.eigvalsh(explicit(rows)).flip(0).numpy()
    np.testing.assert_allclose(gop.eigenvalues, expected[:batches], rtol=1e-10)
    np.testing.assert_allclose(expected[batches:], 0, atol=1e-12)
    torch.testing.assert_close(gop.dense(), explicit(rows), rtol=1e-12, atol=1e-14)


def test_one_gradient_has_its_squared_norm_and_its_direction(generator: torch.Generator) -> None:
    gradient = torch.randn(1000, generator=generator)
    gop = batch_gop(gradient)
    assert gop.eigenvalues == pytest.approx([float(gradient.double().square().sum())], rel=1e-12)
    (vector,) = gop.eigenvectors(5)
    cosine = torch.dot(vector, gradient.double()) / gradient.double().norm()
    assert abs(float(cosine)) == pytest.approx(1.0, abs=1e-12)
    assert gop.metrics()["rank"] == 1


def test_eigenvectors_satisfy_their_equation(generator: torch.Generator) -> None:
    gop = batch_gop(torch.randn(4, 20, generator=generator, dtype=torch.float64))
    vectors = gop.eigenvectors(3)
    values = torch.tensor(gop.eigenvalues[:3].copy())
    torch.testing.assert_close(vectors @ gop.dense(), values[:, None] * vectors)


def test_weight_gop_has_the_squared_singular_values(generator: torch.Generator) -> None:
    matrix = torch.randn(7, 12, generator=generator, dtype=torch.float64)
    gop = weight_gop(matrix)
    expected = torch.linalg.svdvals(matrix).square().numpy()
    np.testing.assert_allclose(gop.eigenvalues, expected, rtol=1e-10)
    torch.testing.assert_close(gop.dense(), matrix @ matrix.T)
    np.testing.assert_allclose(weight_gop(matrix.T).eigenvalues, expected, rtol=1e-10)


def test_trace_is_invariant_under_rotation(generator: torch.Generator) -> None:
    rows = torch.randn(3, 8, generator=generator, dtype=torch.float64)
    rotation, _ = torch.linalg.qr(torch.randn(8, 8, generator=generator, dtype=torch.float64))
    np.testing.assert_allclose(
        batch_gop(rows @ rotation).eigenvalues, batch_gop(rows).eigenvalues, rtol=1e-12
    )


@pytest.mark.parametrize("batches", [1, 3])
def test_layers_are_the_diagonal_blocks(batches: int, generator: torch.Generator) -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    layout = gradient_layout(net.named_parameters())
    rows = torch.randn(batches, layout.size, generator=generator, dtype=torch.float64)
    fewer = torch.randn(1, layout.size, generator=generator, dtype=torch.float64)
    grams = [slot_grams(rows, layout), slot_grams(fewer, layout)]
    (whole, *by_layer), (other, *_) = batch_spectra(grams, layout)
    np.testing.assert_allclose(
        other, np.pad(batch_gop(fewer).eigenvalues, (0, batches - 1)), atol=1e-14
    )
    matrix = explicit(rows)
    for layer, (start, stop) in enumerate([(0, 16), (16, 26)]):
        block = torch.linalg.eigvalsh(matrix[start:stop, start:stop]).flip(0)
        np.testing.assert_allclose(by_layer[layer], block[:batches].numpy(), rtol=1e-10)
    np.testing.assert_allclose(whole, torch.linalg.eigvalsh(matrix).flip(0)[:batches], rtol=1e-10)
    assert np.sum(by_layer) == pytest.approx(whole.sum())


@pytest.mark.parametrize("batches", [1, 2])
def test_overlap_is_one_with_itself_and_zero_with_the_orthogonal(batches: int) -> None:
    basis = torch.eye(6, dtype=torch.float64)
    rows, others = basis[:batches] * 3, basis[3 : 3 + batches]
    assert subspace_overlap(rows, rows * 2, batches) == pytest.approx(1.0)
    assert subspace_overlap(rows, others, batches) == pytest.approx(0.0)


def test_overlap_of_one_direction_is_the_squared_cosine() -> None:
    a, b = torch.tensor([[1.0, 0.0]]), torch.tensor([[3.0, 4.0]])
    assert subspace_overlap(a, b, 1) == pytest.approx(0.36)


def test_overlap_with_a_zero_gradient_is_undefined() -> None:
    assert np.isnan(subspace_overlap(torch.zeros(1, 3), torch.ones(1, 3), 1))
    assert np.isnan(subspace_overlap(torch.zeros(2, 3), torch.ones(2, 3), 2))


def test_a_gradient_that_is_not_finite_gives_nan_not_an_exception() -> None:
    layout = gradient_layout(nn.Linear(2, 1).named_parameters())
    for rows in (torch.tensor([[1.0, float("nan"), 2.0]]), torch.full((2, 3), float("inf"))):
        whole, *by_layer = batch_spectra([slot_grams(rows, layout)], layout)[0]
        assert np.isnan(whole).any() or np.isinf(whole).any()
        assert not np.isfinite(by_layer).all()


@pytest.mark.refusal
def test_a_dense_matrix_above_the_limit_is_refused_with_both_sizes() -> None:
    with pytest.raises(ValueError, match=r"max_bytes must be >= 80,000 .* got 1,000"):
        batch_gop(torch.ones(100)).dense(max_bytes=1000)
