"""How many rows of a table are whole: by its count, and after a power cut by its checksums."""

from __future__ import annotations

import h5py

from grokscope.store.layout import (
    CHECK,
    INDEX,
    LIVE,
    ROOT,
    SYNCED,
    blocks,
    read_attribute,
    row_bytes,
)
from grokscope.store.nodes import (
    check_rows,
    check_size,
    checked_node,
    column_of,
    counter,
    has,
    is_plain,
)
from grokscope.store.row_checks import RowChecks, first_bad


class RowCounts:
    """Counts rows, and remembers of each table how many of them it has checked already."""

    def __init__(self) -> None:
        self._checked: dict[tuple[int, str], int] = {}

    def rows(self, file: h5py.File, table: str) -> int:
        """Complete rows of a table; 0 if the file has no such table.

        In a final file the count is right. In a live one so are the rows noted as synced; those
        beyond them are rows up to the first whose checksum does not hold.
        """
        name = table or ROOT
        if not has(file, f"{INDEX}/{name}"):
            return 0
        count = counter(file, f"{INDEX}/{name}")
        if not has(file, f"{SYNCED}/{name}"):
            return count
        key = file.headers.inode, table
        known = max(counter(file, f"{SYNCED}/{name}"), self._checked.get(key, 0))
        if known < count:
            known += _rows_that_hold(file, table, known, count)
            self._checked[key] = known
        return known


def _rows_that_hold(file: h5py.File, table: str, first: int, stop: int) -> int:
    stored = _plain(file, f"{CHECK}/{table or ROOT}", stop)
    datasets = _datasets(file, table, read_attribute(stored, "columns"), stop)
    checks = RowChecks({name: row_bytes(each) for name, each in datasets.items()})
    widest = max(datasets.values(), key=row_bytes)
    held = 0
    for block in blocks(stop, widest, first):
        found = checks.of_rows({name: each[block] for name, each in datasets.items()})
        good = first_bad(found, stored[block])
        held += good
        if good < len(found):
            break
    return held


def _datasets(file: h5py.File, table: str, names: object, rows: int) -> dict[str, h5py.Dataset]:
    """Those that a row is written to, in the order of its checksum."""
    if not isinstance(names, list) or not names or not all(isinstance(n, str) for n in names):
        raise ValueError(f"{CHECK}/{table or ROOT} must name the columns that it is of.")
    found = {}
    for name in names:
        live = name == LIVE
        each = (
            _plain(file, f"{LIVE}/{table or ROOT}", rows) if live else column_of(file, table, name)
        )
        check_rows(each, rows)
        check_size(file, each, rows)
        found[name] = each
    return found


def _plain(file: h5py.File, path: str, rows: int) -> h5py.Dataset:
    found = checked_node(file, path)
    if not isinstance(found, h5py.Dataset) or not is_plain(found.id):
        raise ValueError(f"{path} must be numbers in this file.")
    check_rows(found, rows)
    return found
