"""From a configuration to the objects of a run."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from lightning import Callback, Trainer, seed_everything
from lightning.fabric.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig, OmegaConf

from grokscope.app.checkpoints import check_architecture, read_checkpoint
from grokscope.app.errors import UserError, describe_instantiation_error
from grokscope.app.folders import checkpoint
from grokscope.callbacks import GOPCallback
from grokscope.data import TensorDataModule
from grokscope.models import GrokkingModule
from grokscope.validation import require_float, require_int


@dataclass
class Parts:
    """Everything that one run is made of."""

    data: TensorDataModule
    model: GrokkingModule
    trainer: Trainer
    ckpt_path: Path | None


def build(config: DictConfig) -> Parts:
    """Seed, then build data, net, model, callbacks, loggers and trainer.

    Raises:
        UserError: For any setting that one of them refuses.
    """
    with one_line_errors():
        check_numbers(config)
        data, model = build_model(config)
        callbacks = build_all(config.callbacks)
        loggers = build_all(config.logger)
        trainer = instantiate(config.trainer, callbacks=callbacks, logger=loggers or False)
        path = None
        if config.ckpt_path is not None:
            path = checkpoint(config.paths.log_dir, config.name, config.ckpt_path)
            check_architecture(path, read_checkpoint(path), model)
    return Parts(data, model, trainer, path)


def build_model(config: DictConfig) -> tuple[TensorDataModule, GrokkingModule]:
    """The task and the module that learns it."""
    with one_line_errors(), quiet():
        seed_everything(config.seed, verbose=False)
        data = instantiate(config.data)
        net = instantiate(config.net)
        return data, instantiate(config.model, net=net)


def build_all(configs: DictConfig | None) -> list[Any]:
    """Instantiate every entry of a group that maps names to constructor calls."""
    return [instantiate(c) for c in (configs or {}).values() if c is not None]


def validate(config: DictConfig) -> None:
    """Build everything and load the data, so that what would fail fails now.

    Raises:
        UserError: For any setting that one of them refuses.
    """
    config = config.copy()
    OmegaConf.update(config, "paths.run_dir", "unused", force_add=True)
    with quiet():
        parts = build(config)
        with one_line_errors():
            parts.data.prepare_data()
            parts.data.setup("fit")
            parts.model.configure_optimizers()
            _check_callbacks(parts.trainer, parts.trainer.callbacks)  # type: ignore[attr-defined]


def _check_callbacks(trainer: Trainer, callbacks: list[Callback]) -> None:
    for callback in callbacks:
        if isinstance(callback, GOPCallback):
            callback.check_schedules(trainer)


def check_numbers(config: DictConfig) -> None:
    """Settings that go to other people's constructors, whose messages do not name the key."""
    require_int("seed", config.seed, minimum=0, maximum=2**32 - 1)
    require_int("trainer.max_epochs", config.trainer.max_epochs)
    if config.threads is not None:
        require_int("threads", config.threads)
    optimizer = config.model.optimizer
    require_float("model.optimizer.lr", optimizer.lr, above=0.0)
    if "weight_decay" in optimizer:
        require_float("model.optimizer.weight_decay", optimizer.weight_decay, minimum=0.0)


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn refusals of constructors into :class:`~grokscope.app.errors.UserError`."""
    try:
        yield
    except InstantiationException as error:
        raise UserError(describe_instantiation_error(error)) from error
    except (ValueError, TypeError, FileNotFoundError, MisconfigurationException) as error:
        raise UserError(str(error)) from error


@contextmanager
def quiet() -> Iterator[None]:
    """Silence Lightning's notes on the machine, the seed and DataLoaders, which we do not use."""
    loggers = [logging.getLogger(n) for n in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            for noise in ("isinstance.treespec", "does not have many workers"):
                warnings.filterwarnings("ignore", message=f".*{noise}")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def set_threads(threads: int | None) -> None:
    """Use this many CPU threads; None leaves torch's choice."""
    if threads is not None:
        torch.set_num_threads(threads)
