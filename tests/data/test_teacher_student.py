"""The tanh teacher: drawn as in the released notebook, and its printed first losses."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from grokscope.data import TeacherStudentDataModule
from grokscope.nets import MLP


def ready(**arguments) -> TeacherStudentDataModule:
    data = TeacherStudentDataModule(**arguments)
    data.setup()
    return data


def test_teacher_and_inputs_are_the_draws_of_the_notebook():
    torch.manual_seed(3)
    teacher = nn.Sequential(
        nn.Linear(5, 100), nn.Tanh(), nn.Linear(100, 100), nn.Tanh(), nn.Linear(100, 5)
    )
    train, test = (torch.normal(0, 1, size=(100, 5)) for _ in range(2))
    state = torch.get_rng_state()
    data = ready(seed=3)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(data.train.inputs, train)
    assert torch.equal(data.test.inputs, test)
    torch.testing.assert_close(data.train.targets, teacher(train).detach())
    torch.testing.assert_close(data.test.targets, teacher(test).detach())


def test_the_first_row_of_the_notebook():
    """Epoch 0: train loss 0.359951, test loss 0.351991, l2 429.586853 (first layer twice)."""
    data, student = ready(), MLP((5, 100, 100, 5), "tanh", scale=2.0, seed=1)
    for split, printed in ((data.train, 0.359951), (data.test, 0.351991)):
        loss = (student(split.inputs) - split.targets).square().mean().item()
        assert loss == pytest.approx(printed, abs=2e-6)
    parameters = list(student.parameters())
    norm = sum(p.square().sum().item() for p in [parameters[0], *parameters])
    assert norm == pytest.approx(429.586853, abs=1e-3)
    assert sum(p.numel() for p in parameters) == 11205


def test_sizes_can_be_chosen():
    data = ready(d_in=3, d_out=2, width=7, n_train=11, n_test=4)
    assert data.train.inputs.shape == (11, 3)
    assert data.test.targets.shape == (4, 2)
    assert not data.train.targets.requires_grad


@pytest.mark.refusal
@pytest.mark.parametrize("name", ["d_in", "d_out", "width", "n_train", "n_test"])
def test_wrong_arguments_are_refused(name):
    with pytest.raises(ValueError, match=f"^{name} must be an integer >= 1"):
        TeacherStudentDataModule(**{name: 0})
