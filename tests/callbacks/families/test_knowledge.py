"""Logit lens and causal tracing as rows of a run; the small nets of this family train exactly."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import small
import torch
from torch.nn import functional as F

from grokscope import GOPCallback, Run
from grokscope.callbacks import Checkpoints
from grokscope.callbacks.families.knowledge import CausalTracing, LogitLens
from grokscope.data import ComparisonDataModule, CompositionDataModule
from grokscope.data.knowledge import PROBES
from grokscope.measures.tracing import causal_strength, lens_reciprocal_rank
from grokscope.models import GrokkingModule
from grokscope.models.schedulers import linear_warmup
from grokscope.models.sequence_losses import TargetCrossEntropy, TargetsAccuracy
from grokscope.nets import GPT2


def task(seed: int = 0) -> CompositionDataModule:
    return CompositionDataModule(30, 10, 5, iid_ratio=0.1, phi=2.0, seed=seed, batch_size=64)


def module(dropout: float = 0.0, steps_per_call: str = "many", **settings) -> GrokkingModule:
    net = GPT2(46, 8, 16, 2, 2, dropout=dropout, seed=0, **settings)
    return GrokkingModule(
        net,
        TargetCrossEntropy(),
        TargetsAccuracy(),
        partial(torch.optim.AdamW, lr=3e-3, weight_decay=0.5),
        partial(linear_warmup, steps=4),
        steps_per_call=steps_per_call,
        parameter_settings={"norm|bias": {"weight_decay": 0.0}},
        clip_norm=1.0,
        extra_splits=PROBES,
    )


def fit(made, epochs, folder, progress=None, data=None, ckpt_path=None):
    callback = GOPCallback(("batch",), progress=progress, output_dir=folder)
    trainer = small.trainer(epochs, [callback, Checkpoints(folder / "c", "every 2")], folder)
    trainer.fit(made, datamodule=data or task(), ckpt_path=ckpt_path, weights_only=True)
    return trainer


def measures():
    return {"lens": LogitLens("every 2"), "tracing": CausalTracing("every 2")}


def test_rows_are_those_of_the_pure_functions(tmp_path):
    made, data = module(passes=2), task()
    fit(made, 5, tmp_path, measures(), data)
    metrics = Run.open(tmp_path).metrics
    assert metrics["lens/bridge"].shape == metrics["tracing/head"].shape == (3, 5)
    restored = module(passes=2)
    checkpoint = torch.load(tmp_path / "c" / "epoch_4.ckpt", weights_only=True)
    restored.load_state_dict(checkpoint["state_dict"])
    net, inputs = restored.net.eval(), data.extra["train_inferred"].inputs[:300]
    with torch.no_grad():
        position, tokens = data.lens["bridge"]
        bridge = lens_reciprocal_rank(net, inputs, position, tokens[:300])
        position, others = data.perturbed["relation_2"]
        strength = causal_strength(net, inputs, others, position, 2)
    np.testing.assert_allclose(metrics["lens/bridge"][2], bridge, rtol=1e-6)
    np.testing.assert_allclose(metrics["tracing/relation_2"][2], strength)


def test_losses_and_accuracies_of_every_split_have_the_papers_names(tmp_path):
    made, data = module(), task()
    fit(made, 3, tmp_path, data=data)
    metrics = Run.open(tmp_path).metrics
    for name in PROBES:
        assert np.isfinite(metrics[f"{name}_loss"]).all()
        assert ((metrics[f"{name}_acc"] >= 0) & (metrics[f"{name}_acc"] <= 1)).all()
    np.testing.assert_array_equal(metrics["test_loss"], metrics["test_inferred_iid_loss"])
    made.net.eval()
    with torch.no_grad():
        loss = made.loss.mean(made.net(data.train.inputs), data.train.targets)
    assert metrics["train_loss"][-1] == pytest.approx(float(loss), rel=1e-5)


def test_the_recorded_training_loss_is_that_of_the_recorded_samples(tmp_path):
    made, data = module(), task()
    data.setup()
    data.recorded_train = data.train[:7]
    fit(made, 2, tmp_path, data=data)
    made.net.eval()
    with torch.no_grad():
        loss = made.loss.mean(made.net(data.train.inputs[:7]), data.train.targets[:7])
    assert Run.open(tmp_path).metrics["train_loss"][-1] == pytest.approx(float(loss), rel=1e-5)


def test_a_step_is_that_of_the_published_trainer_in_plain_torch(tmp_path):
    """AdamW without decay of norms and biases, warm-up from rate 0, clipping at 1."""
    made, data = module().double(), task()
    plain = module().net.double()
    trainer = small.trainer(2, [], tmp_path)
    trainer.fit(made, datamodule=data)
    groups = {True: [], False: []}
    for name, parameter in plain.named_parameters():
        groups["bias" in name or "norm" in name].append(parameter)
    optimizer = torch.optim.AdamW(
        [{"params": groups[False], "weight_decay": 0.5}, {"params": groups[True]}],
        lr=3e-3,
        weight_decay=0.0,
    )
    step = 0
    for epoch in range(2):
        for rows in data.batch_rows(epoch):
            for group in optimizer.param_groups:
                group["lr"] = 3e-3 * min(step / 4, 1)
            batch, step = data.train[rows], step + 1
            labels = batch.targets.flatten()
            optimizer.zero_grad()
            F.cross_entropy(plain(batch.inputs).flatten(0, 1), labels).backward()
            torch.nn.utils.clip_grad_norm_(plain.parameters(), 1.0)
            optimizer.step()
    for ours, theirs in zip(made.net.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


def test_dropout_trains_bit_equally_measured_or_not_and_after_resume(tmp_path):
    def trained(name, epochs=5, steps="many", progress=None, ckpt_path=None):
        torch.manual_seed(0)
        made = module(0.2, steps)
        fit(made, epochs, tmp_path / name, progress, ckpt_path=ckpt_path)
        return list(made.parameters())

    plain = trained("plain")
    assert all(map(torch.equal, plain, trained("measured", progress=measures())))
    assert all(map(torch.equal, plain, trained("one", steps="one")))
    trained("parts", epochs=4)
    last = tmp_path / "parts" / "c" / "epoch_2.ckpt"
    assert all(map(torch.equal, plain, trained("parts", ckpt_path=last)))


def test_comparisons_have_values_and_entities(tmp_path):
    data = ComparisonDataModule(30, 3, 4, phi=2.0, batch_size=64)
    made = module()
    made.net = GPT2(data.n_tokens, 8, 16, 2, 2, seed=0)
    progress = {
        "lens": LogitLens("every 1", ["value_1", "value_2"], samples=20),
        "tracing": CausalTracing("every 1", ["attribute", "entity_1", "entity_2"]),
    }
    fit(made, 2, tmp_path, progress, data)
    metrics = Run.open(tmp_path).metrics
    assert metrics["lens/value_2"].shape == metrics["tracing/entity_1"].shape == (2, 3)


@pytest.mark.refusal
@pytest.mark.parametrize("measure", [LogitLens("every 1", ["b"]), CausalTracing("every 1", ["b"])])
def test_an_unknown_name_is_refused(tmp_path, measure):
    with pytest.raises(ValueError, match=r"names must be of .*(bridge|head), .*, got 'b'"):
        fit(module(), 1, tmp_path, {"x": measure})


@pytest.mark.refusal
def test_no_samples_are_refused():
    with pytest.raises(ValueError, match="samples must be an integer >= 1, got 0"):
        LogitLens(samples=0)
