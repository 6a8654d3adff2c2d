from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grokscope.measures.spectra import METRICS, cumulative_variance, spectrum_metrics


def direct(lam: np.ndarray, m: int, tol: float = 1e-6, top_k: int = 100) -> dict[str, float]:
    """The definitions, written out with loops over all m eigenvalues."""
    full = sorted([*lam, *[0.0] * (m - len(lam))], reverse=True)
    total = sum(full)
    above = [x for x in full if x > tol * full[0]]
    mean = total / m
    return {
        "trace": total,
        "nuclear_norm": total,
        "frobenius_norm": math.sqrt(sum(x * x for x in full)),
        "spectral_norm": full[0],
        "eigenvalue_max": full[0],
        "rank": len(above),
        "effective_rank": math.exp(-sum(x / total * math.log(x / total) for x in full if x > 0)),
        "stable_rank": total / full[0],
        "participation_ratio": total**2 / sum(x * x for x in full),
        "condition_number": full[0] / min(above),
        "determinant": math.prod(full),
        "log_pseudo_determinant": sum(math.log(x) for x in above),
        "eigenvalue_min": full[-1],
        "eigenvalue_mean": mean,
        "eigenvalue_std": math.sqrt(sum((x - mean) ** 2 for x in full) / m),
        "top_k_cumulative_variance": sum(full[:top_k]) / total,
        "spectral_gap": full[0] / full[1] if full[1] else math.inf,
    }


spectra = st.lists(st.floats(1e-3, 1e3), min_size=2, max_size=12)


@given(spectra, st.integers(0, 5), st.integers(1, 12))
def test_metrics_are_their_definitions(values: list[float], zeros: int, top_k: int) -> None:
    lam, m = np.array(values), len(values) + zeros
    found = spectrum_metrics(lam, m, top_k=top_k)
    for name, expected in direct(lam, m, top_k=top_k).items():
        assert found[name] == pytest.approx(expected, rel=1e-12), name


def test_all_names_are_there_and_no_other() -> None:
    assert set(spectrum_metrics([2.0, 1.0], 3)) == set(METRICS)


@given(st.lists(spectra.map(lambda v: [*v, *[0.0] * (12 - len(v))]), min_size=1, max_size=4))
def test_a_stack_gives_each_spectrums_own_metrics(stack: list[list[float]]) -> None:
    sizes = np.arange(12, 12 + len(stack))
    together = spectrum_metrics(np.array(stack), sizes)
    for i, (values, size) in enumerate(zip(stack, sizes, strict=True)):
        for name, value in spectrum_metrics(values, int(size)).items():
            np.testing.assert_allclose(together[name][i], value, rtol=1e-14, err_msg=name)


def test_a_stack_padded_beyond_a_matrixs_size_does_not_see_the_padding() -> None:
    padded = spectrum_metrics(np.array([[4.0, 2.0, 0.0]]), np.array([2]))
    alone = spectrum_metrics([4.0, 2.0], 2)
    for name in ("determinant", "eigenvalue_min", "eigenvalue_mean", "eigenvalue_std"):
        assert padded[name][0] == alone[name]


def test_rank_one_has_the_values_that_the_manual_promises() -> None:
    found = spectrum_metrics([25.0], 1000)
    assert found["trace"] == found["frobenius_norm"] == found["spectral_norm"] == 25.0
    assert found["rank"] == found["effective_rank"] == found["participation_ratio"] == 1.0
    assert found["determinant"] == 0.0
    assert found["spectral_gap"] == math.inf


@given(st.just(0.0) | st.floats(1e-150, 1e6), st.integers(2, 10**6))
def test_rank_one_by_its_short_way_equals_the_general_one(value: float, size: int) -> None:
    short, general = spectrum_metrics([value], size), spectrum_metrics([value, 0.0, 0.0], size)
    for name in METRICS:
        assert short[name] == pytest.approx(general[name], rel=1e-12, nan_ok=True), name


def test_a_zero_matrix_has_rank_zero_and_no_warning() -> None:
    found = spectrum_metrics([0.0, 0.0], 5)
    assert found["rank"] == 0.0
    assert found["trace"] == 0.0
    assert math.isnan(found["condition_number"])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_spectrum_that_is_not_finite_gives_nan_throughout(bad: float) -> None:
    assert all(math.isnan(value) for value in spectrum_metrics([1.0, bad], 4).values())


def test_power_law_has_its_exponent() -> None:
    found = spectrum_metrics(np.arange(1, 51.0) ** -1.5, 50)
    assert found["decay_exponent"] == pytest.approx(-1.5, abs=1e-12)
    assert found["decay_r_squared"] == pytest.approx(1.0, abs=1e-12)


def test_rounding_below_zero_counts_as_zero() -> None:
    assert spectrum_metrics([1.0, -1e-17], 2)["eigenvalue_min"] == 0.0


def test_a_huge_product_does_not_overflow_the_log() -> None:
    assert spectrum_metrics([1e200] * 5, 5)["log_pseudo_determinant"] == pytest.approx(
        1000 * math.log(10)
    )


def test_cumulative_variance_is_a_curve_that_ends_at_one() -> None:
    np.testing.assert_allclose(cumulative_variance([1.0, 3.0]), [0.75, 1.0])


@pytest.mark.refusal
@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"rank_threshold": -1.0}, "rank_threshold must be"), ({"top_k": 0}, "top_k must be")],
)
def test_settings_out_of_range_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        spectrum_metrics([1.0], 1, **arguments)
