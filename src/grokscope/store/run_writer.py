"""The three files of a run, written together."""

from __future__ import annotations

import errno
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from grokscope.store.dense import DenseMatrices
from grokscope.store.finalise import finalise
from grokscope.store.lock import FolderLock
from grokscope.store.periodic_sync import PeriodicSync
from grokscope.store.reopen import Tables, check_same_tables, open_live
from grokscope.store.replacing import make_folder, remove_drafts
from grokscope.store.tables import TableFile
from grokscope.store.views import GradientViews, LayerViews
from grokscope.store.writer import LiveFile

METRICS, FULL, LAYERS = "metrics.h5", "gop_full.h5", "gop_layers.h5"
FILES = (METRICS, FULL, LAYERS)
NO_LIMIT = 2**63 - 1
SYNC_SECONDS = 5.0
WRITTEN_UNDER_LOCK = (".h5", ".json", ".yaml", ".csv", ".ckpt")


class RunWriter:
    """Writes the rows of a run into ``folder``.

    Args:
        folder: The run's folder.
        tables: File name -> its tables, each with the number of rows to come; None where it is
            not known. A file with a full table is rewritten with twice the room.
        resume_epoch: None for a new run. Otherwise rows before this epoch are kept, later ones
            dropped, and the files go on.
        dense_top_k: Adds the dense matrix of every stored factor, with so many eigenvectors, when
            the run is finalised; None is without.
        sync_seconds: A power cut costs at most the rows of so many seconds.

    Raises:
        FileExistsError: For a new run in a folder that holds rows already.
        FolderInUseError: If another process writes there.
        ValueError: If the rows to go on with have other columns; the files stay as they are.
        StoreFullError: If the disk is full.
    """

    def __init__(
        self,
        folder: Path,
        tables: Mapping[str, Tables],
        resume_epoch: int | None = None,
        dense_top_k: int | None = None,
        sync_seconds: float = SYNC_SECONDS,
    ) -> None:
        self.folder, self._tables, self._dense_top_k = folder, tables, dense_top_k
        self._files: dict[str, LiveFile] = {}
        self._files_stay = threading.Lock()  # held while a file is synced, closed or changed
        self._periodic: PeriodicSync | None = None
        make_folder(folder)
        self._lock = FolderLock(folder)
        try:
            remove_drafts(folder, WRITTEN_UNDER_LOCK, older_than=0)
            self._open(resume_epoch)
            self._periodic = PeriodicSync(self._sync_files, sync_seconds)
        except BaseException:
            self.close()
            raise

    def _open(self, resume_epoch: int | None) -> None:
        if resume_epoch is None:
            _refuse_rows(self.folder)
        else:
            for name in FILES:
                check_same_tables(self.folder / name, self._tables.get(name, ()), resume_epoch)
        for name, tables in self._tables.items():
            self._files[name] = open_live(self.folder / name, tables, resume_epoch or 0)

    def append(self, file: str, table: str, row: Mapping[str, Any]) -> None:
        """Add one row; see :meth:`grokscope.store.writer.LiveFile.append`."""
        self._check_synced()
        self._room(file, table)
        self._files[file].append(table, row)

    def extend(self, file: str, table: str, rows: Mapping[str, Any]) -> None:
        """Add rows; see :meth:`grokscope.store.writer.LiveFile.extend`."""
        self._check_synced()
        start, count = 0, len(rows["epoch"])
        while start < count:
            stop = start + self._room(file, table)
            self._files[file].extend(table, {n: v[start:stop] for n, v in rows.items()})
            start = stop

    def _room(self, file: str, table: str) -> int:
        """Rows that a table has room for, at least one."""
        if not self._files[file].room(table):
            self._grow(file)
        return self._files[file].room(table)

    def _grow(self, file: str) -> None:
        """The same rows with room for as many again; what was stated has proved too low."""
        tables = [(table, None) for table, _ in self._tables[file]]
        old = self._files[file]
        with self._files_stay:
            _check_rows(self.folder / file, old.rows())
            self._files[file] = open_live(self.folder / file, tables, NO_LIMIT)
            old.close()

    def rows(self) -> dict[str, dict[str, int]]:
        """File -> table -> rows written so far."""
        return {name: file.rows() for name, file in self._files.items()}

    def sync(self) -> None:
        """Return when all rows written so far are on the disk.

        Raises:
            StoreFullError: If the disk is full.
            OSError: If they cannot reach it.
        """
        self._check_synced()
        self._sync_files()

    def _sync_files(self) -> None:
        with self._files_stay:
            for file in self._files.values():
                file.sync()

    def _check_synced(self) -> None:
        if self._periodic is not None:
            self._periodic.check()

    def close(self) -> None:
        """Close the files as they are: live, and readable."""
        with suppress(OSError):  # what it is closed for is the error to raise
            self._sync_files()
        self._close_files()
        self._lock.release()

    def _close_files(self) -> None:
        if self._periodic is not None:
            self._periodic.close()
        for file in self._files.values():
            file.close()

    def finalise(self) -> None:
        """Close the files and rewrite them in their final form.

        Raises:
            StoreFullError: If the disk has no room for that; the rows stay as they are.
            OSError: If rows could not reach the disk, or the new files are not the same.
        """
        if self._periodic is not None:
            self._periodic.close()
        self._check_synced()
        for name, file in self._files.items():
            _check_rows(self.folder / name, file.rows())  # by the checksums of what is not synced
        self._sync_files()
        self._close_files()
        epochs: list[int] = []
        dense = None
        if FULL in self._files:
            source = TableFile(self.folder / FULL)
            if self._dense_top_k is not None:
                dense = DenseMatrices(source, self._dense_top_k)
            finalise(source.path, GradientViews(dense))
            epochs = source.read("batch", "epoch").tolist()
        if LAYERS in self._files:
            finalise(self.folder / LAYERS, LayerViews(frozenset(epochs), dense))
        finalise(self.folder / METRICS)
        self._lock.release()


def _check_rows(path: Path, written: Mapping[str, int]) -> None:
    """Refuse to rewrite a file whose rows cannot all be read back."""
    file = TableFile(path)
    for table, count in written.items():
        if (found := file.rows(table)) != count:
            words = f"only {found} of the {count} rows of table '{table}' can be read back"
            raise OSError(errno.EIO, words, str(path))


def _refuse_rows(folder: Path) -> None:
    if found := [name for name in FILES if (folder / name).exists()]:
        raise FileExistsError(
            f"output_dir must not hold another run's rows, got {folder} with {', '.join(found)}; "
            "choose another folder or resume with ckpt_path."
        )
