"""Reads what panels need from a run: columns, a curve's points, names of layers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from grokscope.analysis.panels.model import Series
from grokscope.analysis.panels.thinning import thinned_epochs, thinned_rows
from grokscope.analysis.run import Run, printable

CLOCKS = ("epoch", "step")


class Source:
    """One moment of a run.

    Args:
        run: The run.
        points: Most points of a curve, about (:func:`~.thinning.thinned_rows`).
        frames: Most epochs of a spectrum or a matrix.
    """

    def __init__(self, run: Run, points: int, frames: int) -> None:
        self.metrics = run.metrics
        self._points, self._frames = points, frames
        self._epochs: dict[str, NDArray] = {}
        self.layer_names, self._attribute = cache(run.layer_names), cache(run.attribute)

    def __contains__(self, name: str) -> bool:
        return name in self.metrics

    def epochs(self, group: str) -> NDArray:
        """Epochs of a group's rows; the empty string is the top level."""
        if group not in self._epochs:
            self._epochs[group] = self.metrics[f"{group}/epoch" if group else "epoch"]
        return self._epochs[group]

    def columns(self, group: str) -> list[str]:
        """What a group has beside its clocks."""
        prefix = f"{group}/"
        inside = (n.removeprefix(prefix) for n in self.metrics if n.startswith(prefix))
        return [name for name in inside if "/" not in name and name not in CLOCKS]

    def groups(self) -> list[str]:
        """Groups that progress measures have made, in the file's order."""
        found = (name.partition("/")[0] for name in self.metrics if "/" in name)
        return [name for name in dict.fromkeys(found) if name != "gop"]

    def read(self, group: str, column: str) -> NDArray:
        """(rows, ...) of a group's column, as numbers with as many rows as epochs."""
        values = np.asarray(self.metrics[f"{group}/{column}" if group else column], dtype=float)
        rows = min(len(values), len(self.epochs(group)))
        return values[:rows]

    def series(self, group: str, column: str, name: str, role: str, **style: Any) -> list[Series]:
        """The curve of a column with one number a row; none without a finite number."""
        return list(self.curves(group, [(name, self.read(group, column))], role, **style))

    def curves(
        self, group: str, named: Iterable[tuple[str, NDArray]], role: str, **style: Any
    ) -> Iterator[Series]:
        """Curves over the epochs of a group."""
        epochs = self.epochs(group)
        for name, values in named:
            if values.ndim != 1:
                continue
            rows = thinned_rows(epochs[: len(values)], values, self._points)
            if len(rows):
                yield Series(shown(name), epochs[rows], values[rows], role, **style)

    def frames(self, group: str, values: NDArray) -> tuple[NDArray, NDArray]:
        """Epochs and values of the rows to show of a spectrum or matrix."""
        epochs = self.epochs(group)[: len(values)]
        rows = thinned_epochs(epochs, self._frames)
        return epochs[rows], values[rows]

    def names(self, group: str, count: int) -> tuple[str, ...]:
        """Names of so many columns of a group: layers, parameters, or numbers from 1."""
        for known in ("layers", "parameters", "classes"):
            found = self._attribute(group, known)
            if isinstance(found, list) and len(found) == count:
                return tuple(shown(str(name)) for name in found)
        return numbered(count)

    def has_names(self, group: str, count: int) -> bool:
        """Whether a group says what so many columns are."""
        return self.names(group, count) != numbered(count)


def numbered(count: int) -> tuple[str, ...]:
    """1, 2, 3, ..."""
    return tuple(map(str, range(1, count + 1)))


def shown(name: str) -> str:
    """A name on one line, cut where it is too long for a picture."""
    name = printable(name)
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"


def merged(parts: Sequence[list[Series]]) -> tuple[Series, ...]:
    """All of them."""
    return tuple(series for part in parts for series in part)


LONGEST = 80
