"""The state of a sweep as text: a table, and a line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from rich.table import Table
from rich.text import Text

from grokscope.analysis.run import printable
from grokscope.analysis.sweeps.forecast import time_left
from grokscope.analysis.sweeps.states import FINISHED, MISSING, WAITING, RunState

COLOURS = {FINISHED: "green", "running": "cyan", WAITING: "blue", MISSING: "dim"}
MANY = 60  # rows; of more runs only those that say most are shown
LEFT_OUT = (FINISHED, MISSING, WAITING)  # in this order
REASON = 200  # characters
MINUTE, HOUR, DAY = 60, 3600, 86400
MOST_DAYS = 1000  # a foreign file may say anything


def state_table(
    title: str, found: Sequence[RunState], last: tuple[str, Callable[[RunState], str]]
) -> Table:
    """A row a run: number, what its settings have of its own, state, epochs, and a last column.

    Of more than 60 runs the finished ones are left out, then the missing and the waiting ones;
    a line below the table counts them.

    Args:
        title: Over the table.
        found: The runs.
        last: Head of the last column, and what it says of a run.
    """
    table = Table(title=Text(title), title_justify="left", caption_justify="left")
    for name in ("run", "settings", "state", "epoch", last[0]):
        table.add_column(name, justify="right" if name in ("run", "epoch") else "left")
    common = shared([state.run.overrides for state in found])
    shown, table.caption = _shown(found)
    for each in shown:
        state = Text(printable(each.state), style=COLOURS.get(each.state, "red"))
        own = " ".join(o for o in each.run.overrides if o not in common)
        cells = Text(printable(own)), state, _epochs(each), Text(last[1](each)[:REASON])
        table.add_row(str(each.run.number), *cells)
    return table


def status_text(state: RunState) -> str:
    """Why a run is not finished, or how long it will take."""
    if state.seconds_left is not None:
        return f"about {duration(state.seconds_left)} left"
    return state.reason


def shared(overrides: Sequence[Sequence[str]]) -> frozenset[str]:
    """What all runs have in common; nothing for a single one."""
    if len(overrides) < 2:
        return frozenset()
    return frozenset.intersection(*map(frozenset, overrides))


def counts(found: Sequence[RunState]) -> str:
    """Such as ``6 runs: 4 finished, 2 failed``."""
    noun = "run" if len(found) == 1 else "runs"
    return f"{len(found):,} {noun}" + (f": {_numbers(found)}" if found else "")


def forecast_text(found: Sequence[RunState]) -> str:
    """Such as ``6 runs: 4 finished, 2 running; about 2 h 10 min left``."""
    seconds = time_left(found)
    return counts(found) + ("" if seconds is None else f"; about {duration(seconds)} left")


def duration(seconds: float) -> str:
    """Such as ``45 s``, ``12 min``, ``2 h 10 min`` or ``3 d 4 h``, to the nearest."""
    if seconds > MOST_DAYS * DAY:
        return f"more than {MOST_DAYS} d"
    if round(seconds) < MINUTE:
        return f"{round(seconds)} s"
    if (minutes := round(seconds / MINUTE)) < HOUR // MINUTE:
        return f"{minutes} min"
    if minutes < DAY // MINUTE:
        return _two(*divmod(minutes, 60), "h", "min")
    return _two(*divmod(round(seconds / HOUR), 24), "d", "h")


def _two(large: int, small: int, unit: str, part: str) -> str:
    return f"{large} {unit}" + (f" {small} {part}" if small else "")


def _shown(found: Sequence[RunState]) -> tuple[Sequence[RunState], Text | None]:
    """As many runs as there is room for, and what is said of the others."""
    shown = found
    for state in LEFT_OUT:
        if len(shown) > MANY:
            shown = [each for each in shown if each.state != state]
    kept = {id(each) for each in shown}
    others = [each for each in found if id(each) not in kept]
    return shown, Text(f"and {_numbers(others)}") if others else None


def _numbers(found: Sequence[RunState]) -> str:
    counted = Counter(printable(each.state) for each in found).most_common()
    return ", ".join(f"{number:,} {state}" for state, number in counted)


def _epochs(state: RunState) -> str:
    if state.epoch is None:
        return "-"
    return f"{state.epoch:,}" + (f" of {state.epochs:,}" if state.epochs else "")
