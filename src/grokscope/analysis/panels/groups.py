"""Panels of progress measures: whatever a group holds, drawn by its shape."""

from __future__ import annotations

import re
from collections.abc import Iterator

from numpy.typing import NDArray

from grokscope.analysis.panels.captions import COMBINED, GROUPS
from grokscope.analysis.panels.model import Choice, Lines, Matrices, Panel, Spectrum
from grokscope.analysis.panels.source import Source, merged, numbered, shown

SECTION = "Other measures"
WIDEST = 512  # rows and columns of a matrix that is drawn
Found = dict[str, list[Choice]]
UNFIT = re.compile(r"[^A-Za-z0-9-]")  # for the name of a file


def group_panels(source: Source) -> Iterator[Panel]:
    """Curves, ordered numbers and matrices of each progress measure."""
    for group in source.groups():
        found: Found = {"": list(_combined(source, group)), "by_order": [], "matrices": []}
        for column in source.columns(group):
            part, choice = _choice(source, group, column)
            if choice is not None:
                found[part].append(choice)
        title, caption = GROUPS.get(group, (shown(group.replace("_", " ")), ""))
        for part, choices in found.items():
            if choices:
                key, ending = f"{UNFIT.sub('_', group)}_{part}".rstrip("_"), TITLES[part]
                text = caption or f"Measured by the progress measure {shown(group)}."
                yield Panel(key, SECTION, f"{title}{ending}", text, tuple(choices))


TITLES = {"": "", "by_order": ", in order", "matrices": ", matrices"}


def _combined(source: Source, group: str) -> Iterator[Lines]:
    """Curves that belong into one picture."""
    for name, (columns, unit, log) in COMBINED.get(group, {}).items():
        there = [c for c in columns if f"{group}/{c}" in source]
        series = merged([source.series(group, c, c, _role(c)) for c in there])
        if series:
            yield Lines(name, unit, series, log)


def _role(column: str) -> str:
    """Colours that a reader knows from the losses."""
    splits = {"loss_train": "train", "loss_test": "test"}
    return splits.get(column, "part")


def _choice(source: Source, group: str, column: str) -> tuple[str, Choice | None]:
    """Which part of the group a column belongs to, and its picture if it has one."""
    values = source.read(group, column)
    name = shown(column)
    if values.ndim == 1:
        series = tuple(source.curves(group, [(column, values)], "other"))
        return "", Lines(name, name, series) if series else None
    if values.ndim == 2:
        return _vector(source, group, name, values)
    if values.ndim == 3 and max(values.shape[1:]) <= WIDEST:
        return "matrices", _matrices(source, group, name, values)
    return "", None


def _vector(source: Source, group: str, name: str, values: NDArray) -> tuple[str, Choice | None]:
    """By named parts as curves; numbers in an order otherwise."""
    count = values.shape[1]
    if source.has_names(group, count):
        named = zip(source.names(group, count), values.T, strict=True)
        series = tuple(source.curves(group, named, "part"))
        return "", Lines(name, name, series) if series else None
    if count < 2 or not len(values):
        return "", None
    epochs, kept = source.frames(group, values)
    return "by_order", Spectrum(name, name, _axis(name), epochs, kept, log=False)


def _axis(column: str) -> str:
    """What its numbers are ordered by."""
    known = {"fourier": "Fourier component", "freq": "frequency"}
    return next((axis for part, axis in known.items() if part in column), "number")


def _matrices(source: Source, group: str, name: str, values: NDArray) -> Matrices | None:
    if not len(values):
        return None
    epochs, kept = source.frames(group, values)
    rows, columns = (source.names(group, count) for count in values.shape[1:])
    if name == "confusion":  # classes count from 0
        rows = columns = tuple(str(int(c) - 1) for c in numbered(values.shape[1]))
    return Matrices(name, name, rows, columns, epochs, kept)
