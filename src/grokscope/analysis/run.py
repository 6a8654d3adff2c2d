"""``Run``: everything a run has written, for a notebook on a laptop."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from grokscope.analysis.grokking import GrokkingTimes, grokking_times
from grokscope.analysis.metrics import Metrics
from grokscope.analysis.settings import plain_settings
from grokscope.store.factors import KINDS, Factors, require_layer, stored_gradients
from grokscope.store.info import NAME as INFO_NAME
from grokscope.store.info import read_info
from grokscope.store.lazy import LazyGOP
from grokscope.store.lock import abandoned
from grokscope.store.nofollow import subfolder
from grokscope.store.run_writer import FILES, FULL, LAYERS, METRICS
from grokscope.store.tables import TableFile
from grokscope.validation import require_choice, require_float

Array = NDArray[np.float64]
MARKS = (INFO_NAME, METRICS)
MEASURED = "measured"  # in a run's folder: rows that were measured at its checkpoints


class Run:
    """A finished, stopped or running run, read without disturbing it.

    Open with :meth:`open`. Arrays are read when asked for, so a running run gives its newest
    rows each time. A damaged or foreign file gives a ``ValueError`` that names it.

    Example:
        >>> run = Run.open("logs/runs/quickstart/2026-01-01_12-00-00")  # doctest: +SKIP
        >>> run.metrics["test_acc"][-1], run.gop(100)[0, :5]  # doctest: +SKIP
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def open(cls, path: str | Path) -> Run:
        """Open a run's folder.

        Raises:
            FileNotFoundError: If the folder holds no run.
        """
        folder = Path(path)
        if not any((folder / name).exists() for name in (INFO_NAME, *FILES)):
            raise FileNotFoundError(
                f"run must be a run folder, got {folder}: no {INFO_NAME} there."
            )
        return cls(folder)

    def measured(self, name: str = "default") -> Run:
        """What ``src/measure.py`` has measured at this run's checkpoints, under that name.

        Raises:
            FileNotFoundError: If there is nothing.
            NotPlainFileError: If a link leads there.
        """
        return Run.open(subfolder(self.path, MEASURED, name))

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r}, status={self.status!r})"

    @property
    def info(self) -> dict[str, Any]:
        """Content of ``run.json``."""
        return read_info(self.path)

    @property
    def name(self) -> str:
        """The experiment's name, or else the folder's; control characters replaced."""
        return printable(str(self.info.get("name", self.path.name)))

    @property
    def status(self) -> str:
        """``running``, ``killed``, ``finished``, ``stopped``, ``failed`` or ``unknown``.

        Also ``failed: disk full``. ``killed``: the process could not say so, but is gone (see
        :func:`grokscope.store.lock.abandoned`).
        """
        status = printable(str(self.info.get("status", "unknown")))
        return "killed" if status == "running" and abandoned(self.path) else status

    @cached_property
    def config(self) -> dict[str, Any]:
        """The resolved configuration as plain values; empty for runs without one.

        Raises:
            ValueError: If the file is not a YAML mapping of plain values.
        """
        path = self.path / "config.yaml"
        if not path.exists():
            return {}
        return plain_settings(path)

    @property
    def metrics(self) -> Metrics:
        """Name -> array over rows: ``train_loss``, ``gop_trace``, ``gop/weight/trace``, ...

        ``epoch`` and ``step`` belong to the names without a slash; a group has its own, such as
        ``gop/weight/epoch``. Layer-wise arrays are (rows, layers): ``gop/batch/layers/trace``;
        they have their own ``gop/batch/layers/epoch``. Each access to ``metrics`` takes in
        the rows written until then.
        """
        return Metrics(self.path)

    @property
    def layers(self) -> list[str]:
        """Layer names, in the order of the columns of layer-wise ``batch`` arrays."""
        return self.layer_names("batch")

    def layer_names(self, kind: str = "batch") -> list[str]:
        """Names for the columns of the layer-wise arrays of one kind."""
        file = self._kind_file(kind)
        layers = file.attribute(kind, "layers")
        if not isinstance(layers, list) or not all(isinstance(name, str) for name in layers):
            raise ValueError(f"{file.path} cannot be read: table {kind} names no layers.")
        return layers

    def attribute(self, group: str, name: str) -> Any:
        """What a group of :attr:`metrics` says of itself, such as ``layers``; None if nothing."""
        return self._file(METRICS).attribute(group, name)

    def epochs(self, kind: str = "batch") -> NDArray[np.int64]:
        """Epochs at which a kind was measured; ``factor`` are those that :meth:`gop` accepts."""
        if kind == "factor":
            return self._file(FULL).read("batch", "epoch")
        return self._kind_file(kind).read(kind, "epoch")

    def spectrum(self, kind: str, epoch: int, layer: str | None = None) -> Array:
        """Largest eigenvalues at an epoch, descending, of the whole or of one layer.

        Raises:
            KeyError: For an epoch without a row, or an unknown layer, naming those there are.
            ValueError: For a kind that was not measured.
        """
        file = self._kind_file(kind)
        table = kind
        if layer is None:
            file, table = self._file(METRICS), f"gop/{kind}"
        values = file.read_row(
            table, "eigenvalues_top_k", _row(file.read(table, "epoch"), epoch, kind)
        )
        if layer is not None:
            names = self.layer_names(kind)
            if np.shape(values)[:1] != (len(names),):
                raise ValueError(f"{file.path} cannot be read: table {kind} has other layers.")
            values = values[require_layer(names, layer)]
        return values[np.isfinite(values)]

    def gop(self, epoch: int, kind: str = "batch", layer: str | None = None) -> LazyGOP:
        """The gradient outer product at an epoch whose factor was stored.

        Args:
            epoch: One of ``epochs("factor")``.
            kind: ``batch``, or ``weight`` (left: Γ Γᵀ; needs a layer).
            layer: The diagonal block of one layer; None is the whole.

        Raises:
            FileNotFoundError: If the run stored no factors.
            KeyError: For another epoch or layer, naming those there are.
        """
        require_choice("kind", kind, KINDS)
        file = self._file(FULL)
        row = _row(file.read("batch", "epoch"), epoch, "factor")
        gradients = stored_gradients(file, row)
        return LazyGOP(Factors.of(file).factor(kind, gradients, layer))

    def grokking(
        self, train: float = 0.99, test: float = 0.99, patience: int = 0
    ) -> GrokkingTimes:
        """When the accuracies reached ``train`` and ``test`` and stayed for ``patience`` epochs.

        See :func:`~grokscope.analysis.grokking.grokking_times`.
        """
        metrics = self.metrics
        epochs, train_acc, test_acc = map(metrics.series, ("epoch", "train_acc", "test_acc"))
        return grokking_times(
            epochs, train_acc, test_acc, train=train, test=test, patience=patience
        )

    def grokking_as_configured(self) -> GrokkingTimes:
        """:meth:`grokking` with the experiment's own ``thresholds``, 0.99 where it has none."""
        own = self.config.get("thresholds")
        found, path = own if isinstance(own, dict) else {}, self.path / "config.yaml"
        train, test = (
            require_float(
                f"thresholds.{split} of {path}", found.get(split, 0.99), above=0, maximum=1
            )
            for split in ("train", "test")
        )
        return self.grokking(train, test)

    def _kind_file(self, kind: str) -> TableFile:
        file = self._file(LAYERS)
        require_choice("kind", kind, file.tables())
        return file

    def _file(self, name: str) -> TableFile:
        path = self.path / name
        if not path.exists():
            raise FileNotFoundError(f"{path} does not exist: this run did not measure that.")
        return TableFile(path)


