"""The task of polynomial regression."""

from __future__ import annotations

import pytest
import torch

from grokscope.data import QuadraticTeacherDataModule


def made(**settings):
    data = QuadraticTeacherDataModule(**{"d_in": 20, "n_train": 3000, "n_test": 50} | settings)
    data.setup()
    return data


@pytest.mark.parametrize("factor", [0.5, 1.0])
def test_targets_are_squared_projections(factor):
    data = made(factor=factor)
    for split, n in ((data.train, 3000), (data.test, 50)):
        assert split.inputs.shape == (n, 20)
        torch.testing.assert_close(
            split.targets[:, 0], factor * (split.inputs @ data.teacher) ** 2
        )
        assert split.targets.dtype == torch.float64


def test_inputs_have_length_one_on_average():
    squares = made().train.inputs.square().sum(1)
    assert float(squares.mean()) == pytest.approx(1.0, abs=0.03)
    assert float(squares.var()) == pytest.approx(2 / 20, rel=0.15)


def test_the_teacher_and_the_first_samples_do_not_depend_on_how_many_follow():
    few, many = made(n_train=10), made()
    assert torch.equal(few.teacher, many.teacher)
    assert torch.equal(few.train.inputs, many.train.inputs[:10])
    assert not torch.equal(few.teacher, made(seed=1).teacher)
    assert not torch.equal(few.train.inputs, few.test.inputs[:10])


@pytest.mark.refusal
@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"d_in": 0}, "d_in must be an integer >= 1"),
        ({"factor": 0.0}, "factor must be a number > 0"),
        ({"n_train": 10**9}, "n_train must ask for at most"),
        ({"n_test": 10**9}, "n_test must ask for at most"),
    ],
)
def test_bad_arguments_are_refused(settings, reason):
    with pytest.raises(ValueError, match=reason):
        made(**settings)
