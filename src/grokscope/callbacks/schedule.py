"""When something is measured: pure functions of the epoch."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from grokscope.validation import require_int

GRAMMAR = "'every N', 'log POINTS_PER_DECADE', 'at E1 E2 ...', or several joined with '+'"


class Schedule:
    """A set of due epochs; ``a | b`` is the union of two."""

    def next_due(self, epoch: int) -> int | None:
        """Smallest due epoch at or after ``epoch``; None if there is none."""
        raise NotImplementedError

    def due(self, epoch: int) -> bool:
        """Whether ``epoch`` itself is due."""
        return self.next_due(epoch) == epoch

    def epochs(self, stop: int, start: int = 0) -> list[int]:
        """All due epochs in ``[start, stop)``, ascending."""
        found = []
        epoch = self.next_due(start)
        while epoch is not None and epoch < stop:
            found.append(epoch)
            epoch = self.next_due(epoch + 1)
        return found

    def __or__(self, other: Schedule) -> Schedule:
        return Union((self, other))


@dataclass(frozen=True)
class Every(Schedule):
    """Epochs 0, n, 2n, ..."""

    n: int

    def __str__(self) -> str:
        return f"'every {self.n}'"

    def next_due(self, epoch: int) -> int:  # noqa: D102
        return -(-epoch // self.n) * self.n


@dataclass(frozen=True)
class Log(Schedule):
    """Epoch 0 and the rounded powers ``10 ** (i / points_per_decade)``."""

    points_per_decade: int

    def __str__(self) -> str:
        return f"'log {self.points_per_decade}'"

    def next_due(self, epoch: int) -> int:  # noqa: D102
        if epoch <= 1:
            return max(epoch, 0)
        index = max(0, math.floor(self.points_per_decade * math.log10(epoch)) - 1)
        while (point := round(10 ** (index / self.points_per_decade))) < epoch:
            index += 1
        return point


@dataclass(frozen=True)
class At(Schedule):
    """The listed epochs."""

    listed: tuple[int, ...]

    def __str__(self) -> str:
        return f"'at {' '.join(map(str, self.listed))}'"

    def next_due(self, epoch: int) -> int | None:  # noqa: D102
        index = bisect_left(self.listed, epoch)
        return self.listed[index] if index < len(self.listed) else None


@dataclass(frozen=True)
class Union(Schedule):
    """Due when any part is due."""

    parts: tuple[Schedule, ...]

    def __str__(self) -> str:
        return " + ".join(map(str, self.parts))

    def next_due(self, epoch: int) -> int | None:  # noqa: D102
        return min((e for p in self.parts if (e := p.next_due(epoch)) is not None), default=None)


def every(n: int) -> Schedule:
    """Every ``n``-th epoch, from 0."""
    return Every(require_int("every", n))


def log(points_per_decade: int) -> Schedule:
    """Evenly spaced on a log axis: at most ``points_per_decade`` epochs a decade, and epoch 0."""
    return Log(require_int("log", points_per_decade))


def at(epochs: Iterable[int]) -> Schedule:
    """Exactly the listed epochs; at least one."""
    listed = tuple(sorted({require_int("at", epoch, minimum=0) for epoch in epochs}))
    if not listed:
        raise ValueError("a schedule 'at' must list at least one epoch, got none.")
    return At(listed)


def parse_schedule(name: str, value: Any) -> Schedule:
    """Turn a setting into a schedule.

    Args:
        name: The setting's name, for the error message.
        value: A :class:`Schedule`, an int n (every n epochs), or a text such as ``every 10``,
            ``log 20``, ``at 0 10 100`` or ``log 20 + every 1000``.

    Raises:
        ValueError: If the text does not name a schedule with at least one epoch.
    """
    if isinstance(value, Schedule):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        value = f"every {value}"
    try:
        parts = [_parse_part(part.split()) for part in str(value).split("+")]
    except (ValueError, IndexError, KeyError) as error:
        detail = f" ({error})" if isinstance(error, ValueError) and "must" in str(error) else ""
        raise ValueError(f"{name} must be {GRAMMAR}, got {value!r}{detail}.") from None
    return parts[0] if len(parts) == 1 else Union(tuple(parts))


def _parse_part(words: list[str]) -> Schedule:
    numbers = [int(word) for word in words[1:]]
    if words[0] == "at":
        return at(numbers)
    (number,) = numbers
    return {"every": every, "log": log}[words[0]](number)
