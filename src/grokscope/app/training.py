"""``python src/train.py``: one run from its configuration to its summary."""

from __future__ import annotations

import logging
import shutil
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from grokscope.analysis.figures import save_figures
from grokscope.analysis.report import NAME as PAGE
from grokscope.analysis.report import write_report
from grokscope.analysis.run import Run
from grokscope.analysis.summary import summary_rows, summary_table
from grokscope.app.build import Parts, build, prepare_processor, quiet
from grokscope.app.checks import validate
from grokscope.app.ending import INTERRUPTED, BeforeFirstPass, noting_how_it_ends
from grokscope.app.errors import one_line_errors
from grokscope.app.folders import is_main_process, no_second_writer
from grokscope.app.making_room import making_room
from grokscope.app.peers import ended_by_signals_while_waiting
from grokscope.app.pictures import attach
from grokscope.app.restoring import naming_the_checkpoint
from grokscope.app.resuming import is_finished
from grokscope.app.storage import log_prediction, one_line_when_full, predict
from grokscope.callbacks import GOPCallback, StopOnSignal
from grokscope.models.memory import keep_freed_memory
from grokscope.processor import arithmetic
from grokscope.store.info import NAME as INFO
from grokscope.store.info import environment, read_info, update_info
from grokscope.store.lock import FolderLock
from grokscope.store.replacing import make_folder, replace_text

log = logging.getLogger(__name__)
DECISIVE = ("processor", "mkl", "vectors", "threads")  # of arithmetic: what decides last digits
CURVES = "curves.png"  # of the figures the one that every run has


def train(config: DictConfig) -> None:
    """Train and summarise; a sweeper reads the ``objective`` from the run's folder.

    Raises:
        SystemExit: With code 130 after Ctrl-C, so that scripts and sweeps stop too; 75 when it
            was asked to make room, 143 after SIGTERM.
    """
    folder = Path(config.paths.run_dir)
    with making_room():
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            validate(config)
        prepare_processor(config.threads)
        keep_freed_memory()
        with quiet():
            parts = build(config)
        with one_line_when_full(folder), _lock(folder):
            try:
                with noting_how_it_ends(config, folder):
                    _begin(config, parts, folder)
                    interrupted = _fit(parts, folder, int(config.trainer.max_epochs))
                if is_main_process():
                    _summarise(config, parts, folder)
            finally:
                _end_wandb_run()
    if interrupted:
        raise SystemExit(INTERRUPTED)


def _lock(folder: Path) -> AbstractContextManager[object]:
    """Keeps other processes from writing this run."""
    if not is_main_process():
        return nullcontext()
    make_folder(folder)
    with no_second_writer():
        return FolderLock(folder)


def _begin(config: DictConfig, parts: Parts, folder: Path) -> None:
    """Write down and log what is going to run.

    What a finished run says of itself changes only when it really goes on.
    """
    if not is_main_process():
        return
    goes_on, changed = is_finished(folder), _changed_arithmetic(folder)
    if not goes_on:
        _write_settings(config, folder)
    log.info("Training %s with seed %s in %s", config.name, config.seed, folder)
    if parts.warning is not None:
        log.warning(parts.warning)
    if changed:
        log.warning(
            "The run goes on with another %s than before (arithmetic in run.json): its last "
            "digits may differ from those of an uninterrupted run.",
            " and ".join(changed),
        )
    with one_line_errors(config, "data"):
        parts.data.prepare_data()
        parts.data.setup("fit")
    with one_line_errors(config):
        parts.model.check_splits(parts.data)
        for callback in parts.trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, GOPCallback):
                callback.progress.check_data(parts.data)
    forecast = predict(config, parts)
    log_prediction(config, forecast, folder)

    def record() -> None:
        if goes_on:
            _write_settings(config, folder)
        update_info(folder, predicted_bytes=forecast.total)

    if goes_on:
        parts.trainer.callbacks.append(BeforeFirstPass(record))  # type: ignore[attr-defined]
    else:
        record()


