"""``python src/train.py``: one run from its configuration to its summary."""

from __future__ import annotations

import logging
import shutil
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from lightning.pytorch.utilities.exceptions import SIGTERMException
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from grokscope.analysis.figures import save_figures
from grokscope.analysis.report import write_report
from grokscope.analysis.run import Run
from grokscope.analysis.summary import summary_rows, summary_table
from grokscope.app.build import Parts, build, prepare_processor, quiet
from grokscope.app.checks import validate
from grokscope.app.errors import UserError, one_line_errors
from grokscope.app.folders import is_main_process, no_second_writer
from grokscope.app.making_room import making_room
from grokscope.app.pictures import attach
from grokscope.app.storage import note_prediction, one_line_when_full, predict
from grokscope.callbacks import GOPCallback, Preempted, StopOnSignal
from grokscope.models.memory import keep_freed_memory
from grokscope.store.info import environment, read_info, update_info
from grokscope.store.lock import FolderLock
from grokscope.store.replacing import make_folder, replace_text

log = logging.getLogger(__name__)
INTERRUPTED, TERMINATED = 130, 143  # what a shell reports for SIGINT and SIGTERM


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
            if is_main_process():
                _begin(config, parts, folder)
            try:
                interrupted = _fit(parts, folder)
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
    """Write down and log what is going to run."""
    _write_settings(config, folder)
    log.info("Training %s with seed %s in %s", config.name, config.seed, folder)
    if parts.warning is not None:
        log.warning(parts.warning)
    with one_line_errors(config, "data"):
        parts.data.prepare_data()
        parts.data.setup("fit")
    with one_line_errors(config):
        parts.model.check_splits(parts.data)
        for callback in parts.trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, GOPCallback):
                callback.progress.check_data(parts.data)
    note_prediction(config, predict(config, parts), folder)


def _write_settings(config: DictConfig, folder: Path) -> None:
    replace_text(folder / "config.yaml", OmegaConf.to_yaml(config, resolve=True))
    overrides = list(HydraConfig.get().overrides.task)
    entries = {"name": config.name, "seed": config.seed, "overrides": overrides}
    update_info(folder, status="running", **entries, **environment())


def _fit(parts: Parts, folder: Path) -> bool:
    """Train; whether Ctrl-C ended it."""
    try:
        with quiet():
            parts.trainer.fit(
                parts.model, datamodule=parts.data, ckpt_path=parts.ckpt_path, weights_only=True
            )
    except FloatingPointError as error:
        raise UserError(str(error)) from error
    except Exception as error:
        if type(error).__module__.partition(".")[0] != "wandb":
            raise
        raise UserError(f"logger.wandb: {error}") from error
    except Preempted as end:
        if is_main_process():
            update_info(folder, status=end.status)
        raise
    except SystemExit as end:  # Lightning's answer to a second Ctrl-C, and without ours to SIGTERM
        update_info(folder, status="stopped")
        code = TERMINATED if isinstance(end, SIGTERMException) else INTERRUPTED
        raise SystemExit(code) from None
    callbacks = parts.trainer.callbacks  # type: ignore[attr-defined]
    interrupted = any(isinstance(c, StopOnSignal) and c.interrupted for c in callbacks)
    if is_main_process() and read_info(folder).get("status") == "running":
        update_info(folder, status="stopped" if interrupted else "finished")
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
    _show(config, parts, run)
    width = max(80, shutil.get_terminal_size().columns)
    Console(width=width).print(summary_table(run))
    log.info("Run %s: %s", run.status, "; ".join(f"{n}: {v}" for n, v in summary_rows(run)))


def _show(config: DictConfig, parts: Parts, run: Run) -> None:
    """Figures and page; the run has been written, and nothing that fails here changes that."""
    try:
        attach(parts.trainer.loggers, save_figures(run) or ())
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
