"""What the page of several runs says."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import fields
from datetime import UTC, datetime
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from grokscope.analysis.comparison import (
    Mover,
    PhaseDiagram,
    RunGroup,
    RunGroups,
    TableRow,
    band,
    comparison_table,
    movers,
    phase_diagram,
    run_groups,
)
from grokscope.analysis.panels.captions import METRICS
from grokscope.analysis.panels.model import Lines, Matrices, Panel, Series
from grokscope.analysis.panels.source import shown
from grokscope.analysis.phases import PHASES
from grokscope.analysis.report.document import cut
from grokscope.analysis.report.encoding import NUMBERS, Arrays, encoded
from grokscope.analysis.run import Run
from grokscope.analysis.survival import kaplan_meier

SECTION, ORDER, TABLE = "Side by side", "What moves first", "Runs"
POINTS = 160  # of a curve
MANY = 12  # groups: more are folded
FIRST = ("test_acc", "test_loss", "train_acc", "train_loss")
ALIGNED = "epoch / epoch of generalisation of the run"


def comparison_document(runs: Iterable[Run]) -> dict[str, Any]:
    """Groups, overlays, phases, order of changes and a table of runs, as JSON-ready values.

    Raises:
        ValueError: For no run, or a file of a run that cannot be read, naming it.
    """
    groups = run_groups(runs)
    every = [run for group in groups.groups for run in group.runs]
    if not every:
        raise ValueError("runs must hold at least one run, got none.")
    arrays = Arrays()
    return {
        "title": f"{_counted(len(every), 'run')} in {_counted(len(groups.groups), 'group')}",
        "verdict": _verdict(groups),
        "facts": [{"title": "Groups", "rows": _facts(groups), "open": len(groups.groups) <= MANY}],
        "moments": {"memorised": None, "generalised": None},
        "panels": encoded(comparison_panels(groups), arrays),
        "arrays": arrays.packed,
        "tables": [_order_table(movers(every)), _runs_table(comparison_table(groups))],
        "live": False,
        "running": False,
        "progress": "",
        "stamp": datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
    }


def comparison_panels(groups: RunGroups) -> list[Panel]:
    """Overlays by group, aligned ones, survival, and a phase diagram where there is one."""
    return [*_overlays(groups, _names(groups)), *_survival(groups), *_phases(groups)]


def _verdict(groups: RunGroups) -> str:
    times = [r.grokking_as_configured().generalised for g in groups.groups for r in g.runs]
    reached = [t for t in times if t is not None]
    if not reached:
        return f"None of {len(times)} runs has generalised."
    middle = f"at epoch {np.median(reached):,.0f} in the median"
    return (
        f"{len(reached)} of {len(times)} runs generalised, {middle} "
        f"({min(reached):,} to {max(reached):,})."
    )


def _facts(groups: RunGroups) -> list[tuple[str, str]]:
    keys = ", ".join(groups.keys) or "nothing but the seed"
    rows = [("settings that differ", cut(keys))]
    return rows + [(cut(g.label), _counted(len(g.runs), "run")) for g in groups.groups]


def _counted(number: int, name: str) -> str:
    return f"{number} {name}{'' if number == 1 else 's'}"


def _names(groups: RunGroups) -> list[str]:
    """Series to overlay: as many as fit, losses first, then what most runs have."""
    room = NUMBERS // (4 * POINTS * 2 * len(groups.groups))
    found = dict.fromkeys(n for g in groups.groups for n in _series_of(g))
    return sorted(found, key=_importance)[: max(room, len(FIRST))]


def _series_of(group: RunGroup) -> list[str]:
    """Names of the series of the group's first run, without those of single layers."""
    return [name for name, _ in group.runs[0].curves() if "[" not in name]


def _importance(name: str) -> tuple[int, int, str]:
    if name in FIRST:
        return 0, FIRST.index(name), name
    order = list(METRICS)
    metric = name.rpartition("/")[2]
    known = order.index(metric) if name.startswith("gop/") and metric in order else len(order)
    return 1, known, name


def _overlays(groups: RunGroups, names: list[str]) -> Iterator[Panel]:
    """Means and spreads by group, over epochs and around generalisation."""
    captions = {
        False: "Mean and standard deviation over the runs of a group (geometric for quantities on "
        "a logarithmic axis), at common epochs; nothing is extrapolated.",
        True: "The same with time in units of each run's own generalisation time, the dashed "
        "line; runs that have not generalised are left out.",
    }
    titles = {False: "By group", True: "Aligned at generalisation"}
    for aligned, title in titles.items():
        found = (_lines(groups, name, aligned) for name in names)
        if choices := tuple(lines for lines in found if lines.series):
            key = "aligned" if aligned else "overlay"
            yield Panel(key, SECTION, title, captions[aligned], choices)