def _changed_arithmetic(folder: Path) -> list[str]:
    """What of :func:`~grokscope.processor.arithmetic` was otherwise when this run was begun."""
    before = read_info(folder).get("arithmetic")
    now = arithmetic()
    given = before if isinstance(before, dict) else now
    return [name for name in DECISIVE if name in given and given[name] != now.get(name)]


def _write_settings(config: DictConfig, folder: Path) -> None:
    replace_text(folder / "config.yaml", OmegaConf.to_yaml(config, resolve=True))
    overrides = list(HydraConfig.get().overrides.task)
    entries = {"name": config.name, "seed": config.seed, "overrides": overrides}
    update_info(folder, status="running", **entries, **environment())


def _fit(parts: Parts, folder: Path, passes: int) -> bool:
    """Train; whether Ctrl-C ended it before it had done all its passes."""

    def note(status: str) -> None:
        if is_main_process():
            update_info(folder, status=status)

    with (
        quiet(),
        ended_by_signals_while_waiting(parts.trainer, note),
        naming_the_checkpoint(parts.ckpt_path, parts.trainer),
    ):
        parts.trainer.fit(
            parts.model, datamodule=parts.data, ckpt_path=parts.ckpt_path, weights_only=True
        )
    callbacks = parts.trainer.callbacks  # type: ignore[attr-defined]
    interrupted = any(isinstance(c, StopOnSignal) and c.interrupted for c in callbacks)
    status = "finished" if parts.trainer.current_epoch >= passes else "stopped"
    if is_main_process() and read_info(folder).get("status") not in (status, "stopped"):
        update_info(folder, status=status)  # without rows, or where Lightning ended it earlier
    return interrupted


def _end_wandb_run() -> None:
    """Else the next job of a sweep would log into this one's run."""
    wandb = sys.modules.get("wandb")
    if wandb is not None and wandb.run is not None:
        wandb.finish()


def _summarise(config: DictConfig, parts: Parts, folder: Path) -> None:
    run = Run.open(folder)
    if "train_loss" not in run.metrics:
        print(f"No rows were recorded; the run is in {folder}.")
        return
    _show(config, parts.trainer.loggers, run)
    width = max(80, shutil.get_terminal_size().columns)
    Console(width=width).print(summary_table(run))
    log.info("Run %s: %s", run.status, "; ".join(f"{n}: {v}" for n, v in summary_rows(run)))


def complete(config: DictConfig, folder: Path) -> str:
    """Draw what a finished run lacks because a signal came in its last seconds.

    Returns:
        The names of the new files; empty if there are none.
    """
    run, last = Run.open(folder), (folder / INFO).stat().st_mtime
    wanted = [CURVES, *([PAGE] if config.report else [])]
    there = {path.name for path in folder.iterdir() if path.stat().st_mtime >= last}
    if "train_loss" not in run.metrics or there.issuperset(wanted):
        return ""
    with no_second_writer(), FolderLock(folder):
        _show(config, (), run)
    drawn = sorted(path.name for path in folder.iterdir() if path.stat().st_mtime >= last)
    return ", ".join(name for name in drawn if name not in there and name[0] != ".")


def _show(config: DictConfig, loggers: Sequence[Logger], run: Run) -> None:
    """Figures and page; the run has been written, and nothing that fails here changes that."""
    try:
        attach(loggers, save_figures(run) or ())
    except ImportError:
        log.info("No figures: matplotlib is missing (pip install 'grokscope[plots]').")
    except Exception as error:
        _tell("figures", error)
    try:
        if config.report:
            log.info("Report: %s", write_report(run))
    except Exception as error:
        _tell("report", error)


def _tell(what: str, error: Exception) -> None:
    log.warning("No %s, see train.log: %r", what, error)
    log.info("What failed:", exc_info=error)
