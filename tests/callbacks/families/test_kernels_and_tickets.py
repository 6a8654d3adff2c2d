"""Measures of the ticket and the lazy-to-rich studies: right numbers, resumed as if whole."""

from __future__ import annotations

from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import small
import torch

from grokscope import GOPCallback, Run
from grokscope.callbacks import Checkpoints
from grokscope.callbacks.families.kernels import CommitteeProgress, KernelProgress
from grokscope.callbacks.families.tickets import TicketProgress
from grokscope.callbacks.families.transfer import Transfer, outputs_and_features
from grokscope.data import QuadraticTeacherDataModule, Split
from grokscope.gradients import empirical_ntk
from grokscope.measures.kernels import kernel_distance, label_alignment, ntk_eigenvector
from grokscope.measures.pruning import global_masks, jaccard_distance, magnitude_scores
from grokscope.models import EigenvectorModule, GrokkingModule
from grokscope.models.losses import ArgmaxAccuracy, SquaredError, ThresholdAccuracy
from grokscope.nets import MLP, Centred, Committee

SGD = partial(torch.optim.SGD, lr=5.0)


def committee(centred=False, seed=0):
    net = Committee(8, 10, epsilon=0.3, seed=seed)
    return GrokkingModule(
        Centred(net) if centred else net, SquaredError(), ThresholdAccuracy(), SGD
    )


def regression():
    return QuadraticTeacherDataModule(8, 30, 20)


def fit(module, data, progress, folder, epochs=12, ckpt_path=None):
    callback = GOPCallback((), "every 1", progress=progress, output_dir=folder)
    trainer = small.trainer(epochs, [callback, Checkpoints(folder / "ckpt", "every 5")], folder)
    trainer.fit(module, datamodule=data, ckpt_path=ckpt_path, weights_only=True)
    return Run.open(folder).metrics


def measures():
    return {
        "kernel": KernelProgress("every 3", probe=15),
        "committee": CommitteeProgress("every 3"),
    }


@pytest.mark.parametrize("centred", [False, True])
def test_kernel_and_committee_at_the_first_and_the_last_row(tmp_path, centred):
    module, data = committee(centred), regression()
    first = empirical_ntk(module.net, data_of(data).test.inputs[:15].float())
    metrics = fit(module, data, measures(), tmp_path, epochs=10)
    assert metrics["kernel/epoch"].tolist() == metrics["committee/epoch"].tolist() == [0, 3, 6, 9]
    assert metrics["kernel/distance"][0] == pytest.approx(0.0, abs=1e-9)
    assert np.isnan(metrics["kernel/velocity"][0])
    assert (metrics["kernel/velocity"][1:] > 0).all()
    found = metrics["kernel/alignment"][0]
    assert found == pytest.approx(label_alignment(first, data.test.targets[:15]), rel=1e-5)
    assert metrics["committee/motion"][0] == 0.0
    assert (np.diff(metrics["committee/motion"]) > 0).all()
    parts = sum(metrics[f"committee/{name}"] for name in ("linear", "variance", "misalignment"))
    np.testing.assert_allclose(metrics["committee/test_error"], parts)


def data_of(data):
    data.setup()
    return data


def test_distance_and_velocity_are_between_rows(tmp_path):
    module, kernels = committee(), []

    class Kept(KernelProgress):
        def measure(self, module):
            kernels.append(empirical_ntk(module.net, module.test_batch.split.inputs[:15]))
            return super().measure(module)

    metrics = fit(module, regression(), {"kernel": Kept("every 4", probe=15)}, tmp_path)
    for i, kernel in enumerate(kernels):
        expected = kernel_distance(kernels[0], kernel)
        assert metrics["kernel/distance"][i] == pytest.approx(expected, abs=1e-12)
    step = kernel_distance(kernels[1], kernels[2]) / 4
    assert metrics["kernel/velocity"][2] == pytest.approx(step)


def test_a_resumed_run_has_the_same_kernels_and_errors(tmp_path):
    whole = fit(committee(True), regression(), measures(), tmp_path / "whole")
    fit(committee(True), regression(), measures(), tmp_path / "parts", epochs=7)
    last = tmp_path / "parts" / "ckpt" / "epoch_5.ckpt"
    parts = fit(
        committee(True, seed=3), regression(), measures(), tmp_path / "parts", ckpt_path=last
    )
    for name in whole:
        np.testing.assert_array_equal(parts[name], whole[name], err_msg=name)


