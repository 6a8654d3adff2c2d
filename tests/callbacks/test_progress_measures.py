"""Measures of an experiment's own: rows at their epochs, training undisturbed, resume."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest
import small
import torch
from lightning.pytorch.loggers import CSVLogger
from torch import nn

from grokscope import GOPCallback, Run
from grokscope.callbacks import Checkpoints, ProgressMeasure

EPOCHS = 12


class Norms(ProgressMeasure):
    """The norm of each tensor, their mean, and how often it was asked."""

    asked = 0

    def columns(self, module):
        return {"each": (len(list(module.parameters())),), "mean": (), "asked": ()}

    def attributes(self, module):
        return {"names": [name for name, _ in module.named_parameters()]}

    def measure(self, module):
        self.asked += 1
        norms = [float(p.detach().norm()) for p in module.parameters()]
        return {"each": norms, "mean": np.mean(norms), "asked": self.asked}

    def state(self):
        return {"asked": self.asked}

    def restore(self, state):
        self.asked = state["asked"]


class Slow(Norms):
    """Takes its time."""

    def measure(self, module):
        time.sleep(0.02)
        return super().measure(module)


class Rude(Norms):
    """Does everything that a measure may do by mistake."""

    def measure(self, module):
        assert not module.net.training
        assert all(p.grad is None for p in module.parameters())
        inputs, targets = module.training_samples()
        module.net.train()
        outputs = module.net(inputs)
        module.loss(outputs, targets).sum().backward()
        torch.rand(3)
        next(module.parameters()).requires_grad_(False)
        return super().measure(module)


def with_batch_norm():
    module = small.module(dropout=0.2)
    module.net = nn.Sequential(module.net, nn.BatchNorm1d(7))
    return module


def weights(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def fit(module, callbacks, folder, epochs=EPOCHS, ckpt_path=None):
    trainer = small.trainer(epochs, callbacks, folder)
    trainer.fit(module, datamodule=small.data(), ckpt_path=ckpt_path, weights_only=True)
    return weights(module)


def test_rows_of_its_own_schedule_in_a_group_of_its_own(tmp_path):
    module, seen = small.module(), []

    class Spy(Norms):
        def measure(self, module):
            seen.append(next(module.parameters()).detach().norm().item())
            return super().measure(module)

    callback = GOPCallback(progress={"norms": Spy("at 0 3 7")}, output_dir=tmp_path)
    fit(module, [callback], tmp_path)
    run = Run.open(tmp_path)
    assert run.metrics["norms/epoch"].tolist() == [0, 3, 7]
    assert run.metrics["norms/step"].tolist() == [0, 3, 7]
    assert run.metrics["norms/each"].shape == (3, 2)
    np.testing.assert_allclose(run.metrics["norms/each"][:, 0], seen, rtol=1e-6)
    np.testing.assert_allclose(run.metrics["norms/mean"], run.metrics["norms/each"].mean(axis=1))
    assert len(set(seen)) == 3


@pytest.mark.parametrize("steps_per_call", ["many", "one"])
def test_training_is_not_disturbed_by_a_rude_one(tmp_path, steps_per_call):
    def module():
        made = with_batch_norm()
        made.steps_per_call = steps_per_call
        return made

    torch.manual_seed(0)
    plain = fit(module(), [GOPCallback(output_dir=tmp_path / "a")], tmp_path / "a")
    torch.manual_seed(0)
    rude = GOPCallback(progress={"rude": Rude("every 1")}, output_dir=tmp_path / "b")
    measured = fit(module(), [rude], tmp_path / "b")
    for name, tensor in plain.items():
        assert torch.equal(tensor, measured[name]), name
    ours, theirs = Run.open(tmp_path / "b").metrics, Run.open(tmp_path / "a").metrics
    for name in theirs:
        np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)


def test_an_array_that_shares_memory_with_weights_is_kept_as_it_was(tmp_path):
    class Weights(ProgressMeasure):
        def columns(self, module):
            return {"first": tuple(next(module.parameters()).shape)}

        def measure(self, module):
            return {"first": next(module.parameters()).detach().numpy()}

    callback = GOPCallback(progress={"weights": Weights("every 1")}, output_dir=tmp_path)
    end = fit(small.module(), [callback], tmp_path)
    stored = Run.open(tmp_path).metrics["weights/first"]
    assert all((row != stored[0]).any() for row in stored[2:])  # the first rate is 0
    assert (stored[-1] != next(iter(end.values())).numpy()).any()


def test_scalars_reach_the_loggers(tmp_path):
    rows = []

    class Kept(CSVLogger):
        def log_metrics(self, metrics, step=None):
            rows.append((step, metrics))

    callback = GOPCallback(progress={"norms": Norms("every 5")}, output_dir=tmp_path)
    trainer = small.trainer(EPOCHS, [callback], tmp_path)
    trainer.loggers = [Kept(tmp_path)]
    trainer.fit(small.module(), datamodule=small.data())
    logged = {step: row["norms/mean"] for step, row in rows if "norms/mean" in row}
    assert list(logged) == [0, 5, 10]
    assert not any("norms/each" in row for _, row in rows)


def test_what_it_remembers_is_in_checkpoints(tmp_path):
    def callbacks(name):
        folder = tmp_path / name
        progress = {"norms": Norms("every 2")}
        made = GOPCallback(progress=progress, output_dir=folder)
        return [made, Checkpoints(folder / "checkpoints", "every 5")]

    fit(small.module(), callbacks("whole"), tmp_path)
    fit(small.module(), callbacks("parts"), tmp_path, epochs=7)
    last = tmp_path / "parts" / "checkpoints" / "epoch_5.ckpt"
    fit(small.module(seed=3), callbacks("parts"), tmp_path, ckpt_path=last)
    whole, parts = (Run.open(tmp_path / name).metrics for name in ("whole", "parts"))
    assert whole["norms/asked"].tolist() == [1, 2, 3, 4, 5, 6]
    for name in ("norms/asked", "norms/each", "norms/epoch"):
        np.testing.assert_array_equal(whole[name], parts[name])


def test_its_rows_are_in_the_prediction():
    module = small.module()
    callback = GOPCallback(progress={"norms": Norms("every 4")})
    parts = callback.forecast(module, EPOCHS, 1, torch.float32)
    (part,) = [part for part in parts if part.name == "norms"]
    assert (part.rows, part.row_bytes) == (3, 8 * (2 + 2 + 2))
    assert part.setting == "measures.progress.norms.schedule"


@pytest.mark.refusal
@pytest.mark.parametrize(
    ("progress", "reason"),
    [
        ({"gop": Norms()}, "progress must have names of a-z"),
        ({"sample": Norms()}, "progress must have names of a-z"),
        ({"a/b": Norms()}, "progress must have names of a-z"),
        ({"norms": 3}, "progress.norms must be a ProgressMeasure, got 3"),
        ({"norms": Norms("adaptive")}, "progress.norms.schedule must name epochs"),
    ],
)
def test_what_cannot_be_is_refused(progress, reason):
    with pytest.raises(ValueError, match=reason):
        GOPCallback(progress=progress)


@pytest.mark.refusal
def test_a_schedule_that_never_comes_is_refused(tmp_path):
    callback = GOPCallback(progress={"norms": Norms("at 50")}, output_dir=tmp_path)
    with pytest.raises(ValueError, match=r"progress\.norms\.schedule must have an epoch before"):
        fit(small.module(), [callback], tmp_path)


def test_the_time_of_each_measure_is_stored(tmp_path):
    progress = {"slow": Slow("every 2"), "quick": Norms("every 2")}
    callback = GOPCallback(("batch", "sample"), output_dir=tmp_path, progress=progress)
    small.trainer(EPOCHS, [callback], tmp_path).fit(small.module(), small.data())
    info = json.loads((tmp_path / "run.json").read_text())
    taken = info["seconds_by_measure"]
    assert {"metrics", "gradients", "batch", "sample", "slow", "quick", "rows"} == set(taken)
    assert taken["slow"] >= EPOCHS / 2 * 0.02 > taken["quick"]
    assert sum(taken.values()) == pytest.approx(info["measure_seconds"], abs=0.005)
