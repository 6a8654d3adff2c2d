"""The Fourier basis and what is read off one matrix: definitions, by hand, invariances."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from grokscope.measures.fourier import (
    fourier_basis,
    fourier_components,
    fourier_norms,
    frequency_norms,
    gini,
    gini_variants,
    key_fraction,
)
from grokscope.measures.fourier_basis import require_frequencies


def slow_basis(p):
    rows = [[1 / math.sqrt(p)] * p]
    for k in range(1, (p - 1) // 2 + 1):
        for wave in (math.cos, math.sin):
            rows.append([math.sqrt(2 / p) * wave(2 * math.pi * k * n / p) for n in range(p)])
    return np.array(rows)


@pytest.mark.parametrize("p", [3, 7, 9, 113])
def test_the_basis_is_its_definition_and_orthonormal(p):
    found = fourier_basis(p)
    np.testing.assert_allclose(found, slow_basis(p), rtol=0, atol=1e-13)
    torch.testing.assert_close(found @ found.t(), torch.eye(p).double(), rtol=0, atol=1e-14)


def test_a_wave_has_its_own_component_only():
    p, n = 11, np.arange(11)
    matrix = np.stack([np.full(p, 2.0), np.cos(2 * np.pi * 3 * n / p), np.sin(6 * np.pi * n / p)])
    components = fourier_components(matrix)
    expected = np.zeros((3, p))
    expected[0, 0] = 2 * math.sqrt(p)
    expected[1, 5] = expected[2, 6] = math.sqrt(p / 2)
    np.testing.assert_allclose(components, expected, atol=1e-13)
    np.testing.assert_allclose(fourier_norms(matrix), np.linalg.norm(expected, axis=0), atol=1e-13)


def test_any_axis_may_hold_the_residues_and_norms_keep_the_square(generator):
    matrix = torch.randn(4, 9, 6, generator=generator, dtype=torch.float64)
    norms = fourier_norms(matrix, axis=1)
    assert norms.shape == (9,)
    assert float(norms.norm()) == pytest.approx(float(matrix.norm()), rel=1e-13)
    torch.testing.assert_close(norms, fourier_norms(matrix.movedim(1, -1).reshape(-1, 9)))
    torch.testing.assert_close(
        fourier_components(matrix[:, :, 0].t(), axis=0)[:, 2], (fourier_basis(9) @ matrix[2, :, 0])
    )


def test_a_shift_of_the_residues_keeps_the_norm_of_each_frequency(generator):
    matrix = torch.randn(5, 13, generator=generator, dtype=torch.float64)
    pooled = frequency_norms(fourier_norms(matrix))
    torch.testing.assert_close(frequency_norms(fourier_norms(matrix.roll(4, 1))), pooled)
    assert pooled.shape == (6,)


def test_float32_is_taken_as_float64(generator):
    matrix = torch.randn(5, 7, generator=generator)
    found = fourier_norms(matrix)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, fourier_norms(matrix.numpy().astype(float)))


def test_gini_is_the_mean_absolute_difference():
    values = np.random.default_rng(0).random(17)
    differences = np.abs(values[:, None] - values[None]).mean()
    assert gini(values) == pytest.approx(differences / (2 * values.mean()), rel=1e-12)
    assert gini(1e-200 * values[::-1]) == pytest.approx(gini(values), rel=1e-12)


def test_gini_of_equal_values_one_value_and_none():
    assert gini([3.0] * 8) == pytest.approx(0.0, abs=1e-15)
    assert gini([0.0, 0.0, 5.0, 0.0]) == pytest.approx(0.75, rel=1e-15)
    assert math.isnan(gini([0.0, 0.0]))


def test_variants_of_gini_by_hand():
    norms = [7.0, 3.0, 4.0, 0.0, 10.0]  # by frequency 5 and 10, squares 25 and 100
    found = gini_variants(norms)
    assert found["norms_all_p_components"] == gini(norms)
    assert found["norms_without_const"] == gini(norms[1:])
    assert found["norms_per_frequency"] == pytest.approx(1 / 6)
    assert found["squared_norms_per_frequency"] == pytest.approx(0.3)


def test_share_of_key_frequencies_by_hand():
    norms = [1.0, 3.0, 4.0, 0.0, 5.0]
    assert key_fraction(norms, [1]) == pytest.approx(25 / 51)
    assert key_fraction(norms, [2, 1]) == pytest.approx(50 / 51)
    assert key_fraction(norms, []) == 0
    assert math.isnan(key_fraction(np.zeros(5), [1]))


@pytest.mark.refusal
@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (lambda: fourier_basis(8), r"^modulus must be odd, got 8"),
        (lambda: fourier_basis(1), r"^modulus must be an integer >= 3, got 1"),
        (lambda: fourier_norms(np.ones((3, 4))), r"^modulus must be odd, got 4"),
        (lambda: fourier_norms(np.ones((3, 5)), axis=2), r"^axis must be one of 2 axes, got 2"),
        (lambda: frequency_norms(np.ones(4)), r"^norms must be a vector of odd length >= 3"),
        (lambda: gini_variants(np.ones((3, 3))), r"^norms must be a vector of odd .*\(3, 3\)"),
        (lambda: key_fraction(np.ones(5), [3]), r"^key_frequencies must be .* 1 to 2, got \[3\]"),
        (lambda: gini([1.0, -1.0]), r"^values must be a vector without negative entries"),
        (lambda: gini([]), r"^values must be a vector without negative entries"),
        (lambda: require_frequencies([0], 7), r"distinct integers 1 to 3, got \[0\]"),
        (lambda: require_frequencies([2, 2], 7), r"distinct integers 1 to 3, got \[2, 2\]"),
        (lambda: require_frequencies([1.5], 7), r"distinct integers 1 to 3, got \[1.5\]"),
    ],
)
def test_what_cannot_be_is_refused(call, reason):
    with pytest.raises(ValueError, match=reason):
        call()