def runs(path: str | Path) -> list[Run]:
    """Every run at or below a folder, sweeps included, sorted by path (job 2 before job 10).

    A link to the folder of a run is found too.

    What was measured at a run's checkpoints later is no run of its own: :meth:`Run.measured`.

    Raises:
        FileNotFoundError: If there is no such folder.
    """
    if not Path(path).is_dir():
        raise FileNotFoundError(f"path must be a folder, got {path}: there is none.")
    own = (folder for folder in _run_folders(Path(path)) if folder.parent.name != MEASURED)
    return [Run(folder) for folder in sorted(own, key=_by_numbers)]


def _run_folders(top: Path) -> Iterator[Path]:
    """Folders of runs, links to such included; no other link is followed."""
    waiting = [top]
    while waiting:
        folder = waiting.pop()
        if any((folder / name).exists() for name in MARKS):
            yield folder
        with suppress(OSError), os.scandir(folder) as entries:  # one that may not be read
            for entry in entries:
                path = Path(entry.path)
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(path)
                elif entry.is_symlink() and any((path / mark).is_file() for mark in MARKS):
                    yield path


def printable(text: str) -> str:
    """Without control characters, which would command a terminal."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def _by_numbers(path: Path) -> list[tuple[int, str]]:
    """Sorts digits by their value, and before letters."""
    words = re.split(r"(\d+)", str(path))
    return [(int(word), "") if word.isdecimal() else (-1, word) for word in words]


def _row(epochs: NDArray, epoch: int, kind: str) -> int:
    row = int(np.searchsorted(epochs, epoch))
    if row == len(epochs) or epochs[row] != epoch:
        near = epochs[max(0, row - 1) : row + 1].tolist()
        raise KeyError(f"epoch {epoch} has no {kind} row; the nearest are {near}.")
    return row
