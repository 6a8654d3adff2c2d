"""Checks a whole configuration before any folder is made and before any training."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from hydra import utils
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from lightning import LightningModule, Trainer
from lightning.pytorch.accelerators import AcceleratorRegistry
from omegaconf import DictConfig, OmegaConf, open_dict

from grokscope.app.build import Parts, build, quiet
from grokscope.app.errors import UserError, one_line_errors
from grokscope.app.folders import check_log_dir
from grokscope.app.storage import check_storage_settings, predict, refuse_too_large
from grokscope.callbacks import Checkpoints, GOPCallback
from grokscope.data.base import Split
from grokscope.models.grokking import evaluating
from grokscope.store.disk import Forecast
from grokscope.validation import require_bool, require_choice, require_float, require_int, shown

PRECISIONS = ("32-true", "64-true", "bf16-mixed", "16-mixed", "bf16-true", "16-true")
MOST_EPOCHS = 10**12  # a year of passes of 30 microseconds
MOST_THREADS = 1024  # the system refuses some number, and OpenMP then ends the process
MOST_CPU_PROCESSES = 16  # of one run, on a machine with fewer processors
COPYING = ("spawn", "fork", "notebook")  # in names of Lightning's strategies
PARTS = ("callbacks", "data", "logger", "measures", "model", "net", "paths", "schedule", "trainer")
SIZES = ("widths", "n_tokens", "context", "d_in", "d_out")


def validate(config: DictConfig, folder: Path | None = None) -> Forecast:
    """Build everything and load the data, so that what would fail fails now.

    Args:
        config: All settings.
        folder: Where the run will be; None is somewhere in ``paths.log_dir``.

    Returns:
        What the run will write at most.

    Raises:
        UserError: For any setting that a part refuses, and for parts that do not fit together.
    """
    config = config.copy()
    OmegaConf.update(config, "paths.run_dir", "unused", force_add=True)
    with quiet():
        with one_line_errors(config):
            check_settings(config)
        parts = build(config)
        with one_line_errors(config, "data"):
            parts.data.prepare_data()
            parts.data.setup("fit")
        _check_fit(config, parts)
        _check_optimizer(config, parts)
        _check_callbacks(parts.trainer, parts.model)
        forecast = predict(config, parts)
    refuse_too_large(config, forecast, folder or Path(str(config.paths.log_dir)))
    return forecast


def without_hydra(config: DictConfig) -> DictConfig:
    """A copy that holds what a task gets."""
    plain = config.copy()
    with open_dict(plain):
        plain.pop("hydra")
    return plain


def validate_sweep(config: DictConfig) -> None:
    """Validate the first job of a sweep and every other value of each axis once.

    What runs on other machines is tried on this one's processor.

    Combinations of values that fail only together are refused when their job begins, and so
    is everything from a sweeper that chooses its values as it goes.

    Raises:
        UserError: As :func:`validate`.
    """
    sweeper = config.hydra.sweeper
    if not str(sweeper._target_).endswith(".BasicSweeper"):
        return
    loader = GlobalHydra.instance().config_loader()
    axes = [f"{key}={value}" for key, value in (sweeper.params or {}).items()]
    parser = OverridesParser.create(config_loader=loader)
    overrides = parser.parse_overrides([*axes, *config.hydra.overrides.task])
    for override in overrides:
        if override.is_sweep_override() and not [*override.sweep_iterator()]:
            raise UserError(f"{override.input_line} holds no value, and a sweep needs one.")
    for job in _along_the_axes(BasicSweeper.split_arguments(overrides, None)[0]):
        job_config = loader.load_sweep_config(config, job)
        OmegaConf.update(job_config, "name", config.name)
        validate(_for_this_machine(without_hydra(job_config), config.hydra.launcher))


def _for_this_machine(config: DictConfig, launcher: DictConfig) -> DictConfig:
    """With the devices of this one where the runs are for others: login nodes have no GPU."""
    if "slurm" in str(launcher.get("_target_")).lower():
        require_choice("trainer.precision", config.trainer.get("precision"), PRECISIONS)
        here = {"accelerator": "cpu", "devices": 1, "strategy": "auto", "num_nodes": 1}
        for name, value in (here | {"precision": "32-true"}).items():
            OmegaConf.update(config, f"trainer.{name}", value, force_add=True)
    return config


def _along_the_axes(jobs: Sequence[list[str]]) -> list[list[str]]:
    """Jobs that differ from the first in at most one override."""
    first = jobs[0]
    return [job for job in jobs if sum(a != b for a, b in zip(job, first, strict=True)) <= 1]


def check_settings(config: DictConfig) -> None:
    """Settings that go to other people's constructors, whose messages do not name the key."""
    for key in PARTS:
        if key not in config:
            raise ValueError(f"{key} must be there, got none: {key}=none leaves out what can be.")
    get = lambda key: OmegaConf.select(config, key)  # noqa: E731
    require_int("seed", get("seed"), minimum=0, maximum=2**32 - 1)
    require_int("trainer.max_epochs", get("trainer.max_epochs"), maximum=MOST_EPOCHS)
    if get("threads") is not None:
        require_int("threads", get("threads"), maximum=MOST_THREADS)
    for name in ("report", "resume"):
        require_bool(name, get(name))
    for split in ("train", "test"):
        require_float(f"thresholds.{split}", get(f"thresholds.{split}"), above=0, maximum=1)
    check_log_dir(get("paths.log_dir"), get("name"))
    check_storage_settings(config)
    for name, logger in (config.logger or {}).items():
        _check_wandb(f"logger.{name}", logger)
    _check_optimizer_numbers(get("model.optimizer"))
    _check_device(config.trainer)


