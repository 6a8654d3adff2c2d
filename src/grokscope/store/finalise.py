"""Turns a live file into its final form: cut to its rows, chunked, gzip-4, shuffled."""

from __future__ import annotations

import errno
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import h5py
import numpy as np

from grokscope.store.attributes import carry_attributes
from grokscope.store.hdf5_files import new_hdf5, open_hdf5
from grokscope.store.layout import INDEX, ROOT, SCHEMA_VERSION, blocks
from grokscope.store.replacing import draft_of, publish
from grokscope.store.tables import Content, TableFile
from grokscope.store.writer import full_disk_named

CHUNK_BYTES = 2**16
COLUMN_OVERHEAD = 2**11


class Views(Protocol):
    """Groups in the older framework's layout, made from the tables of a final file."""

    def add(self, file: h5py.File, check: Callable[[], None]) -> None:
        """Write them; ``check`` raises what has failed so far, on a full disk for example."""


def finalise(path: Path, views: Views | None = None) -> None:
    """Rewrite a live file in its final form, beside it, then put it in its place.

    The new file is on the disk, and its columns have been read again and compared with the live
    ones, before the live one goes.

    Args:
        path: A live file with no writer any more. A final file is left as it is.
        views: Groups to add.

    Raises:
        StoreFullError: If the disk has no room for both; the live file stays as it is.
        OSError: If the new file cannot be written, or is not the same; the live file stays.
    """
    source = TableFile(path)
    if source.final:
        return
    draft = draft_of(path)
    with full_disk_named(path):
        try:
            with open_hdf5(path) as live, new_hdf5(draft) as (file, check):
                sums = _copy(live, file, source.contents(), check)
                if views:
                    views.add(file, check)
            _compare(draft, sums)
            publish(draft, path)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise


def dataset_room(raw: int) -> int:
    """Bytes that a dataset takes at most: its content not compressed, and HDF5's own."""
    return COLUMN_OVERHEAD + raw + raw // 50


def _copy(
    live: h5py.File, file: h5py.File, tables: Mapping[str, Content], check: Callable[[], None]
) -> dict[str, int]:
    """The tables; checksum of each column by its path."""
    sums = {}
    for table, content in tables.items():
        group = file.require_group(table or "/")
        for name in content.columns:
            sums[f"{group.name}/{name}"] = _copy_column(live[table or "/"], group, name, content)
            check()
        file[f"{INDEX}/{table or ROOT}"] = np.array([content.rows], "<i8")
    carry_attributes(live, file)
    file.attrs.update(schema_version=SCHEMA_VERSION, final=True)
    return sums


def _copy_column(source: h5py.Group, group: h5py.Group, name: str, content: Content) -> int:
    dataset = source[name]
    shape = (content.rows, *dataset.shape[1:])
    target = create_dataset(group, name, shape, dataset.dtype)
    checksum = 0
    for block in blocks(content.rows, dataset):
        values = dataset[block]
        checksum = zlib.crc32(values, checksum)
        target[block] = values
    return checksum


def _compare(draft: Path, sums: Mapping[str, int]) -> None:
    """Refuse a new file whose columns are not those of the live one."""
    with open_hdf5(draft) as file:
        for path, expected in sums.items():
            checksum = 0
            for block in blocks(len(file[path]), file[path]):
                checksum = zlib.crc32(file[path][block], checksum)
            if checksum != expected:
                raise OSError(errno.EIO, f"{path} came back other than it was written", str(draft))


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
