from __future__ import annotations

import math
import shutil

import h5py
import numpy as np
import pytest
import torch
from lightning import Callback, LightningModule, Trainer
from small import assert_equal, data, module, state, trainer
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from grokscope import GOPCallback, Run
from grokscope.callbacks import Checkpoints

EVERY = {"metrics": 1, "batch": 1, "weight": 1, "trajectory": 1, "factor": 1}


def fit(epochs=12, batch_size=None, callback=None, model=None, ckpt_path=None):
    torch.manual_seed(1)
    model = model or module()
    done = trainer(epochs, [callback] if callback else [])
    done.fit(model, datamodule=data(batch_size), ckpt_path=ckpt_path, weights_only=True)
    return model, done


def gradient_at_start(batch_size=None) -> torch.Tensor:
    """Gradients of the first pass's mini-batches at fixed weights (the first one is exact)."""
    model, task = module(), data(batch_size)
    task.setup()
    targets = F.one_hot(task.train.targets, 7).float()
    rows = []
    for index in task.batch_rows(0):
        model.zero_grad()
        F.mse_loss(model.net(task.train.inputs[index]), targets[index]).backward()
        rows.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    return torch.stack(rows)


@pytest.mark.parametrize("batch_size", [None, 8])
@pytest.mark.parametrize("steps_per_call", ["many", "one"])
@pytest.mark.parametrize("schedule", [EVERY, None, {"batch": "at 3", "metrics": "every 5"}])
def test_training_is_bit_equal_with_and_without_the_callback(
    batch_size, steps_per_call: str, schedule, tmp_path
) -> None:
    without = fit(batch_size=batch_size, model=module(steps_per_call, 0.3))
    callback = GOPCallback(schedule=schedule, output_dir=tmp_path)
    with_it = fit(batch_size=batch_size, callback=callback, model=module(steps_per_call, 0.3))
    assert_equal(state(*without), state(*with_it))


@pytest.mark.parametrize("batch_size", [None, 8])
def test_the_rows_hold_the_gradient_that_the_step_uses(batch_size, tmp_path) -> None:
    fit(2, batch_size, GOPCallback(schedule=EVERY, output_dir=tmp_path))
    run, expected = Run.open(tmp_path), gradient_at_start(batch_size)
    gradients = TableOf(tmp_path).gradient(0)
    assert gradients.shape == expected.shape
    torch.testing.assert_close(torch.from_numpy(gradients[:1]), expected[:1])
    block = gradients.astype(float).T @ gradients.astype(float) / len(gradients)
    np.testing.assert_allclose(run.gop(0)[3:9, :], block[3:9], rtol=1e-10, atol=1e-18)
    assert run.metrics["gop_trace"][0] == pytest.approx(np.trace(block), rel=1e-10)
    eigenvalues = np.linalg.eigvalsh(block)[::-1][: len(gradients)]
    np.testing.assert_allclose(run.spectrum("batch", 0), eigenvalues, rtol=1e-8)


class TableOf:
    """The gradients of one epoch by plain h5py."""

    def __init__(self, folder) -> None:
        self.path = folder / "gop_full.h5"

    def gradient(self, epoch: int) -> np.ndarray:
        with h5py.File(self.path) as file:
            return file[f"epoch_{epoch}/gradient"][:]


def test_layers_add_up_and_the_weight_kind_has_squared_singular_values(tmp_path) -> None:
    fit(3, callback=GOPCallback(schedule=EVERY, output_dir=tmp_path))
    run = Run.open(tmp_path)
    metrics = run.metrics
    np.testing.assert_allclose(
        metrics["gop/batch/layers/trace"].sum(axis=1), metrics["gop/batch/trace"], rtol=1e-12
    )
    np.testing.assert_allclose(metrics["gop/batch/layers/grad_share"].sum(axis=1), 1.0)
    np.testing.assert_allclose(metrics["gop/weight/trace"], metrics["gop/batch/trace"], rtol=1e-6)
    first = TableOf(tmp_path).gradient(1)[0][: 16 * 14].reshape(16, 14)
    expected = np.linalg.svd(first.astype(float), compute_uv=False) ** 2
    found = run.spectrum("weight", 1, run.layers[0])
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-12 * expected[0])
    np.testing.assert_allclose(
        run.gop(1, "weight", run.layers[0])[:, :], first.astype(float) @ first.T, rtol=1e-6
    )


