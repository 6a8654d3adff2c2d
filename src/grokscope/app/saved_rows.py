"""Whether the rows are there that a checkpoint presumes.

A checkpoint reaches the disk after the rows before it. Where they are missing all the same (a
disk that lies about its cache, a file that was put back from a backup), going on from it would
leave a hole in the run.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from grokscope.app.errors import UserError
from grokscope.store.reopen import rows_before
from grokscope.store.run_writer import FILES


def missing_rows(folder: Path, content: dict[str, Any], passes: int) -> str | None:
    """What is missing in a run's folder, in words; None if all is there.

    Args:
        folder: Of the run.
        content: Of the checkpoint, which may be a stranger's.
        passes: That it has done.

    Raises:
        UserError: If a file is gone or cannot be read: then older checkpoints do not help.
    """
    for name, table, count in _saved(content):
        there = _rows(folder / name, table, passes)
        if there < count:
            return f"{name} has {there} of the {count} rows before it"
    return None


def _rows(path: Path, table: str, passes: int) -> int:
    if not path.exists():
        raise UserError(
            f"{path} must be there, with the rows before the checkpoint, got no such file: put "
            "it back, or begin a new run."
        )
    try:
        return rows_before(path, table, passes)
    except ValueError as error:
        raise UserError(str(error)) from error


def _saved(content: dict[str, Any]) -> Iterator[tuple[str, str, int]]:
    """File, table and rows, as the checkpoint's callbacks have noted them."""
    states = content.get("callbacks")
    for state in states.values() if isinstance(states, dict) else ():
        rows = state.get("rows") if isinstance(state, dict) else None
        for name, tables in rows.items() if isinstance(rows, dict) else ():
            for table, count in tables.items() if isinstance(tables, dict) else ():
                if name in FILES and isinstance(table, str) and isinstance(count, int):
                    yield name, table, count
