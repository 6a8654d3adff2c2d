"""Sets of due epochs: what a schedule is, and the ones that are known in advance."""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass
from typing import Any


class Schedule:
    """A set of due epochs; ``a | b`` is the union of two.

    Schedules are values: nothing changes them. :meth:`observe` gives the one to go on with.

    Attributes:
        fixed: Whether the due epochs are known in advance.
    """

    @property
    def fixed(self) -> bool:  # noqa: D102
        return True

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

    def count(self, stop: int, start: int = 0) -> int:
        """How many epochs in ``[start, stop)`` are due; quick where there are billions."""
        return len(self.epochs(stop, start))

    def observe(self, epoch: int, test_acc: float, test_loss: float) -> Schedule:
        """The schedule after a row of losses; NaN for what is not known."""
        return self

    def state(self) -> Any:
        """What :meth:`observe` has changed, as plain values for a checkpoint."""
        return None

    def restored(self, state: Any) -> Schedule:
        """This schedule with what :meth:`state` gave; another schedule's is passed over."""
        return self

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

    def count(self, stop: int, start: int = 0) -> int:  # noqa: D102
        return max(0, -(-stop // self.n) - -(-start // self.n))


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

    @property
    def fixed(self) -> bool:  # noqa: D102
        return all(part.fixed for part in self.parts)

    def next_due(self, epoch: int) -> int | None:  # noqa: D102
        return min((e for p in self.parts if (e := p.next_due(epoch)) is not None), default=None)

    def count(self, stop: int, start: int = 0) -> int:
        """By inclusion and exclusion of the ``every n``; the others list their epochs."""
        flat = self.flat
        steps = {part.n for part in flat if isinstance(part, Every)}
        steps = {n for n in steps if not any(n != m and n % m == 0 for m in steps)}
        listed = {e for p in flat if not isinstance(p, Every) for e in p.epochs(stop, start)}
        return _multiples(tuple(steps), start, stop) + sum(
            not any(epoch % n == 0 for n in steps) for epoch in listed
        )

    @property
    def flat(self) -> tuple[Schedule, ...]:
        """The parts, and those of parts that are unions themselves."""
        nested = (p.flat if isinstance(p, Union) else (p,) for p in self.parts)
        return tuple(part for parts in nested for part in parts)

    def observe(self, epoch: int, test_acc: float, test_loss: float) -> Union:  # noqa: D102
        return Union(tuple(part.observe(epoch, test_acc, test_loss) for part in self.parts))

    def state(self) -> list[Any]:  # noqa: D102
        return [part.state() for part in self.parts]

    def restored(self, state: Any) -> Schedule:  # noqa: D102
        if not isinstance(state, list) or len(state) != len(self.parts):
            return self
        return Union(tuple(p.restored(s) for p, s in zip(self.parts, state, strict=True)))


def _multiples(steps: tuple[int, ...], start: int, stop: int) -> int:
    """Numbers in ``[start, stop)`` that one of ``steps`` divides.

    Those of the first and of the others, less those of both: a number that the first and another
    one divide is a multiple of the least that both divide.
    """
    if not steps:
        return 0
    first, *others = steps
    both = tuple(math.lcm(first, other) for other in others)
    own = Every(first).count(stop, start)
    return own + _multiples(tuple(others), start, stop) - _multiples(both, start, stop)
