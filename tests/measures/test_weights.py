"""Norms and movement; invariances of small ReLU nets: the same function, to rounding."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from grokscope.measures.weights import (
    normalize_scale,
    remove_bias,
    weight_movement,
    weight_norms,
)

P = 13


def weights(generator, h=91):
    shapes = ((h, 2 * P), (h,), (P, h))
    return [torch.randn(s, dtype=torch.float64, generator=generator) for s in shapes]


def inputs():
    pairs = torch.cartesian_prod(torch.arange(P), torch.arange(P))
    return F.one_hot(pairs, P).flatten(1).double()


def outputs(first, bias, last):
    hidden = inputs() @ first.T
    return torch.relu(hidden if bias is None else hidden + bias) @ last.T


def test_a_removed_bias_changes_nothing_on_pairs(generator):
    first, bias, last = weights(generator)
    without = outputs(remove_bias(first, bias), None, last)
    torch.testing.assert_close(without, outputs(first, bias, last), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("norm", ["max", "l1", "l2"])
@pytest.mark.parametrize("of", ["first", "last"])
def test_moved_scales_change_nothing_and_leave_norms_of_one(norm, of, generator):
    first, bias, last = weights(generator)
    first[3], bias[3], last[:, 5] = (
        0,
        0,
        0,
    )  # a unit that reads nothing, and one that writes nothing
    new_first, new_last, new_bias = normalize_scale(first, last, bias, norm=norm, of=of)
    torch.testing.assert_close(
        outputs(new_first, new_bias, new_last), outputs(first, bias, last), rtol=1e-11, atol=1e-11
    )
    rows = new_first if of == "first" else new_last.T
    order = {"max": torch.inf, "l1": 1, "l2": 2}[norm]
    sizes = torch.linalg.vector_norm(rows, ord=order, dim=1)
    dead = 3 if of == "first" else 5
    expected = torch.ones(91, dtype=torch.float64).index_fill(0, torch.tensor([dead]), 0)
    torch.testing.assert_close(sizes, expected)
    again = normalize_scale(new_first, new_last, new_bias, norm=norm, of=of)
    torch.testing.assert_close(again[0], new_first)


def test_given_weights_stay_as_they_are(generator):
    first, bias, last = weights(generator)
    copies = [w.clone() for w in (first, bias, last)]
    normalize_scale(remove_bias(first, bias), last, bias)
    assert all(torch.equal(a, b) for a, b in zip((first, bias, last), copies, strict=True))


@pytest.mark.refusal
@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: remove_bias(torch.ones(3, 2), torch.ones(2)), r"weight must be \(h, d\)"),
        (lambda: remove_bias(torch.ones(3, 2), torch.ones(3), ones=0), "ones must be"),
        (lambda: normalize_scale(torch.ones(3, 2), torch.ones(2, 4)), r"first must be \(h, d\)"),
        (lambda: normalize_scale(torch.ones(3, 2), torch.ones(2, 3), norm="l3"), "norm must be"),
        (lambda: normalize_scale(torch.ones(3, 2), torch.ones(2, 3), of="both"), "of must be"),
    ],
)
def test_wrong_arguments_are_refused(call, match):
    with pytest.raises(ValueError, match="^" + match):
        call()


def test_norms_of_tensors_and_of_all_together(generator):
    first, bias, last = weights(generator)
    found = weight_norms({"first": first, "bias": bias, "last": last})
    flat = torch.cat([t.flatten() for t in (first, bias, last)])
    expected = torch.stack([first.norm(), bias.norm(), last.norm(), flat.norm()])
    torch.testing.assert_close(found, expected)


def test_movement_of_a_rotation_and_a_scaling():
    start = {"a": torch.tensor([3.0, 4.0]), "b": torch.tensor([0.0, 2.0]), "zero": torch.zeros(2)}
    now = {"a": torch.tensor([-4.0, 3.0]), "b": torch.tensor([0.0, 5.0]), "zero": torch.ones(2)}
    found = weight_movement(now, start)
    assert found.norm[:2].tolist() == [5, 5]
    assert found.distance[:2].tolist() == pytest.approx([50**0.5, 3])
    assert found.cosine[:2].tolist() == pytest.approx([0, 1])
    assert found.cosine[2].isnan()
    assert float(found.distance[-1]) == pytest.approx((50 + 9 + 2) ** 0.5)
    assert float(found.cosine[-1]) == pytest.approx(10 / (52 * 29) ** 0.5)


@pytest.mark.refusal
def test_weights_of_another_net_are_refused():
    with pytest.raises(ValueError, match="must be those of the start"):
        weight_movement({"a": torch.zeros(2)}, {"a": torch.zeros(3)})
