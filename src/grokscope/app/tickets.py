"""Subnetworks of another run: the ``ticket`` of a configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from grokscope.app.checkpoints import check_architecture, read_checkpoint
from grokscope.app.errors import UserError, leaves, unknown_key
from grokscope.app.stored import read_settings, value_at
from grokscope.data import TensorDataModule
from grokscope.measures.pruning import (
    global_masks,
    grasp_scores,
    magnitude_scores,
    random_scores,
    snip_scores,
    synflow_scores,
)
from grokscope.models import GrokkingModule
from grokscope.nets.masking import mask_weights
from grokscope.store.checkpoint_files import scheduled
from grokscope.validation import require_choice, require_float, require_int

METHODS = ("magnitude", "random", "snip", "grasp", "synflow")
RESETS = ("initial", "trained", "own")
CONTROLS = {"l1": 1, "l2": 2}
RUNLESS = {(method, "own") for method in METHODS[1:]}
SETTINGS: dict[str, Any] = {
    "run": None,
    "epoch": None,
    "method": "magnitude",
    "pruned": 0.6,
    "reset": "initial",
    "control": None,
}
MAY_DIFFER = ("data.data_dir", "data.download", "data.batch_size", "data.n_test")
Tensors = dict[str, Tensor]


def apply_ticket(
    config: DictConfig, data: TensorDataModule, model: GrokkingModule, weights_follow: bool = False
) -> None:
    """Mask the net of a run whose configuration has a ``ticket``; others stay as they are.

    Settings: ``run``, the folder of a dense run, finished or going on; ``epoch``, of one of its
    checkpoints (the newest); ``method``, how the mask is found: ``magnitude`` of the weights at
    ``epoch``, or before any training ``random``, ``snip``, ``grasp``, ``synflow``; ``pruned``, the
    fraction of all entries of matrices that is masked; ``reset``, where training begins: at the
    ``initial`` weights of the run, at those of ``epoch`` (``trained``), or at this run's ``own``;
    ``control``: ``l1`` or ``l2`` masks nothing, and scales the weights to the ticket's norm.

    Args:
        config: The whole configuration.
        data: The task; read by snip, grasp and synflow.
        model: With the net as its seed gives it.
        weights_follow: Whether weights and masks will be loaded from a checkpoint. Then nothing is
            read, and the masks are ones for the time being.

    Raises:
        UserError: For a wrong setting, or a run that is not of this network and task.
    """
    ticket = _settings(config, weights_follow)
    if ticket is None:
        return
    matrices = {n: p for n, p in model.net.named_parameters() if p.dim() > 1}
    if weights_follow:
        if ticket["control"] is None:
            mask_weights(model.net, {n: torch.ones_like(p) for n, p in matrices.items()})
        return
    initial, trained = _weights(config, ticket, model)
    if ticket["reset"] != "own":
        _set(model.net, initial if ticket["reset"] == "initial" else trained)
    scored = _scored(ticket["method"], initial, trained, model.net)
    scores = _scores(ticket["method"], scored, data, model, seed=int(config.seed))
    masks = global_masks(scores, ticket["pruned"])
    if ticket["control"] is None:
        mask_weights(model.net, masks)
    else:
        _match_norm(model.net, masks, CONTROLS[ticket["control"]])


def _settings(config: DictConfig, weights_follow: bool) -> dict[str, Any] | None:
    node = config.get("ticket")
    if not node:
        return None
    given: Any = OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
    if not isinstance(given, dict):
        raise UserError(f"ticket must be settings such as {{run: FOLDER}}, got {given!r}.")
    for key in given:
        if key not in SETTINGS:
            raise UserError(unknown_key(f"ticket.{key}", [f"ticket.{k}" for k in SETTINGS]))
    ticket = SETTINGS | given
    require_choice("ticket.method", ticket["method"], METHODS)
    require_choice("ticket.reset", ticket["reset"], RESETS)
    require_float("ticket.pruned", ticket["pruned"], minimum=0.0, below=1.0)
    if ticket["epoch"] is not None:
        require_int("ticket.epoch", ticket["epoch"], minimum=0)
    if ticket["control"] is not None:
        require_choice("ticket.control", ticket["control"], CONTROLS)
    unneeded = weights_follow or (ticket["method"], ticket["reset"]) in RUNLESS
    if ticket["run"] is None and not unneeded:
        raise UserError(
            "ticket.run must be the folder of the run whose subnetwork is trained, got none; "
            "only ticket.reset=own with a method other than magnitude needs none."
        )
    return ticket


def _weights(
    config: DictConfig, ticket: dict[str, Any], model: GrokkingModule
) -> tuple[Tensors, Tensors]:
    """Of the net, at the run's beginning and at the epoch of the ticket."""
    if ticket["run"] is None:
        own = {name: p.detach().clone() for name, p in model.net.named_parameters()}
        return own, own
    folder = Path(str(ticket["run"]))
    there = scheduled(folder)
    epoch = ticket["epoch"] if ticket["epoch"] is not None else max(there, default=0)
    if epoch not in there or 0 not in there:
        known = ", ".join(map(str, there)) or "none"
        needed = f"checkpoints of epochs 0 and {epoch}"
        raise UserError(f"ticket.run must have {needed}, got {folder} with {known}.")
    _check_same_data(folder, config)
    initial, trained = (_net_of(there[e], model) for e in (0, epoch))
    return initial, trained


