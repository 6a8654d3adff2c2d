"""Curves over epochs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from grokscope.analysis.figures.style import (
    DASHES,
    DOTS,
    MOST_NAMED,
    NEUTRAL,
    PARTS,
    TEST,
    TRAIN,
    draw_moments,
    drawable,
    epoch_axis,
    legend_below,
    name_moments,
    plain,
    run_title,
    say_empty,
    wrapped,
)
from grokscope.analysis.grokking import GrokkingTimes
from grokscope.analysis.metrics import Metrics
from grokscope.analysis.panels.model import ROLES, Lines, Series
from grokscope.analysis.run import Run
from grokscope.validation import require_choice

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DARKER = 0.55  # theory's colour, times that of what it predicts


def draw_lines(lines: Lines, figure: Figure, times: GrokkingTimes | None = None) -> None:
    """Draw curves, with a legend below and the two moments.

    Training and test have their colours; a prediction is dotted and darker. Parts differ by
    colour and dashes; of more than ``MOST_NAMED`` the order goes from dark to light, and only the
    first and the last are named. A NaN is a gap.

    Raises:
        ValueError: For an unknown role.
    """
    axis = figure.subplots()
    shown = [series for series in lines.series if drawable(series.values).any()]
    zero = _zero(lines)
    for series, look in zip(shown, looks(shown), strict=True):
        if lines.steps:
            look["drawstyle"] = "steps-post"
        curve(axis, series.epochs, series.values, zero=zero, **look)
        _band(axis, series, zero, look)
    axis.set_ylabel(wrapped(lines.unit))
    if not shown:
        say_empty(axis)
        return
    if lines.log and any((series.values > 0).any() for series in shown):
        axis.set_yscale("log", nonpositive="mask")
    elif lines.unit.startswith("accuracy"):
        axis.set_ylim(-0.03, 1.03)
    draw_moments(axis, times, legend=True)
    epoch_axis(axis, *((wrapped(lines.time, 60),) if lines.time else ()))
    legend_below(figure, axis)


def _zero(lines: Lines) -> float:
    """Where time 0 stands on a log axis: half an epoch, or half of the first time of others."""
    if not lines.time:
        return 0.5
    firsts = [s.epochs[s.epochs > 0].min(initial=1.0) for s in lines.series]
    return float(min(firsts, default=1.0)) / 2


def _band(axis: Axes, series: Series, zero: float, look: dict[str, Any]) -> None:
    """What lies between the ends of a curve's spread."""
    if series.low is None or series.high is None:
        return
    style: dict[str, Any] = {"color": look["color"], "alpha": 0.15, "linewidth": 0}
    if "drawstyle" in look:
        style["step"] = "post"
    axis.fill_between(np.maximum(series.epochs, zero), series.low, series.high, **style)


def looks(series: Sequence[Series]) -> list[dict[str, Any]]:
    """Colour, dashes, width and label of each curve.

    Raises:
        ValueError: For an unknown role.
    """
    for each in series:
        require_choice("role", each.role, ROLES)
    parts = part_looks([s.name for s in series if _is_part(s)])
    seen: Counter[tuple[str, bool]] = Counter()
    found = []
    for each in series:
        seen[each.role, each.theory] += 1
        number = seen[each.role, each.theory] - 1
        found.append(next(parts) if _is_part(each) else _look(each, number))
    others = [i for i, each in enumerate(series) if _is_part(each) and each.role == "other"]
    if len(others) == 1:  # alone it is nobody's equal
        found[others[0]] |= {"color": NEUTRAL, "linestyle": "solid"}
    return found


def _is_part(series: Series) -> bool:
    """Whether it has several like it, to be told apart by colour."""
    return series.role in ("part", "other") and not series.theory


def _look(series: Series, number: int) -> dict[str, Any]:
    """That of a role with a colour of its own; the second of a role is dashed."""
    from matplotlib.colors import to_rgb

    colour: Any = {"train": TRAIN, "test": TEST}.get(series.role, NEUTRAL)
    if series.theory:
        colour = tuple(DARKER * part for part in to_rgb(colour))
    dashes = DOTS if series.theory else DASHES[number % len(DASHES)]
    width = 2.0 if series.role == "whole" else 1.3
    label = plain(series.name, 32)
    return {"color": colour, "linestyle": dashes, "linewidth": width, "label": label}


def part_looks(names: Sequence[str]) -> Any:
    """Iterator over the looks of parts: colour and dashes while few, else dark to light."""
    import matplotlib as mpl

    if len(names) <= MOST_NAMED:
        for i, name in enumerate(names):
            colour, dashes = PARTS[i % len(PARTS)], DASHES[i // len(PARTS) % len(DASHES)]
            label = plain(name, 32)
            yield {"color": colour, "linestyle": dashes, "linewidth": 1.0, "label": label}
        return
    colours = mpl.colormaps["viridis"](np.linspace(0, 0.9, len(names)))
    ends = {0: f"{plain(names[0], 32)} (first of {len(names)})"}
    ends[len(names) - 1] = f"{plain(names[-1], 32)} (last)"
    for i in range(len(names)):
        yield {"color": colours[i], "linewidth": 0.8, "label": ends.get(i)}


def curve(
    axis: Axes, epochs: ArrayLike, values: ArrayLike, *, zero: float = 0.5, **look: Any
) -> None:
    """One curve over epochs; 0 is drawn at ``zero``, a point without neighbours as a dot."""
    x, y = np.maximum(np.asarray(epochs, dtype=float), zero), np.asarray(values, dtype=float)
    known = drawable(y)
    y = np.where(known, y, np.nan)
    (line,) = axis.plot(x, y, **{"linewidth": 1.3, **look})
    alone = known & ~np.append(False, known[:-1]) & ~np.append(known[1:], False)
    if alone.any():
        axis.plot(x[alone], y[alone], ".", color=line.get_color(), markersize=4)


def draw_curves(run: Run, figure: Figure) -> bool:
    """Loss and accuracy over epochs; False, and nothing drawn, with fewer than two rows."""
    metrics, times = run.metrics, run.grokking_as_configured()
    if "train_loss" not in metrics or len(metrics["epoch"]) < 2:
        return False
    accuracy, loss = figure.subplots(2, 1, sharex=True)
    figure.suptitle(run_title(run))
    for axis, kind, unit in ((accuracy, "acc", "accuracy"), (loss, "loss", "loss")):
        for split, colour in (("train", TRAIN), ("test", TEST)):
            column = f"{split}_{kind}"
            known_curve(axis, metrics["epoch"], metrics[column], color=colour, label=split)
        _theory(axis, metrics, kind)
        draw_moments(axis, times)
        axis.set_ylabel(unit)
    accuracy.set_ylim(-0.03, 1.03)
    loss.set_yscale("log")
    epoch_axis(accuracy, "")
    epoch_axis(loss)
    accuracy.legend(loc="center left")
    name_moments(accuracy, times)
    return True


def _theory(axis: Axes, metrics: Metrics, kind: str) -> None:
    """Dotted curves of what theory predicts, where the module knows it."""
    for split in ("train", "test"):
        if (name := f"theory_{split}_{kind}") in metrics:
            look = {"color": "black", "linestyle": (0, (1, 3)), "label": f"{split}, theory"}
            known_curve(axis, metrics["epoch"], metrics[name], **look)


def known_curve(axis: Axes, epochs: Any, values: Any, **look: Any) -> None:
    """A curve over the rows where something was measured, without gaps."""
    known = ~np.isnan(values)
    curve(axis, epochs[known], values[known], **{"linewidth": 1.5, **look})
