"""The measures of slingshots in a run: the coming step is the one that is then made."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import small
import torch

from grokscope import GOPCallback, Run
from grokscope.callbacks import Checkpoints
from grokscope.callbacks.families.thilak import LastLayerNorm, SlingshotMeasures, next_step
from grokscope.data import EquationDataModule
from grokscope.measures.optimizer_step import cosine_distance, update_sharpness
from grokscope.measures.slingshot import slingshots_of
from grokscope.models import GrokkingModule
from grokscope.models.answers import AnswerAccuracy, AnswerCrossEntropy
from grokscope.models.schedulers import linear_warmup
from grokscope.nets import DecoderTransformer

EPOCHS = 6


def data(batch_size=None):
    return EquationDataModule("add", 0.5, modulus=5, batch_size=batch_size)


def halved(net):
    net.unembed.weight.mul_(0.9)


def module(**settings):
    net = DecoderTransformer(147, 2, 2, 8, 2, seed=1)
    optimizer = partial(torch.optim.AdamW, lr=1e-2, weight_decay=0.1)
    warmup = partial(linear_warmup, steps=3)
    loss = AnswerCrossEntropy("answer")
    return GrokkingModule(net, loss, AnswerAccuracy(), optimizer, warmup, **settings)


class Watched(SlingshotMeasures):
    """Also keeps the weights, those after the coming step, and the loss."""

    def __init__(self, schedule):
        super().__init__(schedule, layers=["blocks.0", "blocks.1"], probe=8)
        self.kept = []

    def measure(self, module):
        loss, after = next_step(module)
        weights = [p.detach().clone() for p in module.net.parameters()]
        coming = [p.detach().clone() for p in after.parameters()]
        self.kept.append((loss.item(), weights, coming))
        return super().measure(module)


def fit(made, folder, measures, epochs=EPOCHS, batch_size=None, more=(), ckpt_path=None):
    callback = GOPCallback((), progress=measures, output_dir=folder)
    trainer = small.trainer(epochs, [callback, *more], folder)
    trainer.fit(made, datamodule=data(batch_size), ckpt_path=ckpt_path, weights_only=True)
    return Run.open(folder).metrics


OPTIONS = [{}, {"clip_norm": 0.05}, {"after_step": halved}, {"l2": 0.1}]


@pytest.mark.parametrize("settings", OPTIONS, ids=lambda s: " ".join(s) or "plain")
@pytest.mark.parametrize("steps_per_call", ["many", "one"])
def test_the_coming_step_is_the_one_that_is_made(tmp_path, settings, steps_per_call):
    watched = Watched("every 1")
    made = module(steps_per_call=steps_per_call, **settings)
    metrics = fit(made, tmp_path, {"slingshot": watched})
    final = [p.detach() for p in made.net.parameters()]
    following = [weights for _, weights, _ in watched.kept[1:]] + [final]
    for (_, _, coming), now in zip(watched.kept, following, strict=True):
        for a, b in zip(coming, now, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)
    if "after_step" not in settings:  # rate 0 at the first step
        assert np.isnan(metrics["slingshot/update_sharpness"][0])
    assert np.isfinite(metrics["slingshot/update_sharpness"][1:]).all()
    assert (metrics["slingshot/update_norm"][1:] > 0).all()


@pytest.mark.parametrize("steps_per_call", ["many", "one"])
def test_with_mini_batches_it_is_the_first_step_of_the_pass(tmp_path, steps_per_call):
    watched = Watched("every 2")
    fit(module(steps_per_call=steps_per_call), tmp_path, {"slingshot": watched}, batch_size=5)
    plain, task = module(), data(5)
    task.setup()
    parameters = list(plain.net.parameters())
    adam = torch.optim.AdamW(parameters, lr=1e-2, weight_decay=0.1)
    warm_up = linear_warmup(adam, 3)
    expected = []
    for epoch in range(EPOCHS):
        for number, rows in enumerate(task.batch_rows(epoch)):
            adam.zero_grad()
            batch = task.train[rows]
            plain.loss.mean(plain.net(batch.inputs), batch.targets).backward()
            adam.step()
            warm_up.step()
            if epoch % 2 == 0 and number == 0:
                expected.append([p.detach().clone() for p in parameters])
    assert len(expected) == len(watched.kept) == 3
    for (_, _, coming), now in zip(watched.kept, expected, strict=True):
        for a, b in zip(coming, now, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_rows_are_those_of_the_pure_functions(tmp_path):
    watched = Watched("every 1")
    made = module().double()
    metrics = fit(made, tmp_path, {"slingshot": watched, "last_layer": LastLayerNorm("every 2")})
    names = [name for name, _ in made.net.named_parameters()]
    head = names.index("unembed.weight")
    start, task = watched.kept[0][1], data()
    task.setup()
    for row, (loss, weights, coming) in enumerate(watched.kept):
        with torch.no_grad():
            for p, w in zip(made.net.parameters(), weights, strict=True):
                p.copy_(w)
        own = made.loss(made.net.eval()(task.train.inputs), task.train.targets).mean()
        assert own.item() == pytest.approx(loss)
        update = [b - a for a, b in zip(weights, coming, strict=True)]
        expected = {
            "update_sharpness": update_sharpness(own, list(made.net.parameters()), update),
            "cosine_classifier": cosine_distance([weights[head]], [start[head]]),
            "cosine_representation": cosine_distance(
                *([w for i, w in enumerate(these) if i != head] for these in (weights, start))
            ),
        }
        for name, value in expected.items():
            found = metrics[f"slingshot/{name}"][row]
            np.testing.assert_allclose(found, value, rtol=1e-6, atol=1e-12)
        norm = float(weights[head].norm())
        if row % 2 == 0:
            assert metrics["last_layer/norm"][row // 2] == pytest.approx(norm, rel=1e-12)
    assert metrics["slingshot/feature_change"].shape == (EPOCHS, 2)
    assert (metrics["slingshot/feature_change"][1:] > 0).all()
    assert slingshots_of(Run.open(tmp_path)) == []


def test_training_is_not_disturbed_and_the_start_is_in_checkpoints(tmp_path):
    def measures():
        return {"slingshot": Watched("every 1"), "last_layer": LastLayerNorm("every 1")}

    whole, plain = module(), module()
    first = fit(whole, tmp_path / "a", measures(), batch_size=5)
    fit(plain, tmp_path / "b", {}, batch_size=5)
    for a, b in zip(whole.parameters(), plain.parameters(), strict=True):
        assert torch.equal(a, b)
    folder = tmp_path / "c"
    checkpoints = Checkpoints(folder / "checkpoints", "every 1")
    fit(module(), folder, measures(), epochs=4, batch_size=5, more=[checkpoints])
    resumed = module()
    path = folder / "checkpoints" / "epoch_3.ckpt"
    second = fit(resumed, folder, measures(), batch_size=5, ckpt_path=path)
    for name in first:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)
    for a, b in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.refusal
@pytest.mark.parametrize(
    ("measure", "message"),
    [
        (LastLayerNorm(classifier="head"), r"classifier must be of embed\.weight, .* got 'head'"),
        (SlingshotMeasures(layers=["blocks.7"]), "layers must be of embed, blocks, .* 'blocks.7'"),
    ],
)
def test_names_that_the_net_does_not_have_are_refused(tmp_path, measure, message):
    with pytest.raises(ValueError, match=message):
        fit(module(), tmp_path, {"it": measure})


@pytest.mark.refusal
def test_a_probe_of_nothing_is_refused():
    with pytest.raises(ValueError, match="probe must be an integer >= 1"):
        SlingshotMeasures(probe=0)
