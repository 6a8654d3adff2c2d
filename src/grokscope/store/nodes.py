"""Nodes of an HDF5 file that may come from a stranger: looked at before they are used."""

from __future__ import annotations

import math
import zlib
from typing import Any

import h5py
import numpy as np

from grokscope.store.layout import LIVE, ROOT
from grokscope.store.memory import check_memory

MOST_SHRUNK = 100  # of a whole file; deflate can 1032, but no file is NaN throughout
SMALL = 2**28  # bytes that a column may have however small its file is
CHUNK = 2**20  # bytes of a chunk of many rows, at most; ours have 2**16
PACKED = 2**19  # a chunk stored in less cannot take more than 2**29 bytes unpacked
FILTERS = {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE}
NUMBERS = {h5py.h5t.INTEGER, h5py.h5t.FLOAT}


def checked_node(file: h5py.File, path: str) -> Any:
    """What lies at a path of hard links; others may lead out of the file, or nowhere."""
    for end in _ends(path):
        check_link(file, path[:end])
    return file[path or "/"]


def _ends(path: str) -> list[int]:
    """Where each part of a path ends."""
    return [i for i, c in enumerate(path) if c == "/"] + [len(path)] * bool(path)


def check_link(file: h5py.File, path: str) -> int:
    """Address of a node that a hard link leads to, its header checked before it is opened."""
    links, name = file.id.links, path.encode()
    if not links.exists(name):
        raise ValueError(f"there is no {path}.")
    link = links.get_info(name)
    if link.type != h5py.h5l.TYPE_HARD:
        raise ValueError(f"{path} must be numbers in this file.")
    file.headers.check(link.u)
    return int(link.u)


def column_of(file: h5py.File, table: str, column: str) -> h5py.Dataset:
    """A column that holds plain numbers, and holds them in this very file."""
    dataset = checked_node(file, f"{table}/{column}" if table else column)
    known = isinstance(dataset, h5py.Dataset) and (
        is_plain(dataset.id) or _is_scalar_view(file, dataset, f"{LIVE}/{table or ROOT}")
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
    scalars = checked_node(file, live_path)
    numbers = isinstance(scalars, h5py.Dataset) and is_plain(scalars.id) and scalars.ndim == 2
    return numbers and dataset.ndim == 1 and dataset.dtype == scalars.dtype == "<f8"


def is_plain(dataset: h5py.h5d.DatasetID) -> bool:
    """Whether it is stored as ours are: standard numbers, no filter of another sort."""
    made = dataset.get_create_plist()
    filters = {made.get_filter(i)[0] for i in range(made.get_nfilters())}
    elsewhere = made.get_external_count() or made.get_layout() == h5py.h5d.VIRTUAL
    if elsewhere or not filters <= FILTERS:
        return False
    kind = dataset.get_type()
    standard = kind.get_class() in NUMBERS and kind.get_size() <= 8
    return standard and bool(kind.equal(h5py.h5t.py_create(kind.dtype)))


def check_rows(dataset: h5py.Dataset, rows: int) -> None:
    """Refuse a dataset that has fewer rows."""
    if not dataset.ndim or rows > len(dataset):
        raise ValueError(f"{dataset.name} must have {rows} rows, got shape {dataset.shape}.")


def check_size(file: h5py.File, dataset: h5py.Dataset, rows: int) -> None:
    """Refuse what would take far more memory than the file has bytes."""
    row_bytes = _row_bytes(dataset)
    claimed, size = rows * row_bytes, file.id.get_filesize()
    most = size if dataset.chunks is None else max(SMALL, MOST_SHRUNK * size)
    if claimed > most:
        raise ValueError(f"{dataset.name} claims {claimed:,} bytes, more than the file can hold.")
    if dataset.chunks is not None:
        _check_chunks(dataset, row_bytes)


def check_read(file: h5py.File, dataset: h5py.Dataset, rows: int) -> None:
    """As :func:`check_size`, and refuse more than fits into memory, as a file with holes may."""
    check_size(file, dataset, rows)
    check_memory(str(dataset.name), rows * _row_bytes(dataset))


def _row_bytes(dataset: h5py.Dataset) -> int:
    return int(dataset.nbytes) // max(1, len(dataset))


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


def has(file: h5py.File, path: str) -> bool:
    """Whether there is something at a path of hard links."""
    for end in _ends(path):
        if not file.id.links.exists(path[:end].encode()):
            return False
        check_link(file, path[:end])
    return True


def counter(file: h5py.File, path: str) -> int:
    """The one number, not negative, of a dataset that is there."""
    dataset, count = h5py.h5d.open(file.id, path.encode()), np.zeros(1, "<i8")
    if not is_plain(dataset) or dataset.shape != (1,) or dataset.dtype.kind not in "iu":
        raise ValueError(f"{path} must be one number, got shape {dataset.shape}.")
    dataset.read(h5py.h5s.ALL, h5py.h5s.ALL, count)
    if count[0] < 0:
        raise ValueError(f"{path} must not be negative, got {count[0]}.")
    return int(count[0])
