"""Tables of a run's HDF5 files: a row an epoch, plain datasets that any HDF5 reader opens.

A *live* file is written by one process while training goes on. Every column is a contiguous
dataset, allocated for ``capacity`` rows before training; HDF5 is closed, and rows are
written with ``pwrite`` at the datasets' offsets. The scalars of a table lie side by side in
``live/<table>``, (capacity, scalars), so that they take one write; their datasets are HDF5
virtual datasets, each a view of its column there. The dataset ``index/<table>`` holds the
number of rows that are complete and is written last, so a killed process leaves a file that
opens everywhere and whose counted rows are whole. A *final* file has the same datasets without
``live``, cut to the rows, chunked and compressed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

SCHEMA_VERSION = 1
INDEX = "index"
LIVE = "live"
SCALAR = ((), "<f8")
ROOT = "rows"  # the name under index/ of the table at the top level of a file


@dataclass(frozen=True)
class Column:
    """One row-indexed dataset: the shape of a row, and its dtype."""

    shape: tuple[int, ...] = ()
    dtype: str = "<f8"

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return int(np.prod(self.shape, dtype=np.int64)) * np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class Table:
    """Columns that share their rows.

    Attributes:
        path: Group of the columns in the file; empty for the top level.
        columns: Name -> column; ``epoch`` is among them and ascends strictly.
        attributes: Stored on the group as JSON text or numbers.
    """

    path: str
    columns: Mapping[str, Column]
    attributes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def index_path(self) -> str:
        """Where the number of complete rows is."""
        return f"{INDEX}/{self.path or ROOT}"

    @property
    def live_path(self) -> str:
        """Where the scalars are while the file is live."""
        return f"{LIVE}/{self.path or ROOT}"

    @property
    def scalars(self) -> list[str]:
        """The columns of single float64 numbers."""
        return [n for n, c in self.columns.items() if (c.shape, c.dtype) == SCALAR]

    def dataset_path(self, column: str) -> str:
        """Where a column is."""
        return f"{self.path}/{column}" if self.path else column

    @property
    def row_bytes(self) -> int:
        """Bytes of one row over all columns."""
        return sum(column.row_bytes for column in self.columns.values())


@contextmanager
def new_file(path: Path, room: int, holes: int = 0) -> Iterator[h5py.File]:
    """A new HDF5 file on ``room`` bytes of disk reserved beforehand; deleted on any error.

    ``holes`` are further bytes that the file may be long but that take no disk yet.

    HDF5 does not survive a full disk: it loses what it holds in memory and may end the whole
    process. Reserving fails in time, with a plain ``OSError``.
    """
    try:
        h5py.File(path, "w", libver="v108").close()
        with path.open("r+b") as raw:
            raw.truncate(room + holes)
            getattr(os, "posix_fallocate", _no_reserve)(raw.fileno(), 0, room)
        with h5py.File(path, "r+", libver="v108") as file:
            yield file
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _no_reserve(fd: int, offset: int, length: int) -> None:
    """For systems without ``posix_fallocate``."""


def create_live_file(path: Path, tables: list[tuple[Table, int]]) -> None:
    """Create a file of empty tables with room for the stated number of rows each.

    Room is given, not written: the file is sparse until rows come.
    """
    columns = sum(len(table.columns) + 1 for table, _ in tables)
    texts = sum(len(json.dumps(dict(table.attributes))) for table, _ in tables)
    rows = sum(table.row_bytes * capacity for table, capacity in tables)
    with new_file(path, 2**16 + 2**10 * columns + 2 * texts, rows) as file:
        file.attrs.update(schema_version=SCHEMA_VERSION, final=False)
        for table, capacity in tables:
            group = file.require_group(table.path or "/")
            write_attributes(group, table.attributes)
            _allocate_columns(file, table, capacity)
            _allocate(file, table.index_path, (1,), "<i8")


def _allocate_columns(file: h5py.File, table: Table, capacity: int) -> None:
    scalars = table.scalars
    if scalars:
        _allocate(file, table.live_path, (capacity, len(scalars)), "<f8")
        together = h5py.VirtualSource(".", table.live_path, (capacity, len(scalars)), "<f8")
    for name, column in table.columns.items():
        path = table.dataset_path(name)
        if name in scalars:
            layout = h5py.VirtualLayout((capacity,), "<f8")
            layout[:] = together[:, scalars.index(name)]
            file.create_virtual_dataset(path, layout)
        else:
            _allocate(file, path, (capacity, *column.shape), column.dtype)


def _allocate(file: h5py.File, path: str, shape: tuple[int, ...], dtype: str) -> None:
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_layout(h5py.h5d.CONTIGUOUS)
    properties.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    properties.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    links = h5py.h5p.create(h5py.h5p.LINK_CREATE)
    links.set_create_intermediate_group(True)
    space = h5py.h5s.create_simple(shape)
    kind = h5py.h5t.py_create(np.dtype(dtype))
    h5py.h5d.create(file.id, path.encode(), kind, space, dcpl=properties, lcpl=links)


def write_attributes(group: h5py.Group, attributes: Mapping[str, Any]) -> None:
    """Numbers and texts as they are, anything else as JSON text."""
    for name, value in attributes.items():
        group.attrs[name] = value if isinstance(value, (int, float)) else json.dumps(value)


def read_attribute(group: h5py.Group, name: str, default: Any = None) -> Any:
    """An attribute that :func:`write_attributes` stored, JSON text decoded."""
    value = group.attrs.get(name, default)
    return json.loads(value) if isinstance(value, str) else value
