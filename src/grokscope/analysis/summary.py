"""The table at the end of a run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from rich.table import Table

from grokscope.analysis.grokking import GrokkingTimes
from grokscope.analysis.run import Run


def summary_table(run: Run) -> Table:
    """Grokking times, final losses and accuracies, GOP trace at those times, cost."""
    table = Table(title=f"{run.info.get('name', run.path.name)}: {run.status}", show_header=False)
    table.add_column(style="bold")
    table.add_column(justify="right", overflow="fold")
    for name, value in summary_rows(run):
        table.add_row(name, value)
    return table


def summary_rows(run: Run) -> Iterator[tuple[str, str]]:
    """The rows of :func:`summary_table` as text."""
    times = run.grokking()
    yield "memorised at", _moment(times.memorised, f"train accuracy >= {times.train:g}")
    yield "generalised at", _moment(times.generalised, f"test accuracy >= {times.test:g}")
    ratio = f"  ({times.ratio:.1f} times)" if times.ratio else ""
    yield "delay", "-" if times.delay is None else f"{times.delay:,} epochs{ratio}"
    metrics = run.metrics
    for label, kind in (("final loss", "loss"), ("final accuracy", "acc")):
        yield label, "   ".join(f"{s} {_last(metrics[f'{s}_{kind}'])}" for s in ("train", "test"))
    yield "GOP trace", _traces(run, times)
    info = run.info
    cost = info.get("measure_seconds", 0.0)
    yield "wall time", f"{info.get('wall_seconds', 0.0):.1f} s, measures {cost:.1f} s of it"
    yield "size on disk", f"{_size(run) / 1e6:.1f} MB"
    yield "run folder", str(run.path)


def _moment(epoch: int | None, condition: str) -> str:
    return f"never  ({condition})" if epoch is None else f"epoch {epoch:,}  ({condition})"


def _last(values: Any) -> str:
    known = values[~np.isnan(values)]
    return f"{known[-1]:.4g}" if len(known) else "-"


def _traces(run: Run, times: GrokkingTimes) -> str:
    """Trace of the ``batch`` GOP at both moments and at the end."""
    metrics = run.metrics
    if "gop/batch/trace" not in metrics:
        return "not measured"
    epochs, trace = metrics["gop/batch/epoch"], metrics["gop/batch/trace"]
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
    return sum(file.stat().st_size for file in run.path.rglob("*") if file.is_file())
