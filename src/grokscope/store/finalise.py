"""Turns a live file into its final form: cut to its rows, chunked, gzip-4, shuffled."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import h5py
import numpy as np

from grokscope.store.layout import INDEX, SCHEMA_VERSION, new_file
from grokscope.store.tables import TableFile
from grokscope.store.writer import full_disk_named

BLOCK_BYTES = 2**26
CHUNK_BYTES = 2**16
OVERHEAD = 2**16  # bytes of HDF5's own in a file
COLUMN_OVERHEAD = 2**11


class Views(Protocol):
    """Groups in the older framework's layout, made from the tables of a final file."""

    def room(self, source: TableFile) -> int:
        """Bytes that they take at most."""

    def add(self, file: h5py.File) -> None:
        """Write them."""


def finalise(path: Path, views: Views | None = None) -> None:
    """Rewrite a live file in its final form, beside it, then put it in its place.

    Args:
        path: A live file with no writer any more. A final file is left as it is.
        views: Groups to add.

    Raises:
        StoreFullError: If the disk has no room for both; the live file stays as it is.
    """
    source = TableFile(path)
    if source.final:
        return
    draft = path.with_suffix(".final")
    room = _room(source) + (views.room(source) if views else 0)
    try:
        with full_disk_named(draft):
            with _plain(path) as live, new_file(draft, room) as file:
                _copy(live, file, source)
                if views:
                    views.add(file)
            _to_disk(draft)
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def _plain(path: Path) -> h5py.File:
    return h5py.File(path, "r", locking=False)


def _room(source: TableFile) -> int:
    """Bytes that the tables take at most: nothing compressed."""
    room = OVERHEAD
    with _plain(source.path) as live:
        for table, content in source.contents().items():
            group = live[table or "/"]
            room += sum(len(str(value)) for value in group.attrs.values())
            for name in content.columns:
                room += dataset_room(content.rows * row_bytes(group[name]))
    return room


def dataset_room(raw: int) -> int:
    """Bytes that a dataset takes at most: its content not compressed, and HDF5's own."""
    return COLUMN_OVERHEAD + raw + raw // 50


def _to_disk(path: Path) -> None:
    """The bytes reach the disk before the live file goes."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _copy(live: h5py.File, file: h5py.File, source: TableFile) -> None:
    file.attrs.update(live.attrs)
    file.attrs.update(schema_version=SCHEMA_VERSION, final=True)
    for table, content in source.contents().items():
        _copy_table(live, file, table, content.rows)
    live.copy(INDEX, file)


def _copy_table(live: h5py.File, file: h5py.File, table: str, rows: int) -> None:
    source, group = live[table or "/"], file.require_group(table or "/")
    if table:
        group.attrs.update(source.attrs)
    for name in [name for name in source if isinstance(source[name], h5py.Dataset)]:
        dataset = source[name]
        target = create_dataset(group, name, (rows, *dataset.shape[1:]), dataset.dtype)
        for block in blocks(rows, dataset):
            target[block] = dataset[block]


def create_dataset(
    group: h5py.Group, name: str, shape: tuple[int, ...], dtype: Any
) -> h5py.Dataset:
    """A dataset in its final form: in chunks of rows, gzip-4, shuffled; a small one plain."""
    size = int(np.prod(shape[1:], dtype=np.int64)) * np.dtype(dtype).itemsize
    if shape[0] * size <= 1024:
        return group.create_dataset(name, shape, dtype)
    chunk = (min(shape[0], max(1, CHUNK_BYTES // size)), *shape[1:])
    return group.create_dataset(
        name, shape, dtype, chunks=chunk, compression="gzip", compression_opts=4, shuffle=True
    )


def row_bytes(dataset: h5py.Dataset) -> int:
    """Bytes of one row of a dataset."""
    return dataset.nbytes // max(1, dataset.shape[0])


def blocks(rows: int, dataset: h5py.Dataset) -> Iterator[slice]:
    """Slices over the rows of a dataset that hold at most about ``BLOCK_BYTES`` each."""
    step = max(1, BLOCK_BYTES // max(1, row_bytes(dataset)))
    for start in range(0, rows, step):
        yield slice(start, min(rows, start + step))
