"""Panels as plain values for a page: arrays packed, kept within a size."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from grokscope.analysis.panels.model import Choice, Lines, Matrices, Panel, Series, Spectrum
from grokscope.analysis.panels.thinning import thinned_epochs, thinned_rows

NUMBERS = 360_000  # of a page: four bytes each, a third more as base64
LEVELS = ((1000, 100), (500, 60), (250, 40), (120, 25), (60, 16), (32, 8))  # points, frames
KEPT = frozenset({"loss", "accuracy"})  # never thinner than they come
LARGEST = float(np.finfo(np.float32).max)


class Arrays:
    """Arrays of a page, each once: int32 or float32, little-endian, base64.

    Attributes:
        packed: [type, text] of each, with ``i`` or ``f`` as type.
    """

    def __init__(self) -> None:
        self.packed: list[list[str]] = []
        self._known: dict[tuple[str, bytes], int] = {}

    def add(self, values: NDArray, kind: str = "f") -> int:
        """Number of the array, new or known."""
        limited = np.clip(values, -LARGEST, LARGEST)
        raw = limited.astype("<i4" if kind == "i" else "<f4").tobytes()
        if (kind, raw) not in self._known:
            self._known[kind, raw] = len(self.packed)
            self.packed.append([kind, base64.b64encode(raw).decode("ascii")])
        return self._known[kind, raw]


def encoded(panels: Sequence[Panel], arrays: Arrays, numbers: int = NUMBERS) -> list[dict]:
    """Panels as JSON-ready values that take at most about so many numbers."""
    return [_panel(panel, arrays) for panel in fitted(panels, numbers)]


def fitted(panels: Sequence[Panel], numbers: int) -> Sequence[Panel]:
    """Panels with fewer points and frames, as far as it takes; spikes stay, and the losses."""
    for points, frames in LEVELS:
        if sum(map(_size, panels)) <= numbers:
            break
        panels = [p if p.key in KEPT else _thinner(p, points, frames) for p in panels]
    return panels


def _size(panel: Panel) -> int:
    return sum(_numbers(choice) for choice in panel.choices)


def _numbers(choice: Choice) -> int:
    if isinstance(choice, Lines):
        return sum((2 if s.low is None else 4) * len(s.epochs) for s in choice.series)
    return choice.values.size


def _thinner(panel: Panel, points: int, frames: int) -> Panel:
    return replace(panel, choices=tuple(_fewer(c, points, frames) for c in panel.choices))


def _fewer(choice: Choice, points: int, frames: int) -> Choice:
    if isinstance(choice, Lines):
        return replace(choice, series=tuple(_shorter(s, points) for s in choice.series))
    rows = thinned_epochs(choice.epochs, frames)
    return replace(choice, epochs=choice.epochs[rows], values=choice.values[rows])


def _shorter(series: Series, points: int) -> Series:
    rows = thinned_rows(series.epochs, series.values, points)
    low, high = (end if end is None else end[rows] for end in (series.low, series.high))
    epochs, values = series.epochs[rows], series.values[rows]
    return replace(series, epochs=epochs, values=values, low=low, high=high)


def _panel(panel: Panel, arrays: Arrays) -> dict[str, Any]:
    return {
        "key": panel.key,
        "section": panel.section,
        "title": panel.title,
        "caption": panel.caption,
        "type": type(panel.choices[0]).__name__.lower(),
        "choices": [_choice(choice, arrays) for choice in panel.choices],
    }


def _choice(choice: Choice, arrays: Arrays) -> dict[str, Any]:
    if isinstance(choice, Lines):
        return _lines(choice, arrays)
    return _spectrum(choice, arrays) if isinstance(choice, Spectrum) else _matrices(choice, arrays)


def _lines(choice: Lines, arrays: Arrays) -> dict[str, Any]:
    kind = "f" if choice.time else "i"
    return {
        "name": choice.name,
        "unit": choice.unit,
        "log": choice.log,
        "time": choice.time,
        "steps": choice.steps,
        "series": [_series(each, arrays, kind) for each in choice.series],
    }


def _series(series: Series, arrays: Arrays, kind: str) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": series.name,
        "role": series.role,
        "theory": series.theory,
        "epochs": arrays.add(series.epochs, kind),
        "values": arrays.add(series.values),
    }
    if series.low is not None and series.high is not None:
        found |= {"low": arrays.add(series.low), "high": arrays.add(series.high)}
    return found


def _spectrum(choice: Spectrum, arrays: Arrays) -> dict[str, Any]:
    return {
        "name": choice.name,
        "unit": choice.unit,
        "axis": choice.axis,
        "log": choice.log,
        "width": choice.values.shape[1],
        "epochs": arrays.add(choice.epochs, "i"),
        "values": arrays.add(choice.values),
    }


def _matrices(choice: Matrices, arrays: Arrays) -> dict[str, Any]:
    return {
        "name": choice.name,
        "unit": choice.unit,
        "log": choice.log,
        "axes": list(choice.axes),
        "labels": list(choice.labels),
        "rows": list(choice.rows),
        "columns": list(choice.columns),
        "epochs": arrays.add(choice.epochs, "i"),
        "values": arrays.add(choice.values),
    }
