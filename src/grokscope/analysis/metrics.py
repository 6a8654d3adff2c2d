"""The numbers of a run by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from grokscope.store.run_writer import LAYERS, METRICS
from grokscope.store.tables import TableFile


class Metrics(Mapping[str, NDArray]):
    """Mapping from metric name to its array over rows, read when asked for.

    The number of rows is that of the moment when the object was made, so arrays of one table
    are equally long while the run goes on.
    """

    def __init__(self, folder: Path) -> None:
        self._where = dict(_find(folder))

    def __getitem__(self, name: str) -> NDArray:
        file, table, column, rows = self._where[name]
        return file.read(table, column, first=rows)

    def series(self, name: str) -> NDArray:
        """One number a row of the top level or of a group; NaN if there is no such name.

        Raises:
            ValueError: If there are several numbers a row.
        """
        if name not in self._where:
            *_, rows = self._where.get("epoch", (0,))
            return np.full(rows, np.nan)
        values = self[name]
        if values.ndim != 1:
            file, *_ = self._where[name]
            raise ValueError(f"{file.path} cannot be read: {name} has shape {values.shape}.")
        return values

    def __iter__(self) -> Iterator[str]:
        return iter(self._where)

    def __len__(self) -> int:
        return len(self._where)

    def __contains__(self, name: object) -> bool:
        return name in self._where

    def __repr__(self) -> str:
        return f"Metrics({len(self)} names: {', '.join(list(self)[:6])}, ...)"


def _find(folder: Path) -> Iterator[tuple[str, tuple[TableFile, str, str, int]]]:
    """Each name with its file, table, column and rows."""
    for name, pattern in ((METRICS, "{}/"), (LAYERS, "gop/{}/layers/")):
        if not (folder / name).exists():
            continue
        file = TableFile(folder / name)
        for table, content in file.contents().items():
            prefix = pattern.format(table) if table else ""
            for column in content.columns:
                place = file, table, column, content.rows
                yield f"{prefix}{column}", place
                if not table and column == "global_step":
                    yield "step", place