def _check_wandb(key: str, logger: Any) -> None:
    """Refuse to log online without a key where nobody can be asked for one."""
    online = isinstance(logger, DictConfig) and not logger.get("offline", False)
    if not online or not str(logger.get("_target_")).endswith(".WandbLogger"):
        return
    if os.environ.get("WANDB_MODE", "online") != "online" or sys.stdin.isatty():
        return
    import wandb

    can_ask = "prompt" in signature(wandb.login).parameters  # older ones always prompt
    if can_ask and not wandb.login(prompt=False, verify=False):
        raise ValueError(
            f"{key} must have an API key to log online, got none: run `wandb login`, "
            "or choose logger=wandb_offline."
        )


def _check_optimizer_numbers(optimizer: Any) -> None:
    if not isinstance(optimizer, DictConfig):
        raise ValueError(f"model.optimizer must be settings of an optimizer, got {optimizer!r}.")
    require_float("model.optimizer.lr", optimizer.get("lr"), above=0)
    for name in ("weight_decay", "momentum", "eps"):
        if name in optimizer:
            require_float(f"model.optimizer.{name}", optimizer[name], minimum=0)
    betas = optimizer.get("betas", ())
    if not isinstance(betas, Sequence):
        raise ValueError(f"model.optimizer.betas must be a list of numbers, got {shown(betas)}.")
    for index, beta in enumerate(betas):
        require_float(f"model.optimizer.betas[{index}]", beta, minimum=0, below=1)


def _check_device(trainer: DictConfig) -> None:
    require_choice("trainer.precision", trainer.get("precision"), PRECISIONS)
    for name in ("gradient_clip_val", "accumulate_grad_batches"):
        if trainer.get(name) is not None:
            raise ValueError(
                f"trainer.{name} must not be set, got {trainer[name]}: "
                "the model makes its optimizer steps itself."
            )
    if any(word in str(trainer.get("strategy")) for word in COPYING):
        raise ValueError(
            "trainer.strategy must be auto, ddp or another that starts its processes anew, got "
            f"{trainer.strategy!r}: copies of this process do not share its run."
        )
    kinds = {n: e["accelerator"].is_available() for n, e in AcceleratorRegistry.items()}
    present = ["auto", *(name for name, available in kinds.items() if available)]
    if {"cuda", "mps"} & set(present):
        present.append("gpu")
    if (wanted := trainer.get("accelerator")) not in present:
        raise ValueError(
            f"trainer.accelerator must be one of {', '.join(sorted(present))} "
            f"on this machine, got {wanted!r}."
        )
    if wanted == "cpu":  # on others Lightning looks at what there is
        devices = trainer.get("devices")
        maximum = max(os.cpu_count() or 1, MOST_CPU_PROCESSES)
        if isinstance(devices, int) and devices > 0:
            require_int("trainer.devices", devices, maximum=maximum)


def _check_fit(config: DictConfig, parts: Parts) -> None:
    """Whether the net takes the inputs and gives as many outputs as the targets need."""
    data = parts.data.train
    if (size := parts.data.batch_size) is not None and size > len(data):
        raise UserError(
            f"data.batch_size must be at most the {len(data)} training samples, "
            f"or null for all of them, got {size}."
        )
    dtype = next(parts.model.parameters()).dtype
    one = data[:1].to(torch.device("cpu"), dtype)
    try:
        with evaluating(parts.model.net):  # batch norm in training refuses a single sample
            n_outputs = parts.model.net(one.inputs).shape[-1]
    except (RuntimeError, ValueError, IndexError) as error:
        raise UserError(_misfit(config, data)) from error
    classes = not data.targets.is_floating_point()
    needed = int(data.targets.max()) + 1 if classes else data.targets.shape[-1]
    if n_outputs < needed or (n_outputs > needed and not classes):
        raise UserError(_misfit(config, data))


def _misfit(config: DictConfig, data: Split) -> str:
    settings: Any = OmegaConf.to_container(config.net, resolve=True)
    sizes = {key: settings[key] for key in SIZES if key in settings}
    net = ", ".join(f"net.{key}={value}" for key, value in sizes.items()) or "net"
    kind = str(data.inputs.dtype).removeprefix("torch.")
    low, high = (f"{float(v):g}" for v in data.inputs.aminmax())
    if data.targets.is_floating_point():
        targets = f"targets have {data.targets.shape[-1]} values"
    else:
        targets = f"targets are {int(data.targets.max()) + 1} classes"
    n = data.inputs[0].numel()
    return (
        f"{net} must fit the data, whose inputs have {n} values ({kind}, {low} to {high}) "
        f"and whose {targets}."
    )


def _check_optimizer(config: DictConfig, parts: Parts) -> None:
    with one_line_errors(config, "model.optimizer"):
        optimizer = utils.instantiate(config.model.optimizer)(parts.model.parameters())
    with one_line_errors(config, "model.scheduler"):
        if config.model.scheduler is not None:
            utils.instantiate(config.model.scheduler)(optimizer)
    with one_line_errors(config, "model"):
        parts.model.configure_optimizers()


def _check_callbacks(trainer: Trainer, model: LightningModule) -> None:
    stop = trainer.max_epochs or 0
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, GOPCallback):
            try:
                callback.check_module(model)
                callback.check_schedules(trainer)
            except ValueError as error:
                raise UserError(str(error)) from error
        if isinstance(callback, Checkpoints):
            first = callback.schedule.next_due(0)
            if first is None or first > stop:
                raise UserError(
                    f"schedule.checkpoint must have an epoch up to max_epochs={stop}, "
                    f"got {callback.schedule}."
                )
