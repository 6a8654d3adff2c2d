"""How much disk a run takes: predicted before it starts, looked at while it goes on."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from grokscope.store.info import DISK_FULL, FULL, update_info
from grokscope.store.run_writer import FILES
from grokscope.store.writer import StoreFullError, full_disk_named

CHECKPOINTS = "checkpoints"
REPORT_SECONDS = 30.0
UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


@dataclass(frozen=True)
class Part:
    """One part of a run folder, such as a table.

    Attributes:
        file: The file that it lies in, or the folder of several.
        name: Of the part within that file; empty for the whole of it.
        rows: Most rows (or checkpoints) that a run writes.
        row_bytes: Bytes of one, not compressed.
        setting: The key that decides how many there are.
        basis: What makes the number an estimate; empty where it is exact.
        at_end: Whether a file gets it only when it is rewritten at the end of the run.
    """

    file: str
    name: str
    rows: int
    row_bytes: int
    setting: str
    basis: str = ""
    at_end: bool = False

    @property
    def bytes(self) -> int:
        """All rows."""
        return self.rows * self.row_bytes

    def __str__(self) -> str:
        return f"{self.file} {self.name}".strip()


@dataclass(frozen=True)
class Forecast:
    """What a run will write at most, before compression."""

    parts: Sequence[Part]

    @property
    def total(self) -> int:
        """Bytes of the run folder."""
        return sum(part.bytes for part in self.parts)

    @property
    def scratch(self) -> int:
        """Further bytes for a moment: the rows of a file are rewritten beside the old ones."""
        rows = [part for part in self.parts if part.file in FILES and not part.at_end]
        return max((sum(p.bytes for p in rows if p.file == part.file) for part in rows), default=0)

    def largest(self, count: int = 2) -> str:
        """The parts that take most, each with the setting to change."""
        chosen = sorted(self.parts, key=lambda part: -part.bytes)[:count]
        return ", ".join(f"{p} {size_text(p.bytes)} ({p.setting})" for p in chosen if p.bytes)

    def lines(self) -> Iterator[str]:
        """A table as text: part, rows, bytes a row, bytes, setting and basis."""
        titles = ("part", "rows", "a row", "bytes", "setting")
        cells = [titles, *(_cells(part) for part in self.parts)]
        cells.append(("total, at most", "", "", size_text(self.total), ""))
        cells.append(("and for a moment", "", "", size_text(self.scratch), "rewriting a file"))
        widths = [max(len(row[i]) for row in cells) for i in range(4)]
        for part, *numbers, setting in cells:
            columns = [n.rjust(w) for n, w in zip(numbers, widths[1:], strict=True)]
            yield "  ".join([part.ljust(widths[0]), *columns, setting]).rstrip()


def _cells(part: Part) -> tuple[str, str, str, str, str]:
    setting = f"{part.setting}; {part.basis}" if part.basis else part.setting
    numbers = size_text(part.row_bytes), size_text(part.bytes)
    return str(part), f"{part.rows:,}", *numbers, setting


def size_text(size: int) -> str:
    """``1234567`` -> ``1.2 MB``."""
    number, unit = float(size), 0
    while number >= 999.95 and unit < len(UNITS) - 1:
        number, unit = number / 1000, unit + 1
    return f"{number:.1f} {UNITS[unit]}" if unit else f"{size} B"


def too_large(forecast: Forecast, folder: Path, max_bytes: int | None) -> str | None:
    """Why a run is not to start, in one line; None if it may.

    Args:
        forecast: What it will write.
        folder: Its folder, which need not exist; what it holds already counts as there.
        max_bytes: The limit; None is the free space alone.
    """
    cure = f"largest: {forecast.largest()}; lower these, or set storage.on_too_large=warn."
    if max_bytes is not None and forecast.total > max_bytes:
        return (
            f"storage.max_bytes must be >= the {forecast.total:,} bytes "
            f"({size_text(forecast.total)}) predicted for this run, got {max_bytes:,}; {cure}"
        )
    needed = forecast.total + forecast.scratch - folder_bytes(folder)
    if needed > (free := free_bytes(folder)):
        return (
            f"the run must fit on the disk: it may need {size_text(needed)}, and {folder} has "
            f"{size_text(free)} free (paths.log_dir); {cure}"
        )
    return None


def free_bytes(folder: Path) -> int:
    """Free space of the file system that a folder is on, or will be on."""
    folder = folder.absolute()
    there = next(place for place in (folder, *folder.parents) if place.is_dir())
    return shutil.disk_usage(there).free


def folder_bytes(folder: Path) -> int:
    """Disk taken by the files of a run folder and its checkpoints; holes take none."""
    return sum(map(_bytes_within, (folder, folder / CHECKPOINTS)))


def _bytes_within(folder: Path) -> int:
    size = 0
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_file(follow_symlinks=False):
                    size += _on_disk(entry.stat(follow_symlinks=False))
    except OSError:  # not there, or a file that has just been renamed
        pass
    return size


def _on_disk(stat: os.stat_result) -> int:
    blocks: int | None = getattr(stat, "st_blocks", None)  # Windows has none
    return stat.st_size if blocks is None else 512 * blocks


class Growth:
    """Keeps ``disk_bytes`` in ``run.json`` up to date, at most every ``seconds``.

    Args:
        folder: The run folder.
        seconds: Between two looks at the folder.
    """

    def __init__(self, folder: Path, seconds: float = REPORT_SECONDS) -> None:
        self._folder, self._seconds = folder, seconds
        self._looked = time.monotonic()

    def report(self) -> None:
        """Look, if it is time.

        Raises:
            StoreFullError: If there is no room to write it down.
        """
        if time.monotonic() - self._looked < self._seconds:
            return
        self._looked = time.monotonic()
        with full_disk_named(self._folder), suppress(ValueError):  # somebody's own run.json
            update_info(self._folder, disk_bytes=folder_bytes(self._folder))


def full_disk_cause(error: BaseException | None) -> OSError | None:
    """The error of a full disk, a quota or a size limit that is behind another; None if none.

    Of several, the store's own, which says most, or else the first that happened.
    """
    found: OSError | None = None
    while error is not None:
        if isinstance(error, StoreFullError):
            return error
        if isinstance(error, OSError) and error.errno in FULL:
            found = error
        error = error.__cause__ or error.__context__
    return found


def failure(error: BaseException) -> str:
    """The status of a run that an error ended."""
    return "failed" if full_disk_cause(error) is None else DISK_FULL


def full_disk_text(error: OSError, folder: Path) -> str:
    """One line for the user: what was full, and how the run can go on."""
    if isinstance(error, StoreFullError):
        text = str(error)
    else:
        name = error.filename or folder
        text = f"no room for {name} ({error.strerror}); free some space, then resume."
    saved = any((folder / CHECKPOINTS).glob("[!.]*.ckpt"))
    how = f"run={folder}" if saved else "there is no checkpoint yet: start again"
    return f"{text.removesuffix('.')} ({how})."
