"""``python src/eval.py run=logs/...``: losses and accuracies of a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table
from rich.text import Text

from grokscope.analysis.run import printable
from grokscope.app.build import build_model, prepare_processor
from grokscope.app.building import building
from grokscope.app.checkpoints import (
    TornCheckpointError,
    check_architecture,
    passes_done,
    read_checkpoint,
)
from grokscope.app.errors import UserError, one_line_errors
from grokscope.app.run_settings import run_settings
from grokscope.store.checkpoint_files import FOLDER
from grokscope.store.nofollow import NotPlainFileError, readable_subfolder


def evaluate(config: DictConfig) -> None:
    """Print train and test loss and accuracy of a run's checkpoint."""
    folder = find_run(config, "eval")
    path = _find(folder, config.checkpoint)
    try:
        content = read_checkpoint(path)
    except TornCheckpointError as error:
        raise UserError(f"checkpoint must be a whole one, got {path}: {error.why}.") from error
    settings = run_settings(folder, config)
    with building(folder):
        rows = _scores(path, content, settings)
    done = passes_done(content)
    title = Text(printable(f"{folder} after {done} epochs"))
    table = Table("split", "loss", "accuracy", title=title)
    for name, (loss, accuracy) in rows.items():
        table.add_row(name, f"{loss:.6g}", f"{accuracy:.4f}")
    Console(width=100).print(table)


def _scores(
    path: Path, content: dict[str, Any], settings: DictConfig
) -> dict[str, tuple[float, float]]:
    """Loss and accuracy of each split at the weights of a checkpoint."""
    with one_line_errors(settings):
        prepare_processor(settings.get("threads"))
    data, model = build_model(settings, weights_follow=True)
    check_architecture(path, content, model, key="checkpoint")
    if any(tensor.dtype == torch.float64 for tensor in content["state_dict"].values()):
        model.double()
    model.load_state_dict(content["state_dict"])
    with one_line_errors(settings, "data"):
        data.prepare_data()
        data.setup("test")
    model.prepare_data_on_device(data)
    return {
        "train": model.evaluate(model.train_batch),
        "test": model.evaluate(model.test_batch),
    }


def find_run(config: DictConfig, script: str) -> Path:
    """The run folder that ``run`` names.

    Raises:
        UserError: If it is none.
    """
    if OmegaConf.is_missing(config, "run") or config.run is None:
        raise UserError(f"run must be a run folder: python src/{script}.py run=logs/runs/...")
    folder = Path(str(config.run))
    if not (folder / "config.yaml").is_file():
        raise UserError(f"run must be a run folder, got {folder}: no config.yaml there.")
    return folder


def _find(folder: Path, name: str) -> Path:
    path = _place(folder) / f"{name}.ckpt"
    if not path.is_file():
        there = sorted(p.stem for p in path.parent.glob("*.ckpt") if p.is_file())
        if not there:
            raise UserError(f"run must have checkpoints, got {folder} without any.")
        raise UserError(f"checkpoint must be one of {', '.join(there)}, got {name}.")
    return path


def _place(folder: Path) -> Path:
    try:
        return readable_subfolder(folder, FOLDER)
    except FileNotFoundError:
        raise UserError(f"run must have checkpoints, got {folder} without any.") from None
    except NotPlainFileError as error:
        raise UserError(str(error)) from error
