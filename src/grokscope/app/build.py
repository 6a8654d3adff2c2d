"""From a configuration to the objects of a run."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from hydra.utils import instantiate
from lightning import Trainer, seed_everything
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from omegaconf import DictConfig
from torch import nn

from grokscope.app.checkpoint_io import CheckedCheckpoints
from grokscope.app.checkpoints import (
    check_architecture,
    check_same_settings,
    newest_whole,
    only_the_end_is_left,
    read_with_rows,
)
from grokscope.app.errors import UserError, one_line_errors
from grokscope.app.folders import checkpoint, folder_of
from grokscope.app.tickets import apply_ticket
from grokscope.data import TensorDataModule
from grokscope.models import GrokkingModule
from grokscope.models.losses import Accuracy, Loss
from grokscope.models.progress import end_without_passes

Part = TypeVar("Part")


@dataclass
class Parts:
    """Everything that one run is made of.

    Attributes:
        ckpt_path: Where it goes on from.
        warning: Why that is not the newest checkpoint, if it is not.
    """

    data: TensorDataModule
    model: GrokkingModule
    trainer: Trainer
    ckpt_path: Path | None = None
    warning: str | None = None


def build(config: DictConfig) -> Parts:
    """Seed, then build data, net, model, callbacks, loggers and trainer.

    Raises:
        UserError: For any setting that one of them refuses.
    """
    data, model = build_model(config, weights_follow=config.ckpt_path is not None)
    with one_line_errors(config):
        callbacks = build_all("callbacks", config.callbacks)
        loggers = build_all("logger", config.logger)
        parts = {"callbacks": callbacks, "logger": loggers or False, **_plugins(config)}
        trainer = _of_type("trainer", Trainer, instantiate(config.trainer, **parts))
        if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:  # else the user's choice
            trainer.strategy.checkpoint_io = CheckedCheckpoints()
        return Parts(data, model, trainer, *_resumed(config, model, trainer))


def _plugins(config: DictConfig) -> dict[str, Any]:
    """Under Slurm's ``srun``: Lightning leaves signals and requeueing to us."""
    if config.trainer.get("plugins") is not None or not SLURMEnvironment.detect():
        return {}
    return {"plugins": [SLURMEnvironment(auto_requeue=False)]}


def build_model(
    config: DictConfig, weights_follow: bool = False
) -> tuple[TensorDataModule, GrokkingModule]:
    """The task and the module that learns it.

    Args:
        config: All settings.
        weights_follow: Whether its weights will be loaded from a checkpoint.
    """
    with one_line_errors(config), quiet():
        seed_everything(config.seed, verbose=False)
        data = _of_type("data", TensorDataModule, instantiate(config.data))
        net = _of_type("net", nn.Module, instantiate(config.net))
        model = _of_type("model", GrokkingModule, instantiate(config.model, net=net))
        _of_type("model.loss", Loss, model.loss)
        _of_type("model.accuracy", Accuracy, model.accuracy)
        model.check_data(data)
        apply_ticket(config, data, model, weights_follow)
    return data, model


def build_all(group: str, configs: DictConfig | None) -> list[Any]:
    """Instantiate every entry of a group that maps names to constructor calls."""
    entries = {str(name): c for name, c in (configs or {}).items() if c is not None}
    for name, entry in entries.items():
        if not isinstance(entry, DictConfig) or "_target_" not in entry:
            raise UserError(f"{group}.{name} must have a _target_ to build, got {entry!r}.")
    return [instantiate(entry) for entry in entries.values()]


def _of_type(key: str, kind: type[Part], part: Any) -> Part:
    if not isinstance(part, kind):
        raise UserError(f"{key} must build a {kind.__name__}, got {part!r}.")
    return part


def _resumed(
    config: DictConfig, model: GrokkingModule, trainer: Trainer
) -> tuple[Path | None, str | None]:
    """The checkpoint to go on from, if it is one of this experiment, and a warning."""
    if config.ckpt_path is None:
        return None, None
    path, content, warning = _checkpoint(config)
    check_architecture(path, content, model)
    if (folder := folder_of(path)) is not None:
        check_same_settings(folder, config)
    if only_the_end_is_left(path, content, config.trainer.max_epochs):
        end_without_passes(trainer)
    return path, warning


def _checkpoint(config: DictConfig) -> tuple[Path, dict[str, Any], str | None]:
    """The file that was named, or the newest whole one of the run that was."""
    path = checkpoint(config.paths.log_dir, config.name, config.ckpt_path)
    if Path(str(config.ckpt_path)) == path:
        if path.is_symlink() and folder_of(path) is None:  # the user's own, not a stranger's
            path = path.resolve()
        return path, read_with_rows(path), None
    return newest_whole(path.parents[1])


@contextmanager
def quiet() -> Iterator[None]:
    """Silence Lightning's notes on the machine, the seed and DataLoaders, which we do not use."""
    loggers = [logging.getLogger(n) for n in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    logging.getLogger("lightning.pytorch.profilers").setLevel(logging.INFO)  # asked for
    try:
        with warnings.catch_warnings():
            for noise in ("isinstance.treespec", "does not have many workers", "The `srun` comm"):
                warnings.filterwarnings("ignore", message=f".*{noise}")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def prepare_processor(threads: int | None) -> None:
    """Use this many CPU threads (None: torch's choice) and take denormal floats for zero.

    Weights and moments that decay towards zero pass below 1.2e-38, where a processor without
    this setting computes some fifty times slower. Threads that run already keep their setting,
    so this comes before the first computation.
    """
    torch.set_flush_denormal(True)
    if threads is not None:
        torch.set_num_threads(threads)