def test_masks_of_successive_rows_are_compared_also_after_a_resume(tmp_path):
    def progress():
        return {"ticket": TicketProgress(0.5, fourier=None, schedule="every 2")}

    kept = []

    class Kept(TicketProgress):
        def measure(self, module):
            weights = dict(module.net.named_parameters())
            kept.append(global_masks(magnitude_scores(weights), 0.5))
            return super().measure(module)

    whole = fit(
        small.module(), small.data(), {"ticket": Kept(0.5, None, "every 2")}, tmp_path / "a"
    )
    fit(small.module(), small.data(), progress(), tmp_path / "b", epochs=7)
    last = tmp_path / "b" / "ckpt" / "epoch_5.ckpt"
    parts = fit(small.module(seed=2), small.data(), progress(), tmp_path / "b", ckpt_path=last)
    for name in whole:
        np.testing.assert_array_equal(parts[name], whole[name], err_msg=name)
    flat = [torch.cat([m.flatten() for m in masks.values()]) for masks in kept]
    expected = [jaccard_distance(a, b) for a, b in pairwise(flat)]
    np.testing.assert_allclose(whole["ticket/jaccard_distance"][1:], expected)
    assert whole["ticket/jaccard_distances"].shape == (6, 2)


def test_transfer_reads_out_probes_and_restricts(tmp_path):
    net = MLP((14, 16, 7), "quadratic", seed=0)
    adam = partial(torch.optim.AdamW, lr=1e-2)
    module = GrokkingModule(net, SquaredError(), ArgmaxAccuracy(), adam, extra_splits=["other"])
    data = data_of(small.data())
    few = data.train.targets < 3
    data.extra["other"] = Split(data.train.inputs[few], data.train.targets[few])
    metrics = fit(
        module, data, {"t": Transfer("other", 3, schedule="every 5")}, tmp_path, epochs=61
    )
    assert metrics["t/readout_acc"][-1] == metrics["other_acc"][60]
    assert (metrics["t/classes_acc"] >= metrics["t/readout_acc"]).all()
    assert ((metrics["t/probe_acc"] >= 0) & (metrics["t/probe_acc"] <= 1)).all()
    outputs, features = outputs_and_features(net, data.train.inputs)
    torch.testing.assert_close(net.layers[-1](features), outputs)


@pytest.mark.parametrize("index", [1, 4])
def test_eigenvector_labels_are_those_of_the_fresh_net_also_after_a_resume(tmp_path, index):
    def module():
        net = Committee(8, 10, epsilon=0.3, seed=0)
        return EigenvectorModule(
            index, net=net, loss=SquaredError(), accuracy=ThresholdAccuracy(), optimizer=SGD
        )

    whole = fit(module(), regression(), {}, tmp_path / "whole")
    made, data = module(), regression()
    fit(made, data, {}, tmp_path / "parts", epochs=7)
    everything = torch.cat([data.train.inputs, data.test.inputs]).float()
    labels = ntk_eigenvector(Committee(8, 10, epsilon=0.3, seed=0), everything, index)
    torch.testing.assert_close(made.train_batch.loss_targets, labels[:30].float())
    torch.testing.assert_close(made.test_batch.loss_targets, labels[30:].float())
    last = tmp_path / "parts" / "ckpt" / "epoch_5.ckpt"
    parts = fit(module(), regression(), {}, tmp_path / "parts", ckpt_path=last)
    np.testing.assert_array_equal(parts["train_loss"], whole["train_loss"])


@pytest.mark.refusal
@pytest.mark.parametrize(
    ("progress", "reason"),
    [
        (lambda: CommitteeProgress(), "CommitteeProgress must have a Committee"),
        (lambda: TicketProgress(), "fourier must name layers of the net or be null, got 'embed'"),
        (
            lambda: Transfer("mnist"),
            r"split must be one of model.extra_splits \(none\), got 'mnist'",
        ),
    ],
)
def test_a_net_that_does_not_fit_is_refused(progress, reason, tmp_path):
    with pytest.raises(ValueError, match=reason):
        fit(small.module(), small.data(), {"x": progress()}, tmp_path)


@pytest.mark.refusal
@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (lambda: KernelProgress(split="all"), "split must be one of train, test"),
        (lambda: KernelProgress(probe=1), "probe must be an integer >= 2"),
        (lambda: TicketProgress(pruned=1.0), "pruned must be a number >= 0 and < 1"),
        (lambda: Transfer(n_classes=0), "n_classes must be an integer >= 1"),
    ],
)
def test_bad_arguments_are_refused(call, reason):
    with pytest.raises(ValueError, match=reason):
        call()
