"""The kinds ``sample`` and ``input`` beside a run."""

from __future__ import annotations

import socket
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning import LightningModule, Trainer
from small import assert_equal, data, module, state, trainer
from torch import multiprocessing, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from grokscope import GOPCallback, Run
from grokscope.callbacks.probe import Probe
from grokscope.measures.gop import input_gop

KINDS = ("batch", "sample", "input")
EVERY = {"metrics": 1, "batch": 1, "sample": 1, "input": 2, "factor": 1}


def callback(folder, **settings) -> GOPCallback:
    return GOPCallback(KINDS, EVERY, output_dir=folder, **settings)


def fit(epochs=6, observer=None, model=None, ckpt_path=None, batch_size=None):
    torch.manual_seed(1)
    model = model or module()
    done = trainer(epochs, [observer] if observer else [])
    done.fit(model, datamodule=data(batch_size), ckpt_path=ckpt_path, weights_only=True)
    return model, done


def rows_at_start(samples=slice(None)) -> torch.Tensor:
    """Per-sample gradients before the first step, one at a time."""
    model, task = module(), data()
    task.setup()
    targets, rows = F.one_hot(task.train.targets, 7).float()[samples], []
    for x, y in zip(task.train.inputs[samples], targets, strict=True):
        loss = model.loss(model.net(x[None]), y[None]).sum()
        found = torch.autograd.grad(loss, list(model.net.parameters()))
        rows.append(torch.cat([g.flatten() for g in found]).double())
    return torch.stack(rows)


def spectrum(rows: torch.Tensor) -> np.ndarray:
    return torch.linalg.svdvals(rows).square().numpy() / len(rows)


@pytest.mark.parametrize("batch_size", [None, 8])
@pytest.mark.parametrize("steps_per_call", ["many", "one"])
def test_training_is_bit_equal_with_and_without_the_probe(
    batch_size, steps_per_call: str, tmp_path
) -> None:
    without = fit(model=module(steps_per_call, 0.3), batch_size=batch_size)
    observer = callback(tmp_path)
    with_it = fit(observer=observer, model=module(steps_per_call, 0.3), batch_size=batch_size)
    assert_equal(state(*without), state(*with_it))


def test_sample_rows_are_those_of_the_gradients_one_at_a_time(tmp_path) -> None:
    fit(observer=callback(tmp_path))
    run, rows = Run.open(tmp_path), rows_at_start()
    found, true = run.spectrum("sample", 0), spectrum(rows)
    np.testing.assert_allclose(found, true[: len(found)], atol=1e-6 * true[0])
    metrics, mean = run.metrics, rows.mean(0)
    assert metrics["gop/sample/trace"][0] == pytest.approx(true.sum(), rel=1e-5)
    assert metrics["gop/sample/grad_norm"][0] == pytest.approx(float(mean.norm()), rel=1e-5)
    noise = (rows - mean).square().sum() / len(rows) / mean.square().sum()
    assert metrics["gop/sample/gradient_noise_scale"][0] == pytest.approx(float(noise), rel=1e-5)
    coherence = mean.square().sum() * len(rows) / rows.square().sum()
    found = metrics["gop/sample/gradient_coherence"][0]
    assert found == pytest.approx(float(coherence), rel=1e-5)
    assert np.isnan(metrics["gop/sample/residual"]).all()
    np.testing.assert_allclose(
        metrics["gop/sample/layers/trace"].sum(1), metrics["gop/sample/trace"], rtol=1e-9
    )
    overlap = metrics["gop/sample/subspace_overlap"]
    assert np.isnan(overlap[0])
    assert ((overlap[1:] > 0) & (overlap[1:] <= 1 + 1e-6)).all()
    assert run.metrics["gop/sample/epoch"].tolist() == [0, 1, 2, 3, 4, 5]


def test_the_mean_over_the_whole_set_is_the_gradient_that_the_step_uses(tmp_path) -> None:
    fit(observer=callback(tmp_path))
    metrics = Run.open(tmp_path).metrics
    np.testing.assert_allclose(
        metrics["gop/sample/grad_norm"], metrics["gop/batch/grad_norm"], rtol=1e-5
    )
    layers = "layers/grad_norm"
    np.testing.assert_allclose(
        metrics[f"gop/sample/{layers}"], metrics[f"gop/batch/{layers}"], rtol=1e-4
    )


def test_the_covariance_has_no_mean_in_it(tmp_path) -> None:
    fit(1, observer=callback(tmp_path, centered=True))
    rows = rows_at_start()
    true = spectrum(rows - rows.mean(0))
    found = Run.open(tmp_path).spectrum("sample", 0)
    np.testing.assert_allclose(found, true[: len(found)], atol=1e-6 * true[0])


def test_input_rows_and_the_feature_ansatz(tmp_path) -> None:
    model, _ = fit(observer=callback(tmp_path))
    run, start = Run.open(tmp_path), module()
    inputs, _ = model.training_samples()
    true = input_gop(start.net, inputs)
    np.testing.assert_allclose(run.spectrum("input", 0), true.eigenvalues, rtol=1e-5, atol=1e-12)
    metrics, weight = run.metrics, start.net.state_dict()
    first = next(iter(weight.values())).double()
    product, dense = first.T @ first, true.dense()
    cosine = float((product * dense).sum() / product.norm() / dense.norm())
    assert metrics["gop/input/layers/feature_ansatz"][0, 0] == pytest.approx(cosine, rel=1e-5)
    assert metrics["gop/input/epoch"].tolist() == [0, 2, 4]
    roots = metrics["gop/input/layers/feature_ansatz_root"]
    assert ((roots > 0) & (roots <= 1)).all()


