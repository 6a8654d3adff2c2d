"""Interleaved timings, and the tables that go into docs/benchmarks.md."""

from __future__ import annotations

import platform
import re
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from pathlib import Path

import torch
from lightning import Callback, LightningModule, Trainer

PAGE = Path(__file__).parents[2] / "docs" / "benchmarks.md"


class Stopwatch(Callback):
    """Seconds from the first pass to the last, without what a run costs once."""

    seconds = 0.0
    _begun: float | None = None

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._begun is None:
            self._begun = time.perf_counter()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert self._begun is not None
        self.seconds = time.perf_counter() - self._begun


def interleaved(
    variants: Mapping[str, Callable[[], float]], repeats: int
) -> dict[str, list[float]]:
    """Call every variant in turn, ``repeats`` times; each returns its seconds an epoch."""
    times: dict[str, list[float]] = {name: [] for name in variants}
    for run in variants.values():  # warm up
        run()
    for _ in range(repeats):
        for name, run in variants.items():
            times[name].append(run())
    return times


def median_ratio(times: Mapping[str, Sequence[float]], a: str, b: str) -> float:
    """Median over the repeats of a / b, each pair taken side by side."""
    return statistics.median(x / y for x, y in zip(times[a], times[b], strict=True))


def milliseconds(seconds: Sequence[float]) -> str:
    """Median and range in ms."""
    low, middle, high = (1e3 * f(seconds) for f in (min, statistics.median, max))
    return f"{middle:.3g} ({low:.3g} to {high:.3g})"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def verdict(value: float, limit: float, at_most: bool = True) -> str:
    """Whether a limit holds, in words."""
    holds = value <= limit if at_most else value >= limit
    return f"{'<=' if at_most else '>='} {limit:g}: {'holds' if holds else 'MISSED'}"


def machine() -> str:
    """What the numbers were taken on."""
    return (
        f"{date.today()}, {platform.machine()}, {torch.get_num_threads()} threads, "
        f"Python {platform.python_version()}, torch {torch.__version__}"
    )


def write_section(
    name: str, title: str, text: str, page: Path = PAGE, heading: str = "# Benchmarks\n"
) -> None:
    """Replace one section of a page, or add it; print it too."""
    section = f"<!-- {name} -->\n## {title}\n\n{text}\n\nMeasured {machine()}.\n<!-- /{name} -->"
    content = page.read_text(encoding="utf-8") if page.exists() else heading
    pattern = re.compile(rf"<!-- {name} -->.*?<!-- /{name} -->", re.DOTALL)
    if pattern.search(content):
        content = pattern.sub(lambda _: section, content)
    else:
        content = f"{content.rstrip()}\n\n{section}\n"
    page.write_text(content, encoding="utf-8")
    print(text)
