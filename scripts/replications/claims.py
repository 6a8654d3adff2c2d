"""A published claim, the runs that test it, and the verdict."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from grokscope import Run

SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Claim:
    """One number of a paper, and how ours is held to it.

    Attributes:
        says: What it is about.
        source: Figure, table, equation or cell.
        published: As printed.
        measure: The runs of one seed, by their names -> our number; None where there is none.
        holds: Whether a number agrees; it is asked of the median over seeds.
        tolerance: The same in words.
        why: If it does not agree: the reason, as far as we know it.
    """

    says: str
    source: str
    published: str
    measure: Callable[[dict[str, Run]], float | None]
    holds: Callable[[float], bool]
    tolerance: str
    why: str = ""

    def row(self, runs: Sequence[dict[str, Run]]) -> list[str]:
        """Cells of the table: claim, source, published, ours, tolerance, verdict."""
        values = [self.measure(of_a_seed) for of_a_seed in runs]
        found = [value for value in values if value is not None]
        ours = _text(found, len(values))
        whole = len(found) == len(values) and self.holds(statistics.median(found))
        verdict = "reproduced" if whole else f"differs: {self.why or 'we do not know why'}"
        return [self.says, self.source, self.published, ours, self.tolerance, verdict]


@dataclass(frozen=True)
class Replication:
    """Runs, and the claims that they test.

    Attributes:
        name: Of the paper's set-up; the argument of scripts/replicate.py.
        runs: Name -> overrides of ``src/train.py``, without the seed; ``{name}`` in one is the
            folder of an earlier run of the same seed. Empty: the claims compute by themselves.
        claims: Tested on the runs of every seed.
        seeds: At least three.
        minutes: About, for all seeds on two cores.
        slow: Whether it runs only when it is named.
    """

    name: str
    runs: dict[str, tuple[str, ...]]
    claims: tuple[Claim, ...]
    seeds: tuple[int, ...] = SEEDS
    minutes: float = 1.0
    slow: bool = False


@dataclass(frozen=True)
class NeedsGPU:
    """A set-up that is out of reach of a laptop, and the commands that run it."""

    name: str
    says: str
    source: str
    published: str
    commands: tuple[str, ...] = field(default=())


def within(value: float, relative: float) -> Callable[[float], bool]:
    """At most this relative distance from a published value."""
    return lambda ours: abs(ours - value) <= relative * abs(value)


def between(low: float, high: float) -> Callable[[float], bool]:
    """In a closed range."""
    return lambda ours: low <= ours <= high


def series(run: Run, column: str, clock: str = "epoch") -> tuple[np.ndarray, np.ndarray]:
    """Epochs or steps, and a column; that of ``group/name`` has the rows of its group."""
    group, slash, _ = column.rpartition("/")
    return run.metrics[f"{group}{slash}{clock}"], run.metrics[column]


def first(
    run: Run, column: str, test: Callable[[np.ndarray], np.ndarray], clock: str = "epoch"
) -> float | None:
    """First recorded epoch or step whose value passes; None: never."""
    times, values = series(run, column, clock)
    passed = test(values)
    return float(times[np.argmax(passed)]) if passed.any() else None


def first_below(run: Run, column: str, value: float) -> float | None:
    """First recorded epoch at which a column is smaller; None: never."""
    return first(run, column, lambda values: values < value)


def first_above(run: Run, column: str, value: float) -> float | None:
    """First recorded epoch at which a column is at least so large; None: never."""
    return first(run, column, lambda values: values >= value)


def last(run: Run, column: str) -> float:
    """A column of the metrics at the end."""
    return float(run.metrics[column][-1])


def _text(values: Sequence[float], asked: int) -> str:
    """Median, range, and how many of the seeds gave a number."""
    if not values:
        return f"never (0 of {asked} seeds)"
    middle = f"{statistics.median(values):.4g}"
    spread = f" ({min(values):.4g} to {max(values):.4g})" if len(values) > 1 else ""
    missing = f", {asked - len(values)} of {asked} never" if len(values) < asked else ""
    return f"{middle}{spread}{missing}"
