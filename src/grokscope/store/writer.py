"""Appends rows to live files; no acknowledged row is lost by a kill of the process.

What a power cut can cost are the rows since the last :meth:`LiveFile.sync`.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from grokscope.store.attributes import carry_attributes
from grokscope.store.hdf5_files import new_hdf5
from grokscope.store.info import FULL
from grokscope.store.layout import (
    CHECK,
    INDEX,
    LIVE,
    SYNCED,
    Column,
    Table,
    create_tables,
    stored_row_bytes,
)
from grokscope.store.nofollow import open_regular
from grokscope.store.pwrite import write_at
from grokscope.store.replacing import naming, to_disk
from grokscope.store.row_checks import RowChecks
from grokscope.store.tables import TableFile

COUNT, CHECKSUM = struct.Struct("<q"), struct.Struct("<Q")
INTEGERS = {int, np.int64}


class StoreFullError(OSError):
    """The file system has no room for the next row; what was written before is safe."""


@contextmanager
def full_disk_named(path: Path) -> Iterator[None]:
    """Turn the errors of a full disk, a quota or a size limit into :class:`StoreFullError`."""
    try:
        with naming(path):
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
        path: Of the file; one that is there gives the new one its further attributes.
        tables: Each table with the number of rows it has room for.
        draft: Where it is made, if it is to take the place of ``path`` later; nothing is there.

    Raises:
        StoreFullError: If the disk is full.
    """

    def __init__(
        self, path: Path, tables: list[tuple[Table, int]], draft: Path | None = None
    ) -> None:
        self.path = path
        self._lost: OSError | None = None
        with full_disk_named(path), new_hdf5(draft or path) as (file, _):
            create_tables(file, tables)
            if draft and path.exists():
                with TableFile(path).open() as old:
                    carry_attributes(old, file)
            places = [_Places.of(file, table) for table, _ in tables]
        self._fd = open_regular(draft or path, os.O_WRONLY)
        self._tables = {
            table.path: _TableWriter(self._fd, table, capacity, place)
            for (table, capacity), place in zip(tables, places, strict=True)
        }

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

    def rows(self) -> dict[str, int]:
        """Rows of each table."""
        return {name: writer.rows for name, writer in self._tables.items()}

    def sync(self) -> None:
        """Return when the rows written so far are on the disk, and note that they are.

        Another thread may write rows meanwhile; they are not among those that are noted.

        Raises:
            StoreFullError: If the disk is full.
            OSError: If rows cannot reach it, from then on: they may be lost.
        """
        if self._fd < 0:
            return
        rows = self.rows()
        with full_disk_named(self.path):
            if self._lost is not None:  # Linux reports lost pages once; a second sync succeeds
                raise self._lost
            try:
                to_disk(self._fd)
            except OSError as error:
                self._lost = error
                raise
            for name, count in rows.items():
                self._tables[name].note_synced(count)

    def close(self) -> None:
        """Close the file; the rows are already there, so an error here says nothing of them."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            with suppress(OSError):
                os.close(fd)


@dataclass(frozen=True)
class _Places:
    """Where in the file a table's parts begin; -1 for those of no size.

    Attributes:
        columns: Of each column that has a dataset of its own, and of ``LIVE``.
        check: Of the checksums.
        synced: Of the number of rows on the disk.
        index: Of the number of rows.
    """

    columns: Mapping[str, int]
    check: int
    synced: int
    index: int

    @classmethod
    def of(cls, file: h5py.File, table: Table) -> _Places:
        own = [name for name in table.columns if name not in table.scalars]
        columns = {name: _offset(file, table.dataset_path(name)) for name in own}
        if table.scalars:
            columns[LIVE] = _offset(file, table.beside(LIVE))
        counters = (_offset(file, table.beside(part)) for part in (CHECK, SYNCED, INDEX))
        return cls(columns, *counters)


class _TableWriter:
    """Offsets and encoders of one table's columns."""

    def __init__(self, fd: int, table: Table, capacity: int, places: _Places) -> None:
        self._fd, self._table, self._capacity, self._places = fd, table, capacity, places
        self.rows = 0
        self._pack = struct.Struct(f"<{len(table.scalars)}d").pack
        self._encoders = [
            (name, _encoder(name, column))
            for name, column in table.columns.items()
            if name in places.columns
        ]
        self._sizes = stored_row_bytes(table)
        self._checks = RowChecks(self._sizes)

    @property
    def room(self) -> int:
        return self._capacity - self.rows

    def append(self, row: Mapping[str, Any]) -> None:
        self._check_room(1)
        parts = {name: encode(row[name]) for name, encode in self._encoders}
        if self._table.scalars:
            parts[LIVE] = self._scalar_bytes(row)
        self._write(parts, CHECKSUM.pack(self._checks.of_row(parts)), 1)

    def extend(self, rows: Mapping[str, Any]) -> None:
        count = len(rows["epoch"])
        self._check_room(count)
        columns: dict[str, NDArray] = {}
        for name, _ in self._encoders:
            column = self._table.columns[name]
            values = np.ascontiguousarray(rows[name], dtype=column.dtype)
            columns[name] = values.reshape(count, *column.shape)
        if names := self._table.scalars:
            columns[LIVE] = np.empty((count, len(names)), "<f8")
            for i, name in enumerate(names):
                columns[LIVE][:, i] = rows[name]
        parts = {name: values.tobytes() for name, values in columns.items()}
        self._write(parts, self._checks.of_rows(columns).tobytes(), count)

    def note_synced(self, rows: int) -> None:
        write_at(self._fd, COUNT.pack(rows), self._places.synced)

    def _check_room(self, count: int) -> None:
        if count > self.room:
            raise IndexError(
                f"table '{self._table.path}' has room for {self._capacity} rows only."
            )

    def _scalar_bytes(self, row: Mapping[str, Any]) -> bytes:
        numbers = [row[name] for name in self._table.scalars]
        try:
            return self._pack(*numbers)
        except (struct.error, TypeError, ValueError):
            for name, number in zip(self._table.scalars, numbers, strict=True):
                _as_array(name, Column(), number)
            return np.array(numbers, "<f8").tobytes()

    def _write(self, parts: Mapping[str, bytes], checks: bytes, count: int) -> None:
        """The rows, then their checksums, then their number."""
        for name, data in parts.items():
            place = self._places.columns[name] + self.rows * self._sizes[name]
            write_at(self._fd, data, place)
        write_at(self._fd, checks, self._places.check + self.rows * CHECKSUM.size)
        self._count(self.rows + count)

    def _count(self, rows: int) -> None:
        write_at(self._fd, COUNT.pack(rows), self._places.index)
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