def test_a_resumed_run_has_the_rows_of_an_uninterrupted_one(tmp_path) -> None:
    fit(8, observer=callback(tmp_path / "whole"))
    _, stopped = fit(4, observer=callback(tmp_path / "parts"))
    stopped.save_checkpoint(tmp_path / "half.ckpt")
    fit(8, observer=callback(tmp_path / "parts"), ckpt_path=tmp_path / "half.ckpt")
    whole, parts = (Run.open(tmp_path / name).metrics for name in ("whole", "parts"))
    for name in whole:
        if name.startswith(("gop/sample", "gop/input")):
            np.testing.assert_array_equal(whole[name], parts[name], err_msg=name)


@pytest.mark.parametrize("given", [10, "pair", "probe"])
def test_the_probe_may_be_a_number_a_pair_or_whole(given, tmp_path) -> None:
    task = data()
    task.setup()
    inputs, targets = task.train.inputs, F.one_hot(task.train.targets, 7).float()
    rows = torch.linspace(0, len(inputs) - 1, 10).round().long()
    pair = inputs[rows], targets[rows]
    squared = lambda o, t: (o - t).square().mean(1)  # noqa: E731
    probes = {"pair": pair, "probe": Probe(*pair, squared, net="net")}
    fit(1, observer=callback(tmp_path, probe=probes.get(given, given)))
    found, true = Run.open(tmp_path).spectrum("sample", 0), spectrum(rows_at_start(rows))
    np.testing.assert_allclose(found, true, rtol=1e-4, atol=1e-6 * true[0])


class Plain(LightningModule):
    """A module that knows nothing of grokscope."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Dropout(0.2), nn.Linear(5, 2))

    def forward(self, x):
        return self.body(x)

    def training_step(self, batch, batch_idx):
        return F.mse_loss(self(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def plain_data() -> TensorDataset:
    generator = torch.Generator().manual_seed(0)
    return TensorDataset(*(torch.randn(24, size, generator=generator) for size in (3, 2)))


def plain_fit(folder: Path, **settings) -> None:
    torch.manual_seed(0)
    probe = Probe(*plain_data().tensors, loss=lambda o, t: (o - t).square().mean(1))
    observer = callback(folder, **({"probe": probe} | settings))
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    done = Trainer(
        max_epochs=2, accelerator="cpu", callbacks=[observer], enable_model_summary=False,
        default_root_dir=folder, **quiet,
    )  # fmt: skip
    done.fit(Plain(), DataLoader(plain_data(), batch_size=6))


def test_a_plain_lightning_module_with_a_probe(tmp_path) -> None:
    plain_fit(tmp_path)
    run = Run.open(tmp_path)
    assert list(run.layers) == ["body.0", "body.3"]
    assert len(run.spectrum("sample", 1)) == 24
    assert np.isfinite(run.metrics["gop/input/layers/feature_ansatz"]).all()


@pytest.mark.refusal
def test_what_is_missing_is_said_before_training(tmp_path) -> None:
    with pytest.raises(ValueError, match=r"probe must be .* Plain, which has no 'training_samp"):
        plain_fit(tmp_path, probe=None)
    with pytest.raises(ValueError, match=r"probe must be .* 'loss'"):
        plain_fit(tmp_path, probe=plain_data().tensors)
    assert not (tmp_path / "metrics.h5").exists()


@pytest.mark.refusal
@pytest.mark.parametrize("probe", [0, -3, "all", (torch.ones(2),), 1.5])
def test_a_probe_that_is_none_is_refused(probe) -> None:
    with pytest.raises(ValueError, match="probe must be"):
        GOPCallback(("sample",), probe=probe)


def worker(rank: int, port: int, folder: str) -> None:
    import os

    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    os.environ |= {"LOCAL_RANK": str(rank), "NODE_RANK": "0", "RANK": str(rank)}
    torch.set_num_threads(1)
    plain_ddp(Path(folder), 2)


def plain_ddp(folder: Path, devices: int) -> None:
    torch.manual_seed(0)
    probe = Probe(*(t.double() for t in plain_data().tensors), loss=squared)
    observer = GOPCallback(("batch", "sample", "input"), 1, output_dir=folder, probe=probe)
    done = Trainer(
        max_epochs=2, accelerator="cpu", devices=devices, callbacks=[observer], logger=False,
        strategy="ddp" if devices > 1 else "auto", enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=folder,
    )  # fmt: skip
    tensors = [t.double() for t in plain_data().tensors]
    batch = 24 // devices
    model = Plain().double()
    model.body[2].p = 0.0
    done.fit(model, DataLoader(TensorDataset(*tensors), batch_size=batch))


def squared(outputs, targets):
    return (outputs - targets).square().mean(1)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.mark.slow
def test_two_processes_have_the_rows_of_one(tmp_path) -> None:
    multiprocessing.spawn(worker, (free_port(), str(tmp_path / "two")), nprocs=2)
    plain_ddp(tmp_path / "one", 1)
    one, two = (Run.open(tmp_path / name) for name in ("one", "two"))
    for epoch in (0, 1):
        true = one.spectrum("sample", epoch)
        found = two.spectrum("sample", epoch)
        np.testing.assert_allclose(found, true, rtol=1e-10, atol=1e-10 * true[0])
