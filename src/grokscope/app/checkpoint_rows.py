"""Rows of measures at the weights of checkpoints, without training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from grokscope.app.checkpoints import (
    TornCheckpointError,
    check_architecture,
    passes_done,
    read_checkpoint,
)
from grokscope.callbacks.meter import Meter
from grokscope.callbacks.nonfinite import NonfiniteReport
from grokscope.callbacks.progress_measures import ProgressMeasures
from grokscope.callbacks.recorder import Found, Pass, Recorder
from grokscope.callbacks.schedule import at
from grokscope.callbacks.stopwatch import Stopwatch
from grokscope.data.base import TensorDataModule


@dataclass(frozen=True)
class Clock:
    """Stands for the trainer where nothing is trained: measures ask it for the time."""

    datamodule: TensorDataModule
    current_epoch: int
    global_step: int
    world_size: int = 1


class CheckpointRows:
    """Writes a row for each checkpoint into a new folder.

    Args:
        folder: Without rows.
        meter: Measures gradient outer products.
        progress: Other measures.
        epochs: Passes done of the checkpoints to come, ascending.
        losses: Epoch -> scalars that are known already, written beside.
    """

    def __init__(
        self,
        folder: Path,
        meter: Meter,
        progress: ProgressMeasures,
        epochs: list[int],
        losses: Mapping[int, Mapping[str, float]],
    ) -> None:
        self._meter, self._progress, self._losses = meter, progress, losses
        self._clock = Stopwatch()
        self._report = NonfiniteReport(meter.on_nonfinite)
        self._recorder = Recorder(
            folder,
            meter.kinds,
            dict.fromkeys(("metrics", *meter.names, *progress.given), at(epochs)),
            meter.layout,
            n_rows=meter.n_rows,
            dtype=meter.dtype,
            extra=meter.module.extra_metrics,
            progress=progress.tables(meter.module),
            start=0,
            stop=epochs[-1] + 1,
            resume=False,
        )

    def add(self, epoch: int, path: Path) -> None:
        """Measure at the weights of one checkpoint.

        Raises:
            TornCheckpointError: If it is not a whole one, after so many passes.
            UserError: If it is that of another network.
        """
        content = _content(epoch, path)
        module = self._meter.module
        check_architecture(path, content, module, key="run")
        module.load_state_dict(content["state_dict"])
        _restore_random_state(path, content, module.device)
        step = int(content["global_step"])
        row, found = self._measured(Pass(epoch, step, self._losses.get(epoch, {})))
        self._recorder.write([row], found)
        self._report.check([row], self._meter.from_gradients, found)

    def _measured(self, row: Pass) -> tuple[Pass, dict[str, Found]]:
        module, names = self._meter.module, self._progress.given
        module.trainer = Clock(self._meter.data, row.epoch, row.step)
        found = self._meter.measure(row.epoch, self._clock)
        with self._meter.precision():
            progress = self._progress.measure(module, names, self._clock)
        return replace(row, progress=progress), {n: Found([0], m) for n, m in found.items()}

    def finish(self) -> None:
        """Compress the files."""
        self._recorder.writer.finalise()


def _content(epoch: int, path: Path) -> dict[str, Any]:
    content = read_checkpoint(path)
    if (done := passes_done(content)) != epoch:
        raise TornCheckpointError(path, f"it is one after {done} passes")
    if not isinstance(content["global_step"], int):
        raise TornCheckpointError(path, "its global_step is no number")
    return content


def _restore_random_state(path: Path, content: dict[str, Any], device: torch.device) -> None:
    """That of the pass that followed: dropout draws the same."""
    state = content.get("rng")
    if not isinstance(state, dict):
        return
    try:
        if "cpu" in state:
            torch.set_rng_state(state["cpu"].cpu())
        if "cuda" in state and device.type == "cuda":
            torch.cuda.set_rng_state(state["cuda"].cpu(), device)
    except (AttributeError, RuntimeError, TypeError) as error:
        raise TornCheckpointError(path, "its random state cannot be restored") from error
