"""Dropout and batch norm in training: both loop paths and resumed runs have the same bits."""

from __future__ import annotations

from functools import partial

import pytest
import small
import torch

from grokscope.data import CorruptedModularDataModule
from grokscope.models import GrokkingModule
from grokscope.models.losses import ArgmaxAccuracy, SquaredError
from grokscope.nets import RegularisedMLP


def module(steps_per_call="many"):
    net = RegularisedMLP(
        (14, 16, 7), "quadratic", False, 0.3, dropout=0.4, batch_norm=True, seed=0
    )
    optimizer = partial(torch.optim.AdamW, lr=1e-2)
    return GrokkingModule(
        net,
        SquaredError(),
        ArgmaxAccuracy(),
        optimizer,
        steps_per_call=steps_per_call,
        extra_splits=["clean", "corrupted", "restored"],
    )


def fit(model, folder, epochs, ckpt_path=None):
    torch.manual_seed(0)
    data = CorruptedModularDataModule(7, corruption=0.3, batch_size=9)
    seen = small.LossEveryEpoch()
    trainer = small.trainer(epochs, [seen], folder)
    trainer.fit(model, datamodule=data, ckpt_path=ckpt_path, weights_only=True)
    return trainer, seen.seen


def states(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def assert_same(first, second):
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name


@pytest.fixture
def whole(tmp_path):
    model = module()
    fit(model, tmp_path, 8)
    return states(model)


def test_both_loop_paths_have_the_same_bits(whole, tmp_path):
    model = module("one")
    fit(model, tmp_path, 8)
    assert_same(whole, states(model))


def test_a_resumed_run_has_the_same_bits(whole, tmp_path):
    first = module()
    trainer, _ = fit(first, tmp_path, 3)
    trainer.save_checkpoint(tmp_path / "at_3.ckpt")
    resumed = module()
    fit(resumed, tmp_path, 8, ckpt_path=tmp_path / "at_3.ckpt")
    assert_same(whole, states(resumed))


def test_accuracies_of_clean_and_wrong_labels_are_recorded(tmp_path):
    _, seen = fit(module(), tmp_path, 3)
    data = CorruptedModularDataModule(7, corruption=0.3)
    n_wrong, n = data.n_corrupted, data.n_train
    for row in seen:
        expected = (row["clean_acc"] * (n - n_wrong) + row["corrupted_acc"] * n_wrong) / n
        assert row["train_acc"] == pytest.approx(expected)
        assert 0 <= row["restored_acc"] <= 1
