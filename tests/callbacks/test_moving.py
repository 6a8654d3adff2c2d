"""The moving average is exact for straight lines, however they are sampled."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad

from grokscope.callbacks.moving import MovingAverage

WIDTH = 0.05


def moved(epochs, values, width: float = WIDTH) -> MovingAverage:
    average = MovingAverage()
    for epoch, value in zip(epochs, values, strict=True):
        average = average.after(int(epoch), float(value), width)
    return average


def test_it_is_the_integral_of_its_definition() -> None:
    epochs, values = [0, 3, 10, 12, 40, 41, 300], [0.0, 0.3, 0.1, 0.9, 0.2, 1.0, 0.5]
    u = np.log10(1 + np.array(epochs))
    width, end = 0.3, u[-1]

    def weighted(position: float) -> float:
        return np.interp(position, u, values) * math.exp((position - end) / width) / width

    integral = sum(quad(weighted, a, b)[0] for a, b in pairwise(u))
    before = values[0] * math.exp((u[0] - end) / width)  # the curve was constant before row 0
    assert moved(epochs, values, width).average == pytest.approx(integral + before, rel=1e-9)


@given(st.lists(st.integers(1, 5000), min_size=1, max_size=60, unique=True))
def test_more_rows_on_the_same_line_change_nothing(between) -> None:
    line = lambda epoch: 0.2 + 0.7 * math.log10(1 + epoch)  # noqa: E731
    few, many = [0, 5001], sorted({0, 5001, *between})
    coarse, fine = moved(few, map(line, few)), moved(many, map(line, many))
    assert fine.average == pytest.approx(coarse.average, rel=1e-9)


@pytest.mark.parametrize("slope", [-3.0, 0.5, 2.0])
def test_the_speed_of_a_line_is_its_slope_a_decade(slope: float) -> None:
    epochs = [round(10 ** (i / 20)) for i in range(80)]
    line = moved(epochs, [slope * math.log10(1 + e) for e in epochs])
    assert line.speed(WIDTH) == pytest.approx(slope, rel=1e-3)


def test_a_plateau_has_no_speed_and_noise_has_little() -> None:
    epochs = range(1, 5000)
    assert moved(epochs, [0.3] * 4999).speed(WIDTH) == pytest.approx(0, abs=1e-9)
    noise = np.random.default_rng(0).normal(0.3, 0.003, 4999)
    assert abs(moved(epochs, noise).speed(WIDTH)) < 0.3


def test_rows_without_a_number_or_out_of_order_are_passed_over() -> None:
    average = moved([0, 10], [0.0, 1.0])
    for epoch, value in [(20, math.nan), (20, math.inf), (10, 0.0), (3, 0.0)]:
        assert average.after(epoch, value, WIDTH) == average
