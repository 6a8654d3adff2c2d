import math

import pytest
import torch

from grokscope.nets import LinearEstimator, levi_std


def test_estimator_is_one_matrix_without_bias(generator):
    net, x = LinearEstimator(6, 3, seed=0), torch.randn(4, 6, generator=generator)
    (weight,) = net.parameters()
    torch.testing.assert_close(net(x), x @ weight.T)


@pytest.mark.parametrize("d_out", [1, 50])
def test_weights_have_the_published_variance(d_out):
    (weight,) = LinearEstimator(2000, d_out, seed=0).parameters()
    ratio = weight.square().mean() * 2 * 2000 * d_out
    assert abs(ratio - 1) < 6 * math.sqrt(2 / weight.numel())
    assert levi_std(2000, d_out) ** 2 == pytest.approx(1 / (2 * 2000 * d_out))


def test_standard_deviation_can_be_given():
    (default,) = LinearEstimator(8, seed=0).parameters()
    (given,) = LinearEstimator(8, std=1.0, seed=0).parameters()
    torch.testing.assert_close(default, given * levi_std(8, 1))


def test_teacher_and_student_differ_by_their_seeds():
    teacher, student, again = (LinearEstimator(8, seed=s).layers[0].weight for s in (0, 1, 0))
    assert torch.equal(teacher, again)
    assert not torch.equal(teacher, student)


def test_gaussian_inputs_share_nothing(generator):
    inputs = torch.randn(300, 1000, generator=generator)
    assert LinearEstimator(1000, 50).share(inputs) is None


@pytest.mark.refusal
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"d_in": 0}, "d_in must be an integer >= 1"),
        ({"d_in": 3, "d_out": 0}, "d_out must be an integer >= 1"),
        ({"d_in": 3, "std": -1.0}, "std must be a number > 0"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        LinearEstimator(**arguments)
