"""Power et al.'s module: loss, accuracy, schedule; noise resumes and follows both loop paths."""

from __future__ import annotations

import math
from functools import partial

import pytest
import small
import torch
from torch.nn import functional as F

from grokscope.callbacks import Checkpoints
from grokscope.data import EquationDataModule
from grokscope.gradients import capture
from grokscope.models import GrokkingModule
from grokscope.models.answers import AnswerAccuracy, AnswerCrossEntropy
from grokscope.models.noisy_adamw import NoisyAdamW
from grokscope.models.schedulers import linear_warmup, warmup_cosine
from grokscope.nets import DecoderTransformer


def logits_and_targets(dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(9, 2, 5, generator=generator, dtype=dtype)
    return logits, torch.randint(5, (9, 2), generator=generator)


@pytest.mark.parametrize("precision", ["outputs", "float64"])
def test_the_mean_loss_is_the_published_one(precision):
    logits, targets = logits_and_targets(torch.float32)
    loss = AnswerCrossEntropy(precision=precision)
    expected = F.cross_entropy(logits.transpose(1, 2), targets)  # (n, c, k), as in the code
    torch.testing.assert_close(loss.mean(logits, targets).float(), expected)
    each = loss(logits, targets)
    assert each.shape == (9,)
    torch.testing.assert_close(each.mean().float(), expected)
    assert each.dtype == (torch.float64 if precision == "float64" else torch.float32)


def test_the_loss_of_the_answer_alone():
    logits, targets = logits_and_targets()
    loss = AnswerCrossEntropy("answer")
    expected = F.cross_entropy(logits[:, 0], targets[:, 0], reduction="none")
    torch.testing.assert_close(loss(logits, targets), expected)
    torch.testing.assert_close(loss.mean(logits, targets), expected.mean())


def test_a_row_is_right_only_if_both_tokens_are():
    targets = torch.tensor([[1, 0], [1, 0], [1, 0], [1, 0]])
    said = torch.tensor([[1, 0], [1, 2], [2, 0], [2, 2]])
    logits = F.one_hot(said, 3).float()
    assert AnswerAccuracy()(logits, targets).tolist() == [True, False, False, False]
    assert AnswerAccuracy("answer")(logits, targets).tolist() == [True, True, False, False]


@pytest.mark.refusal
def test_answers_of_another_length_are_refused():
    logits, targets = logits_and_targets()
    for function in (AnswerCrossEntropy(), AnswerCrossEntropy().mean, AnswerAccuracy()):
        with pytest.raises(ValueError, match="n_answers must be the number of target tokens"):
            function(logits, targets[:, :1])
    with pytest.raises(ValueError, match="which must be one of all, answer"):
        AnswerCrossEntropy("end")


def test_per_sample_gradients_of_the_loss():
    made, task = module(), data()
    task.setup()
    inputs, targets = task.train.inputs[:6], task.train.targets[:6]
    factors = capture(made.net, AnswerCrossEntropy(), inputs, targets)
    rows = []
    for i in range(6):
        loss = AnswerCrossEntropy()(made.net.eval()(inputs[i : i + 1]), targets[i : i + 1])
        gradients = torch.autograd.grad(loss.sum(), list(made.net.parameters()))
        rows.append(torch.cat([g.flatten() for g in gradients]).double())
    expected = torch.stack(rows) @ torch.stack(rows).T
    torch.testing.assert_close(factors.gram(), expected, rtol=1e-4, atol=1e-6)


def rates(scheduler, steps):
    optimizer = torch.optim.SGD([torch.ones(1, requires_grad=True)], lr=2.0)
    made, found = scheduler(optimizer), []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        made.step()
    return found


def test_schedules_are_the_published_ones():
    assert rates(partial(linear_warmup, steps=10), 13) == pytest.approx(
        [0.2 * k for k in range(10)] + [2.0] * 3
    )
    found = rates(partial(warmup_cosine, steps=10, anneal_steps=100), 130)
    for step, rate in enumerate(found):
        t = min(max(step - 10, 0) / 100, 1)
        cosine = 0.2 + 1.8 * (1 + math.cos(math.pi * t)) / 2
        assert rate == pytest.approx(step / 10 * 2 if step <= 10 else cosine)


def data():
    return EquationDataModule("add", 0.5, modulus=5, batch_size=5)


def module(steps_per_call="many", decay="to_init"):
    torch.manual_seed(0)
    net = DecoderTransformer(147, 2, 2, 8, 2, dropout=0.1, weight_noise=0.02, seed=1)
    optimizer = partial(NoisyAdamW, lr=1e-2, weight_decay=1.0, noise=0.1, decay=decay)
    warmup = partial(linear_warmup, steps=10)
    parts = AnswerCrossEntropy(), AnswerAccuracy(), optimizer, warmup
    return GrokkingModule(net, *parts, steps_per_call=steps_per_call)


def fit(made, epochs, tmp_path, ckpt_path=None, callbacks=()):
    trainer = small.trainer(epochs, callbacks, tmp_path)
    trainer.fit(made, datamodule=data(), ckpt_path=ckpt_path, weights_only=True)
    return small.state(made, trainer)


@pytest.mark.parametrize("decay", ["to_init", "jiggle"])
def test_noise_is_the_same_on_both_loop_paths(tmp_path, decay):
    many = fit(module("many", decay), 6, tmp_path)
    small.assert_equal(many, fit(module("one", decay), 6, tmp_path))


@pytest.mark.parametrize("epoch", [2, 5])
def test_a_noisy_run_resumes_bit_for_bit(tmp_path, epoch):
    whole = fit(module(), 8, tmp_path)
    fit(module(), 6, tmp_path, callbacks=[Checkpoints(tmp_path / "checkpoints", "every 1")])
    made = module()
    torch.manual_seed(99)
    path = tmp_path / "checkpoints" / f"epoch_{epoch}.ckpt"
    small.assert_equal(whole, fit(made, 8, tmp_path, ckpt_path=path))
