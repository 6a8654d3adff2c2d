"""Reads the tables of one file, live or final."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from grokscope.store.headers import Headers
from grokscope.store.layout import INDEX, LIVE, ROOT, SCHEMA_VERSION, read_attribute

MOST_SHRUNK = 100  # of a whole file; deflate can 1032, but no file is NaN throughout
SMALL = 2**28  # bytes that a column may have however small its file is
CHUNK = 2**20  # bytes of a chunk of many rows, at most; ours have 2**16
PACKED = 2**19  # a chunk stored in less cannot take more than 2**29 bytes unpacked
MOST_TABLES, DEEPEST = 1000, 10
FILTERS = {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE}
NUMBERS = {h5py.h5t.INTEGER, h5py.h5t.FLOAT}
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
                file.headers = Headers(file.id.get_vfd_handle())
                file.headers.check(file.headers.root())
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
                _check_rows(dataset, count)
                _check_size(file, dataset, 1)
                return dataset[row]
        raise IndexError(f"row must be in 0..{count - 1}, got {row}.")

    def shape(self, table: str, column: str) -> tuple[int, ...]:
        """Shape of a column, with the rows that there is room for."""
        with self.open() as file:
            return _dataset(file, table, column).shape

    def attribute(self, table: str, name: str, default: Any = None) -> Any:
        """An attribute of a table."""
        with self.open() as file:
            return read_attribute(_node(file, table), name, default)

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


def _node(file: h5py.File, path: str) -> Any:
    """What lies at a path of hard links; others may lead out of the file, or nowhere."""
    for end in _ends(path):
        _check_link(file, path[:end])
    return file[path or "/"]


def _ends(path: str) -> list[int]:
    """Where each part of a path ends."""
    return [i for i, c in enumerate(path) if c == "/"] + [len(path)] * bool(path)


def _check_link(file: h5py.File, path: str) -> int:
    """Address of a node that a hard link leads to, its header checked before it is opened."""
    links, name = file.id.links, path.encode()
    if not links.exists(name):
        raise ValueError(f"there is no {path}.")
    link = links.get_info(name)
    if link.type != h5py.h5l.TYPE_HARD:
        raise ValueError(f"{path} must be numbers in this file.")
    file.headers.check(link.u)
    return int(link.u)


def _tables(file: h5py.File) -> list[str]:
    found: list[str] = []
    paths = [INDEX] if file.id.links.exists(INDEX.encode()) else []
    seen: set[int] = set()
    while paths:
        path = paths.pop()
        address = _check_link(file, path)
        if address in seen or len(seen) > MOST_TABLES or path.count("/") > DEEPEST:
            raise ValueError(f"{path} is one table too many.")
        seen.add(address)
        node = file[path]
        if isinstance(node, h5py.Group):
            paths += [f"{path}/{name}" for name in node]
        else:
            found.append(path.removeprefix(f"{INDEX}/"))
    return ["" if name == ROOT else name for name in sorted(found)]


def _content(file: h5py.File, table: str) -> Content:
    group = _node(file, table)
    if not isinstance(group, h5py.Group):
        raise ValueError(f"{table} must be a table.")
    for name in group:
        _check_link(file, f"{table}/{name}" if table else name)
    names = [name for name in group if group.get(name, getclass=True) is h5py.Dataset]
    if "epoch" not in names:
        raise ValueError(f"{group.name} has no epochs.")
    return Content(_rows(file, table), tuple(names))


def _rows(file: h5py.File, table: str) -> int:
    path = f"{INDEX}/{table or ROOT}"
    for end in _ends(path):
        if not file.id.links.exists(path[:end].encode()):
            return 0
        _check_link(file, path[:end])
    dataset, count = h5py.h5d.open(file.id, path.encode()), np.zeros(1, "<i8")
    if not _is_plain(dataset) or dataset.shape != (1,) or dataset.dtype.kind not in "iu":
        raise ValueError(f"{path} must be one number, got shape {dataset.shape}.")
    dataset.read(h5py.h5s.ALL, h5py.h5s.ALL, count)
    if count[0] < 0:
        raise ValueError(f"{path} must not be negative, got {count[0]}.")
    return int(count[0])


def _read(file: h5py.File, table: str, column: str, rows: int) -> NDArray:
    dataset = _dataset(file, table, column)
    _check_rows(dataset, rows)
    _check_size(file, dataset, rows)
    values = dataset[:rows]
    if column == "epoch" and not _ascends(values):
        raise ValueError(f"{dataset.name} must be epochs in ascending order.")
    return values


def _ascends(values: NDArray) -> bool:
    whole = values.ndim == 1 and values.dtype.kind in "iu"
    return whole and bool((values[1:] > values[:-1]).all())


def _dataset(file: h5py.File, table: str, column: str) -> h5py.Dataset:
    """A column that holds plain numbers, and holds them in this very file."""
    dataset = _node(file, f"{table}/{column}" if table else column)
    known = isinstance(dataset, h5py.Dataset) and (
        _is_plain(dataset.id) or _is_scalar_view(file, dataset, f"{LIVE}/{table or ROOT}")
    )
    if not known:
        raise ValueError(f"{table}/{column} must be numbers in this file.")
    return dataset


def _is_scalar_view(file: h5py.File, dataset: h5py.Dataset, live_path: str) -> bool:
    """Whether a virtual dataset shows a column of a live table's scalars, and nothing else."""
    if not dataset.is_virtual:
        return False
    sources = dataset.virtual_sources()
    if [(source.file_name, source.dset_name) for source in sources] != [(".", live_path)]:
        return False
    scalars = _node(file, live_path)
    numbers = isinstance(scalars, h5py.Dataset) and _is_plain(scalars.id) and scalars.ndim == 2
    return numbers and dataset.ndim == 1 and dataset.dtype == scalars.dtype == "<f8"


