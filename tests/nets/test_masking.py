"""Masked nets compute with θ ⊙ m, everywhere, and train and measure like any other."""

from __future__ import annotations

import numpy as np
import pytest
import small
import torch
from torch import nn
from torch.nn import functional as F

from grokscope import GOPCallback, Run
from grokscope.callbacks import Checkpoints
from grokscope.gradients import capture, empirical_ntk
from grokscope.nets import MLP, BareTransformer, SummedEmbeddingMLP, mask_weights, masks_of

TOKENS = torch.cartesian_prod(torch.arange(5), torch.arange(5))
NETS = {
    "mlp": lambda: MLP((10, 8, 6, 3), bias=True, seed=0),
    "pairs": lambda: SummedEmbeddingMLP(5, 7, 6, seed=0),
    "transformer": lambda: BareTransformer(5, 2, 8, 2, 4, 8, seed=0),
}


def inputs_of(name):
    return TOKENS if name != "mlp" else F.one_hot(TOKENS, 5).flatten(1).double()


def masks_for(net, seed=0):
    g = torch.Generator().manual_seed(seed)
    named = [(n, p) for n, p in net.named_parameters() if p.dim() > 1]
    return {n: (torch.rand(p.shape, generator=g) < 0.6).to(p) for n, p in named}


def masked_and_zeroed(name):
    """The masked net, and a plain one whose masked entries are zero."""
    net, plain = NETS[name]().double(), NETS[name]().double()
    masks = masks_for(net)
    with torch.no_grad():
        for n, p in plain.named_parameters():
            p.mul_(masks.get(n, torch.ones(())))
    return mask_weights(net, masks), plain, masks


@pytest.mark.parametrize("name", NETS)
def test_a_masked_net_is_the_net_without_these_weights(name):
    net, plain, masks = masked_and_zeroed(name)
    x = inputs_of(name)
    assert torch.equal(net(x), plain(x))
    if hasattr(net, "share") and (plan := net.share(x)) is not None:
        torch.testing.assert_close(net.forward_shared(plan), plain(x))
    assert {n: m.tolist() for n, m in masks_of(net).items()} == {
        n: m.tolist() for n, m in masks.items()
    }


@pytest.mark.parametrize("name", NETS)
def test_masked_entries_have_no_gradient_and_the_others_the_plain_one(name):
    net, plain, masks = masked_and_zeroed(name)
    x = inputs_of(name)
    for one in (net, plain):
        one(x).sin().sum().backward()
    theirs = {n: p.grad * masks.get(n, torch.ones(())) for n, p in plain.named_parameters()}
    ours = dict(net.named_parameters())
    for n, gradient in theirs.items():
        owner, _, last = n.rpartition(".")
        found = ours.get(n, ours.get(f"{owner}.parametrizations.{last}.original"))
        torch.testing.assert_close(found.grad, gradient, rtol=1e-12, atol=1e-12)


def test_a_masked_net_trains_like_the_released_code():
    """Twin: an explicit product with the mask, AdamW over all entries."""
    net = SummedEmbeddingMLP(5, 7, 6, seed=0).double()
    masks = masks_for(net)
    twin = {n: p.detach().clone().requires_grad_() for n, p in net.named_parameters()}
    mask_weights(net, masks)
    labels = TOKENS.sum(1) % 5
    settings = {"lr": 1e-2, "weight_decay": 1.0, "betas": (0.9, 0.98)}
    ours = torch.optim.AdamW(net.parameters(), **settings)
    theirs = torch.optim.AdamW(twin.values(), **settings)
    for _ in range(20):
        w = {n: p * masks[n] for n, p in twin.items()}
        hidden = torch.relu(w["embed.weight"][TOKENS].sum(1) @ w["hidden.weight"].T)
        logits = hidden @ w["output.weight"].T @ w["unembed.weight"].T
        for optimizer, outputs in ((ours, net(TOKENS)), (theirs, logits)):
            optimizer.zero_grad()
            F.cross_entropy(outputs, labels).backward()
            optimizer.step()
    for name, parameter in twin.items():
        found = net.get_submodule(name.rpartition(".")[0]).parametrizations.weight.original
        torch.testing.assert_close(found, parameter, rtol=1e-10, atol=1e-10)
        pruned = masks[name] == 0
        start = dict(SummedEmbeddingMLP(5, 7, 6, seed=0).double().named_parameters())[name]
        torch.testing.assert_close(found[pruned], start[pruned] * (1 - 1e-2) ** 20)


