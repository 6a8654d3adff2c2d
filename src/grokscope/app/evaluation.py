"""``python src/eval.py run=logs/...``: losses and accuracies of a checkpoint."""

from __future__ import annotations

from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console
from rich.table import Table
from yaml import YAMLError

from grokscope.app.build import build_model
from grokscope.app.checkpoints import check_architecture, read_checkpoint
from grokscope.app.errors import UserError
from grokscope.app.targets import check_targets

CONFIGS = Path(__file__).parents[3] / "configs"


def evaluate(config: DictConfig) -> None:
    """Print train and test loss and accuracy of a run's checkpoint."""
    folder, path = _find(config)
    content = read_checkpoint(path)
    data, model = build_model(_run_config(folder))
    check_architecture(path, content, model)
    if any(tensor.dtype == torch.float64 for tensor in content["state_dict"].values()):
        model.double()
    model.load_state_dict(content["state_dict"])
    data.prepare_data()
    data.setup("test")
    model.prepare_data_on_device(data)
    table = Table("split", "loss", "accuracy", title=f"{folder} after {content['epoch']} epochs")
    for name, batch in (("train", model.train_batch), ("test", model.test_batch)):
        loss, accuracy = model.evaluate(batch)
        table.add_row(name, f"{loss:.6g}", f"{accuracy:.4f}")
    Console(width=100).print(table)


def _find(config: DictConfig) -> tuple[Path, Path]:
    if OmegaConf.is_missing(config, "run"):
        raise UserError("run must be a run folder: python src/eval.py run=logs/runs/...")
    folder = Path(str(config.run))
    path = folder / "checkpoints" / f"{config.checkpoint}.ckpt"
    if not (folder / "config.yaml").is_file():
        raise UserError(f"run must be a run folder, got {folder}: no config.yaml there.")
    if not path.is_file():
        there = sorted(p.stem for p in path.parent.glob("*.ckpt"))
        raise UserError(f"checkpoint must be one of {', '.join(there)}, got {config.checkpoint}.")
    return folder, path


def _run_config(folder: Path) -> DictConfig:
    """The run's own configuration; it may build only what our configurations build."""
    try:
        config = OmegaConf.load(folder / "config.yaml")
    except (OmegaConfBaseException, YAMLError, OSError, UnicodeDecodeError) as error:
        raise UserError(f"{folder}/config.yaml cannot be read: {error}") from None
    if not isinstance(config, DictConfig):
        raise UserError(f"{folder}/config.yaml must hold settings, got a list.")
    check_targets(config, CONFIGS)
    return config
