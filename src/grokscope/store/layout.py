"""Tables of a run's HDF5 files: a row an epoch, plain datasets that any HDF5 reader opens.

A *live* file is written by one process while training goes on. Every column is a contiguous
dataset, allocated for ``capacity`` rows before training; HDF5 is closed, and rows are
written with ``pwrite`` at the datasets' offsets. The scalars of a table lie side by side in
``live/<table>``, (capacity, scalars), so that they take one write; their datasets are HDF5
virtual datasets, each a view of its column there. The dataset ``index/<table>`` holds the
number of rows that are complete and is written last, so a killed process leaves a file that
opens everywhere and whose counted rows are whole. After a power cut they need not be: the pages
of a file reach the disk in any order. So ``check/<table>`` holds a checksum of each row, and
``synced/<table>`` the number of rows that have reached the disk; those beyond it count only as
far as their checksums hold. A *final* file has the datasets of the tables and ``index``, cut to
the rows, chunked and compressed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import h5py
import numpy as np

SCHEMA_VERSION = 1
BLOCK_BYTES = 2**26
INDEX = "index"
LIVE = "live"
CHECK = "check"
SYNCED = "synced"
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

    def beside(self, group: str) -> str:
        """Where ``INDEX``, ``LIVE``, ``CHECK`` or ``SYNCED`` has what belongs to this table."""
        return f"{group}/{self.path or ROOT}"

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


def stored_row_bytes(table: Table) -> dict[str, int]:
    """Bytes of a row in each dataset that a live file writes, ``LIVE`` for the scalars.

    The order is that of the checksums of rows.
    """
    own = {n: c.row_bytes for n, c in table.columns.items() if n not in table.scalars}
    return own | ({LIVE: 8 * len(table.scalars)} if table.scalars else {})


def create_tables(file: h5py.File, tables: list[tuple[Table, int]]) -> None:
    """Make empty tables in a new file, with room for the stated number of rows each.

    Room is given, not written: the file is sparse until rows come.
    """
    file.attrs.update(schema_version=SCHEMA_VERSION, final=False)
    for table, capacity in tables:
        group = file.require_group(table.path or "/")
        write_attributes(group, table.attributes)
        _allocate_columns(file, table, capacity)
        _allocate(file, table.beside(CHECK), (capacity,), "<u8")
        columns = list(stored_row_bytes(table))
        write_attributes(file[table.beside(CHECK)], {"columns": columns})
        for counter in (SYNCED, INDEX):
            _allocate(file, table.beside(counter), (1,), "<i8")


def _allocate_columns(file: h5py.File, table: Table, capacity: int) -> None:
    scalars, live = table.scalars, table.beside(LIVE)
    if scalars:
        _allocate(file, live, (capacity, len(scalars)), "<f8")
        together = h5py.VirtualSource(".", live, (capacity, len(scalars)), "<f8")
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


def row_bytes(dataset: h5py.Dataset) -> int:
    """Bytes of one row of a dataset."""
    return int(np.prod(dataset.shape[1:], dtype=np.int64)) * dataset.dtype.itemsize


def blocks(stop: int, dataset: h5py.Dataset, start: int = 0) -> Iterator[slice]:
    """Slices over the rows of a dataset that hold at most about ``BLOCK_BYTES`` each."""
    step = max(1, BLOCK_BYTES // max(1, row_bytes(dataset)))
    for first in range(start, stop, step):
        yield slice(first, min(stop, first + step))


def write_attributes(group: h5py.Group, attributes: Mapping[str, Any]) -> None:
    """Numbers and texts as they are, anything else as JSON text."""
    for name, value in attributes.items():
        group.attrs[name] = value if isinstance(value, (int, float)) else json.dumps(value)


def read_attribute(group: h5py.Group, name: str, default: Any = None) -> Any:
    """An attribute that :func:`write_attributes` stored, JSON text decoded."""
    value = group.attrs.get(name, default)
    return json.loads(value) if isinstance(value, str) else value
