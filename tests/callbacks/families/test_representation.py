"""What the toy's measures record, and the toy itself beside the released loop."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import small
import torch

from grokscope import GOPCallback, Run
from grokscope.callbacks.families.norm import NetNorm
from grokscope.callbacks.families.representation import Representation
from grokscope.data import ToyGroupDataModule
from grokscope.measures.representation import parallelograms, representation_quality_index
from grokscope.models import GrokkingModule, MeanAbsPenaltyModule
from grokscope.models.losses import SquaredError
from grokscope.models.templates import NearestTemplateAccuracy
from grokscope.nets import EmbeddingDecoder

SETTINGS = {"embedding": {"lr": 1e-3, "weight_decay": 0.0}}


def net(task, **settings):
    if task == "permutations":
        made = EmbeddingDecoder(6, 9, "multiply", embed_range=0.1, **settings)
    else:
        made = EmbeddingDecoder(10, **settings)
    return made.double()


def module(task="addition", size=10, kind=GrokkingModule, weight_decay=0.0, **settings):
    optimizer = partial(torch.optim.AdamW, lr=1e-4, weight_decay=weight_decay)
    accuracy = NearestTemplateAccuracy(task, size, 30, 0)
    return kind(
        net=net(task, seed=0),
        loss=SquaredError(),
        accuracy=accuracy,
        optimizer=optimizer,
        parameter_settings=SETTINGS,
        **settings,
    )


def fit(model, data, folder, epochs, schedule="every 5"):
    progress = {"representation": Representation(schedule), "net": NetNorm(schedule)}
    callback = GOPCallback((), progress=progress, output_dir=folder)
    small.trainer(epochs, [callback], folder).fit(model, datamodule=data)
    return Run.open(folder).metrics


def test_a_run_is_the_released_loop_with_its_two_optimizers(tmp_path):
    data, made, plain = ToyGroupDataModule(), module(), net("addition", seed=0)
    data.setup()
    inputs, targets = data.train.inputs, data.train.targets.double()
    reprs = torch.optim.AdamW({plain.embedding.weight}, lr=1e-3, weight_decay=0.0)
    dec = torch.optim.AdamW(plain.decoder.parameters(), lr=1e-4, weight_decay=0.0)
    rqis = []
    found = parallelograms(data.answers.numpy())
    for _ in range(20):
        table = plain.embedding.weight.detach().numpy()
        rqis.append(representation_quality_index(table, data.pairs.numpy(), found))
        reprs.zero_grad()
        dec.zero_grad()
        torch.mean((plain(inputs) - targets) ** 2).backward()
        reprs.step()
        dec.step()
    metrics = fit(made, data, tmp_path, 20, "every 1")
    for ours, theirs in zip(made.net.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)
    np.testing.assert_array_equal(metrics["representation/rqi"], rqis)
    assert metrics["representation/embeddings"].shape == (20, 10, 1)


def test_the_recorded_numbers_belong_together(tmp_path):
    data = ToyGroupDataModule(n_train=30)
    metrics = fit(module(), data, tmp_path, 11)
    group = {name: metrics[f"representation/{name}"] for name in COLUMNS}
    assert (group["predicted_accuracy"] >= 30 / 55 - 1e-12).all()
    assert (group["predicted_accuracy"] <= 1).all()
    assert (group["rqi"] <= 1).all()
    assert len(set(group["ideal_rqi"])) == len(set(group["ideal_accuracy"])) == 1
    assert group["ideal_rqi"][0] > 0.5
    np.testing.assert_allclose(group["effective_dimension"], np.exp(group["entropy"]))
    epochs = np.isin(metrics["epoch"], metrics["representation/epoch"])
    both = 30 * metrics["train_acc"][epochs] + 25 * metrics["test_acc"][epochs]
    np.testing.assert_allclose(group["accuracy"], both / 55)
    flat = torch.cat([p.flatten() for p in net("addition", seed=0).parameters()])
    assert metrics["net/norm"][0] == pytest.approx(flat.norm().item(), rel=1e-12)


COLUMNS = (
    *("rqi", "accuracy", "predicted_accuracy", "ideal_rqi", "ideal_accuracy"),
    *("entropy", "effective_dimension", "effective_loss"),
)


def test_matrix_embeddings_have_no_linear_theory(tmp_path):
    data = ToyGroupDataModule("permutations", 3, 24)
    metrics = fit(module("permutations", 3), data, tmp_path, 6)
    assert np.isnan(metrics["representation/effective_loss"]).all()
    assert np.isfinite(metrics["representation/rqi"]).all()
    assert metrics["representation/embeddings"].shape == (2, 6, 9)


def test_the_penalty_is_that_of_the_released_loop(tmp_path):
    data = ToyGroupDataModule("permutations", 3, 24)
    data.setup()
    plain = net("permutations", seed=0)
    latent = plain.embedding.weight
    first = torch.optim.AdamW({latent}, lr=1e-3, weight_decay=0.0)
    second = torch.optim.AdamW(plain.decoder.parameters(), lr=1e-4, weight_decay=2.0)
    for _ in range(15):
        first.zero_grad()
        second.zero_grad()
        error = torch.mean((plain(data.train.inputs) - data.train.targets.double()) ** 2)
        (error + 0.5 * torch.mean(torch.abs(latent))).backward()
        first.step()
        second.step()
    settings = {"kind": MeanAbsPenaltyModule, "weight_decay": 2.0, "mean_abs": {"embedding": 0.5}}
    made = module("permutations", 3, **settings)
    metrics = fit(made, data, tmp_path, 15)
    for ours, theirs in zip(made.net.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11)
    assert metrics["train_loss"][-1] == pytest.approx(
        torch.mean((plain(data.train.inputs) - data.train.targets) ** 2).item()
    )


@pytest.mark.refusal
@pytest.mark.parametrize(
    ("mean_abs", "match"),
    [
        ({"embedding": -1.0}, r"mean_abs\.embedding must be a number >= 0"),
        ({"head": 1.0}, r"mean_abs\.head must match a parameter, got embedding\.weight"),
    ],
)
def test_a_penalty_that_cannot_be_is_refused(mean_abs, match):
    with pytest.raises(ValueError, match=match):
        module(kind=MeanAbsPenaltyModule, mean_abs=mean_abs)
