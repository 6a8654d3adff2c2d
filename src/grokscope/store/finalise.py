"""Turns a live file into its final form: cut to its rows, chunked, gzip-4, shuffled."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from grokscope.store.layout import INDEX, SCHEMA_VERSION, read_attribute
from grokscope.store.tables import TableFile

BLOCK_BYTES = 2**26
CHUNK_BYTES = 2**16


def finalise(path: Path, add_views: Callable[[h5py.File], None] | None = None) -> None:
    """Rewrite a live file in its final form, beside it, then put it in its place.

    Args:
        path: A live file with no writer any more. A final file is left as it is.
        add_views: Adds groups of the older framework's layout that refer to the tables.
    """
    source = TableFile(path)
    if source.final:
        return
    draft = path.with_suffix(".final")
    with h5py.File(path, "r", locking=False) as live, h5py.File(draft, "w", libver="v108") as file:
        file.attrs.update(live.attrs)
        file.attrs.update(schema_version=SCHEMA_VERSION, final=True)
        for table in source.tables():
            _copy_table(live, file, table, source)
        live.copy(INDEX, file)
        if add_views:
            add_views(file)
    os.replace(draft, path)


def _copy_table(live: h5py.File, file: h5py.File, table: str, source: TableFile) -> None:
    group = file.require_group(table or "/")
    if table:
        group.attrs.update(live[table].attrs)
    rows = source.rows(table)
    for name in source.columns(table):
        dataset = live[table or "/"][name]
        target = _create(group, name, (rows, *dataset.shape[1:]), dataset.dtype)
        for block in blocks(rows, dataset):
            target[block] = dataset[block]


def _create(group: h5py.Group, name: str, shape: tuple[int, ...], dtype: Any) -> h5py.Dataset:
    row_bytes = max(1, int(np.prod(shape[1:], dtype=np.int64)) * np.dtype(dtype).itemsize)
    if shape[0] * row_bytes <= 1024:
        return group.create_dataset(name, shape, dtype)
    chunk = (min(shape[0], max(1, CHUNK_BYTES // row_bytes)), *shape[1:])
    return group.create_dataset(
        name, shape, dtype, chunks=chunk, compression="gzip", compression_opts=4, shuffle=True
    )


def blocks(rows: int, dataset: h5py.Dataset) -> Iterator[slice]:
    """Slices over the rows of a dataset that hold at most about ``BLOCK_BYTES`` each."""
    row_bytes = max(1, dataset.nbytes // max(1, dataset.shape[0]))
    step = max(1, BLOCK_BYTES // row_bytes)
    for start in range(0, rows, step):
        yield slice(start, min(rows, start + step))


def add_gradient_views(file: h5py.File) -> None:
    """``epoch_<n>/gradient`` and ``eigenvalues`` for each row of the ``batch`` table.

    The gradient is a virtual dataset: a view of its row, which takes no space.
    """
    batch = file["batch"]
    gradients = batch["gradient"]
    source = h5py.VirtualSource(".", "batch/gradient", shape=gradients.shape)
    for row, epoch in enumerate(batch["epoch"][:]):
        group = file.create_group(f"epoch_{int(epoch)}")
        layout = h5py.VirtualLayout(shape=gradients.shape[1:], dtype=gradients.dtype)
        layout[...] = source[row]
        group.create_virtual_dataset("gradient", layout)
        group["eigenvalues"] = batch["eigenvalues"][row]
        group.attrs.update(step=int(batch["step"][row]), n_batches=int(batch["n_batches"][row]))


def layer_views(epochs: list[int]) -> Callable[[h5py.File], None]:
    """``epoch_<n>/<layer>`` with ``eigenvalues_top_k`` and its metrics as attributes.

    For the ``batch`` kind; the ``weight`` kind lies in ``epoch_<n>/<layer>/weight``.

    Args:
        epochs: Those that get a group. The tables hold all rows.
    """

    def add(file: h5py.File) -> None:
        for kind in ("batch", "weight"):
            if kind in file:
                _add_layer_groups(file, kind, set(epochs))

    return add


def _add_layer_groups(file: h5py.File, kind: str, epochs: set[int]) -> None:
    table = file[kind]
    layers = read_attribute(table, "layers")
    metrics = [n for n in table if table[n].ndim == 2]
    for row, epoch in enumerate(table["epoch"][:]):
        if int(epoch) not in epochs:
            continue
        values = {name: table[name][row] for name in metrics}
        spectra = table["eigenvalues_top_k"][row]
        for i, layer in enumerate(layers):
            path = f"epoch_{int(epoch)}/{layer}" + ("" if kind == "batch" else f"/{kind}")
            group = file.require_group(path)
            group["eigenvalues_top_k"] = spectra[i][np.isfinite(spectra[i])]
            group.attrs.update({name: float(value[i]) for name, value in values.items()})
