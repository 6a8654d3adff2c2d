"""Every measure once more in float64: the difference is rounding, and training does not notice."""

from __future__ import annotations

import numpy as np
import pytest
import small
import torch
from lightning import LightningModule
from torch import nn

from grokscope import GOPCallback, Run
from grokscope.callbacks.families.kernels import KernelProgress
from grokscope.callbacks.families.movement import WeightMovement
from grokscope.callbacks.families.norm import NetNorm
from grokscope.callbacks.families.numerics import NumericsGuard

EPOCHS = 6
KINDS = ("batch", "weight", "sample", "input", "trajectory")


def observer(folder, kinds=KINDS, noise_floor=True):
    progress = {
        "norm": NetNorm("every 1"),
        "ntk": KernelProgress("every 1", probe=5),
        "weights": WeightMovement("every 1"),
        "numerics": NumericsGuard("every 1"),
    }
    return GOPCallback(
        kinds,
        output_dir=folder,
        probe=8,
        progress=progress,
        noise_floor=noise_floor,
        schedule={"sample": "log 5", "input": "log 5"},
    )


def fitted(callbacks, folder, batch_size=None, double=False):
    module = small.module()
    trainer = small.trainer(EPOCHS, callbacks, folder)
    if double:
        module.double()
    trainer.fit(module, small.data(batch_size))
    return module


@pytest.fixture(scope="module")
def metrics(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    fitted([observer(folder)], folder)
    return Run.open(folder).metrics


@pytest.mark.parametrize(
    "name", ["ntk/norm", "ntk/alignment", "ntk/velocity", "numerics/nlm_cosine"]
)
def test_the_noise_of_a_float32_run_is_small_and_not_zero(metrics, name):
    values, noise = metrics[name][1:], metrics[f"{name}_noise"][1:]
    assert np.isfinite(noise).all()
    assert 0 < np.abs(noise).max() < 1e-4 * max(1, np.abs(values).max())


def test_what_is_computed_in_float64_anyway_has_none(metrics):
    for name in ("norm/norm", "weights/norms", "weights/distance"):
        assert not metrics[f"{name}_noise"].any()


@pytest.mark.parametrize("kind", ["batch", "weight", "sample", "input"])
def test_gradient_outer_products_differ_by_rounding(metrics, kind):
    noise = np.abs(metrics[f"noise_floor/{kind}_trace"])
    trace = metrics[f"gop/{kind}/trace"]
    assert np.isfinite(noise).all()
    assert 0 < noise.max() < 1e-4 * trace.max()


def test_nothing_is_noise_in_a_float64_run(tmp_path):
    fitted([observer(tmp_path)], tmp_path, double=True)
    found = Run.open(tmp_path).metrics
    noise = [n for n in found if n.endswith("_noise") or n.startswith("noise_floor/")]
    noise = [n for n in noise if not n.endswith(("/epoch", "/step"))]
    assert len(noise) > 50
    for name in noise:
        assert not np.nan_to_num(found[name]).any(), name


def test_the_float64_value_is_that_of_a_float64_net(metrics):
    """At the initial weights, which are the same float32 numbers."""
    module, data = small.module().double(), small.data()
    data.prepare_data()
    data.setup("fit")
    module.prepare_data_on_device(data)
    module.gradient_step()
    exact = sum(float(p.grad.square().sum()) for p in module.parameters())
    value, noise = metrics["gop/batch/trace"][0], metrics["noise_floor/batch_trace"][0]
    assert value - noise == pytest.approx(exact, rel=1e-12)


@pytest.mark.parametrize("batch_size", [None, 8])
def test_training_is_bit_equal(tmp_path, batch_size):
    watched = fitted([observer(tmp_path)], tmp_path, batch_size)
    alone = fitted([], tmp_path, batch_size)
    for a, b in zip(watched.parameters(), alone.parameters(), strict=True):
        assert a.dtype == torch.float32
        assert torch.equal(a, b)


@pytest.mark.refusal
def test_a_module_whose_data_are_its_own_is_refused(tmp_path):
    module = LightningModule()
    module.net = nn.Linear(2, 2)
    with pytest.raises(ValueError, match="noise_floor must be false for a module of yours"):
        GOPCallback(noise_floor=True).check_module(module)
    with pytest.raises(ValueError, match="noise_floor must be true or false"):
        GOPCallback(noise_floor="yes")
