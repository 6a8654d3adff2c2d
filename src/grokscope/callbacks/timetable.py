"""What is due when: the schedules of all settings together."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from grokscope.callbacks.schedule import Schedule, parse_schedule
from grokscope.validation import require_choice

DEFAULTS = {
    "metrics": "every 1",
    "batch": "every 1",
    "weight": "log 20",
    "trajectory": "every 10",
    "sample": "log 10",
    "input": "log 3",
    "factor": "log 20",
}
NAN = float("nan")


class Timetable:
    """The schedules of a run, following its rows.

    Args:
        schedules: Setting (``metrics``, ``batch``, ...) -> schedule.
    """

    def __init__(self, schedules: Mapping[str, Schedule]) -> None:
        self._schedules = dict(schedules)
        self._asked, self._answer = 0.0, -1.0

    def due(self, epoch: int) -> frozenset[str]:
        """Settings that have this epoch."""
        return frozenset(n for n, schedule in self._schedules.items() if schedule.due(epoch))

    def next_due(self, epoch: int) -> int | None:
        """The first epoch at or after ``epoch`` that any setting has; None if there is none.

        The answer holds up to that epoch and is kept: training loops ask at every pass.
        """
        if not self._asked <= epoch <= self._answer:
            due = (schedule.next_due(epoch) for schedule in self._schedules.values())
            self._asked = epoch
            self._answer = min((e for e in due if e is not None), default=math.inf)
        return None if math.isinf(self._answer) else int(self._answer)

    def observe(self, epoch: int, losses: Mapping[str, float]) -> None:
        """Show a row of losses to the schedules that follow them."""
        row = epoch, losses.get("test_acc", NAN), losses.get("test_loss", NAN)
        self._schedules = {n: schedule.observe(*row) for n, schedule in self._schedules.items()}
        self._answer = -1.0

    def state(self) -> dict[str, Any]:
        """What the rows have changed, as plain values for a checkpoint."""
        return {name: schedule.state() for name, schedule in self._schedules.items()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from :meth:`state`; other schedules than those begin anew."""
        self._schedules = {
            name: schedule.restored(state.get(name)) for name, schedule in self._schedules.items()
        }
        self._answer = -1.0


def parse_schedules(value: Any, kinds: tuple[str, ...]) -> dict[str, Schedule]:
    """Setting -> schedule for the losses, the kinds that are on, and the factor.

    Args:
        value: One schedule for all, or a mapping from some settings to theirs; None, as a whole
            or in the mapping, is the default.
        kinds: Those that are on.

    Raises:
        ValueError: For an unknown setting, or a text that is not a schedule.
    """
    names = ("metrics", *kinds, *(("factor",) if "batch" in kinds else ()))
    given = value if isinstance(value, Mapping) else dict.fromkeys(DEFAULTS, value)
    for name in given:
        require_choice("schedule", name, DEFAULTS)
    chosen = DEFAULTS | {name: s for name, s in given.items() if s is not None}
    return {name: parse_schedule(f"schedule.{name}", chosen[name]) for name in names}


def check_epochs(schedules: Mapping[str, Schedule], stop: int | None) -> None:
    """Refuse a schedule without an epoch before ``stop``; None is never.

    Raises:
        ValueError: Naming the schedule.
    """
    for name, schedule in schedules.items():
        first = schedule.next_due(0)
        if stop is not None and (first is None or first >= stop):
            key = f"schedule.{name}" if name in DEFAULTS else f"progress.{name}.schedule"
            raise ValueError(f"{key} must have an epoch before max_epochs={stop}, got {schedule}.")