@pytest.mark.parametrize("name", NETS)
def test_per_sample_gradients_of_masked_nets_are_exact(name):
    net, _, _ = masked_and_zeroed(name)
    x = inputs_of(name)
    labels = TOKENS.sum(1) % 3

    def loss(outputs, targets):
        return F.cross_entropy(outputs, targets, reduction="none")

    parameters = list(net.parameters())
    rows = [
        torch.cat([g.flatten() for g in torch.autograd.grad(value, parameters)])
        for value in (loss(net(x[i : i + 1]), labels[i : i + 1])[0] for i in range(len(x)))
    ]
    A = torch.stack(rows)
    torch.testing.assert_close(capture(net, loss, x, labels).gram(), A @ A.T)
    J = torch.stack(
        [
            torch.cat(
                [g.flatten() for g in torch.autograd.grad(net(x[i : i + 1])[0, c], parameters)]
            )
            for i in range(4)
            for c in range(net(x[:1]).shape[1])
        ]
    )
    torch.testing.assert_close(empirical_ntk(net, x[:4], "full"), J @ J.T)


def masked_module(seed=0, steps_per_call="many"):
    module = small.module(steps_per_call, seed=seed)
    mask_weights(module.net, masks_for(module.net, seed))
    return module


def fit(module, folder, epochs=12, ckpt_path=None):
    kinds = ("batch", "weight", "trajectory", "sample", "input")
    callback = GOPCallback(kinds, "every 2", probe=5, output_dir=folder)
    callbacks = [callback, Checkpoints(folder / "checkpoints", "every 4")]
    trainer = small.trainer(epochs, callbacks, folder)
    trainer.fit(module, datamodule=small.data(), ckpt_path=ckpt_path, weights_only=True)
    return small.state(module, trainer)


def test_the_callback_measures_a_masked_net_and_it_resumes(tmp_path):
    whole = fit(masked_module(), tmp_path / "whole")
    one = fit(masked_module(steps_per_call="one"), tmp_path / "one")
    small.assert_equal(whole, one)
    fit(masked_module(), tmp_path / "parts", epochs=7)
    last = tmp_path / "parts" / "checkpoints" / "epoch_4.ckpt"
    other = masked_module(seed=1)  # its weights and masks are replaced
    small.assert_equal(whole, fit(other, tmp_path / "parts", ckpt_path=last))
    ours, theirs = (Run.open(tmp_path / name).metrics for name in ("parts", "whole"))
    for name in theirs:
        np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)
    assert (theirs["gop/sample/trace"] > 0).all()
    assert (theirs["gop/batch/trace"] > 0).all()


@pytest.mark.refusal
@pytest.mark.parametrize(
    ("masks", "reason"),
    [
        (
            {"weight": torch.ones(2, 2)},
            r"masks must be of weight \(2, 3\), bias \(2,\), got weight",
        ),
        ({"other": torch.ones(2, 3)}, r"got other \(2, 3\)"),
        (
            {"weight": torch.full((2, 3), 0.5)},
            "masks must hold zeros and ones, got others in weight",
        ),
    ],
)
def test_a_mask_that_does_not_fit_is_refused(masks, reason):
    with pytest.raises(ValueError, match=reason):
        mask_weights(nn.Linear(3, 2), masks)
