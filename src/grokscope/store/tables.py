"""Reads the tables of one file, live or final."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from grokscope.store.layout import INDEX, ROOT, SCHEMA_VERSION, read_attribute

MOST_SHRUNK = 1100  # deflate makes nothing smaller than 1/1032; larger claims are hostile
DAMAGE = (OSError, KeyError, TypeError, ValueError, RuntimeError, AttributeError, MemoryError)


@dataclass(frozen=True)
class Content:
    """What a table holds at one moment: complete rows, and names of its columns."""

    rows: int
    columns: tuple[str, ...]


class TableFile:
    """Read access to the rows of one file; each call opens, reads and closes it.

    A live file is read without locking it and without disturbing its writer; only the rows
    counted as complete are returned. The file may come from a stranger: whatever is wrong with
    it becomes one ``ValueError`` that names it, and nothing outside it is read.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is damaged, not one of ours, or of a newer schema.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with self.open() as file:
            _check_schema(file.attrs.get("schema_version"))
            self.final = bool(file.attrs.get("final", False))

    @contextmanager
    def open(self) -> Iterator[h5py.File]:
        """The file for plain h5py; what fails in the block becomes an error naming the file."""
        if not self.path.exists():
            raise FileNotFoundError(f"{self.path} does not exist.")
        try:
            if not self.path.is_file():
                raise ValueError("not a regular file.")
            with h5py.File(self.path, "r", locking=False) as file:
                yield file
        except DAMAGE as error:
            reason = error.args[0] if error.args and isinstance(error, KeyError) else error
            raise ValueError(f"{self.path} cannot be read: {reason}") from error

    def contents(self) -> dict[str, Content]:
        """Every table by its path; the one at the top level is the empty string."""
        with self.open() as file:
            return {table: _content(file, table) for table in _tables(file)}

    def tables(self) -> list[str]:
        """Paths of the tables."""
        with self.open() as file:
            return _tables(file)

    def columns(self, table: str) -> list[str]:
        """Names of a table's columns."""
        with self.open() as file:
            return list(_content(file, table).columns)

    def rows(self, table: str) -> int:
        """Complete rows of a table; 0 if the file has no such table."""
        with self.open() as file:
            return _rows(file, table)

    def read(self, table: str, column: str, *, first: int | None = None) -> NDArray:
        """All complete rows of one column, or only the first so many."""
        with self.open() as file:
            count = _rows(file, table)
            return _read(file, table, column, count if first is None else min(first, count))

    def read_row(self, table: str, column: str, row: int) -> NDArray:
        """One row of one column.

        Raises:
            IndexError: If there is no such row.
        """
        with self.open() as file:
            count = _rows(file, table)
            if 0 <= row < count:
                dataset = _dataset(file, table, column)
                _check_size(file, dataset, 1)
                return dataset[row]
        raise IndexError(f"row must be in 0..{count - 1}, got {row}.")

    def attribute(self, table: str, name: str, default: Any = None) -> Any:
        """An attribute of a table."""
        with self.open() as file:
            return read_attribute(file[table or "/"], name, default)

    def everything(self) -> Iterator[tuple[str, dict[str, NDArray]]]:
        """Each table with all its columns, equally long also while the writer writes."""
        for table, content in self.contents().items():
            with self.open() as file:
                rows = min(content.rows, _rows(file, table))
                yield table, {name: _read(file, table, name, rows) for name in content.columns}


def _check_schema(version: Any) -> None:
    if not isinstance(version, (int, np.integer)):
        raise ValueError("must be a grokscope file, got one without a schema.")
    if version > SCHEMA_VERSION:
        raise ValueError(
            f"it has schema {version}, this grokscope knows {SCHEMA_VERSION}: update grokscope."
        )


def _tables(file: h5py.File) -> list[str]:
    found: list[str] = []

    def collect(name: str, node: Any) -> None:
        if isinstance(node, h5py.Dataset):
            found.append("" if name == ROOT else name)

    if INDEX in file:
        file[INDEX].visititems(collect)
    return found


def _content(file: h5py.File, table: str) -> Content:
    group = file[table or "/"]
    names = [name for name in group if group.get(name, getclass=True) is h5py.Dataset]
    return Content(_rows(file, table), tuple(names))


def _rows(file: h5py.File, table: str) -> int:
    path = f"{INDEX}/{table or ROOT}"
    if path not in file:
        return 0
    count = int(file[path][0])
    if count < 0:
        raise ValueError(f"{path} must not be negative, got {count}.")
    return count


def _read(file: h5py.File, table: str, column: str, rows: int) -> NDArray:
    dataset = _dataset(file, table, column)
    if not dataset.ndim or rows > len(dataset):
        raise ValueError(f"{dataset.name} must have {rows} rows, got shape {dataset.shape}.")
    _check_size(file, dataset, rows)
    return dataset[:rows]


def _dataset(file: h5py.File, table: str, column: str) -> h5py.Dataset:
    """A column that holds numbers, and holds them in this very file."""
    dataset = file[f"{table}/{column}" if table else column]
    elsewhere = dataset.file.filename != file.filename or dataset.external or dataset.is_virtual
    if elsewhere or dataset.dtype.kind not in "iuf":
        raise ValueError(f"{dataset.name} must be numbers in this file.")
    return dataset


def _check_size(file: h5py.File, dataset: h5py.Dataset, rows: int) -> None:
    claimed = rows * (dataset.nbytes // max(1, len(dataset)))
    if claimed > MOST_SHRUNK * file.id.get_filesize():
        raise ValueError(f"{dataset.name} claims {claimed:,} bytes, more than the file can hold.")
