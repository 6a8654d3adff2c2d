"""A tiny experiment for the tests of loop and callback."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from lightning import Callback, Trainer
from torch import nn

from grokscope.data import ModularDataModule
from grokscope.models import GrokkingModule
from grokscope.models.losses import ArgmaxAccuracy, SquaredError
from grokscope.models.schedulers import linear_warmup
from grokscope.nets import MLP


def module(
    steps_per_call: str = "many", dropout: float = 0.0, l2: float = 0.0, seed: int = 0
) -> GrokkingModule:
    net: nn.Module = MLP((14, 16, 7), "quadratic", bias=False, init_std=0.3, seed=seed)
    if dropout:
        net = nn.Sequential(net, nn.Dropout(dropout))
    optimizer = partial(torch.optim.AdamW, lr=1e-2, weight_decay=0.5)
    warmup = partial(linear_warmup, steps=5)
    return GrokkingModule(
        net, SquaredError(), ArgmaxAccuracy(), optimizer, warmup, l2, steps_per_call
    )


def data(batch_size: int | None = None) -> ModularDataModule:
    return ModularDataModule(
        modulus=7, train_fraction=0.5, encoding="one_hot", batch_size=batch_size
    )


def trainer(
    epochs: int, callbacks: Sequence[Callback] = (), folder: Path | None = None
) -> Trainer:
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    return Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        callbacks=list(callbacks),
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        log_every_n_steps=1,
        deterministic=True,
    )


class LossEveryEpoch(Callback):
    """Evaluates at every epoch, as the GOP callback does, and keeps what it saw."""

    def __init__(self) -> None:
        self.seen: list[dict[str, float]] = []

    def next_due(self, epoch: int) -> int:
        return epoch

    def on_before_optimizer_step(self, trainer, pl_module, optimizer) -> None:
        self.seen.append(pl_module.evaluation_metrics())


def state(model: GrokkingModule, done: Trainer) -> list[torch.Tensor]:
    """Weights and everything that the optimizer keeps."""
    tensors = [p.detach().clone() for p in model.parameters()]
    for entry in done.optimizers[0].state.values():
        tensors += [v for v in entry.values() if isinstance(v, torch.Tensor)]
    return tensors


def assert_equal(a: list[torch.Tensor], b: list[torch.Tensor]) -> None:
    assert len(a) == len(b) > 4
    for x, y in zip(a, b, strict=True):
        assert torch.equal(x, y)