def test_overlap_is_the_squared_cosine_of_consecutive_gradients(tmp_path) -> None:
    fit(4, callback=GOPCallback(schedule=EVERY, output_dir=tmp_path))
    a, b = (TableOf(tmp_path).gradient(e)[0].astype(float) for e in (1, 2))
    overlap = Run.open(tmp_path).metrics["gop/batch/subspace_overlap"]
    assert math.isnan(overlap[0])
    assert overlap[2] == pytest.approx((a @ b) ** 2 / (a @ a) / (b @ b), rel=1e-6)


def test_losses_are_those_of_the_weights_of_the_row(tmp_path) -> None:
    model, _ = fit(5, callback=GOPCallback(output_dir=tmp_path))
    metrics = Run.open(tmp_path).metrics
    assert metrics["epoch"].tolist() == metrics["step"].tolist() == [0, 1, 2, 3, 4, 5]
    loss, accuracy = model.evaluate(model.test_batch)
    assert metrics["test_loss"][-1] == loss
    assert metrics["test_acc"][-1] == accuracy
    fresh, task = module(), data()
    task.setup()
    with torch.no_grad():
        one_hot = F.one_hot(task.train.targets, 7).float()
        expected = float(F.mse_loss(fresh.net(task.train.inputs), one_hot))
    assert metrics["train_loss"][0] == pytest.approx(expected, rel=1e-6)
    assert np.isnan(metrics["gop_trace"][-1])


@pytest.mark.parametrize("batch_size", [None, 8])
@pytest.mark.parametrize("finished", [True, False])
def test_a_resumed_run_has_the_rows_of_an_uninterrupted_one(
    batch_size, finished: bool, tmp_path
) -> None:
    fit(12, batch_size, GOPCallback(schedule=EVERY, output_dir=tmp_path / "whole"))
    callback = GOPCallback(schedule=EVERY, output_dir=tmp_path / "part")
    _, first = fit(7, batch_size, callback)
    first.save_checkpoint(tmp_path / "last.ckpt", weights_only=False)
    if not finished:  # two more epochs that the checkpoint does not know, then a kill
        shutil.rmtree(tmp_path / "part")
        killed = GOPCallback(schedule=EVERY, output_dir=tmp_path / "part")
        killed.on_train_end = lambda *args: killed._rows.abandon()
        fit(9, batch_size, killed)
    fit(
        12,
        batch_size,
        GOPCallback(schedule=EVERY, output_dir=tmp_path / "part"),
        ckpt_path=tmp_path / "last.ckpt",
    )
    whole, part = (Run.open(tmp_path / name).metrics for name in ("whole", "part"))
    assert set(whole) == set(part)
    for name in whole:
        np.testing.assert_array_equal(whole[name], part[name], err_msg=name)


def test_more_batches_than_memory_are_thinned_evenly(tmp_path) -> None:
    size = sum(p.numel() for p in module().parameters()) * 4
    callback = GOPCallback(schedule=EVERY, output_dir=tmp_path, max_bytes=4 * size)
    fit(1, 2, callback)  # 12 mini-batches, room for 4
    with h5py.File(tmp_path / "gop_full.h5") as file:
        assert file["batch/gradient"].shape[1] == 4
        assert int(file["batch/n_batches"][0]) == 3


def test_no_kinds_records_the_losses_only(tmp_path) -> None:
    fit(3, callback=GOPCallback(kinds=(), output_dir=tmp_path))
    run = Run.open(tmp_path)
    assert set(run.metrics) >= {"epoch", "step", "train_loss", "test_acc"}
    assert not (tmp_path / "gop_full.h5").exists()


