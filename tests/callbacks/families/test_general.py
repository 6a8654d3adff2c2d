"""Measures that any net has: weights, curvature, classes; equal to the pure functions."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import small
import torch
from lightning import LightningModule
from torch import nn
from torch.nn import functional as F

from grokscope import GOPCallback, Run
from grokscope.callbacks import Checkpoints
from grokscope.callbacks.families.classes import ClassProgress
from grokscope.callbacks.families.curvature import HessianProgress
from grokscope.callbacks.families.movement import WeightMovement

EPOCHS = 12


def progress():
    return {
        "weights": WeightMovement("every 3"),
        "hessian": HessianProgress("every 3", iterations=200, tolerance=1e-5),
        "classes": ClassProgress("every 3"),
    }


def record(folder, module, epochs=EPOCHS, ckpt_path=None):
    callbacks = [
        GOPCallback(kinds=[], output_dir=folder, progress=progress()),
        Checkpoints(folder / "checkpoints", schedule="at 7"),
    ]
    small.trainer(epochs, callbacks, folder).fit(module, small.data(), ckpt_path=ckpt_path)
    return Run.open(folder).metrics


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    module = small.module()
    initial = copy.deepcopy(module.net)
    folder = tmp_path_factory.mktemp("run")
    return record(folder, module), initial, folder


def test_weights_begin_where_they_are_and_move(recorded):
    metrics, initial, _ = recorded
    assert metrics["weights/distance"][0] == 0
    assert metrics["weights/cosine"][0] == pytest.approx(1)
    assert (np.diff(metrics["weights/distance"]) > 0).all()
    norms = [float(p.detach().double().norm()) for p in initial.parameters()]
    np.testing.assert_allclose(metrics["weights/norms"][0], norms, rtol=1e-12)
    total = np.linalg.norm(metrics["weights/norms"], axis=1)
    np.testing.assert_allclose(metrics["weights/norm"], total, rtol=1e-12)


def test_the_curvature_is_that_of_the_dense_hessian(recorded):
    metrics, initial, _ = recorded
    data = small.data()
    data.prepare_data()
    data.setup("fit")
    inputs, classes = data.train.inputs, data.train.targets
    weights = dict(initial.named_parameters())

    def loss_at(flat):
        parts = flat.split([w.numel() for w in weights.values()])
        named = {n: x.view_as(w) for (n, w), x in zip(weights.items(), parts, strict=True)}
        outputs = torch.func.functional_call(initial.double(), named, (inputs.double(),))
        return F.mse_loss(outputs, F.one_hot(classes, 7).double())

    flat = torch.cat([w.detach().double().flatten() for w in weights.values()])
    dense = torch.autograd.functional.hessian(loss_at, flat)
    expected = float(torch.linalg.eigvalsh(dense)[-1])
    assert metrics["hessian/top_eigenvalue"][0] == pytest.approx(expected, rel=1e-4)
    assert (metrics["hessian/products"] >= 1).all()


def test_classes_count_every_test_sample(recorded):
    metrics, *_ = recorded
    confusion = metrics["classes/confusion"]
    assert (confusion.sum((1, 2)) == len(small_test())).all()
    accuracy = np.trace(confusion, axis1=1, axis2=2) / len(small_test())
    at = np.isin(metrics["epoch"], metrics["classes/epoch"])
    np.testing.assert_allclose(accuracy, metrics["test_acc"][at])
    assert (metrics["classes/smallest_margin"] <= metrics["classes/margin"]).all()


def small_test():
    data = small.data()
    data.prepare_data()
    data.setup("fit")
    return data.test


def test_a_resumed_run_measures_from_the_same_start(recorded, tmp_path):
    whole, *_ = recorded
    module = small.module()
    record(tmp_path, module, epochs=8)
    last = tmp_path / "checkpoints" / "epoch_7.ckpt"
    again = record(tmp_path, small.module(), ckpt_path=last)
    for name in ("weights/cosines", "hessian/top_eigenvalue", "classes/margin"):
        np.testing.assert_array_equal(again[name], whole[name], err_msg=name)


@pytest.mark.refusal
def test_a_net_without_linear_layers_must_say_its_classes():
    module = LightningModule()
    module.net = nn.Conv2d(1, 2, 3)
    with pytest.raises(ValueError, match=r"classes must be given .* got Conv2d"):
        ClassProgress().columns(module)
    assert ClassProgress(classes=4).columns(module)["confusion"] == (4, 4)
