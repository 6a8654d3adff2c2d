"""The table at the end of a run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from rich.table import Table
from rich.text import Text

from grokscope.analysis.grokking import GrokkingTimes
from grokscope.analysis.run import Run, printable

REPORT = "report.html"
FOREVER = 1e12  # seconds; a foreign file may say anything


def summary_table(run: Run) -> Table:
    """Grokking times, final losses and accuracies, GOP trace at those times, cost."""
    table = Table(title=Text(f"{run.name}: {run.status}"), show_header=False)
    table.add_column(style="bold")
    table.add_column(justify="right", overflow="fold")
    for name, value in summary_rows(run):
        table.add_row(name, Text(value))
    return table


def summary_rows(run: Run) -> Iterator[tuple[str, str]]:
    """The rows of :func:`summary_table` as text."""
    times = run.grokking_as_configured()
    yield "memorised at", _moment(times.memorised, f"train accuracy >= {times.train:g}")
    yield "generalised at", _moment(times.generalised, f"test accuracy >= {times.test:g}")
    ratio = f"  ({times.ratio:.1f} times)" if times.ratio else ""
    yield "delay", "-" if times.delay is None else f"{times.delay:,} epochs{ratio}"
    metrics = run.metrics
    for label, kind in (("final loss", "loss"), ("final accuracy", "acc")):
        splits = ("train", "test")
        yield label, "   ".join(f"{s} {_last(metrics.get(f'{s}_{kind}'))}" for s in splits)
    yield "GOP trace", _traces(run, times)
    yield "wall time", _wall_time(run)
    if shares := _shares(run):
        yield "of the measures", shares
    yield "size on disk", f"{_size(run) / 1e6:.1f} MB"
    yield "run folder", printable(str(run.path))
    if (run.path / REPORT).exists():
        yield "to look at", f"{REPORT} in that folder"


def _moment(epoch: int | None, condition: str) -> str:
    return f"never  ({condition})" if epoch is None else f"epoch {epoch:,}  ({condition})"


def _last(values: Any) -> str:
    if values is None or not (known := values[~np.isnan(values)]).size:
        return "-"
    return f"{known[-1]:.4g}"


def _wall_time(run: Run) -> str:
    """Known at the end of a run."""
    if "wall_seconds" not in run.info:
        return "-"
    return f"{_seconds(run, 'wall')} s, measures {_seconds(run, 'measure')} s of it"


def _seconds(run: Run, what: str) -> str:
    value = run.info.get(f"{what}_seconds", 0.0)
    return f"{value:.1f}" if isinstance(value, (int, float)) else "?"


def _shares(run: Run) -> str:
    """What each measure took of their time, the largest first."""
    found = run.info.get("seconds_by_measure")
    seconds = {n: s for n, s in found.items() if _is_time(s)} if isinstance(found, dict) else {}
    total = sum(seconds.values())
    ordered = sorted(seconds.items(), key=lambda each: -each[1])
    return "   ".join(f"{printable(name)} {s / total:.0%}" for name, s in ordered if total)


def _is_time(value: Any) -> bool:
    return isinstance(value, (int, float)) and 0 < value < FOREVER


def _traces(run: Run, times: GrokkingTimes) -> str:
    """Trace of the ``batch`` GOP at both moments and at the end."""
    metrics = run.metrics
    if "gop/batch/trace" not in metrics:
        return "not measured"
    epochs, trace = map(metrics.series, ("gop/batch/epoch", "gop/batch/trace"))
    if not len(epochs):
        return "-"
    moments = {"memorised": times.memorised, "generalised": times.generalised, "end": epochs[-1]}
    at = {
        name: trace[min(int(np.searchsorted(epochs, epoch)), len(epochs) - 1)]
        for name, epoch in moments.items()
        if epoch is not None
    }
    return "   ".join(f"{name} {value:.3g}" for name, value in at.items())


def _size(run: Run) -> int:
    """Bytes on disk; a live file has room for more rows than it takes."""
    files = [path.lstat() for path in run.path.rglob("*") if path.is_file()]
    return sum(min(f.st_size, getattr(f, "st_blocks", f.st_size) * 512) for f in files)