def _net_of(path: Path, model: GrokkingModule) -> Tensors:
    """Parameters of the net in a checkpoint, which may come from anybody."""
    content = read_checkpoint(path)
    check_architecture(path, content, model, key="ticket.run")
    names = [name for name, _ in model.net.named_parameters()]
    return {name: content["state_dict"][f"net.{name}"] for name in names}


def _check_same_data(folder: Path, config: DictConfig) -> None:
    """A mask that has seen what tests this run would tell nothing."""
    theirs = read_settings(folder)
    for leaf in leaves(OmegaConf.to_container(config.data, resolve=False)):
        key = f"data.{leaf}"
        ours, old = OmegaConf.select(config, key, default=None), value_at(theirs, key)
        if key not in MAY_DIFFER and not OmegaConf.is_dict(ours) and ours != old:
            raise UserError(f"{key} must be {old!r} as in ticket.run={folder}, got {ours!r}.")


def _scored(method: str, initial: Tensors, trained: Tensors, net: nn.Module) -> Tensors:
    """The matrices at which a method looks."""
    weights = trained if method == "magnitude" else initial
    return {name: weights[name] for name, p in net.named_parameters() if p.dim() > 1}


def _scores(
    method: str, weights: Tensors, data: TensorDataModule, model: GrokkingModule, seed: int
) -> Tensors:
    if method == "magnitude":
        return magnitude_scores(weights)
    if method == "random":
        return random_scores(weights, torch.Generator().manual_seed(seed))
    data.prepare_data()
    data.setup("fit")
    inputs = data.train.inputs
    if method == "synflow":
        return synflow_scores(model.net, inputs, weights)
    with torch.no_grad():
        width = model.net(inputs[:1]).shape[-1]
    targets = model.loss.prepare(data.train.targets, width)
    score = {"snip": snip_scores, "grasp": grasp_scores}[method]
    return score(model.net, inputs, lambda out: model.loss(out, targets).mean(), weights)


@torch.no_grad()
def _set(net: nn.Module, weights: Tensors) -> None:
    for name, parameter in net.named_parameters():
        parameter.copy_(weights[name])


@torch.no_grad()
def _match_norm(net: nn.Module, masks: Tensors, order: int) -> None:
    """Multiply all matrices by |θ ⊙ m|_p / |θ|_p, both over all of them together."""
    matrices = dict(net.named_parameters())
    dense = torch.cat([matrices[name].flatten() for name in masks])
    kept = torch.cat([(matrices[name] * mask).flatten() for name, mask in masks.items()])
    ratio = torch.linalg.vector_norm(kept, order) / torch.linalg.vector_norm(dense, order)
    for name in masks:
        matrices[name].mul_(ratio)