# -- anybody's project -----------------------------------------------------------------------


class Plain(LightningModule):
    """An ordinary module with automatic optimization that knows nothing of grokscope."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.net = nn.Linear(3, 2)
        self.head = nn.Linear(2, 1)
        for parameter in self.parameters():
            nn.init.normal_(parameter, generator=generator)

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = F.mse_loss(self.head(torch.tanh(self.net(x))), y)
        self.log("val_loss", loss, on_step=False, on_epoch=True)
        return loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class TwoOptimizers(Plain):
    """One backward pass, then two optimizers (Liu et al. 2022's decoder and representation)."""

    automatic_optimization = False

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = F.mse_loss(self.head(torch.tanh(self.net(x))), y)
        first, second = self.optimizers()
        first.zero_grad()
        second.zero_grad()
        self.manual_backward(loss)
        first.step()
        second.step()
        return loss.detach()

    def configure_optimizers(self):
        return [torch.optim.SGD(part.parameters(), lr=0.1) for part in (self.net, self.head)]


def plain_loader(batch_size: int = 4) -> DataLoader:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(12, 3, generator=generator)
    return DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size)


def plain_fit(model, callback=None, batch_size: int = 4, **settings) -> Trainer:
    done = Trainer(
        **{"max_epochs": 3} | settings,
        accelerator="cpu",
        logger=False,
        callbacks=[callback] if callback else [],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
    )
    done.fit(model, plain_loader(batch_size))
    return done


def plain_gradient(rows: slice) -> torch.Tensor:
    model = Plain()
    x, y = plain_loader().dataset.tensors
    F.mse_loss(model.head(torch.tanh(model.net(x[rows]))), y[rows]).backward()
    return torch.cat([p.grad.flatten() for p in model.parameters()])


@pytest.mark.parametrize("make", [Plain, TwoOptimizers])
def test_any_module_gets_rows_and_is_not_disturbed(make, tmp_path) -> None:
    plain, observed = make(), make()
    plain_fit(plain)
    plain_fit(observed, GOPCallback(schedule=EVERY, output_dir=tmp_path))
    for a, b in zip(plain.parameters(), observed.parameters(), strict=True):
        assert torch.equal(a, b)
    gradients = TableOf(tmp_path).gradient(0)
    assert gradients.shape == (3, 11)
    torch.testing.assert_close(torch.from_numpy(gradients[0]), plain_gradient(slice(0, 4)))
    metrics = Run.open(tmp_path).metrics
    assert metrics["epoch"].tolist() == [0, 1, 2]
    assert metrics["step"].tolist() == ([0, 3, 6] if make is Plain else [0, 6, 12])
    assert np.isfinite(metrics["train_loss"]).all()


def test_logged_values_become_losses(tmp_path) -> None:
    plain_fit(Plain(), GOPCallback(output_dir=tmp_path))
    metrics = Run.open(tmp_path).metrics
    np.testing.assert_allclose(metrics["test_loss"], metrics["train_loss"], rtol=1e-6)


def test_accumulated_gradients_are_read_at_the_step(tmp_path) -> None:
    callback = GOPCallback(schedule=EVERY, output_dir=tmp_path)
    plain_fit(Plain(), callback, accumulate_grad_batches=3)
    gradients = TableOf(tmp_path).gradient(0)
    assert gradients.shape == (1, 11)
    torch.testing.assert_close(torch.from_numpy(gradients[0]), plain_gradient(slice(0, 12)))


def test_the_gradient_is_read_before_clipping(tmp_path) -> None:
    callback = GOPCallback(schedule=EVERY, output_dir=tmp_path)
    plain_fit(Plain(), callback, batch_size=12, gradient_clip_val=1e-3)
    torch.testing.assert_close(
        torch.from_numpy(TableOf(tmp_path).gradient(0)[0]), plain_gradient(slice(0, 12))
    )


