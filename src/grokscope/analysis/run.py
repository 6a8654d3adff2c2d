"""``Run``: everything a run has written, for a notebook on a laptop."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from grokscope.analysis.grokking import GrokkingTimes, grokking_times
from grokscope.store.info import NAME as INFO_NAME
from grokscope.store.info import read_info
from grokscope.store.lazy import LazyGOP
from grokscope.store.run_writer import FILES, FULL, LAYERS, METRICS
from grokscope.store.tables import TableFile

Array = NDArray[np.float64]


class Run:
    """A finished, stopped or running run, read without disturbing it.

    Open with :meth:`open`. Arrays are read when asked for, so a running run gives its newest
    rows each time.

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

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r}, status={self.status!r})"

    @property
    def info(self) -> dict[str, Any]:
        """Content of ``run.json``."""
        return read_info(self.path)

    @property
    def status(self) -> str:
        """``running``, ``finished``, ``stopped``, ``failed`` or ``unknown``."""
        return str(self.info.get("status", "unknown"))

    @cached_property
    def config(self) -> dict[str, Any]:
        """The resolved configuration as plain values; empty for runs without one."""
        path = self.path / "config.yaml"
        if not path.exists():
            return {}
        return dict(yaml.safe_load(path.read_text(encoding="utf-8")) or {})

    @property
    def metrics(self) -> Metrics:
        """Name -> array over rows: ``train_loss``, ``gop_trace``, ``gop/weight/trace``, ...

        ``epoch`` and ``step`` belong to the names without a slash; a group has its own, such as
        ``gop/weight/epoch``. Layer-wise arrays are (rows, layers): ``gop/batch/layers/trace``.
        """
        return Metrics(self.path)

    @property
    def layers(self) -> list[str]:
        """Layer names, in the order of the columns of layer-wise ``batch`` arrays."""
        return self.layer_names("batch")

    def layer_names(self, kind: str = "batch") -> list[str]:
        """Names for the columns of the layer-wise arrays of one kind."""
        return list(TableFile(self._kind_file(kind)).attribute(kind, "layers"))

    def epochs(self, kind: str = "batch") -> NDArray[np.int64]:
        """Epochs at which a kind was measured; ``factor`` are those that :meth:`gop` accepts."""
        if kind == "factor":
            return TableFile(self._file(FULL)).read("batch", "epoch")
        return TableFile(self._kind_file(kind)).read(kind, "epoch")

    def spectrum(self, kind: str, epoch: int, layer: str | None = None) -> Array:
        """Largest eigenvalues at an epoch, descending, of the whole or of one layer."""
        if layer is None:
            table, file = f"gop/{kind}", TableFile(self._file(METRICS))
        else:
            table, file = kind, TableFile(self._kind_file(kind))
        row = _row(file.read(table, "epoch"), epoch, kind)
        values = file.read(table, "eigenvalues_top_k", row)
        if layer is not None:
            values = values[_index(self.layer_names(kind), layer)]
        return values[np.isfinite(values)]

    def gop(self, epoch: int, kind: str = "batch", layer: str | None = None) -> LazyGOP:
        """The gradient outer product at an epoch whose factor was stored.

        Args:
            epoch: One of ``epochs("factor")``.
            kind: ``batch``, or ``weight`` (left: Γ Γᵀ; needs a layer).
            layer: The diagonal block of one layer; None is the whole.
        """
        file = TableFile(self._file(FULL))
        row = _row(file.read("batch", "epoch"), epoch, "factor")
        gradients = file.read("batch", "gradient", row)[
            : int(file.read("batch", "n_batches", row))
        ]
        slots = file.attribute("batch", "parameters")
        if kind == "batch":
            return LazyGOP(_layer_columns(gradients, slots, layer) / np.sqrt(len(gradients)))
        if kind != "weight":
            raise ValueError(f"kind must be batch or weight, got {kind!r}.")
        return LazyGOP(_matrix(gradients, slots, file.attribute("batch", "matrices"), layer).T)

    def grokking(
        self, train: float = 0.99, test: float = 0.99, patience: int = 0
    ) -> GrokkingTimes:
        """When the accuracies reached ``train`` and ``test`` and stayed for ``patience`` epochs.

        See :func:`~grokscope.analysis.grokking.grokking_times`.
        """
        metrics = self.metrics
        series = (metrics[name] for name in ("epoch", "train_acc", "test_acc"))
        return grokking_times(*series, train=train, test=test, patience=patience)

    def _kind_file(self, kind: str) -> Path:
        path = self._file(LAYERS)
        if kind not in (known := TableFile(path).tables()):
            raise ValueError(f"kind must be one of {', '.join(known)}, got {kind!r}.")
        return path

    def _file(self, name: str) -> Path:
        path = self.path / name
        if not path.exists():
            raise FileNotFoundError(f"{path} does not exist: this run did not measure that.")
        return path


class Metrics(Mapping[str, NDArray]):
    """Lazy mapping from metric name to its array over rows."""

    def __init__(self, folder: Path) -> None:
        self._where = dict(self._find(folder))

    @staticmethod
    def _find(folder: Path) -> Iterator[tuple[str, tuple[TableFile, str, str]]]:
        for name, pattern in ((METRICS, "{}"), (LAYERS, "gop/{}/layers")):
            if not (folder / name).exists():
                continue
            file = TableFile(folder / name)
            for table in file.tables():
                prefix = f"{pattern.format(table)}/" if table else ""
                for column in file.columns(table):
                    yield f"{prefix}{column}", (file, table, column)
                    if not table and column == "global_step":
                        yield "step", (file, table, column)

    def __getitem__(self, name: str) -> NDArray:
        file, table, column = self._where[name]
        return file.read(table, column)

    def __iter__(self) -> Iterator[str]:
        return iter(self._where)

    def __len__(self) -> int:
        return len(self._where)


def runs(path: str | Path) -> list[Run]:
    """Every run at or below a folder, sweeps included, sorted by path."""
    return [Run(found.parent) for found in sorted(Path(path).rglob(INFO_NAME))]


def _row(epochs: NDArray, epoch: int, kind: str) -> int:
    row = int(np.searchsorted(epochs, epoch))
    if row == len(epochs) or epochs[row] != epoch:
        near = epochs[max(0, row - 1) : row + 1].tolist()
        raise KeyError(f"epoch {epoch} has no {kind} row; the nearest are {near}.")
    return row


def _index(layers: list[str], layer: str) -> int:
    if layer not in layers:
        raise KeyError(f"layer must be one of {', '.join(layers)}, got {layer!r}.")
    return layers.index(layer)


def _layer_columns(gradients: NDArray, slots: list[dict], layer: str | None) -> NDArray:
    if layer is None:
        return gradients
    _index(list(dict.fromkeys(slot["layer"] for slot in slots)), layer)
    return np.concatenate(
        [_slot_columns(gradients, slot) for slot in slots if slot["layer"] == layer], axis=1
    )


def _slot_columns(gradients: NDArray, slot: dict) -> NDArray:
    return gradients[:, slot["offset"] : slot["offset"] + int(np.prod(slot["shape"]))]


def _matrix(gradients: NDArray, slots: list[dict], names: dict, layer: str | None) -> NDArray:
    """Gradient (o, i) of one weight matrix, the mean over the mini-batches of the pass."""
    if layer not in names:
        raise KeyError(f"layer must be one of {', '.join(names)}, got {layer!r}.")
    slot = slots[names[layer]]
    return _slot_columns(gradients, slot).mean(axis=0).reshape(slot["shape"][0], -1)
