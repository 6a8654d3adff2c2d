"""Slingshots in made-up series; curvature along a step in closed form."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from grokscope.measures.optimizer_step import cosine_distance, feature_change, update_sharpness
from grokscope.measures.slingshot import slingshots, slingshots_of


def cycle(n_growth=400, n_spike=20, n_rest=300, rate=1e-3, norm=1.0):
    """Norm, loss and accuracy of one slingshot, a row a step."""
    log_norm = np.concatenate(
        [rate * np.arange(n_growth), np.full(n_spike + n_rest, rate * n_growth)]
    )
    falling = np.geomspace(5e-4, 1e-5, n_growth)
    loss = np.concatenate([falling, np.full(n_spike, 0.5), np.geomspace(1e-2, 5e-4, n_rest)])
    acc = np.ones(len(loss))
    acc[n_growth : n_growth + n_spike] = 0.9
    return norm * np.exp(log_norm), loss, acc


def series(n_cycles=1, begin=50, **settings):
    """Memorising first, then cycles, each from the norm where the last ended."""
    parts, norm = (
        [(np.full(begin, 1.0), np.geomspace(3, 5e-4, begin), np.linspace(0, 0.99, begin))],
        1.0,
    )
    for _ in range(n_cycles):
        parts.append(cycle(norm=norm, **settings))
        norm = parts[-1][0][-1]
    norms, losses, accs = (np.concatenate(part) for part in zip(*parts, strict=True))
    return np.arange(len(norms)), norms, losses, accs


def test_one_cycle_with_its_phases():
    (found,) = slingshots(*series())
    assert found.growth == 50
    assert found.spike == 450
    assert found.plateau == 550
    assert found.rate == pytest.approx(1e-3)
    assert found.rise == pytest.approx(0.5 / 1e-5)


@pytest.mark.parametrize("n_cycles", [0, 1, 2, 5])
def test_cycles_are_counted(n_cycles):
    found = slingshots(*series(n_cycles))
    assert [s.spike for s in found] == [450 + 720 * k for k in range(n_cycles)]
    assert all(s.plateau is not None and s.plateau < s.spike + 300 for s in found)


@pytest.mark.parametrize("every", [2, 7, 10])
def test_rows_may_be_apart_and_uneven(every):
    rows = np.unique(np.r_[0:200, 200:3000:every])
    t, *others = series(3)
    rows = rows[rows < len(t)]
    found = slingshots(t[rows], *(values[rows] for values in others))
    assert len(found) == 3
    for k, each in enumerate(found):
        assert 0 <= each.spike - (450 + 720 * k) < every


def test_the_scale_of_the_norm_does_not_matter():
    t, norm, loss, acc = series(2)
    first, second = slingshots(t, norm, loss, acc), slingshots(t, 7 * norm, loss, acc)
    assert [s.spike for s in first] == [s.spike for s in second]


def test_a_smooth_run_has_none():
    t = np.arange(2000)
    norm, loss = np.exp(1e-3 * t), np.geomspace(3, 1e-7, 2000)
    assert slingshots(t, norm, loss, np.minimum(1, t / 100)) == []


def test_a_spike_without_growth_of_the_norm_is_none():
    t, norm, loss, acc = series()
    assert slingshots(t, np.ones_like(norm), loss, acc) == []
    assert slingshots(t, 1 / norm, loss, acc) == []


def test_a_spike_that_misclassifies_nothing_is_none():
    t, norm, loss, acc = series()
    assert slingshots(t, norm, loss, np.where(t > 60, 1.0, acc)) == []


def test_a_small_rise_is_none():
    t, norm, loss, acc = series()
    small = np.where((t >= 450) & (t < 470), 99e-5, loss)
    assert slingshots(t, norm, small, acc) == []
    assert len(slingshots(t, norm, small, acc, rise=90)) == 1


def test_before_memorising_there_is_none():
    t, norm, loss, acc = series()
    assert slingshots(t, norm, loss, np.minimum(acc, 0.999)) == []


def test_a_loss_that_has_rounded_to_zero_can_spike():
    t, norm, loss, acc = series()
    loss[400:450] = 0.0
    (found,) = slingshots(t, norm, loss, acc)
    assert found.spike == 450
    assert found.rise == np.inf


def test_short_growth_is_none():
    assert slingshots(*series(n_growth=90)) == []
    assert len(slingshots(*series(n_growth=90), window=50)) == 1


def test_a_norm_that_goes_on_growing_has_no_plateau():
    t, _, loss, acc = series()
    (found,) = slingshots(t, np.exp(1e-3 * t), loss, acc)
    assert found.spike == 450
    assert found.plateau is None


def test_growth_long_ago_does_not_make_a_spike_a_slingshot():
    t, norm, loss, acc = series()
    norm, loss, acc = norm.copy(), np.minimum(loss, 5e-4), np.ones_like(acc)
    acc[:50] = 0.5
    loss[700], acc[700] = 0.5, 0.9
    assert slingshots(t, norm, loss, acc) == []


@pytest.mark.refusal
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t, n, x, a: (t[:-1], n, x, a), r"must be \(rows,\)"),
        (lambda t, n, x, a: (t[::-1], n, x, a), "steps must ascend"),
        (lambda t, n, x, a: (t, n - 1, x, a), "last_layer_norm must be positive"),
    ],
)
def test_wrong_series_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        slingshots(*change(*series()))


@pytest.mark.refusal
@pytest.mark.parametrize(
    "settings", [{"window": 0}, {"low_loss": 0.0}, {"rise": 1.0}, {"rest": -1.0}]
)
def test_wrong_settings_are_refused(settings):
    with pytest.raises(ValueError, match=f"{next(iter(settings))} must be"):
        slingshots(*series(), **settings)


def test_a_run_is_read_with_its_norm_at_other_rows():
    t, norm, loss, acc = series(2)
    rows = np.arange(0, len(t), 20)
    metrics = {
        "global_step": t,
        "train_loss": np.where(t % 3, loss, np.nan),
        "train_acc": np.where(t % 3, acc, np.nan),
        "last_layer/step": rows,
        "last_layer/norm": norm[rows][:-1],  # of a run that goes on
    }
    found = slingshots_of(SimpleNamespace(metrics=metrics))
    assert [abs(s.spike - e) <= 1 for s, e in zip(found, (450, 1170), strict=True)] == [True] * 2
    with pytest.raises(ValueError, match="norm must name a series of the run, got 'other/norm'"):
        slingshots_of(SimpleNamespace(metrics=metrics), norm="other/norm")


def quadratic(generator):
    factor = torch.randn(6, 6, dtype=torch.float64, generator=generator)
    matrix, x = factor @ factor.T, torch.randn(6, dtype=torch.float64, generator=generator)
    return matrix, [x[:2].clone().requires_grad_(), x[2:].clone().view(2, 2).requires_grad_()]


def value(matrix, weights):
    x = torch.cat([w.flatten() for w in weights])
    return x @ matrix @ x / 2


def moved(optimizer, matrix, weights, steps=1):
    """Weights before and after the last of ``steps`` steps."""
    for _ in range(steps):
        before = [w.detach().clone() for w in weights]
        optimizer.zero_grad()
        value(matrix, weights).backward()
        optimizer.step()
    return before, [w.detach() - b for w, b in zip(weights, before, strict=True)]


@pytest.mark.parametrize(
    ("make", "steps"),
    [
        (lambda w: torch.optim.SGD(w, lr=1e-2), 1),
        (lambda w: torch.optim.Adam(w, lr=1e-2), 1),
        (lambda w: torch.optim.AdamW(w, lr=1e-2, weight_decay=0.1), 4),
    ],
    ids=["gd", "adam", "adamw"],
)
def test_sharpness_along_a_step_on_a_quadratic(make, steps, generator):
    matrix, weights = quadratic(generator)
    before, update = moved(make(weights), matrix, weights, steps)
    u = torch.cat([x.flatten() for x in update])
    start = [b.requires_grad_() for b in before]
    found = update_sharpness(value(matrix, start), start, update)
    assert found == pytest.approx(float(u @ matrix @ u / (u @ u)), rel=1e-12)
    assert found <= float(torch.linalg.eigvalsh(matrix)[-1])


def test_for_gradient_descent_it_is_the_rayleigh_quotient_of_the_gradient(generator):
    matrix, weights = quadratic(generator)
    x = torch.cat([w.detach().flatten() for w in weights])
    before, update = moved(torch.optim.SGD(weights, lr=0.3), matrix, weights)
    start = [b.requires_grad_() for b in before]
    g = matrix @ x
    expected = float(g @ matrix @ g / (g @ g))
    assert update_sharpness(value(matrix, start), start, update) == pytest.approx(expected)


def test_adams_first_step_is_the_sign_of_the_gradient(generator):
    matrix, weights = quadratic(generator)
    x = torch.cat([w.detach().flatten() for w in weights])
    before, update = moved(torch.optim.Adam(weights, lr=1e-3, eps=0), matrix, weights)
    start = [b.requires_grad_() for b in before]
    s = (matrix @ x).sign()
    expected = float(s @ matrix @ s / 6)
    found = update_sharpness(value(matrix, start), start, update)
    assert found == pytest.approx(expected, rel=1e-9)


def test_the_scale_of_the_step_does_not_matter(generator):
    matrix, weights = quadratic(generator)
    loss = value(matrix, weights)
    ones = [torch.ones_like(w) for w in weights]
    halves = [w / 2 for w in ones]
    assert update_sharpness(loss, weights, ones) == pytest.approx(
        update_sharpness(value(matrix, weights), weights, halves)
    )


def test_it_is_zero_for_a_linear_loss_and_nan_for_no_step():
    w, unused = torch.ones(3, requires_grad=True), torch.ones(2, requires_grad=True)
    step = [torch.ones(3), torch.ones(2)]
    assert update_sharpness(w.sum(), [w, unused], step) == 0.0
    assert np.isnan(update_sharpness(w.square().sum(), [w], [torch.zeros(3)]))
    assert update_sharpness(w.square().sum(), [w, unused], step) == pytest.approx(2 * 3 / 5)


def test_feature_change_and_cosine_distance():
    before = torch.tensor([[3.0, 4.0]])
    assert feature_change(before, before + torch.tensor([[0.0, 1.0]])) == pytest.approx(0.2)
    assert np.isnan(feature_change(torch.zeros(2), torch.ones(2)))
    a, b = [torch.tensor([1.0]), torch.tensor([0.0])], [torch.tensor([0.0]), torch.tensor([2.0])]
    assert cosine_distance(a, b) == 1.0
    assert cosine_distance(a, [2 * x for x in a]) == 0.0
    assert cosine_distance(a, [-x for x in a]) == 2.0


@pytest.mark.refusal
def test_tensors_that_do_not_fit_are_refused():
    w = torch.ones(3, requires_grad=True)
    with pytest.raises(ValueError, match=r"tensors must have the shapes \[\(3,\)\]"):
        update_sharpness(w.sum(), [w], [torch.ones(2)])
    with pytest.raises(ValueError, match="tensors must have the shapes"):
        cosine_distance([w], [w, w])
