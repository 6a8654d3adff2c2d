"""``python src/train.py``: one run from its configuration to its summary."""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback as HydraCallback
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from grokscope.analysis.figures import save_figures
from grokscope.analysis.run import Run
from grokscope.analysis.summary import summary_rows, summary_table
from grokscope.app.build import Parts, build, quiet, set_threads, validate
from grokscope.app.errors import UserError, refuse
from grokscope.models.memory import keep_freed_memory
from grokscope.store.info import environment, read_info, update_info
from grokscope.store.writer import StoreFullError

log = logging.getLogger(__name__)


class Validate(HydraCallback):
    """Refuses a configuration before Hydra makes the run's folder."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Build everything once; a mistake ends the program with one line."""
        plain = config.copy()
        OmegaConf.set_struct(plain, False)
        plain.pop("hydra")
        try:
            validate(plain)
        except UserError as error:
            refuse(str(error))


def train(config: DictConfig) -> float | None:
    """Train, summarise, and return the last test loss (what a sweeper minimises)."""
    folder = Path(config.paths.run_dir)
    set_threads(config.threads)
    keep_freed_memory()
    with quiet():
        parts = build(config)
    if is_main_process():
        _write_settings(config, folder)
        log.info("Training %s with seed %s in %s", config.name, config.seed, folder)
    _fit(parts, folder)
    return _summarise(folder) if is_main_process() else None


def is_main_process() -> bool:
    """Whether this is the first process of the run (DDP starts others)."""
    return os.environ.get("LOCAL_RANK", "0") == "0" and os.environ.get("NODE_RANK", "0") == "0"


def _write_settings(config: DictConfig, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    text = OmegaConf.to_yaml(config, resolve=True)
    draft = folder / ".config.yaml.part"
    draft.write_text(text, encoding="utf-8")
    os.replace(draft, folder / "config.yaml")
    overrides = list(HydraConfig.get().overrides.task)
    entries = {"name": config.name, "seed": config.seed, "overrides": overrides}
    update_info(folder, status="running", **entries, **environment())


def _fit(parts: Parts, folder: Path) -> None:
    try:
        with quiet():
            parts.trainer.fit(
                parts.model, datamodule=parts.data, ckpt_path=parts.ckpt_path, weights_only=True
            )
    except (StoreFullError, FloatingPointError) as error:
        raise UserError(str(error)) from error
    if is_main_process() and read_info(folder).get("status") == "running":
        update_info(folder, status="finished")


def _summarise(folder: Path) -> float | None:
    run = Run.open(folder)
    if "train_loss" not in run.metrics:
        log.info("No rows were recorded; the run is in %s.", folder)
        return None
    try:
        save_figures(run)
    except ImportError:
        log.info("No figures: matplotlib is missing (pip install 'grokscope[plots]').")
    width = max(80, shutil.get_terminal_size().columns)
    Console(width=width).print(summary_table(run))
    log.info("Run %s: %s", run.status, "; ".join(f"{n}: {v}" for n, v in summary_rows(run)))
    return float(run.metrics["test_loss"][-1])
