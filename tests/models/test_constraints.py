"""Training on a sphere: the norm holds in both loop paths and over resume."""

from __future__ import annotations

from functools import partial

import pytest
import small
import torch
from torch import nn

from grokscope.callbacks import Checkpoints
from grokscope.models import FixedNorm, GrokkingModule
from grokscope.models.constraints import total_norm
from grokscope.models.losses import ArgmaxAccuracy, SquaredError
from grokscope.nets import MLP


def module(alpha=0.5, steps_per_call="many", dtype=torch.float32, seed=0):
    net = MLP((14, 16, 7), "relu", seed=seed).to(dtype)
    optimizer = partial(torch.optim.AdamW, lr=1e-2, weight_decay=0.5)
    return GrokkingModule(
        net,
        SquaredError(),
        ArgmaxAccuracy(),
        optimizer,
        steps_per_call=steps_per_call,
        after_step=FixedNorm(alpha),
    )


def initial_norm():
    flat = torch.cat([p.detach().flatten() for p in MLP((14, 16, 7), "relu", seed=0).parameters()])
    return flat.double().norm().item()


def fit(model, folder, epochs=40, callbacks=(), ckpt_path=None, batch_size=None):
    trainer = small.trainer(epochs, callbacks, folder)
    trainer.fit(model, datamodule=small.data(batch_size), ckpt_path=ckpt_path, weights_only=True)
    return model


@pytest.mark.parametrize("batch_size", [None, 7])
@pytest.mark.parametrize("steps_per_call", ["many", "one"])
def test_the_norm_is_alpha_times_the_initial_one_throughout(steps_per_call, batch_size, tmp_path):
    for alpha in (0.5, 3.0):
        made = module(alpha, steps_per_call)
        assert total_norm(made.net).item() == pytest.approx(alpha * initial_norm(), rel=1e-6)
        start = [p.detach().clone() for p in made.net.parameters()]
        fit(made, tmp_path, batch_size=batch_size)
        assert total_norm(made.net).item() == pytest.approx(alpha * initial_norm(), rel=1e-6)
        assert not any(map(torch.equal, start, made.net.parameters()))


def test_both_paths_are_bit_equal(tmp_path):
    many, one = (fit(module(steps_per_call=path), tmp_path) for path in ("many", "one"))
    assert all(map(torch.equal, many.state_dict().values(), one.state_dict().values()))


@pytest.mark.parametrize("steps_per_call", ["many", "one"])
def test_resume_is_bit_equal_and_keeps_the_norm(steps_per_call, tmp_path):
    def callbacks(name):
        return [Checkpoints(tmp_path / name, "every 5")]

    whole = fit(module(steps_per_call=steps_per_call), tmp_path, 17, callbacks("a"))
    fit(module(steps_per_call=steps_per_call), tmp_path, 11, callbacks("b"))
    resumed = module(steps_per_call=steps_per_call, seed=5)  # its own norm is another one
    fit(resumed, tmp_path, 17, callbacks("b"), tmp_path / "b" / "epoch_10.ckpt")
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name
    assert total_norm(resumed.net).item() == pytest.approx(0.5 * initial_norm(), rel=1e-6)


def test_a_step_is_the_published_one(tmp_path):
    """An AdamW step, then every parameter times (norm / new norm)."""
    made, plain = module(0.8, dtype=torch.float64), MLP((14, 16, 7), "relu", seed=0).double()
    for parameter in plain.parameters():
        parameter.data *= 0.8
    norm = sum(p.pow(2).sum().item() for p in plain.parameters()) ** 0.5
    optimizer = torch.optim.AdamW(plain.parameters(), lr=1e-2, weight_decay=0.5)
    data = small.data()
    data.setup()
    targets = torch.eye(7, dtype=torch.float64)[data.train.targets]
    for _ in range(25):
        optimizer.zero_grad()
        nn.functional.mse_loss(plain(data.train.inputs.double()), targets).backward()
        optimizer.step()
        new = sum(p.pow(2).sum().item() for p in plain.parameters()) ** 0.5
        for parameter in plain.parameters():
            parameter.data *= norm / new
    fit(made, tmp_path, 25)
    for ours, theirs in zip(made.net.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-7)


@pytest.mark.refusal
@pytest.mark.parametrize("alpha", [0.0, -1.0, float("nan"), "a"])
def test_a_radius_that_is_not_positive_is_refused(alpha):
    with pytest.raises(ValueError, match=r"^alpha must be a number > 0"):
        FixedNorm(alpha)
