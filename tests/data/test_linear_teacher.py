"""The linear teacher: shapes, scales, and which random numbers depend on what."""

from __future__ import annotations

import pytest
import torch

from grokscope.data.linear_teacher import LinearTeacherDataModule, TwoLayerTeacherDataModule


def ready(**arguments) -> LinearTeacherDataModule:
    data = LinearTeacherDataModule(**({"d_in": 40, "ratio": 0.5, "n_test": 30} | arguments))
    data.setup()
    return data


@pytest.mark.parametrize("d_out", [1, 3])
def test_targets_are_the_teacher_applied_to_the_inputs(d_out):
    data = ready(d_out=d_out)
    assert data.teacher.shape == (40, d_out)
    assert data.train.inputs.shape == (80, 40)
    assert data.test.inputs.shape == (30, 40)
    for split in (data.train, data.test):
        assert split.targets.shape == (len(split), d_out)
        assert split.inputs.dtype == split.targets.dtype == torch.float64
        torch.testing.assert_close(split.targets, split.inputs @ data.teacher)


def test_defaults_are_the_papers():
    data = LinearTeacherDataModule()
    assert (data.d_in, data.d_out, data.n_train, data.batch_size) == (1000, 1, 1111, None)


@pytest.mark.parametrize(("ratio", "n_train"), [(0.1, 400), (0.9, 44), (1.5, 27), (1000.0, 1)])
def test_ratio_is_features_over_samples(ratio, n_train):
    assert len(ready(ratio=ratio).train) == n_train


def test_inputs_and_teacher_have_the_stated_scales():
    data = ready(d_in=300, d_out=200, ratio=0.5)
    assert data.train.inputs.mean().item() == pytest.approx(0, abs=0.01)
    assert data.train.inputs.std().item() == pytest.approx(1, rel=0.01)
    assert data.teacher.std().item() == pytest.approx((2 * 300 * 200) ** -0.5, rel=0.02)


def test_a_student_drawn_alike_starts_with_loss_one_over_d_out():
    data = ready(d_in=400, d_out=5, n_test=500)
    noise = torch.randn(400, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    difference = data.test.inputs @ (noise * (2 * 400 * 5) ** -0.5) - data.test.targets
    assert difference.square().mean().item() == pytest.approx(1 / 5, rel=0.1)


def test_teacher_and_test_samples_do_not_depend_on_the_number_of_training_samples():
    few, many = ready(ratio=2.0), ready(ratio=0.25)
    assert torch.equal(few.teacher, many.teacher)
    assert torch.equal(few.test.inputs, many.test.inputs)
    assert torch.equal(few.train.inputs, many.train.inputs[: len(few.train)])


def test_training_and_test_samples_differ():
    data = ready(n_test=80)
    assert (data.train.inputs != data.test.inputs).all()


def test_seed_alone_decides():
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = ready(seed=3)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert torch.equal(ready(seed=3).train.inputs, first.train.inputs)
    assert not torch.equal(ready(seed=4).teacher, first.teacher)


def test_a_student_from_the_same_torch_seed_is_not_the_teacher():
    data = ready(seed=7)
    student = torch.randn(40, 1, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    cosine = torch.nn.functional.cosine_similarity(student, data.teacher, dim=0)
    assert cosine.abs().item() < 0.6


def test_batch_is_the_whole_training_set():
    data = ready()
    assert data.batch_size is None
    assert data.steps_per_epoch == 1


@pytest.mark.refusal
@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"d_in": 0}, "d_in must be"),
        ({"d_out": 1.5}, "d_out must be"),
        ({"ratio": 0}, "ratio must be a number > 0"),
        ({"ratio": float("nan")}, "ratio must be"),
        ({"ratio": 1e-7}, "ratio must ask for at most"),
        ({"ratio": 5e-324}, "ratio must ask for at most"),
        ({"n_test": 0}, "n_test must be"),
        ({"n_test": 10**9}, "n_test must ask for at most"),
        ({"seed": -1}, "seed must be"),
    ],
)
def test_wrong_arguments_are_refused(arguments, match):
    with pytest.raises(ValueError, match="^" + match):
        LinearTeacherDataModule(**arguments)


@pytest.mark.parametrize(
    ("activation", "function"), [("identity", lambda x: x), ("tanh", torch.tanh)]
)
def test_a_two_layer_teacher_has_its_scales_and_its_activation(activation, function):
    data = TwoLayerTeacherDataModule(200, 300, 5, activation, ratio=0.5, n_test=20)
    data.setup()
    first, last = data._layers
    torch.testing.assert_close(data.teacher, first @ last)
    assert first.square().sum().item() == pytest.approx(0.5, rel=0.05)
    assert last.square().sum().item() == pytest.approx(0.5, rel=0.1)
    for split in (data.train, data.test):
        torch.testing.assert_close(split.targets, function(split.inputs @ first) @ last)
    assert (len(data.train), data.test.targets.shape) == (400, (20, 5))


@pytest.mark.refusal
@pytest.mark.parametrize(
    ("arguments", "match"),
    [({"d_hidden": 0}, "d_hidden must be"), ({"activation": "relu"}, "activation must be one of")],
)
def test_a_two_layer_teacher_refuses(arguments, match):
    with pytest.raises(ValueError, match="^" + match):
        TwoLayerTeacherDataModule(**arguments)
