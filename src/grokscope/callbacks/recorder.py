"""Rows of a run: to its files and to the loggers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import or_
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from lightning.pytorch.loggers.logger import Logger
from numpy.typing import NDArray
from torch import Tensor

from grokscope.callbacks.adaptive import Adaptive
from grokscope.callbacks.epochs import Union
from grokscope.callbacks.measurement import Measurement, Recorded
from grokscope.callbacks.rows import (
    factor_table,
    global_table,
    layer_table,
    padded,
    root_rows,
    root_table,
)
from grokscope.callbacks.schedule import Schedule
from grokscope.gradients.layout import GradientLayout
from grokscope.measures.gop import batch_gop
from grokscope.measures.spectra import METRICS
from grokscope.store.dense import DenseSizes
from grokscope.store.disk import Part
from grokscope.store.factors import Factors
from grokscope.store.layout import Table
from grokscope.store.run_writer import FULL, LAYERS, SYNC_SECONDS, RunWriter
from grokscope.store.run_writer import METRICS as METRICS_FILE
from grokscope.store.views import GROUP_BYTES

VIEW_BYTES = GROUP_BYTES // 2  # of a group in a finished file, at most
Tables = dict[str, list[tuple[Table, int | None]]]


@dataclass(frozen=True)
class Pass:
    """What one pass over the training data gives.

    Attributes:
        epoch: Passes done before.
        step: Optimizer steps done before.
        losses: Name -> number; empty where they were not due.
        gradients: (b, m) of its mini-batches; None where nothing needs them.
        due: Settings whose schedule had this epoch when the pass began; None is all.
        probed: Kind -> what was measured at the probe when the pass began.
        progress: Progress measure -> its numbers then.
    """

    epoch: int
    step: int
    losses: Mapping[str, float]
    gradients: Tensor | None = None
    due: frozenset[str] | None = None
    probed: Mapping[str, Measurement] = field(default_factory=dict)
    progress: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def wants(self, name: str) -> bool:
        """Whether a setting's schedule had this epoch; it may have changed since."""
        return self.due is None or name in self.due


@dataclass(frozen=True)
class Found:
    """What one kind measured.

    Attributes:
        rows: Numbers of the passes, among those that are written together.
        measurement: Its numbers, one row a pass.
    """

    rows: list[int]
    measurement: Measurement


@dataclass(frozen=True)
class Planned:
    """A table that a run will have.

    Attributes:
        file: Where it lies.
        table: Its columns.
        schedule: Of its rows.
        setting: The keys that give the schedule.
        closing: Further rows at the end of the run.
    """

    file: str
    table: Table
    schedule: Schedule
    setting: str
    closing: int = 0

    def rows(self, start: int, stop: int | None) -> int | None:
        """Rows of the passes from ``start`` to ``stop``; None where nobody knows."""
        if stop is None or not self.schedule.fixed:
            return None
        return self.schedule.count(stop, start) + self.closing

    def part(self, stop: int) -> Part:
        """What it takes on disk at most, over a run of ``stop`` passes."""
        dense = densest(self.schedule)
        rows = dense.count(stop) + self.closing
        basis = "" if self.schedule.fixed else f"as dense as {dense} throughout"
        name = self.table.path or "top level"
        return Part(self.file, name, rows, self.table.row_bytes, self.setting, basis)


def planned_tables(
    kinds: Sequence[Recorded],
    schedules: Mapping[str, Schedule],
    layout: GradientLayout,
    *,
    n_rows: int,
    dtype: torch.dtype,
    extra: tuple[str, ...],
    progress: Mapping[str, Table] = MappingProxyType({}),
) -> list[Planned]:
    """The tables of a run, file by file; arguments as for :class:`Recorder`."""
    width = next((kind.width for kind in kinds if kind.name == "batch"), 0)
    both = ["metrics", *(["batch"] if "batch" in schedules else [])]
    root_schedule = reduce(or_, (schedules[name] for name in both))
    setting = " and ".join(f"schedule.{name}" for name in both)
    planned = [Planned(METRICS_FILE, root_table(extra, width), root_schedule, setting, closing=1)]
    for kind in kinds:
        when = schedules[kind.name], f"schedule.{kind.name}"
        whole = global_table(kind.name, kind.width, kind.attributes)
        layers = layer_table(kind.name, kind.layers, kind.width)
        planned += [Planned(METRICS_FILE, whole, *when), Planned(LAYERS, layers, *when)]
    for name, table in progress.items():
        setting = f"measures.progress.{name}.schedule"
        planned.append(Planned(METRICS_FILE, table, schedules[name], setting))
    if "factor" in schedules:
        table = factor_table(layout, n_rows, _numpy_dtype(dtype).str)
        planned.append(Planned(FULL, table, schedules["factor"], "schedule.factor"))
    return planned


