"""The rows of a run as plain h5py finds them, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

FILES = ("metrics.h5", "gop_layers.h5", "gop_full.h5")
Key = tuple[str, str]  # file, table
Rows = dict[Key, dict[str, NDArray]]


def plain_rows(folder: Path) -> Rows:
    """Every counted row, read as docs/files.md says, by nothing but h5py.

    Raises:
        OSError: If a file does not open.
    """
    found: Rows = {}
    for name in FILES:
        if (folder / name).exists():
            with h5py.File(folder / name, "r") as file:
                for table, count in _counts(file).items():
                    group = file[table or "/"]
                    found[name, table] = {
                        column: node[:count]
                        for column, node in group.items()
                        if isinstance(node, h5py.Dataset)
                    }
    return found


def _counts(file: h5py.File) -> dict[str, int]:
    counts: dict[str, int] = {}

    def take(name: str, node: object) -> None:
        if isinstance(node, h5py.Dataset):
            counts["" if name == "rows" else name] = int(node[0])

    file["index"].visititems(take)
    return counts


def epochs_of(rows: Rows) -> dict[Key, list[int]]:
    """Epochs of each table that has rows."""
    return {key: columns["epoch"].tolist() for key, columns in rows.items()}


def missing(there: Mapping[Key, list[int]], wanted: Mapping[Key, list[int]]) -> int:
    """How many wanted rows are not there."""
    return sum(len(set(epochs) - set(there.get(key, ()))) for key, epochs in wanted.items())


def twice(rows: Rows) -> int:
    """Rows whose epoch is not later than that of the row before."""
    return sum(int((np.diff(columns["epoch"]) <= 0).sum()) for columns in rows.values())


def different(rows: Rows, reference: Rows) -> int:
    """Rows of which a byte is not that of the same row of the reference."""
    wrong = 0
    for key, columns in rows.items():
        if key not in reference or columns.keys() != reference[key].keys():
            wrong += len(columns["epoch"])
            continue
        theirs = reference[key]
        place = np.searchsorted(theirs["epoch"], columns["epoch"])
        known = place < len(theirs["epoch"])
        bad = ~known
        for name, values in columns.items():
            ours, other = _bytes(values[known]), _bytes(theirs[name][place[known]])
            bad[known] |= (ours != other).any(axis=1)
        wrong += int(bad.sum())
    return wrong


def _bytes(values: NDArray) -> NDArray:
    """(rows, bytes)."""
    if not len(values):
        return np.zeros((0, 1), np.uint8)
    return np.ascontiguousarray(values).reshape(len(values), -1).view(np.uint8)


def before(epochs: Mapping[Key, list[int]], stop: int) -> dict[Key, list[int]]:
    """Epochs below ``stop``."""
    return {key: [e for e in found if e < stop] for key, found in epochs.items()}


def together(a: Mapping[Key, list[int]], b: Mapping[Key, list[int]]) -> dict[Key, list[int]]:
    """Epochs in either."""
    return {key: sorted({*a.get(key, ()), *b.get(key, ())}) for key in a.keys() | b.keys()}


def everything(folder: Path) -> dict[str, bytes]:
    """Every dataset of the files of an ended run, views included."""
    found: dict[str, bytes] = {}
    for name in FILES:
        with h5py.File(folder / name, "r") as file:
            file.visititems(lambda path, node, name=name: _take(found, f"{name}:{path}", node))
    return found


def _take(found: dict[str, bytes], path: str, node: object) -> None:
    if isinstance(node, h5py.Dataset):
        found[path] = node[()].tobytes()