def test_a_run_counted_in_steps_needs_no_number_of_epochs(tmp_path) -> None:
    plain_fit(Plain(), GOPCallback(output_dir=tmp_path), max_epochs=-1, max_steps=12)
    assert Run.open(tmp_path).metrics["epoch"].tolist() == [0, 1, 2, 3]


class Exploding(Plain):
    def training_step(self, batch, batch_idx):
        scale = math.inf if self.trainer.current_epoch == 1 else 1.0
        return super().training_step(batch, batch_idx) * 0 + self.head.weight.sum() * scale


@pytest.mark.parametrize("kind", ["batch", "weight", "trajectory"])
def test_a_gradient_that_is_not_finite_gives_a_warning_and_a_row_of_nan(kind, tmp_path) -> None:
    with pytest.warns(UserWarning, match="gradient of layer 'head' is not finite"):
        plain_fit(Exploding(), GOPCallback((kind,), EVERY, output_dir=tmp_path), batch_size=12)
    trace = Run.open(tmp_path).metrics[f"gop/{kind}/trace"]
    assert np.isfinite(trace[0])
    assert np.isnan(trace[1])


def test_on_nonfinite_raise_ends_the_run_as_failed(tmp_path) -> None:
    callback = GOPCallback(schedule=EVERY, output_dir=tmp_path, on_nonfinite="raise")
    with pytest.raises(FloatingPointError, match="'head'"):
        plain_fit(Exploding(), callback, batch_size=12)
    run = Run.open(tmp_path)
    assert run.status == "failed"
    assert run.metrics["epoch"].tolist() == [0, 1]
    assert np.isnan(run.metrics["gop/batch/trace"][1])


@pytest.mark.refusal
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kinds": ("bogus",)}, "kinds must be one of batch, weight, .*, got 'bogus'"),
        ({"schedule": "every 0"}, "schedule.metrics must be"),
        ({"schedule": {"bach": 1}}, "schedule must be one of metrics, batch"),
        ({"top_k": 0}, "top_k must be an integer >= 1, got 0"),
        ({"rank_threshold": 1.5}, "rank_threshold must be"),
        ({"max_bytes": 0}, "max_bytes must be"),
        ({"on_nonfinite": "ignore"}, "on_nonfinite must be one of warn, raise"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GOPCallback(**arguments)


@pytest.mark.refusal
def test_a_schedule_that_never_comes_is_refused_before_training(tmp_path) -> None:
    callback = GOPCallback(schedule={"batch": "at 50"}, output_dir=tmp_path / "run")
    with pytest.raises(
        ValueError, match=r"schedule.batch must have an epoch before max_epochs=12"
    ):
        fit(12, callback=callback)
    assert not (tmp_path / "run").exists()


@pytest.mark.refusal
def test_another_runs_folder_is_refused(tmp_path) -> None:
    fit(2, callback=GOPCallback(output_dir=tmp_path))
    with pytest.raises(FileExistsError, match="output_dir must not hold another run's rows"):
        fit(2, callback=GOPCallback(output_dir=tmp_path))


def test_a_callback_that_fails_before_the_first_pass_changes_nothing_of_a_finished_run(tmp_path):
    saved = Checkpoints(tmp_path / "ckpt", "every 2")
    first = trainer(2, [GOPCallback(output_dir=tmp_path), saved], tmp_path)
    first.fit(module(), datamodule=data())
    names = ("metrics.h5", "gop_full.h5", "gop_layers.h5", "run.json")
    before = [(tmp_path / name).read_bytes() for name in names]

    class Fails(Callback):
        def on_train_start(self, trainer, pl_module):
            raise KeyError("mine")

    callbacks = [GOPCallback(output_dir=tmp_path), saved, Fails()]
    again, last = trainer(4, callbacks, tmp_path), tmp_path / "ckpt" / "last.ckpt"
    with pytest.raises(KeyError, match="mine"):
        again.fit(module(), datamodule=data(), ckpt_path=last)
    assert [(tmp_path / name).read_bytes() for name in names] == before
