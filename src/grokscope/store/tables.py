"""Reads the tables of one file, live or final."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from grokscope.store.hdf5_files import open_hdf5
from grokscope.store.layout import INDEX, ROOT, SCHEMA_VERSION, read_attribute
from grokscope.store.nodes import check_link, check_read, check_rows, checked_node, column_of
from grokscope.store.nofollow import NotPlainFileError
from grokscope.store.row_counts import RowCounts

MOST_TABLES, DEEPEST = 1000, 10
DAMAGE = (OSError, LookupError, TypeError, ValueError, RuntimeError, AttributeError, MemoryError)


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
        self.path, self._counts = path, RowCounts()
        with self.open() as file:
            _check_schema(file.attrs.get("schema_version"))
            self.final = bool(file.attrs.get("final", False))

    @contextmanager
    def open(self) -> Iterator[h5py.File]:
        """The file for plain h5py; what fails in the block becomes an error naming the file."""
        try:
            with open_hdf5(self.path) as file:
                file.headers.check(file.headers.root())
                yield file
        except NotPlainFileError:
            raise
        except DAMAGE as error:
            if isinstance(error, FileNotFoundError) and not os.path.lexists(self.path):
                raise FileNotFoundError(f"{self.path} does not exist.") from None
            reason = error.args[0] if error.args and isinstance(error, KeyError) else error
            raise ValueError(f"{self.path} cannot be read: {reason}") from error

    def contents(self) -> dict[str, Content]:
        """Every table by its path; the one at the top level is the empty string."""
        with self.open() as file:
            return {table: self._content(file, table) for table in _tables(file)}

    def tables(self) -> list[str]:
        """Paths of the tables."""
        with self.open() as file:
            return _tables(file)

    def columns(self, table: str) -> list[str]:
        """Names of a table's columns."""
        with self.open() as file:
            return list(columns_of(file, table))

    def rows(self, table: str) -> int:
        """Complete rows of a table; 0 if the file has no such table."""
        with self.open() as file:
            return self._counts.rows(file, table)

    def read(self, table: str, column: str, *, first: int | None = None) -> NDArray:
        """All complete rows of one column, or only the first so many."""
        with self.open() as file:
            count = self._counts.rows(file, table)
            return _read(file, table, column, count if first is None else min(first, count))

    def read_row(self, table: str, column: str, row: int) -> NDArray:
        """One row of one column.

        Raises:
            IndexError: If there is no such row.
        """
        with self.open() as file:
            count = self._counts.rows(file, table)
            if 0 <= row < count:
                dataset = column_of(file, table, column)
                check_rows(dataset, count)
                check_read(file, dataset, 1)
                return dataset[row]
        raise IndexError(f"row must be in 0..{count - 1}, got {row}.")

    def shape(self, table: str, column: str) -> tuple[int, ...]:
        """Shape of a column, with the rows that there is room for."""
        with self.open() as file:
            return column_of(file, table, column).shape

    def attribute(self, table: str, name: str, default: Any = None) -> Any:
        """An attribute of a table."""
        with self.open() as file:
            return read_attribute(checked_node(file, table), name, default)

    def everything(self) -> Iterator[tuple[str, dict[str, NDArray]]]:
        """Each table with all its columns, equally long also while the writer writes."""
        for table, content in self.contents().items():
            with self.open() as file:
                rows = min(content.rows, self._counts.rows(file, table))
                yield table, {name: _read(file, table, name, rows) for name in content.columns}

    def _content(self, file: h5py.File, table: str) -> Content:
        return Content(self._counts.rows(file, table), columns_of(file, table))


def _check_schema(version: Any) -> None:
    if not isinstance(version, (int, np.integer)):
        raise ValueError("must be a grokscope file, got one without a schema.")
    if version > SCHEMA_VERSION:
        raise ValueError(
            f"it has schema {version}, this grokscope knows {SCHEMA_VERSION}: update grokscope."
        )


def _tables(file: h5py.File) -> list[str]:
    found: list[str] = []
    paths = [INDEX] if file.id.links.exists(INDEX.encode()) else []
    seen: set[int] = set()
    while paths:
        path = paths.pop()
        address = check_link(file, path)
        if address in seen or len(seen) > MOST_TABLES or path.count("/") > DEEPEST:
            raise ValueError(f"{path} is one table too many.")
        seen.add(address)
        node = file[path]
        if isinstance(node, h5py.Group):
            paths += [f"{path}/{name}" for name in node]
        else:
            found.append(path.removeprefix(f"{INDEX}/"))
    return ["" if name == ROOT else name for name in sorted(found)]


def columns_of(file: h5py.File, table: str) -> tuple[str, ...]:
    """Names of a table's columns in an open file, all of them hard links."""
    group = checked_node(file, table)
    if not isinstance(group, h5py.Group):
        raise ValueError(f"{table} must be a table.")
    for name in group:
        check_link(file, f"{table}/{name}" if table else name)
    names = [name for name in group if group.get(name, getclass=True) is h5py.Dataset]
    if "epoch" not in names:
        raise ValueError(f"{group.name} has no epochs.")
    return tuple(names)


def _read(file: h5py.File, table: str, column: str, rows: int) -> NDArray:
    dataset = column_of(file, table, column)
    check_rows(dataset, rows)
    check_read(file, dataset, rows)
    values = dataset[:rows]
    if column == "epoch" and not _ascends(values):
        raise ValueError(f"{dataset.name} must be epochs in ascending order.")
    return values


def _ascends(values: NDArray) -> bool:
    whole = values.ndim == 1 and values.dtype.kind in "iu"
    return whole and bool((values[1:] > values[:-1]).all())
