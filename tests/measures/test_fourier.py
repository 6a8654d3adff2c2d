"""Inverse participation ratios: one wave, noise, and the order of logarithms."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from grokscope.arithmetic import powers_of_a_primitive_root
from grokscope.measures.fourier import inverse_participation_ratio, neuron_periodicity
from grokscope.nets import MLP, addition_net, multiplication_net


def waves(p, frequencies, phase=0.3):
    k = torch.arange(p, dtype=torch.float64)
    return sum(torch.cos(2 * math.pi * f * k / p + phase * f) for f in frequencies)


@pytest.mark.parametrize("p", [10, 97, 113])
@pytest.mark.parametrize("frequency", [0, 1, 4])
def test_one_wave_is_one_and_m_equal_waves_are_one_over_m(p, frequency):
    assert inverse_participation_ratio(waves(p, [frequency])).item() == pytest.approx(1)
    assert inverse_participation_ratio(waves(p, [1, 2, 3])).item() == pytest.approx(1 / 3)
    cubed = inverse_participation_ratio(waves(p, [1, 2]), power=3)
    assert cubed.item() == pytest.approx(1 / 4)


def test_noise_has_the_reference_value(generator):
    noise = torch.randn(2000, 97, generator=generator)
    assert inverse_participation_ratio(noise).mean().item() == pytest.approx(0.041, abs=0.001)


def test_it_is_the_released_formula(generator):
    """d-doshi/Grokking:utils/data_processing.py, calculate_ipr, on rfft magnitudes."""
    rows = torch.randn(5, 3, 23, dtype=torch.float64, generator=generator)
    found = inverse_participation_ratio(rows)
    for index in np.ndindex(5, 3):
        magnitude = np.absolute(np.fft.rfft(rows[index].numpy()))
        expected = np.power(magnitude / np.sqrt((magnitude**2).sum()), 4).sum()
        assert found[index].item() == pytest.approx(expected, rel=1e-12)


def test_scale_shift_and_precision_do_not_matter_and_zeros_are_nan():
    vector = waves(31, [2, 5])
    expected = inverse_participation_ratio(vector)
    for other in (1e-30 * vector, -7 * vector, vector.roll(4)):
        torch.testing.assert_close(inverse_participation_ratio(other), expected)
    tiny = inverse_participation_ratio((1e-38 * vector).float())
    assert tiny.item() == pytest.approx(expected.item(), rel=1e-4)
    assert inverse_participation_ratio(torch.zeros(2, 9)).isnan().all()


def test_units_are_the_mean_over_what_they_read_and_write(generator):
    net = MLP((33, 6, 11), "cubic", bias=False, seed=0).double()
    first, last = (layer.weight.detach() for layer in net.layers)
    found = neuron_periodicity(first, last)
    for unit in range(6):
        vectors = torch.stack([*first[unit].split(11), last[:, unit]])
        assert found[unit].item() == pytest.approx(
            inverse_participation_ratio(vectors).mean().item()
        )


def test_a_net_that_multiplies_is_periodic_in_the_logarithm_only():
    first, last = (layer.weight for layer in multiplication_net(23, 100).layers)
    raw = neuron_periodicity(first, last)[1:]
    ordered = neuron_periodicity(first, last, order=powers_of_a_primitive_root(23))[1:]
    assert ordered.min().item() == pytest.approx(1, abs=1e-9)
    assert raw.median().item() < 0.5
    added = (layer.weight for layer in addition_net(23, 100).layers)
    assert neuron_periodicity(*added).min().item() == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("p", [2, 3, 5, 23, 97, 113])
def test_powers_of_a_primitive_root_are_all_units(p):
    powers = powers_of_a_primitive_root(p)
    assert sorted(powers) == list(range(1, p))
    root = powers[1] if p > 2 else 1
    assert all(b == a * root % p for a, b in pairwise(powers))


@pytest.mark.refusal
def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match=r"^modulus must be a prime, got 9"):
        powers_of_a_primitive_root(9)
    with pytest.raises(ValueError, match=r"^power must be a number > 1"):
        inverse_participation_ratio(torch.ones(3), power=1)
    with pytest.raises(ValueError, match=r"^first must be \(h, S p\)"):
        neuron_periodicity(torch.ones(4, 10), torch.ones(3, 4))