def view_parts(
    planned: Sequence[Planned], stop: int, dense_top_k: int | None = None
) -> list[Part]:
    """The ``epoch_<n>`` groups of finished files: one a row of the factor and a layer.

    Args:
        planned: The tables.
        stop: Passes of the run.
        dense_top_k: Eigenvectors kept of dense matrices; None is without these.
    """
    factor = next((each for each in planned if each.file == FULL), None)
    if factor is None:
        return []
    parts = _group_parts(planned, factor, stop)
    return parts if dense_top_k is None else [*parts, *_dense(planned, factor, stop, dense_top_k)]


def _group_parts(planned: Sequence[Planned], factor: Planned, stop: int) -> list[Part]:
    """What is there without dense matrices."""
    own = factor.table.columns["eigenvalues"].row_bytes + VIEW_BYTES
    layers = (each.table.columns["eigenvalues_top_k"] for each in planned if each.file == LAYERS)
    sizes = {FULL: own, LAYERS: sum(c.row_bytes + c.shape[0] * VIEW_BYTES for c in layers)}
    return _at_the_end("epoch_<n>", sizes, factor, stop, factor.setting)


def _dense(planned: Sequence[Planned], factor: Planned, stop: int, top_k: int) -> list[Part]:
    """The dense matrices of the rows of the factor."""
    gradient = factor.table.columns["gradient"]
    n_rows, side = gradient.shape
    itemsize = np.dtype(gradient.dtype).itemsize
    sizes = DenseSizes(Factors.described(factor.table.attributes), (n_rows, side), itemsize, top_k)
    kinds = [each.table.path for each in planned if each.file == LAYERS]
    files = {FULL: sizes.whole(), LAYERS: sizes.layers(kinds)}
    setting = f"storage.dense and {factor.setting}"
    return _at_the_end("epoch_<n> gop", files, factor, stop, setting)


def _at_the_end(
    name: str, sizes: Mapping[str, int], factor: Planned, stop: int, setting: str
) -> list[Part]:
    """A part of each file, of so many bytes a row of the factor."""
    rows, basis = factor.part(stop).rows, "estimate; at the end"
    given = sizes.items()
    return [Part(f, name, rows, n, setting, basis, at_end=True) for f, n in given if n]