def _lines(groups: RunGroups, name: str, aligned: bool) -> Lines:
    unit, log = METRICS.get(name.rpartition("/")[2], (shown(name), name.endswith("loss")))
    series = (_band(group, name, aligned, log) for group in groups.groups)
    time = ALIGNED if aligned else ""
    return Lines(shown(name), unit, tuple(s for s in series if s), log, time)


def _band(group: RunGroup, name: str, aligned: bool, log: bool) -> Series | None:
    scale = "log" if log else "linear"
    found = band(group.runs, name, aligned=aligned, scale=scale, points=POINTS)
    if not len(found.epochs):
        return None
    several = found.count.max() > 1
    ends = (_or_mean(end, found.mean) if several else None for end in (found.low, found.high))
    return Series(shown(group.label), found.epochs, found.mean, "part", False, *ends)


def _or_mean(end: NDArray, mean: NDArray) -> NDArray:
    """An end of a band; the mean itself where only one run is left."""
    return np.where(np.isfinite(end), end, mean)


def _survival(groups: RunGroups) -> Iterator[Panel]:
    series = tuple(s for s in map(_generalised, groups.groups) if s)
    if series:
        caption = (
            "Share of the runs that have generalised by an epoch (1 - Kaplan-Meier estimate, 95 % "
            "bands); runs that ended before are censored, not left out."
        )
        unit = "share of runs that have generalised"
        lines = Lines("generalised", unit, series, steps=True)
        yield Panel("generalised", SECTION, "How many have generalised", caption, (lines,))


def _generalised(group: RunGroup) -> Series | None:
    """A step curve."""
    times, observed = [], []
    for run in group.runs:
        own, epochs = run.grokking_as_configured().generalised, run.metrics.series("epoch")
        if len(epochs):
            observed.append(own is not None)
            times.append(float(epochs[-1]) if own is None else float(own))
    if not times:
        return None
    found = kaplan_meier(times, observed)
    when = np.concatenate([[0.0], found.times, [max(times)]])
    share, low, high = (
        np.concatenate([[0.0], 1 - end, 1 - end[-1:]])
        for end in (found.survival, found.upper, found.lower)
    )
    return Series(shown(group.label), when, share, "part", low=low, high=high)


def _phases(groups: RunGroups) -> Iterator[Panel]:
    try:
        found = phase_diagram([run for group in groups.groups for run in group.runs])
    except ValueError:  # no two settings span a plane
        return
    caption = (
        "Over the two settings that span most cells: the commonest phase of a cell (Liu et al. "
        "2022, arXiv 2205.10343), the median epoch of generalisation and the median delay."
    )
    yield Panel("phases", SECTION, "Phase diagram", caption, tuple(_maps(found)))


def _maps(found: PhaseDiagram) -> Iterator[Matrices]:
    table = found.table
    number = {name: float(i) for i, name in enumerate(PHASES)}
    phases = np.array([[number.get(str(p), np.nan) for p in row] for row in table.phases])
    maps = {
        "phase": (phases, "phase", PHASES),
        "epoch of generalisation": (found.generalised, "epochs", ()),
        "delay": (found.delay, "epochs", ()),
    }
    rows, columns = (tuple(f"{v:g}" for v in axis) for axis in (table.y, table.x))
    axes = shown(table.names[1]), shown(table.names[0])
    for name, (values, unit, labels) in maps.items():
        if np.isfinite(values).any():
            finite = np.where(np.isfinite(values), values, np.nan)[None]
            zero = np.zeros(1)
            log = not labels
            yield Matrices(name, unit, rows, columns, zero, finite, axes, log, tuple(labels))


def _order_table(found: Iterable[Mover]) -> dict[str, Any]:
    caption = (
        "Each series' change point: the epoch that cuts it best into two levels, over log epochs. "
        "Ratio: that epoch / the epoch of generalisation, median and quartiles over runs. "
        "Strength: share of variance that the step explains. Correlation: Spearman's, of both "
        "epochs over runs, with p and Benjamini-Hochberg q over all rows."
    )
    names = [field.name for field in fields(Mover)]
    rows = [[_cell(getattr(each, name)) for name in names] for each in found]
    return {
        "key": "order",
        "section": ORDER,
        "title": "Which measure moves first",
        "caption": caption,
        "columns": [name.replace("_", " ") for name in names],
        "rows": rows,
    }


def _runs_table(found: Iterable[TableRow]) -> dict[str, Any]:
    names = [field.name for field in fields(TableRow)]
    order = ["label", "seed", *(n for n in names if n not in ("label", "seed", "path")), "path"]
    rows = [[_cell(getattr(each, name)) for name in order] for each in found]
    return {
        "key": "runs",
        "section": TABLE,
        "title": "All runs",
        "caption": "Epochs by each run's own thresholds; losses and accuracies at the end.",
        "columns": [name.replace("_", " ") for name in order],
        "rows": rows,
    }


def _cell(value: Any) -> Any:
    if isinstance(value, float):
        return value if isfinite(value) else None
    return value if value is None or isinstance(value, int) else cut(str(value))
