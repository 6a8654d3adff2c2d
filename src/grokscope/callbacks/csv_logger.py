"""``metrics.csv``: a row a logged epoch."""

from __future__ import annotations

import csv
import os
import time
from argparse import Namespace
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only

FLUSH_SECONDS = 2.0


class CSVLogger(Logger):
    """Appends scalars to ``<output_dir>/metrics.csv``: every two seconds, and with checkpoints.

    Lightning's own logger deletes the file when a run is resumed; this one keeps the rows
    before the epoch that it goes on from. A name that comes later becomes a new column.

    Args:
        output_dir: The run folder.
    """

    def __init__(self, output_dir: str | Path) -> None:
        super().__init__()
        self.path = Path(output_dir) / "metrics.csv"
        self._names: list[str] = []
        self._pending: list[dict[str, Any]] = []
        self._begun = False
        self._flushed = time.monotonic()

    @property
    def _draft(self) -> Path:
        return self.path.with_suffix(".part")

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
        """Write the rows taken so far."""
        self._flushed = time.monotonic()
        if not self._pending:
            return
        new = dict.fromkeys(name for row in self._pending for name in row)
        if added := [name for name in new if name not in self._names]:
            rows = self._read()
            self._names += added
            self._rewrite(rows)
        with self.path.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, self._names).writerows(self._pending)
        self._pending = []

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Write what is left."""
        self.save()

    @rank_zero_only
    def begin(self, first_step: int) -> None:
        """Keep the rows of an earlier part of this run, before this epoch, and drop the others."""
        self._begun = True
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._draft.unlink(missing_ok=True)
        rows = [row for row in self._read() if int(row["epoch"] or 0) < first_step]
        self._names = list(rows[0]) if rows else []
        if rows:
            self._rewrite(rows)
        else:
            self.path.unlink(missing_ok=True)

    def _read(self) -> list[dict[str, Any]]:
        """Whole rows; a process that was killed may have left a part of one."""
        if not self.path.exists():
            return []
        with self.path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(line for line in file if line.endswith("\n")))

    def _rewrite(self, rows: list[dict[str, Any]]) -> None:
        with self._draft.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self._names)
            writer.writeheader()
            writer.writerows(rows)
        os.replace(self._draft, self.path)
