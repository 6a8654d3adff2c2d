"""What the page of one run says."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from grokscope.analysis.comparison import Snapshot
from grokscope.analysis.grokking import GrokkingTimes
from grokscope.analysis.panels import panels
from grokscope.analysis.report.encoding import Arrays, encoded
from grokscope.analysis.run import Run, printable
from grokscope.analysis.summary import summary_rows

Rows = list[tuple[str, str]]
LONGEST = 2000  # characters of a setting that are shown


def run_document(run: Run, live: bool = False) -> dict[str, Any]:
    """Summary, settings, machine and panels of a run, as JSON-ready values.

    Raises:
        ValueError: If a file of the run cannot be read, naming it.
    """
    run = Snapshot.of(run)  # one moment of a run that goes on
    times = run.grokking_as_configured()
    arrays = Arrays()
    found = encoded(panels(run), arrays)
    return {
        "title": f"{cut(run.name)}: {cut(run.status)}",
        "verdict": verdict(run, times),
        "facts": _facts(run),
        "moments": {"memorised": times.memorised, "generalised": times.generalised},
        "arrays": arrays.packed,
        "panels": found,
        "tables": [],
        "live": live,
        "running": run.status == "running",
        "progress": _progress(run),
        "stamp": datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
    }


def verdict(run: Run, times: GrokkingTimes) -> str:
    """Did it grok, and when: one sentence."""
    state = "So far it" if run.status == "running" else "It"
    if times.memorised is None and times.generalised is None:
        return f"{state} has neither memorised nor generalised."
    if times.generalised is None:
        return f"{state} memorised at epoch {times.memorised:,} and has not generalised."
    if times.memorised is None:
        return f"{state} generalised at epoch {times.generalised:,} without memorising all."
    if not times.delay or times.delay < 0:
        return f"{state} generalised at epoch {times.generalised:,}, no later than it memorised."
    ratio = f", {times.ratio:.3g} times as many" if times.ratio else ""
    return (
        f"{state} memorised at epoch {times.memorised:,} and generalised at "
        f"{times.generalised:,}: {times.delay:,} epochs later{ratio}."
    )


def _facts(run: Run) -> list[dict[str, Any]]:
    """The folded tables above the pictures."""
    info = run.info
    machine = [(name, _plain(info[name])) for name in MACHINE if name in info]
    found: list[tuple[str, Rows, bool]] = [
        ("Summary", [(name, cut(value)) for name, value in summary_rows(run)], True),
        ("Settings that differ from the defaults", _overrides(info), True),
        ("Machine", machine, False),
        ("All settings", list(_leaves(run.config)), False),
    ]
    return [{"title": t, "rows": rows, "open": shown} for t, rows, shown in found if rows]


MACHINE = ("device", "machine", "versions", "git_revision")


def _overrides(info: dict[str, Any]) -> Rows:
    """What was typed: the rest is the experiment's own."""
    typed = info.get("overrides")
    words = [str(each) for each in typed] if isinstance(typed, list) else []
    parts = (word.partition("=") for word in words)
    return [(cut(name), cut(value)) for name, _, value in parts]


def _leaves(node: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Dotted names and values of a configuration."""
    if isinstance(node, dict) and node:
        for key, value in node.items():
            yield from _leaves(value, f"{prefix}.{key}" if prefix else str(key))
    elif prefix:
        yield cut(prefix), _plain(node)


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{cut(str(k))} {cut(str(v))}" for k, v in value.items())
    return cut(str(value))


def cut(text: str) -> str:
    """Printable text of a bounded length."""
    text = printable(text)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def _progress(run: Run) -> str:
    metrics = run.metrics
    epochs = metrics.series("epoch")
    done = f"epoch {int(epochs[-1]):,}" if len(epochs) else "no row yet"
    trainer = run.config.get("trainer")
    stop = trainer.get("max_epochs") if isinstance(trainer, dict) else None
    return f"{done} of {stop:,}" if isinstance(stop, int) else done
