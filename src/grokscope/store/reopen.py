"""A live file that goes on with the rows of an earlier one: after a stop, or with more room."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from grokscope.store.layout import Table, blocks, read_attribute, row_bytes
from grokscope.store.nodes import checked_node, column_of
from grokscope.store.replacing import draft_of, publish
from grokscope.store.tables import TableFile, columns_of
from grokscope.store.writer import LiveFile, full_disk_named

FIRST_ROOM = 1024
Tables = Sequence[tuple[Table, int | None]]


def check_same_tables(path: Path, tables: Tables, epoch: int) -> None:
    """Refuse to go on with other columns, before any file is touched.

    Tables may be new; tables that hold rows before ``epoch`` must go on as they were.

    Raises:
        ValueError: Naming the file, the table and what differs.
    """
    if path.exists():
        given = {table.path: table for table, _ in tables}
        for name in TableFile(path).tables():
            if rows_before(path, name, epoch) and (found := _difference(path, name, given)):
                raise ValueError(
                    f"table '{name}' of {path} {found}: a resumed run must keep the kinds, "
                    "the sizes and the module that it began with."
                )


def _difference(path: Path, name: str, given: Mapping[str, Table]) -> str | None:
    """What keeps a table from being gone on with, in words."""
    if name not in given:
        return "is not written any more"
    with TableFile(path).open() as file:
        group = checked_node(file, name)
        columns = {n: column_of(file, name, n) for n in columns_of(file, name)}
        old = {n: (d.shape[1:], d.dtype) for n, d in columns.items()}
        attributes = {key: read_attribute(group, key) for key in given[name].attributes}
    new = {n: (c.shape, np.dtype(c.dtype)) for n, c in given[name].columns.items()}
    changed = sorted(n for n in old.keys() | new.keys() if old.get(n) != new.get(n))
    if changed:
        return f"has other columns ({', '.join(changed)})"
    changed = sorted(k for k, v in given[name].attributes.items() if attributes[k] != _plain(v))
    return f"has other {', '.join(changed)}" if changed else None


def _plain(value: Any) -> Any:
    """The value as it comes back from JSON."""
    return json.loads(json.dumps(value))


def rows_before(path: Path, table: str, epoch: int) -> int:
    """Complete rows of a table before an epoch; 0 without the file or the table."""
    if not path.exists():
        return 0
    source = TableFile(path)
    if not source.rows(table):
        return 0
    return int(np.searchsorted(source.read(table, "epoch"), epoch))


def open_live(path: Path, tables: Tables, epoch: int) -> LiveFile:
    """A live file at ``path`` that starts with the rows of the old one before ``epoch``.

    The old file stays in place until the new one is complete and on the disk. A table without a
    stated number of rows gets room for as many again as it has.
    """
    kept = {table.path: rows_before(path, table.path, epoch) for table, _ in tables}
    room = [
        (table, kept[table.path] + (max(FIRST_ROOM, kept[table.path]) if n is None else n))
        for table, n in tables
    ]
    draft = draft_of(path)
    live = LiveFile(path, room, draft)
    try:
        if any(kept.values()):
            _copy_rows(path, live, tables, kept)
            live.sync()
        with full_disk_named(path):
            publish(draft, path)
    except BaseException:
        live.close()
        draft.unlink(missing_ok=True)
        raise
    return live


def _copy_rows(path: Path, live: LiveFile, tables: Tables, kept: Mapping[str, int]) -> None:
    with TableFile(path).open() as old:
        for table, _ in tables:
            rows = kept[table.path]
            columns = {n: column_of(old, table.path, n) for n in table.columns if rows}
            widest = max(columns.values(), key=row_bytes, default=None)
            for block in blocks(rows, widest) if widest is not None else ():
                live.extend(table.path, {n: d[block] for n, d in columns.items()})
