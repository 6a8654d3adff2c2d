"""Runs that stand still while they are compared, and their series one by one."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from grokscope.analysis.comparison.rows import even_rows, known_rows
from grokscope.analysis.grokking import GrokkingTimes
from grokscope.analysis.metrics import Metrics
from grokscope.analysis.run import Run

Array = NDArray[np.float64]
Curve = tuple[Array, Array]

POINTS = 1600
PASSED_OVER = ("epoch", "step", "global_step", "eigenvalues_top_k")


class Snapshot(Run):
    """A run as it stood when it was first asked: index, settings, times and curves are kept.

    Each array is read once. A curve keeps its finite values, and of more than 1600 those that are
    even in log(epoch + 1), the first and the last among them: 100 runs of 15 metrics take 40 MB,
    however long they are.

    Example:
        >>> runs = [Snapshot.of(run) for run in grokscope.runs("logs")]  # doctest: +SKIP
    """

    @classmethod
    def of(cls, run: Run) -> Snapshot:
        """Of a run; of a snapshot itself."""
        return run if isinstance(run, Snapshot) else cls(run.path)

    @cached_property
    def metrics(self) -> Metrics:
        """As :attr:`Run.metrics`, without rows that come later."""
        return super().metrics

    @cached_property
    def info(self) -> dict[str, Any]:
        """As :attr:`Run.info`."""
        return super().info

    def grokking_as_configured(self) -> GrokkingTimes:
        """As :meth:`Run.grokking_as_configured`."""
        return self._times

    def curve(self, name: str) -> Curve | None:
        """Epochs and values of one of :meth:`curves`; None if the run has no such series."""
        if name not in self._curves:
            array = name if name in self.metrics else _layers_array(name)
            if array in self.metrics:
                self._read(array)
        return self._curves.get(name)

    def curves(self) -> Iterator[tuple[str, Curve]]:
        """Every series of one number a row: name, and epochs and values, (rows,) each.

        Layer-wise arrays of the GOP give a series for each layer: column ``embed`` of
        ``gop/batch/layers/trace`` is ``gop/batch/trace[embed]``. Other arrays of several numbers a
        row are passed over; so are the older names ``gop_...`` of what ``gop/batch/...`` holds.
        """
        for array in self.metrics:
            if _parts(array)[1] not in PASSED_OVER and not self._is_older(array):
                for name in self._read(array):
                    yield name, self._curves[name]

    @cached_property
    def _times(self) -> GrokkingTimes:
        return super().grokking_as_configured()

    @cached_property
    def _curves(self) -> dict[str, Curve]:
        return {}

    @cached_property
    def _names(self) -> dict[str, list[str]]:
        """Names of the series of each array that was read."""
        return {}

    @cached_property
    def _epochs(self) -> dict[str, NDArray]:
        return {}

    def _is_older(self, array: str) -> bool:
        newer = f"gop/batch/{array.removeprefix('gop_')}"
        return array.startswith("gop_") and newer in self.metrics

    def _read(self, array: str) -> list[str]:
        """Keep the curves of an array; their names."""
        if array not in self._names:
            table, column = _parts(array)
            values, kind = self.metrics[array], _layer_kind(table)
            found: dict[str, NDArray] = {}
            if kind is not None and values.ndim == 2:
                names = (f"gop/{kind}/{column}[{layer}]" for layer in self.layer_names(kind))
                found = dict(zip(names, values.T, strict=False))
            elif kind is None and values.ndim == 1:
                found = {array: values}
            if table not in self._epochs:
                self._epochs[table] = self.metrics.series(f"{table}epoch")
            try:
                self._curves |= {n: _kept(self._epochs[table], own) for n, own in found.items()}
            except ValueError as error:
                raise ValueError(f"{array} of {self.path} cannot be read: {error}") from None
            self._names[array] = list(found)
        return self._names[array]


def _kept(epochs: NDArray, values: NDArray) -> Curve:
    when, what = known_rows(epochs, values)
    rows = even_rows(when, POINTS)
    return when[rows], what[rows]


def _parts(name: str) -> tuple[str, str]:
    """The table, with its slash, and the column."""
    head, slash, column = name.rpartition("/")
    return head + slash, column


def _layer_kind(table: str) -> str | None:
    """``batch`` of ``gop/batch/layers/``; None for other tables."""
    parts = table.split("/")
    return parts[1] if len(parts) == 4 and parts[0] == "gop" and parts[2] == "layers" else None


def _layers_array(name: str) -> str:
    """``gop/batch/layers/trace`` of ``gop/batch/trace[embed]``."""
    table, column = _parts(name.partition("[")[0])
    return f"{table}layers/{column}"
