"""Rows of measures at the weights of checkpoints, without training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from grokscope.app.checkpoints import (
    TornCheckpointError,
    check_architecture,
    passes_done,
    read_checkpoint,
)
from grokscope.callbacks import GOPCallback
from grokscope.callbacks.gradient_buffer import GradientBuffer
from grokscope.callbacks.kinds import BatchKind, Kind, WeightKind
from grokscope.callbacks.measurement import Recorded
from grokscope.callbacks.nonfinite import NonfiniteReport
from grokscope.callbacks.probing import Probing
from grokscope.callbacks.recorder import Found, Pass, Recorder
from grokscope.callbacks.schedule import at
from grokscope.callbacks.stopwatch import Stopwatch
from grokscope.data.base import TensorDataModule
from grokscope.gradients.layout import gradient_layout, gradients_of
from grokscope.models import GrokkingModule
from grokscope.models.loop import Batch
from grokscope.store.layout import Table


@dataclass(frozen=True)
class Clock:
    """Stands for the trainer where nothing is trained: measures ask it for the time."""

    datamodule: TensorDataModule
    current_epoch: int
    global_step: int
    world_size: int = 1


class Meter:
    """Measures a module at whatever weights it has.

    ``batch`` and ``weight`` are those of the gradient that a full-batch step would use at these
    weights, penalties included. With mini-batches they are those of the mini-batches of the pass
    that follows, all at these weights: in training the weights move within a pass.

    Args:
        module: Its data prepared on its device.
        data: What it learns.
        settings: What is measured, and how.
        mixed: Whether the forward pass is in mixed precision (bfloat16).

    Raises:
        ValueError: If the module lacks what a kind needs.
    """

    def __init__(
        self,
        module: GrokkingModule,
        data: TensorDataModule,
        settings: GOPCallback,
        mixed: bool = False,
    ) -> None:
        self.module, self._data, self._mixed = module.train(), data, mixed
        self._progress, self.on_nonfinite = settings.progress, settings.on_nonfinite
        self.names = frozenset(settings.kinds) | set(settings.progress.given)
        self._clock = Stopwatch()
        self.layout = gradient_layout(module.named_parameters())
        self._parameters = [p for p in module.parameters() if p.requires_grad]
        self.dtype = next(module.parameters()).dtype
        row_bytes = max(1, self.layout.size) * self.dtype.itemsize
        self.n_rows = max(1, min(data.steps_per_epoch, settings.max_bytes // row_bytes))
        spectra = settings.top_k, settings.rank_threshold
        make: dict[str, Any] = {
            "batch": lambda: BatchKind(self.layout, self.n_rows, *spectra),
            "weight": lambda: WeightKind(self.layout, *spectra),
        }
        self.from_gradients: list[Kind] = [make[n]() for n in settings.kinds if n in make]
        self._probing = Probing(
            module,
            settings.kinds,
            settings.probe,
            (*spectra, settings.max_bytes),
            settings.centered,
        )

    @property
    def kinds(self) -> list[Recorded]:
        """Everything that is measured."""
        return [*self.from_gradients, *self._probing.kinds]

    @property
    def progress_tables(self) -> dict[str, Table]:
        """What the rows of progress measures hold."""
        return self._progress.tables(self.module)

    def measure(self, row: Pass) -> tuple[Pass, dict[str, Found]]:
        """Measure at the present weights, which are those after ``row.epoch`` passes."""
        self.module.trainer = cast(Any, Clock(self._data, row.epoch, row.step))
        with self._precision():
            gradients = self._gradients(row.epoch) if self.from_gradients else None
            found = self._probing.measure(self.names, self._clock)
            progress = self._progress.measure(self.module, self.names, self._clock)
        if gradients is not None:
            found |= {kind.name: kind.measure([gradients]) for kind in self.from_gradients}
        return replace(row, progress=progress), {n: Found([0], m) for n, m in found.items()}

    def _precision(self) -> AbstractContextManager[Any]:
        if not self._mixed:
            return nullcontext()
        device = self.module.device.type
        return torch.autocast(device, dtype=torch.bfloat16, cache_enabled=False)

    def _gradients(self, epoch: int) -> Tensor:
        buffer = GradientBuffer(self.n_rows)
        for batch in self._batches(epoch):
            self.module.zero_grad()
            self.module.objective(batch).backward()
            buffer.add(gradients_of(self._parameters))
        self.module.zero_grad()
        return buffer.rows()

    def _batches(self, epoch: int) -> Iterable[Batch]:
        whole = self.module.train_batch
        if self._data.steps_per_epoch == 1:
            return [whole]
        return (whole.take(rows) for rows in self._data.batch_rows(epoch))


class CheckpointRows:
    """Writes a row for each checkpoint into a new folder.

    Args:
        folder: Without rows.
        meter: Measures.
        epochs: Passes done of the checkpoints to come, ascending.
        losses: Epoch -> scalars that are known already, written beside.
    """

    def __init__(
        self,
        folder: Path,
        meter: Meter,
        epochs: list[int],
        losses: Mapping[int, Mapping[str, float]],
    ) -> None:
        self._meter, self._losses = meter, losses
        self._report = NonfiniteReport(meter.on_nonfinite)
        self._recorder = Recorder(
            folder,
            meter.kinds,
            dict.fromkeys(("metrics", *meter.names), at(epochs)),
            meter.layout,
            n_rows=meter.n_rows,
            dtype=meter.dtype,
            extra=meter.module.extra_metrics,
            progress=meter.progress_tables,
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
        row = Pass(epoch, int(content["global_step"]), self._losses.get(epoch, {}))
        row, found = self._meter.measure(row)
        self._recorder.write([row], found)
        self._report.check([row], self._meter.from_gradients, found)

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
