"""The figures of a finished run, in the loggers that can show them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger


def attach(loggers: Sequence[Logger], figures: Sequence[Path]) -> None:
    """Show PNG files as ``figures/<name>`` in Weights & Biases and TensorBoard."""
    for logger in loggers:
        for path in figures:
            if isinstance(logger, WandbLogger):
                logger.log_image(f"figures/{path.stem}", [str(path)])
            elif isinstance(logger, TensorBoardLogger):
                _to_tensorboard(logger, path)
        if figures:
            logger.save()


def _to_tensorboard(logger: TensorBoardLogger, path: Path) -> None:
    from matplotlib.image import imread

    pixels = imread(path)[..., :3]
    logger.experiment.add_image(f"figures/{path.stem}", pixels, dataformats="HWC")
