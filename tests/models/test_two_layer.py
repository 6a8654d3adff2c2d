"""Two-layer teachers and students: near the theory, and resumed with the same theory."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import small
import torch

from grokscope import GOPCallback, Run
from grokscope.data import TwoLayerTeacherDataModule
from grokscope.models import TwoLayerEstimatorModule
from grokscope.models.losses import SquaredError, ThresholdAccuracy
from grokscope.nets import MLP, levi_std


def module(activation="identity", d_in=100, d_hidden=200, d_out=3, bias=False, **settings):
    stds = (levi_std(d_in, d_hidden), levi_std(d_hidden, d_out))
    net = MLP((d_in, d_hidden, d_out), activation, bias, stds, seed=1).double()
    optimizer = partial(torch.optim.SGD, **({"lr": 0.3} | settings))
    return TwoLayerEstimatorModule(net, SquaredError(), ThresholdAccuracy(1e-4), optimizer)


def fit(model, folder, epochs, activation="identity", ckpt_path=None):
    data = TwoLayerTeacherDataModule(100, 200, 3, activation, ratio=0.5, n_test=2000)
    trainer = small.trainer(epochs, [GOPCallback(kinds=(), output_dir=folder)], folder)
    trainer.fit(model, datamodule=data, ckpt_path=ckpt_path, weights_only=True)
    return Run.open(folder).metrics, trainer


@pytest.mark.parametrize("activation", ["identity", "tanh"])
def test_losses_follow_the_linear_theory_at_its_slower_rate(activation, tmp_path):
    metrics, _ = fit(module(activation), tmp_path, 300, activation)
    for split in ("train", "test"):
        found, theory = metrics[f"{split}_loss"], metrics[f"theory_{split}_loss"]
        assert found[-1] < 0.1 * found[0]
        np.testing.assert_allclose(found / found[0], theory / theory[0], rtol=0.15)


def test_the_exact_test_loss_is_that_of_many_fresh_samples(tmp_path):
    model = module()
    metrics, trainer = fit(model, tmp_path, 5)
    data = trainer.datamodule
    with torch.no_grad():
        sampled = (model.net(data.test.inputs) - data.test.targets).square().mean()
    assert metrics["test_loss"][-1] == pytest.approx(sampled.item(), rel=0.1)


def test_a_resumed_run_has_the_same_theory(tmp_path):
    whole, _ = fit(module(), tmp_path / "whole", 40)
    first = module()
    _, trainer = fit(first, tmp_path / "part", 20)
    trainer.save_checkpoint(tmp_path / "at_20.ckpt")
    half_norm = first._half_norm
    resumed = module()
    metrics, _ = fit(resumed, tmp_path / "part", 40, ckpt_path=tmp_path / "at_20.ckpt")
    assert resumed._half_norm == half_norm
    for name in ("theory_train_loss", "theory_test_loss", "train_loss"):
        np.testing.assert_array_equal(metrics[name][-5:], whole[name][-5:])


@pytest.mark.refusal
@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"weight_decay": 0.1}, "optimizer.weight_decay must be 0"),
        ({"bias": True}, "net must have two layers without biases"),
        ({"momentum": 0.9}, "optimizer must be SGD without momentum"),
    ],
)
def test_what_the_theory_does_not_cover_is_refused(settings, match):
    with pytest.raises(ValueError, match="^" + match):
        module(**settings).configure_optimizers()
