"""Appends rows to live files; no acknowledged row is lost by a kill of the process."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from grokscope.store.layout import Table, create_live_file


class StoreFullError(OSError):
    """The file system has no room for the next row; what was written before is safe."""


class LiveFile:
    """Writer of the tables of one live file.

    Args:
        path: Created anew; an existing file of that name is replaced.
        tables: Each table with the number of rows it has room for.
    """

    def __init__(self, path: Path, tables: list[tuple[Table, int]]) -> None:
        self.path = path
        create_live_file(path, tables)
        self._fd = os.open(path, os.O_WRONLY | getattr(os, "O_CLOEXEC", 0))
        with h5py.File(path, "r") as file:
            self._tables = {t.path: _TableWriter(self._fd, file, t, n) for t, n in tables}

    def append(self, table: str, row: Mapping[str, Any]) -> None:
        """Write one row and then count it; the row is acknowledged when this returns.

        Raises:
            StoreFullError: If the disk is full. The row is not counted.
            IndexError: If the table has no room for another row.
        """
        try:
            self._tables[table].append(row)
        except OSError as error:
            message = f"no row could be added: {error}"
            raise StoreFullError(error.errno, message, str(self.path)) from error

    def extend(self, table: str, rows: Mapping[str, np.ndarray]) -> None:
        """Write many rows at once: column name -> (rows, ...)."""
        self._tables[table].extend(rows)

    def full(self, table: str) -> bool:
        """Whether a table has no room for another row."""
        return self._tables[table].full

    def close(self) -> None:
        """Close the file; the rows are already there."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class _TableWriter:
    """Offsets of one table's columns."""

    def __init__(self, fd: int, file: h5py.File, table: Table, capacity: int) -> None:
        self._fd = fd
        self._path, self._capacity, self.rows = table.path, capacity, 0
        self._index = file[table.index_path].id.get_offset()
        self._columns = [
            (name, np.dtype(c.dtype), c.shape, c.row_bytes, _offset(file, table, name))
            for name, c in table.columns.items()
        ]

    @property
    def full(self) -> bool:
        return self.rows >= self._capacity

    def _check_room(self, count: int) -> None:
        if self.rows + count > self._capacity:
            raise IndexError(f"table '{self._path}' has room for {self._capacity} rows only.")

    def append(self, row: Mapping[str, Any]) -> None:
        self._check_room(1)
        for name, dtype, shape, size, offset in self._columns:
            value = np.asarray(row[name], dtype=dtype)
            if value.shape != shape:
                raise ValueError(f"column {name} must have shape {shape}, got {value.shape}.")
            _write(self._fd, value.tobytes(), offset + self.rows * size)
        self._count(self.rows + 1)

    def extend(self, rows: Mapping[str, np.ndarray]) -> None:
        count = len(rows["epoch"])
        self._check_room(count)
        for name, dtype, shape, size, offset in self._columns:
            values = np.ascontiguousarray(rows[name], dtype=dtype).reshape(count, *shape)
            _write(self._fd, values.tobytes(), offset + self.rows * size)
        self._count(self.rows + count)

    def _count(self, rows: int) -> None:
        _write(self._fd, np.array([rows], dtype="<i8").tobytes(), self._index)
        self.rows = rows


def _offset(file: h5py.File, table: Table, column: str) -> int:
    offset = file[table.dataset_path(column)].id.get_offset()
    return -1 if offset is None else int(offset)


def _write(fd: int, data: bytes, offset: int) -> None:
    """``pwrite`` all of ``data``; a short write is continued."""
    written = os.pwrite(fd, data, offset)
    while written < len(data):
        more = os.pwrite(fd, data[written:], offset + written)
        if more == 0:
            raise OSError(f"wrote {written} of {len(data)} bytes")
        written += more