def _is_plain(dataset: h5py.h5d.DatasetID) -> bool:
    """Whether it is stored as ours are: standard numbers, no filter of another sort."""
    made = dataset.get_create_plist()
    filters = {made.get_filter(i)[0] for i in range(made.get_nfilters())}
    elsewhere = made.get_external_count() or made.get_layout() == h5py.h5d.VIRTUAL
    if elsewhere or not filters <= FILTERS:
        return False
    kind = dataset.get_type()
    standard = kind.get_class() in NUMBERS and kind.get_size() <= 8
    return standard and bool(kind.equal(h5py.h5t.py_create(kind.dtype)))


def _check_rows(dataset: h5py.Dataset, rows: int) -> None:
    if not dataset.ndim or rows > len(dataset):
        raise ValueError(f"{dataset.name} must have {rows} rows, got shape {dataset.shape}.")


def _check_size(file: h5py.File, dataset: h5py.Dataset, rows: int) -> None:
    """Refuse what would take far more memory than the file has bytes."""
    row_bytes = dataset.nbytes // max(1, len(dataset))
    claimed, size = rows * row_bytes, file.id.get_filesize()
    most = size if dataset.chunks is None else max(SMALL, MOST_SHRUNK * size)
    if claimed > most:
        raise ValueError(f"{dataset.name} claims {claimed:,} bytes, more than the file can hold.")
    if dataset.chunks is not None:
        _check_chunks(dataset, row_bytes)


def _check_chunks(dataset: h5py.Dataset, row_bytes: int) -> None:
    """Refuse chunks that are larger than ours, or than they say; HDF5 unpacks them whole."""
    size = math.prod(dataset.chunks) * dataset.dtype.itemsize
    found: list[Any] = []
    dataset.id.chunk_iter(found.append)
    too_large = size > max(CHUNK, row_bytes) or any(c.size > 2 * size + 1024 for c in found)
    if too_large or any(c.size > PACKED and _is_bomb(dataset, c, size) for c in found):
        raise ValueError(f"{dataset.name} claims chunks of more bytes than it has.")


def _is_bomb(dataset: h5py.Dataset, chunk: Any, size: int) -> bool:
    """Whether a packed chunk has more than its bytes."""
    if dataset.compression is None:
        return False
    _, packed = dataset.id.read_direct_chunk(chunk.chunk_offset)
    unpacker = zlib.decompressobj()
    unpacker.decompress(packed, size + 1)
    return not unpacker.eof
