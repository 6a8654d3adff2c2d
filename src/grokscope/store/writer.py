"""Appends rows to live files; no acknowledged row is lost by a kill of the process."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from grokscope.store.info import FULL
from grokscope.store.layout import Column, Table, create_live_file

COUNT = struct.Struct("<q")
INTEGERS = {int, np.int64}


class StoreFullError(OSError):
    """The file system has no room for the next row; what was written before is safe."""


@contextmanager
def full_disk_named(path: Path) -> Iterator[None]:
    """Turn the errors of a full disk, a quota or a size limit into :class:`StoreFullError`."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise StoreFullError(
            f"no room for more of {path} ({os.strerror(error.errno or 0)}); the rows before are "
            "safe: free some space, then resume."
        ) from error


class LiveFile:
    """Writer of the tables of one live file.

    Args:
        path: Created anew; an existing file of that name is replaced.
        tables: Each table with the number of rows it has room for.

    Raises:
        StoreFullError: If the disk is full.
    """

    def __init__(self, path: Path, tables: list[tuple[Table, int]]) -> None:
        self.path = path
        with full_disk_named(path):
            create_live_file(path, tables)
        self._fd = os.open(path, os.O_WRONLY | getattr(os, "O_CLOEXEC", 0))
        with h5py.File(path, "r", locking=False) as file:
            self._tables = {t.path: _TableWriter(self._fd, file, t, n) for t, n in tables}

    def append(self, table: str, row: Mapping[str, Any]) -> None:
        """Write one row and then count it; the row is acknowledged when this returns.

        Raises:
            StoreFullError: If the disk is full. The row is not counted.
            IndexError: If the table has no room for another row.
            ValueError: If a value does not fit its column. Nothing is written.
        """
        writer = self._tables[table]
        with full_disk_named(self.path):
            writer.append(row)

    def extend(self, table: str, rows: Mapping[str, Any]) -> None:
        """Write many rows at once: column name -> (rows, ...). Errors as for :meth:`append`."""
        with full_disk_named(self.path):
            self._tables[table].extend(rows)

    def room(self, table: str) -> int:
        """Rows that a table still has room for."""
        return self._tables[table].room

    def close(self) -> None:
        """Close the file; the rows are already there."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1


class _TableWriter:
    """Offsets and encoders of one table's columns."""

    def __init__(self, fd: int, file: h5py.File, table: Table, capacity: int) -> None:
        self._fd = fd
        self._path, self._capacity, self.rows = table.path, capacity, 0
        self._index = _offset(file, table.index_path)
        self._scalars = table.scalars
        self._scalars_at = _offset(file, table.live_path) if self._scalars else 0
        self._pack = struct.Struct(f"<{len(self._scalars)}d").pack
        self._shapes = {name: (c.dtype, c.shape) for name, c in table.columns.items()}
        self._columns = [
            (
                name,
                _encoder(name, column),
                column.row_bytes,
                _offset(file, table.dataset_path(name)),
            )
            for name, column in table.columns.items()
            if name not in self._scalars
        ]

    @property
    def room(self) -> int:
        return self._capacity - self.rows

    def _check_room(self, count: int) -> None:
        if count > self.room:
            raise IndexError(f"table '{self._path}' has room for {self._capacity} rows only.")

    def append(self, row: Mapping[str, Any]) -> None:
        self._check_room(1)
        parts = [
            (encode(row[name]), offset + self.rows * size)
            for name, encode, size, offset in self._columns
        ]
        if self._scalars:
            parts.append((self._scalar_bytes(row), self._scalars_end))
        for data, offset in parts:
            _write(self._fd, data, offset)
        self._count(self.rows + 1)

    @property
    def _scalars_end(self) -> int:
        return self._scalars_at + 8 * len(self._scalars) * self.rows

    def _scalar_bytes(self, row: Mapping[str, Any]) -> bytes:
        numbers = [row[name] for name in self._scalars]
        try:
            return self._pack(*numbers)
        except (struct.error, TypeError, ValueError):
            for name, number in zip(self._scalars, numbers, strict=True):
                _as_array(name, Column(), number)
            return np.array(numbers, "<f8").tobytes()

    def extend(self, rows: Mapping[str, Any]) -> None:
        count = len(rows["epoch"])
        self._check_room(count)
        for name, _, size, offset in self._columns:
            dtype, shape = self._shapes[name]
            values = np.ascontiguousarray(rows[name], dtype=dtype).reshape(count, *shape)
            _write(self._fd, values.tobytes(), offset + self.rows * size)
        if self._scalars:
            together = np.empty((count, len(self._scalars)))
            for i, name in enumerate(self._scalars):
                together[:, i] = rows[name]
            _write(self._fd, together.tobytes(), self._scalars_end)
        self._count(self.rows + count)

    def _count(self, rows: int) -> None:
        _write(self._fd, COUNT.pack(rows), self._index)
        self.rows = rows


def _encoder(name: str, column: Column) -> Callable[[Any], bytes]:
    """From a value to the bytes of a column's row; plain integers by the fast way."""

    def encode(value: Any) -> bytes:
        return _as_array(name, column, value).tobytes()

    def encode_integer(value: Any) -> bytes:
        return COUNT.pack(value) if type(value) in INTEGERS else encode(value)

    return encode if column.shape or column.dtype != "<i8" else encode_integer


def _as_array(name: str, column: Column, value: Any) -> NDArray[Any]:
    array = np.asarray(value, dtype=column.dtype)
    if array.shape != column.shape:
        raise ValueError(f"column {name} must have shape {column.shape}, got {array.shape}.")
    return array


def _offset(file: h5py.File, path: str) -> int:
    offset = file[path].id.get_offset()
    return -1 if offset is None else int(offset)


def _write(fd: int, data: bytes, offset: int) -> None:
    """``pwrite`` all of ``data``; a short write is continued."""
    written = os.pwrite(fd, data, offset)
    while written < len(data):
        more = os.pwrite(fd, data[written:], offset + written)
        if more == 0:
            raise OSError(errno.ENOSPC, f"wrote {written} of {len(data)} bytes")
        written += more
