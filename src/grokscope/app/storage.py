"""Predicts the size of a run folder, and refuses a run that does not fit."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from hydra import utils
from omegaconf import DictConfig, OmegaConf
from torch import nn

from grokscope.app.build import Parts
from grokscope.app.errors import UserError
from grokscope.app.folders import is_main_process
from grokscope.callbacks import Checkpoints, GOPCallback
from grokscope.callbacks.csv_logger import CSVLogger
from grokscope.measures.spectra import METRICS
from grokscope.store.disk import (
    CHECKPOINTS,
    Forecast,
    Part,
    full_disk_cause,
    full_disk_text,
    size_text,
    too_large,
)
from grokscope.store.info import DISK_FULL, read_info, update_info
from grokscope.store.run_writer import SYNC_SECONDS
from grokscope.validation import require_bool, require_choice, require_float, require_int

log = logging.getLogger(__name__)
SETTINGS = {
    "max_bytes": None,
    "on_too_large": "refuse",
    "predict_only": False,
    "dense": False,
    "sync_seconds": SYNC_SECONDS,
}
TRUE_PRECISIONS = {
    "64-true": torch.float64,
    "16-true": torch.float16,
    "bf16-true": torch.bfloat16,
}
NUMBER_BYTES = 20  # of a number as text, and the comma
CHECKPOINT_OVERHEAD = 2**14  # bytes of names and counters


def check_storage_settings(config: DictConfig) -> None:
    """Refuse values of ``storage`` that mean nothing.

    Raises:
        ValueError: Naming the key.
    """
    if (limit := _setting(config, "max_bytes")) is not None:
        require_int("storage.max_bytes", limit)
    require_choice("storage.on_too_large", _setting(config, "on_too_large"), ("refuse", "warn"))
    require_float("storage.sync_seconds", _setting(config, "sync_seconds"), above=0)
    for name in ("predict_only", "dense"):
        require_bool(f"storage.{name}", _setting(config, name))


def predicts_only(config: DictConfig) -> bool:
    """Whether nothing is wanted but the prediction."""
    return bool(_setting(config, "predict_only"))


def predict(config: DictConfig, parts: Parts) -> Forecast:
    """What a run will write at most; the data must be there."""
    stop, steps = int(config.trainer.max_epochs), parts.data.steps_per_epoch
    found: list[Part] = []
    dtype = _dtype(config, parts.model)
    state = _weights(parts.model, dtype) + _optimizer_state(config, parts.model, dtype)
    callbacks = parts.trainer.callbacks  # type: ignore[attr-defined]
    for callback in callbacks:
        if isinstance(callback, GOPCallback):
            found += callback.forecast(parts.model, stop, steps, dtype)
            found += _text(callback, found, parts)
            state += callback.state_bytes(steps, dtype)
    found += [_checkpoints(c, stop, state) for c in callbacks if isinstance(c, Checkpoints)]
    return Forecast(tuple(found))


def refuse_too_large(config: DictConfig, forecast: Forecast, folder: Path) -> None:
    """Refuse a run above ``storage.max_bytes`` or the free space, unless it is to be warned of.

    Raises:
        UserError: Naming both sizes and the settings that make it large.
    """
    if _setting(config, "on_too_large") == "warn" or predicts_only(config):
        return
    if why := too_large(forecast, folder, _setting(config, "max_bytes")):
        raise UserError(why)


def log_prediction(config: DictConfig, forecast: Forecast, folder: Path) -> None:
    """Write it to the log; warn where the run may not fit."""
    log.info("Predicted size on disk: at most %s", size_text(forecast.total))
    for line in forecast.lines():
        log.info("  %s", line)
    if why := too_large(forecast, folder, _setting(config, "max_bytes")):
        log.warning(why)


@contextmanager
def one_line_when_full(folder: Path) -> Iterator[None]:
    """A full disk, wherever it is met, is a status of the run and one line for the user.

    Raises:
        UserError: In place of any error that a full disk is behind.
    """
    shown, logging.raiseExceptions = logging.raiseExceptions, False  # no tracebacks of train.log
    try:
        yield
    except Exception as error:
        if (culprit := full_disk_cause(error)) is None:
            raise
        with suppress(OSError, ValueError):
            if is_main_process() and read_info(folder).get("status") != "finished":
                update_info(folder, status=DISK_FULL)
        raise UserError(full_disk_text(culprit, folder)) from error
    finally:
        logging.raiseExceptions = shown


def _setting(config: DictConfig, name: str) -> Any:
    return OmegaConf.select(config, f"storage.{name}", default=SETTINGS[name])


def _checkpoints(callback: Checkpoints, stop: int, state: int) -> Part:
    """The scheduled ones, ``last.ckpt``, and the one being written."""
    count = callback.schedule.count(stop + 1) + 2
    size = state + CHECKPOINT_OVERHEAD
    return Part(CHECKPOINTS, "", count, size, "schedule.checkpoint", "estimate")


def _text(callback: GOPCallback, tables: list[Part], parts: Parts) -> list[Part]:
    """``metrics.csv``: a line a row of the table at the top level."""
    loggers = parts.trainer.loggers
    if not any(isinstance(logger, CSVLogger) for logger in loggers):
        return []
    names = 5 + len(parts.model.extra_metrics) + len(callback.kinds) * len(METRICS)
    first = tables[0]
    row = NUMBER_BYTES * names
    return [Part("metrics.csv", "", first.rows, row, first.setting, "estimate")]


def _dtype(config: DictConfig, model: nn.Module) -> torch.dtype:
    """Of the weights once training begins."""
    trained = (p.dtype for p in model.parameters() if p.requires_grad)
    own = next(trained, next(model.parameters()).dtype)
    return TRUE_PRECISIONS.get(str(config.trainer.get("precision")), own)


def _weights(model: nn.Module, dtype: torch.dtype) -> int:
    return sum(
        t.numel() * dtype.itemsize if t.is_floating_point() else t.nbytes
        for t in model.state_dict().values()
    )


def _optimizer_state(config: DictConfig, model: nn.Module, dtype: torch.dtype) -> int:
    """Bytes that the optimizer keeps, from a step on tensors without content."""
    parameters = [nn.Parameter(p.detach().to("meta", dtype)) for p in model.parameters()]
    for parameter in parameters:
        parameter.grad = torch.empty_like(parameter)
    try:
        optimizer = utils.instantiate(config.model.optimizer)(parameters)
        optimizer.step()
    except (RuntimeError, TypeError):  # one that needs numbers, or a closure
        return 2 * _weights(model, dtype)
    kept = (value for entry in optimizer.state.values() for value in entry.values())
    return sum(value.nbytes for value in kept if isinstance(value, torch.Tensor))
