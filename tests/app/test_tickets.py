"""Subnetworks of a run: what is masked, where training begins, and what is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from entry import ROOT, call, train
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig

from grokscope import Run
from grokscope.app import training
from grokscope.app.build import build_model
from grokscope.app.checkpoints import read_checkpoint
from grokscope.app.cli import register_resolvers
from grokscope.app.errors import UserError
from grokscope.measures.pruning import global_masks, magnitude_scores
from grokscope.nets import masks_of

TINY = [
    *("experiment=minegishi_ticket", "data.modulus=7", "net.d_embed=6", "net.d_hidden=5"),
    *("schedule.checkpoint='every 2'", "schedule.metrics=every 1", "trainer.max_epochs=6"),
    *("measures.progress.ticket.schedule=every 2", "model.optimizer.lr=1e-2"),
]
DENSE = ["experiment=minegishi", *TINY[1:]]


@pytest.fixture(scope="module")
def dense(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("dense") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "save_figures", lambda run: None)
        call("train", *DENSE, f"hydra.run.dir={folder}")
    return folder


@pytest.fixture(autouse=True)
def _without_figures(monkeypatch):
    monkeypatch.setattr(training, "save_figures", lambda run: None)


def composed(*overrides: str) -> DictConfig:
    GlobalHydra.instance().clear()
    register_resolvers()
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        return compose("train", [*TINY, "name=x", "paths.run_dir=unused", *overrides])


def ticket(*overrides: str):
    return build_model(composed(*overrides))[1]


def net_of(folder: Path, epoch: int) -> dict[str, torch.Tensor]:
    state = read_checkpoint(folder / "checkpoints" / f"epoch_{epoch}.ckpt")["state_dict"]
    return {name.removeprefix("net."): t for name, t in state.items() if name.startswith("net.")}


def originals(net) -> dict[str, torch.Tensor]:
    names = {
        name: f"{name[: -len('.weight')]}.parametrizations.weight.original"
        for name in masks_of(net)
    }
    return {name: dict(net.named_parameters())[own].detach() for name, own in names.items()}


@pytest.mark.parametrize(("epoch", "pruned"), [(2, 0.6), (6, 0.3)])
def test_the_mask_is_of_the_trained_weights_and_training_begins_at_the_first(dense, epoch, pruned):
    net = ticket(f"ticket.run={dense}", f"ticket.epoch={epoch}", f"ticket.pruned={pruned}").net
    expected = global_masks(magnitude_scores(net_of(dense, epoch)), pruned)
    assert all(torch.equal(masks_of(net)[name], mask) for name, mask in expected.items())
    initial = net_of(dense, 0)
    assert all(torch.equal(weight, initial[name]) for name, weight in originals(net).items())


def test_the_newest_checkpoint_is_the_default(dense):
    ours, theirs = (ticket(f"ticket.run={dense}", *more).net for more in ([], ["ticket.epoch=6"]))
    assert all(torch.equal(m, masks_of(theirs)[n]) for n, m in masks_of(ours).items())


def test_where_training_begins_can_be_chosen(dense):
    run = f"ticket.run={dense}"
    trained = originals(ticket(run, "ticket.reset=trained").net)
    assert all(torch.equal(w, net_of(dense, 6)[n]) for n, w in trained.items())
    ours = originals(ticket(run, "ticket.reset=own", "net.seed=5").net)
    assert not torch.equal(ours["hidden.weight"], net_of(dense, 0)["hidden.weight"])


@pytest.mark.parametrize("method", ["random", "snip", "grasp", "synflow"])
def test_masks_before_training_need_no_run_and_prune_as_much(dense, method):
    alone = ticket("ticket.reset=own", f"ticket.method={method}").net
    of_run = ticket(f"ticket.run={dense}", f"ticket.method={method}").net
    masks = masks_of(alone)
    assert all(torch.equal(mask, masks_of(of_run)[name]) for name, mask in masks.items())
    entries = torch.cat([mask.flatten() for mask in masks.values()])
    n_zero = int((entries == 0).sum())
    assert n_zero >= int(0.6 * len(entries))
    assert n_zero <= int(0.6 * len(entries)) + 40  # ties, such as tokens that never occur


@pytest.mark.parametrize(("control", "order"), [("l1", 1), ("l2", 2)])
def test_a_control_has_the_norm_of_the_ticket_and_no_mask(dense, control, order):
    run = f"ticket.run={dense}"
    net = ticket(run, f"ticket.control={control}").net
    assert not masks_of(net)
    weights = torch.cat([p.detach().flatten() for p in net.parameters()])
    masked = ticket(run).net
    kept = torch.cat([(w * masks_of(masked)[n]).flatten() for n, w in originals(masked).items()])
    norms = [float(torch.linalg.vector_norm(v, order)) for v in (weights, kept)]
    assert norms[0] == pytest.approx(norms[1], rel=1e-5)


def test_a_ticket_trains_resumes_and_is_measured_without_the_dense_run(dense, tmp_path, capsys):
    gone = tmp_path / "dense"
    shutil.copytree(dense, gone)
    settings = [*TINY, f"ticket.run={gone}", "schedule.batch=every 2"]
    settings.append("measures.kinds=[batch,weight,sample]")
    whole = train(tmp_path / "whole", *settings)
    run = train(tmp_path / "parts", *settings, "trainer.max_epochs=3")
    shutil.rmtree(gone)
    call("train", *settings, f"run={run.path}")
    ours, theirs = (
        read_checkpoint(path / "checkpoints" / "epoch_6.ckpt")["state_dict"]
        for path in (run.path, whole.path)
    )
    assert any(".mask" in name for name in ours)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    resumed = Run.open(run.path)
    for name in ("test_loss", "ticket/jaccard_distance", "ticket/l1_norm", "gop/sample/trace"):
        np.testing.assert_array_equal(resumed.metrics[name], whole.metrics[name], err_msg=name)
    assert np.nanmax(whole.metrics["ticket/kept"]) <= 0.41
    call("eval", f"run={run.path}")
    assert f"{whole.metrics['test_acc'][-1]:.4f}" in capsys.readouterr().out
    call("measure", f"run={run.path}", "measures.kinds=[batch]")
    again, first = (Run.open(run.path).measured().metrics, resumed.metrics)
    assert first["gop/batch/epoch"].tolist() == [0, 2, 4]
    assert again["gop/batch/epoch"].tolist() == [0, 2, 4, 6]
    np.testing.assert_array_equal(again["gop/batch/trace"][:3], first["gop/batch/trace"])


@pytest.mark.refusal
@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        ([], "ticket.run must be the folder of the run"),
        (["ticket.reset=own"], "only ticket.reset=own with a method other than magnitude"),
        (["ticket.run=DENSE", "ticket.method=size"], "ticket.method must be one of magnitude"),
        (["ticket.run=DENSE", "ticket.pruned=1.0"], "ticket.pruned must be a number >= 0 and < 1"),
        (
            ["ticket.run=DENSE", "ticket.epoch=3"],
            "must have checkpoints of epochs 0 and 3, got .* with 0, 2",
        ),
        (["ticket.run=nowhere"], "got nowhere with none"),
        (["ticket.run=DENSE", "seed=1"], "data.seed must be 0 as in ticket.run="),
        (["ticket.run=DENSE", "data.train_fraction=0.5"], "data.train_fraction must be 0.4 as in"),
        (["ticket.run=DENSE", "net.d_hidden=4"], "ticket.run must hold this network"),
        (["ticket.run=DENSE", "ticket.control=l3"], "ticket.control must be one of l1, l2"),
        (["ticket.run=DENSE", "+ticket.rate=1"], "ticket.rate is not a setting"),
    ],
)
def test_what_cannot_be_is_refused(dense, overrides, reason):
    settings = [o.replace("DENSE", str(dense)) for o in overrides]
    with pytest.raises(UserError, match=reason):
        ticket(*settings)


@pytest.mark.refusal
def test_a_hostile_checkpoint_is_refused(dense, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(dense, copy)
    (copy / "checkpoints" / "epoch_6.ckpt").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(UserError, match=r"not one of torch.save's archives"):
        ticket(f"ticket.run={copy}")
