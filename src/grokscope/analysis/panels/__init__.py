"""What a run shows, as plain data: the page, figures for papers and notebooks draw the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

from grokscope.analysis.panels.gop import gop_panels
from grokscope.analysis.panels.groups import group_panels
from grokscope.analysis.panels.model import Lines, Matrices, Panel, Series, Spectrum
from grokscope.analysis.panels.source import Source
from grokscope.analysis.panels.training import training_panels
from grokscope.analysis.run import Run

__all__ = ["Lines", "Matrices", "Panel", "Series", "Spectrum", "panels"]


def panels(run: Run, *, points: int = 2000, frames: int = 120) -> list[Panel]:
    """All pictures of a run, from the rows that it has at this moment.

    Args:
        run: Finished or running.
        points: Most points of a curve, about; spikes stay.
        frames: Most epochs of a spectrum or a matrix.

    Raises:
        ValueError: If a file of the run cannot be read, naming it.
    """
    source = Source(run, points, frames)
    found = [*training_panels(source), *gop_panels(source), *group_panels(source)]
    return [replace(p, key=key) for p, key in zip(found, _unique(found), strict=True)]


def _unique(found: Sequence[Panel]) -> Iterator[str]:
    """Keys, numbered where strange names of groups have become the same."""
    seen: Counter[str] = Counter()
    for panel in found:
        seen[panel.key] += 1
        yield panel.key if seen[panel.key] == 1 else f"{panel.key}.{seen[panel.key]}"
