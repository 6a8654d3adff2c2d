"""Reads the tables of one file, live or final."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from grokscope.store.layout import INDEX, ROOT, SCHEMA_VERSION, read_attribute


class TableFile:
    """Read access to the rows of one file; each call opens, reads and closes it.

    A live file is read without locking it and without disturbing its writer; only the rows
    counted as complete are returned.

    Raises:
        ValueError: If the file is not one of ours, or of a newer schema.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._open() as file:
            version = file.attrs.get("schema_version")
            if not isinstance(version, (int, np.integer)):
                raise ValueError(f"{path} must be a grokscope file, got one without a schema.")
            if version > SCHEMA_VERSION:
                raise ValueError(
                    f"{path} has schema {version}; this grokscope reads up to {SCHEMA_VERSION}: "
                    "update grokscope."
                )
            self.final = bool(file.attrs.get("final", False))

    def _open(self) -> h5py.File:
        try:
            return h5py.File(self.path, "r", locking=False)
        except OSError as error:
            if not self.path.exists():
                raise FileNotFoundError(f"{self.path} does not exist.") from None
            raise ValueError(f"{self.path} is not a readable HDF5 file: {error}") from None

    def tables(self) -> list[str]:
        """Paths of the tables; the one at the top level is the empty string."""
        found: list[str] = []
        with self._open() as file:
            if INDEX in file:
                file[INDEX].visititems(lambda n, o: _collect(n, o, found))
        return ["" if name == ROOT else name for name in found]

    def columns(self, table: str) -> list[str]:
        """Names of a table's columns."""
        with self._open() as file:
            group = file[table or "/"]
            return [name for name in group if isinstance(group[name], h5py.Dataset)]

    def rows(self, table: str) -> int:
        """Complete rows of a table; 0 if the file has no such table."""
        with self._open() as file:
            return _rows(file, table)

    def read(self, table: str, column: str, row: int | None = None) -> np.ndarray:
        """All complete rows of one column, or one of them."""
        with self._open() as file:
            dataset = file[f"{table}/{column}" if table else column]
            count = _rows(file, table)
            if row is not None and not 0 <= row < count:
                raise IndexError(f"row must be in 0..{count - 1}, got {row}.")
            return dataset[row] if row is not None else dataset[:count]

    def attribute(self, table: str, name: str, default: Any = None) -> Any:
        """An attribute of a table."""
        with self._open() as file:
            return read_attribute(file[table or "/"], name, default)

    def everything(self) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
        """Each table with all its columns."""
        for table in self.tables():
            yield table, {column: self.read(table, column) for column in self.columns(table)}


def _collect(name: str, node: Any, found: list[str]) -> None:
    if isinstance(node, h5py.Dataset):
        found.append(name)


def _rows(file: h5py.File, table: str) -> int:
    path = f"{INDEX}/{table or ROOT}"
    return int(file[path][0]) if path in file else 0
