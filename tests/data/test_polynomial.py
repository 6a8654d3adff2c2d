"""Polynomials: read rightly, and nothing else is read."""

from __future__ import annotations

import pytest
import torch

from grokscope.data import PolynomialDataModule


def ready(**arguments) -> PolynomialDataModule:
    data = PolynomialDataModule(**arguments)
    data.setup()
    return data


@pytest.mark.parametrize(
    ("polynomial", "function"),
    [
        ("n1 + n2", lambda a, b: a + b),
        ("(4*n1+n2^2)^3 + n1*n2", lambda a, b: (4 * a + b**2) ** 3 + a * b),
        ("(5*n1**3 + 2*n2**4)**2 - n2", lambda a, b: (5 * a**3 + 2 * b**4) ** 2 - b),
        ("-n1^2*(3-n2)^0", lambda a, b: -(a**2) * (3 - b) ** 0),
        ("7*n2^13", lambda a, b: 7 * b**13),
    ],
)
def test_targets_are_those_of_exact_integers(polynomial, function):
    data = ready(polynomial=polynomial, modulus=23)
    for split in (data.train, data.test):
        a, b = (block.argmax(1).tolist() for block in split.inputs.split(23, 1))
        expected = [function(x, y) % 23 for x, y in zip(a, b, strict=True)]
        assert split.targets.tolist() == expected


def test_large_exponents_and_moduli_do_not_overflow():
    data = ready(polynomial="(9999*n1^9999)^2 + n1", modulus=97)
    n = data.train.inputs.argmax(1).tolist()
    assert data.train.targets.tolist() == [
        (pow(9999 * pow(x, 9999, 97), 2, 97) + x) % 97 for x in n
    ]


def test_four_terms_are_the_published_task():
    data = ready()
    assert (len(data.train), len(data.test)) == (7320, 7321)
    assert data.train.inputs.shape == (7320, 44)
    assert (data.train.inputs.sum(1) == 4).all()
    tuples = torch.cat([s.inputs.view(-1, 4, 11).argmax(2) for s in (data.train, data.test)])
    assert len(tuples.unique(dim=0)) == 14_641
    assert torch.equal(data.train.targets, tuples[:7320].sum(1) % 11)


def test_the_best_guess_is_better_than_one_in_p():
    data = ready(polynomial="(2*n1+3*n2)^4", modulus=97)
    assert len(torch.cat([data.train.targets, data.test.targets]).unique()) == 25


@pytest.mark.refusal
@pytest.mark.parametrize(
    "polynomial",
    [
        "", "3", "m1", "n0", "n10", "n1 / n2", "n1^n2", "n1^-1", "n1^0.5", "n1.real", "f(n1)",
        "__import__('os')", "n1 if n2 else 1", "n1^99999", "20000*n1", "n1 +", "True*n1",
        "(" * 300, "+n1",
    ],
)  # fmt: skip
def test_what_is_no_polynomial_is_refused(polynomial):
    with pytest.raises(ValueError, match=r"^polynomial must be made of integers"):
        PolynomialDataModule(polynomial)


@pytest.mark.refusal
@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"modulus": 1}, "modulus must be an integer >= 2"),
        ({"modulus": 997}, "modulus must give at most"),
        ({"train_fraction": 1.0}, "train_fraction must be a number"),
        ({"polynomial": "n1", "modulus": 2, "train_fraction": 0.1}, "train_fraction must leave"),
        ({"split": "numpy"}, "split must be one of python, torch"),
    ],
)
def test_wrong_arguments_are_refused(arguments, match):
    with pytest.raises(ValueError, match="^" + match):
        PolynomialDataModule(**arguments)