def densest(schedule: Schedule) -> Schedule:
    """A schedule known in advance that has every epoch which this one may have."""
    if isinstance(schedule, Adaptive):
        return schedule.coarse | schedule.dense
    if isinstance(schedule, Union):
        return Union(tuple(map(densest, schedule.parts)))
    return schedule


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
        progress: Tables of the progress measures by name.
        start: First epoch to come.
        stop: Epoch at which the run ends; None if it is not known.
        resume: Whether ``folder`` holds the rows before ``start``.
        dense_top_k: Eigenvectors kept of dense matrices; None is without these.
        sync_seconds: A power cut costs at most the rows of so many seconds.
    """

    def __init__(
        self,
        folder: Path,
        kinds: Sequence[Recorded],
        schedules: Mapping[str, Schedule],
        layout: GradientLayout,
        *,
        n_rows: int,
        dtype: torch.dtype,
        extra: tuple[str, ...],
        progress: Mapping[str, Table] = MappingProxyType({}),
        start: int,
        stop: int | None,
        resume: bool,
        dense_top_k: int | None = None,
        sync_seconds: float = SYNC_SECONDS,
    ) -> None:
        self._schedules, self._layout = schedules, layout
        self._n_rows, self._dtype, self._extra = n_rows, dtype, extra
        self._width = next((kind.width for kind in kinds if kind.name == "batch"), 0)
        settings: dict[str, Any] = {"n_rows": n_rows, "dtype": dtype, "extra": extra}
        settings["progress"] = progress
        tables: Tables = {}
        for planned in planned_tables(kinds, schedules, layout, **settings):
            rows = planned.rows(start, stop)
            tables.setdefault(planned.file, []).append((planned.table, rows))
        self.writer = RunWriter(
            folder, tables, start if resume else None, dense_top_k, sync_seconds
        )

    def write(self, passes: Sequence[Pass], found: Mapping[str, Found]) -> None:
        """Add the rows of several passes to every table they have something for."""
        self._write_root(passes, found.get("batch"))
        for kind, entry in found.items():
            clocks = _clocks([passes[i] for i in entry.rows])
            whole, layers = entry.measurement.whole, entry.measurement.layers
            self.writer.extend(METRICS_FILE, f"gop/{kind}", clocks | whole)
            self.writer.extend(LAYERS, kind, clocks | layers)
        for each in passes:
            clock = {"epoch": each.epoch, "step": each.step}
            for name, values in each.progress.items():
                self.writer.append(METRICS_FILE, name, clock | dict(values))
        if "factor" in self._schedules:
            for each in passes:
                if each.gradients is not None and each.wants("factor"):
                    self.writer.append(FULL, "batch", self._factor(each))

    def _write_root(self, passes: Sequence[Pass], batch: Found | None) -> None:
        measured = set(batch.rows) if batch else set()
        kept = [i for i, each in enumerate(passes) if each.losses or i in measured]
        if kept:
            chosen = [passes[i] for i in kept]
            at = [kept.index(i) for i in sorted(measured)]
            whole = batch.measurement.whole if batch else None
            losses = [each.losses for each in chosen]
            rows = root_rows(losses, self._extra, at, whole, self._width)
            clocks = _clocks(chosen)
            steps = {"epoch": clocks["epoch"], "global_step": clocks["step"]}
            self.writer.extend(METRICS_FILE, "", rows | steps)

    def _factor(self, row: Pass) -> dict[str, Any]:
        assert row.gradients is not None
        count = len(row.gradients)
        stored = np.zeros((self._n_rows, self._layout.size), _numpy_dtype(self._dtype))
        stored[:count] = _array(row.gradients)
        eigenvalues = padded(batch_gop(row.gradients).eigenvalues, self._n_rows)
        values = {"n_batches": count, "gradient": stored, "eigenvalues": eigenvalues}
        return {"epoch": row.epoch, "step": row.step} | values


def log_rows(
    loggers: Sequence[Logger], passes: Sequence[Pass], found: Mapping[str, Found]
) -> None:
    """Scalars to every logger: ``train/loss``, ``test/acc``, ``gop/<kind>/<metric>``."""
    if not loggers:
        return
    scalars = [{n.replace("_", "/", 1): v for n, v in each.losses.items()} for each in passes]
    for kind, entry in found.items():
        for name in METRICS:
            values = entry.measurement.whole[name].tolist()
            for row, value in zip(entry.rows, values, strict=True):
                scalars[row][f"gop/{kind}/{name}"] = value
    for each, logged in zip(passes, scalars, strict=True):
        for name, values in each.progress.items():
            logged |= {f"{name}/{c}": float(v) for c, v in values.items() if np.ndim(v) == 0}
        for logger in loggers:
            logger.log_metrics(logged, step=each.epoch)


def _clocks(passes: Sequence[Pass]) -> dict[str, list[int]]:
    return {"epoch": [p.epoch for p in passes], "step": [p.step for p in passes]}


def _numpy_dtype(dtype: torch.dtype) -> np.dtype[Any]:
    return np.dtype("<f8" if dtype == torch.float64 else "<f4")


def _array(tensor: Tensor) -> NDArray[Any]:
    return tensor.to("cpu", torch.promote_types(tensor.dtype, torch.float32)).numpy()
