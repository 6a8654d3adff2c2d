"""The three files of a run, written together."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from grokscope.store.finalise import add_gradient_views, blocks, finalise, layer_views
from grokscope.store.layout import Table
from grokscope.store.tables import TableFile
from grokscope.store.writer import LiveFile

METRICS, FULL, LAYERS = "metrics.h5", "gop_full.h5", "gop_layers.h5"
FILES = (METRICS, FULL, LAYERS)
FIRST_ROOM = 1024
NO_LIMIT = np.iinfo(np.int64).max


class RunWriter:
    """Writes the rows of a run into ``folder``.

    Args:
        folder: The run's folder.
        tables: File name -> its tables, each with the number of rows to come; None where it is
            not known (the file is then rewritten at twice the size whenever it is full).
        resume_epoch: None for a new run. Otherwise rows before this epoch are kept, later ones
            dropped, and the files go on.

    Raises:
        FileExistsError: For a new run in a folder that holds rows already.
        ValueError: If the rows to go on with have other columns.
    """

    def __init__(
        self,
        folder: Path,
        tables: Mapping[str, Sequence[tuple[Table, int | None]]],
        resume_epoch: int | None = None,
    ) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        if resume_epoch is None:
            _refuse_rows(folder)
        self._tables = tables
        self._files = {
            name: _open_live(folder / name, file_tables, resume_epoch or 0)
            for name, file_tables in tables.items()
        }

    def append(self, file: str, table: str, row: Mapping[str, Any]) -> None:
        """Add one row; see :meth:`grokscope.store.writer.LiveFile.append`."""
        if self._files[file].full(table):
            self._files[file].close()
            self._files[file] = _open_live(self.folder / file, self._tables[file], NO_LIMIT)
        self._files[file].append(table, row)

    def close(self) -> None:
        """Close the files as they are: live, and readable."""
        for file in self._files.values():
            file.close()

    def finalise(self) -> None:
        """Close the files and rewrite them in their final form."""
        self.close()
        epochs: list[int] = []
        if FULL in self._files:
            finalise(self.folder / FULL, add_gradient_views)
            epochs = TableFile(self.folder / FULL).read("batch", "epoch").tolist()
        if LAYERS in self._files:
            finalise(self.folder / LAYERS, layer_views(epochs))
        finalise(self.folder / METRICS)


def _refuse_rows(folder: Path) -> None:
    if found := [name for name in FILES if (folder / name).exists()]:
        raise FileExistsError(
            f"output_dir must not hold another run's rows, got {folder} with {', '.join(found)}; "
            "choose another folder or resume with ckpt_path."
        )


def _open_live(
    path: Path, tables: Sequence[tuple[Table, int | None]], resume_epoch: int
) -> LiveFile:
    """A live file at ``path`` that starts with the rows of the old one before ``resume_epoch``."""
    kept = {table.path: _rows_before(path, table, resume_epoch) for table, _ in tables}
    room = [
        (table, kept[table.path] + (max(FIRST_ROOM, kept[table.path]) if n is None else n))
        for table, n in tables
    ]
    draft = path.with_suffix(".live")
    live = LiveFile(draft, room)
    if any(kept.values()):
        with h5py.File(path, "r", locking=False) as old:
            for table, _ in tables:
                _copy_rows(old, live, table, kept[table.path])
    os.replace(draft, path)
    return live


def _rows_before(path: Path, table: Table, resume_epoch: int) -> int:
    if resume_epoch == 0 or not path.exists():
        return 0
    source = TableFile(path)
    if not source.rows(table.path):
        return 0
    return int(np.searchsorted(source.read(table.path, "epoch"), resume_epoch))


def _copy_rows(old: h5py.File, live: LiveFile, table: Table, rows: int) -> None:
    group = old[table.path or "/"]
    for name, column in table.columns.items():
        if name not in group or group[name].shape[1:] != column.shape:
            raise ValueError(
                f"{old.filename} has no column {table.dataset_path(name)} {column.shape}: "
                "a run goes on with the measures and sizes that it began with."
            )
    widest = max((group[name] for name in table.columns), key=lambda d: d.nbytes)
    for block in blocks(rows, widest):
        live.extend(table.path, {name: group[name][block] for name in table.columns})
