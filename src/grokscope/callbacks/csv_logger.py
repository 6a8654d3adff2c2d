"""``metrics.csv``: a row a logged epoch."""

from __future__ import annotations

import csv
import io
import os
import time
from argparse import Namespace
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only

from grokscope.store.nofollow import open_regular
from grokscope.store.pwrite import write_at
from grokscope.store.replacing import make_folder, naming, replacing, to_disk

FLUSH_SECONDS = 2.0
MOST_LINE = 2**20  # characters: more than any line of ours; what follows is no line
SHOWN = 60  # characters of a line that cannot be read
Fields = list[str]


class CSVLogger(Logger):
    """Appends scalars to ``<output_dir>/metrics.csv``: every two seconds, and with checkpoints.

    Lightning's own logger deletes the file when a run is resumed; this one keeps the rows
    before the epoch that it goes on from. A name that comes later becomes a new column. The file
    is never held in memory.

    Args:
        output_dir: The run folder.
    """

    def __init__(self, output_dir: str | Path) -> None:
        super().__init__()
        self.path = Path(output_dir) / "metrics.csv"
        self._names: Fields = []
        self._pending: list[dict[str, Any]] = []
        self._begun = False
        self._flushed = time.monotonic()

    @property
    def name(self) -> str:
        """Always ``csv``."""
        return "csv"

    @property
    def version(self) -> str:
        """Always empty: one run, one file."""
        return ""

    @property
    def log_dir(self) -> str:
        """The run folder."""
        return str(self.path.parent)

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kw: Any) -> None:
        """Do nothing: ``config.yaml`` holds the settings."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Take one row; ``step`` is the epoch."""
        if not self._begun:
            self.begin(step or 0)
        self._pending.append({"epoch": step, **metrics})
        if time.monotonic() - self._flushed > FLUSH_SECONDS:
            self.save()

    @rank_zero_only
    def save(self) -> None:
        """Write the rows taken so far; those that cannot be written are kept."""
        self._flushed = time.monotonic()
        if not self._pending:
            return
        names = dict.fromkeys(name for row in self._pending for name in row)
        added = [name for name in names if name not in self._names]
        if added or self._is_elsewhere():
            lines = self._lines(None)
            next(lines, None)
            self._rewrite([*self._names, *added], lines, len(added))
        rows = [[row.get(name, "") for name in self._names] for row in self._pending]
        _append(self.path, _text(rows))
        self._pending = []

    def _is_elsewhere(self) -> bool:
        """Whether somebody has moved the file, or linked to it, while the run goes on."""
        return not self.path.exists() or self.path.lstat().st_nlink > 1

    @rank_zero_only
    def sync(self) -> None:
        """Return when all rows taken so far are on the disk."""
        self.save()
        if self.path.exists():
            with naming(self.path), open(open_regular(self.path), "rb") as file:
                to_disk(file.fileno())

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Write what is left."""
        self.save()

    @rank_zero_only
    def check(self) -> None:
        """Refuse a file that is no longer as it was written; nothing is changed.

        Raises:
            ValueError: Naming the file and its first line that cannot be read.
        """
        for _ in self._lines(None):
            pass

    @rank_zero_only
    def begin(self, first_step: int) -> None:
        """Keep the rows of an earlier part of this run, before this epoch, and drop the others.

        Raises:
            ValueError: As for :meth:`check`.
        """
        self._begun = True
        make_folder(self.path.parent)
        lines = self._lines(first_step)
        names, first = next(lines, []), next(lines, None)
        if first is None:
            self.path.unlink(missing_ok=True)
        else:
            self._rewrite(names, chain([first], lines))

    def _lines(self, before: int | None) -> Iterator[Fields]:
        """Names, then the rows before an epoch (None: all); a kill may have left half of one."""
        lines = self._read()
        names = next(lines, None)
        if names is None:
            return
        if "epoch" not in names or len(set(names)) < len(names):
            raise self._foreign(names)
        at = names.index("epoch")
        yield names
        for fields in lines:
            epoch = _whole(fields[at]) if len(fields) == len(names) else None
            if epoch is None:
                raise self._foreign(fields)
            if before is None or epoch < before:
                yield [*fields[:at], str(epoch), *fields[at + 1 :]]

    def _read(self) -> Iterator[Fields]:
        try:
            fd = open_regular(self.path)
        except FileNotFoundError:
            return
        with open(fd, newline="", encoding="utf-8-sig") as file:
            try:
                lines = iter(lambda: file.readline(MOST_LINE), "")
                yield from (fields for fields in csv.reader(_whole_lines(lines)) if fields)
            except (csv.Error, UnicodeDecodeError) as error:
                raise self._foreign([str(error)]) from None

    def _foreign(self, fields: Fields) -> ValueError:
        line = ",".join(fields)
        return ValueError(
            f"{self.path} must be as it was written, names and then rows with an epoch each, "
            f"separated by commas; got {line[:SHOWN]!r}. Move it away, "
            "and the run goes on with a new one."
        )

    def _rewrite(self, names: Fields, rows: Iterable[Fields], added: int = 0) -> None:
        """Replace the file by these rows, which have nothing in the last ``added`` columns."""
        with replacing(self.path) as file:
            file.write(_text([names]))
            file.writelines(_text([[*fields, *[""] * added]]) for fields in rows)
        self._names = names


def _text(rows: Iterable[Iterable[Any]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    return text.getvalue().encode("utf-8")


def _append(path: Path, data: bytes) -> None:
    """All of it, or nothing and an error."""
    with naming(path), open(open_regular(path, os.O_WRONLY | os.O_CREAT), "wb") as file:
        size = os.fstat(file.fileno()).st_size
        try:
            write_at(file.fileno(), data, size)
        except OSError:
            file.truncate(size)
            raise


def _whole_lines(lines: Iterator[str]) -> Iterator[str]:
    """All but a last one that a cut has torn; where zeros begin, nothing was written any more."""
    for line in lines:
        if "\0" in line:
            return
        if line.endswith("\n"):
            yield line


def _whole(text: str) -> int | None:
    """An epoch, which a spreadsheet or pandas may have written as 3.0; None if it is none."""
    try:
        number = float(text)
    except ValueError:
        return None
    return int(number) if number.is_integer() and number >= 0 else None
