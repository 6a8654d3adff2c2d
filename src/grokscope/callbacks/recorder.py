"""Rows of a run: to its files and to the loggers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import Trainer
from numpy.typing import NDArray
from torch import Tensor

from grokscope.callbacks.kinds import Kind, Measurement
from grokscope.callbacks.rows import (
    factor_table,
    global_table,
    layer_table,
    padded,
    root_row,
    root_table,
)
from grokscope.callbacks.schedule import Schedule
from grokscope.gradients.layout import GradientLayout
from grokscope.measures.gop import batch_gop
from grokscope.measures.spectra import METRICS
from grokscope.store.layout import Table
from grokscope.store.run_writer import FULL, LAYERS, RunWriter
from grokscope.store.run_writer import METRICS as METRICS_FILE

Tables = dict[str, list[tuple[Table, int | None]]]


@dataclass(frozen=True)
class Row:
    """All that one epoch gives.

    Attributes:
        epoch: Passes done before.
        step: Optimizer steps done before.
        losses: Name -> number; empty where they were not due.
        found: Kind -> what was measured.
        gradients: (b, m) where the factor is due, else None.
    """

    epoch: int
    step: int
    losses: Mapping[str, float]
    found: Mapping[str, Measurement]
    gradients: Tensor | None = None

    @property
    def clock(self) -> dict[str, int]:
        """Epoch and step."""
        return {"epoch": self.epoch, "step": self.step}


class Recorder:
    """Writes rows into a run folder.

    Args:
        folder: The run folder.
        kinds: The kinds that are measured.
        schedules: Setting -> schedule, as in :class:`~grokscope.callbacks.GOPCallback`.
        layout: The parameters.
        n_rows: Most mini-batch gradients of a pass.
        dtype: Of the stored gradients.
        extra: The module's own scalars.
        start: First epoch to come.
        stop: Epoch at which the run ends; None if it is not known.
        resume: Whether ``folder`` holds the rows before ``start``.
    """

    def __init__(
        self,
        folder: Path,
        kinds: Sequence[Kind],
        schedules: Mapping[str, Schedule],
        layout: GradientLayout,
        *,
        n_rows: int,
        dtype: torch.dtype,
        extra: tuple[str, ...],
        start: int,
        stop: int | None,
        resume: bool,
    ) -> None:
        self._kinds, self._schedules, self._layout = kinds, schedules, layout
        self._n_rows, self._dtype, self._extra = n_rows, dtype, extra
        self._span = start, stop
        self._width = next((kind.width for kind in kinds if kind.name == "batch"), 0)
        self.writer = RunWriter(folder, self._tables(), start if resume else None)

    def write(self, row: Row) -> None:
        """Add a row to every table it has something for."""
        batch = row.found["batch"].whole if "batch" in row.found else None
        if row.losses or batch:
            root = root_row(row.losses, self._extra, batch, self._width)
            root |= {"epoch": row.epoch, "global_step": row.step}
            self.writer.append(METRICS_FILE, "", root)
        for kind, measurement in row.found.items():
            self.writer.append(METRICS_FILE, f"gop/{kind}", row.clock | measurement.whole)
            self.writer.append(LAYERS, kind, row.clock | measurement.layers)
        if row.gradients is not None:
            self.writer.append(FULL, "batch", row.clock | self._factor(row.gradients))

    def _factor(self, gradients: Tensor) -> dict[str, Any]:
        stored = np.zeros((self._n_rows, self._layout.size), _numpy_dtype(self._dtype))
        stored[: len(gradients)] = _array(gradients)
        eigenvalues = padded(batch_gop(gradients).eigenvalues, self._n_rows)
        return {"n_batches": len(gradients), "gradient": stored, "eigenvalues": eigenvalues}

    def _tables(self) -> Tables:
        root_schedule = self._schedules["metrics"]
        if "batch" in self._schedules:
            root_schedule = root_schedule | self._schedules["batch"]
        root = root_table(self._extra, self._width)
        tables: Tables = {METRICS_FILE: [(root, self._rows(root_schedule, closing=1))]}
        for kind in self._kinds:
            rows = self._rows(self._schedules[kind.name])
            tables[METRICS_FILE].append((global_table(kind.name, kind.width), rows))
            layers = layer_table(kind.name, kind.layers, kind.width)
            tables.setdefault(LAYERS, []).append((layers, rows))
        if "factor" in self._schedules:
            table = factor_table(self._layout, self._n_rows, _numpy_dtype(self._dtype).str)
            tables[FULL] = [(table, self._rows(self._schedules["factor"]))]
        return tables

    def _rows(self, schedule: Schedule, closing: int = 0) -> int | None:
        start, stop = self._span
        return None if stop is None else len(schedule.epochs(stop, start)) + closing


def log_row(trainer: Trainer, row: Row) -> None:
    """Scalars to every logger: ``train/loss``, ``test/acc``, ``gop/<kind>/<metric>``."""
    if not trainer.loggers:
        return
    scalars = {name.replace("_", "/", 1): value for name, value in row.losses.items()}
    for kind, measurement in row.found.items():
        scalars |= {f"gop/{kind}/{name}": float(measurement.whole[name]) for name in METRICS}
    for logger in trainer.loggers:
        logger.log_metrics(scalars, step=row.epoch)


def _numpy_dtype(dtype: torch.dtype) -> np.dtype[Any]:
    return np.dtype("<f8" if dtype == torch.float64 else "<f4")


def _array(tensor: Tensor) -> NDArray[Any]:
    return tensor.to("cpu", torch.promote_types(tensor.dtype, torch.float32)).numpy()
