"""Panels of losses and accuracies."""

from __future__ import annotations

from collections.abc import Iterator

from grokscope.analysis.panels.model import Lines, Panel, Series
from grokscope.analysis.panels.source import CLOCKS, Source

SECTION = "Training"
OWN = frozenset({*CLOCKS, "global_step", "eigenvalues_top_k"})
KINDS = {
    "loss": (
        "Loss",
        "loss (mean over samples)",
        "Loss of both splits at the weights after so many epochs. Dotted: what theory predicts, "
        "where it is known.",
    ),
    "acc": (
        "Accuracy",
        "accuracy",
        "Share of right answers. Dashed lines: the run has memorised (training), has generalised "
        "(test), and stays there.",
    ),
}


def training_panels(source: Source) -> Iterator[Panel]:
    """Loss, accuracy, and the task's own numbers."""
    for kind, (title, unit, caption) in KINDS.items():
        if series := tuple(_splits(source, kind)):
            lines = Lines(title.lower(), unit, series, log=kind == "loss")
            yield Panel(title.lower(), SECTION, title, caption, (lines,))
    if choices := tuple(_others(source)):
        caption = "Numbers that this task records beside losses and accuracies."
        yield Panel("task", SECTION, "Of the task", caption, choices)


def _splits(source: Source, kind: str) -> Iterator[Series]:
    """Training and test, other splits, theory."""
    ending = f"_{kind}"
    names = [name for name in source.metrics if "/" not in name and name.endswith(ending)]
    order = {f"train{ending}": 0, f"test{ending}": 1}
    for column in sorted(names, key=lambda name: order.get(name, 2)):
        theory = column.startswith("theory_")
        split = column.removeprefix("theory_").removesuffix(ending)
        role = split if split in ("train", "test") else "other"
        name = f"{split}, theory" if theory else split
        yield from source.series("", column, name, role, theory=theory)


def _others(source: Source) -> Iterator[Lines]:
    columns = (c for c in source.metrics if "/" not in c and not c.startswith("gop_"))
    for column in columns:
        if column in OWN or column.endswith(("_loss", "_acc")):
            continue
        if series := tuple(source.series("", column, column, "other")):
            yield Lines(series[0].name, series[0].name, series)
