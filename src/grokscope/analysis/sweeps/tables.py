"""The state of a sweep as a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from rich.table import Table
from rich.text import Text

from grokscope.analysis.run import printable
from grokscope.analysis.sweeps.states import FINISHED, RunState

COLOURS = {FINISHED: "green", "running": "cyan", "waiting": "blue", "missing": "dim"}
MANY = 60  # rows; of more runs only those that are not finished are shown
REASON = 200  # characters


def state_table(
    title: str, found: Sequence[RunState], last: tuple[str, Callable[[RunState], str]]
) -> Table:
    """A row a run: number, what its settings have of its own, state, epochs, and a last column.

    Args:
        title: Over the table.
        found: The runs.
        last: Head of the last column, and what it says of a run.
    """
    table = Table(title=Text(title), title_justify="left")
    for name in ("run", "settings", "state", "epoch", last[0]):
        table.add_column(name, justify="right" if name in ("run", "epoch") else "left")
    shown = [s for s in found if s.state != FINISHED] if len(found) > MANY else found
    common = shared([state.run.overrides for state in found])
    for each in shown:
        state = Text(each.state, style=COLOURS.get(each.state, "red"))
        own = " ".join(o for o in each.run.overrides if o not in common)
        cells = Text(printable(own)), state, _epochs(each), Text(last[1](each)[:REASON])
        table.add_row(str(each.run.number), *cells)
    return table


def shared(overrides: Sequence[Sequence[str]]) -> frozenset[str]:
    """What all runs have in common; nothing for a single one."""
    if len(overrides) < 2:
        return frozenset()
    return frozenset.intersection(*map(frozenset, overrides))


def counts(found: Sequence[RunState]) -> str:
    """Such as ``6 runs: 4 finished, 2 failed``."""
    numbers = Counter(each.state for each in found).most_common()
    noun = "run" if len(found) == 1 else "runs"
    return f"{len(found)} {noun}: " + ", ".join(f"{n} {state}" for state, n in numbers)


def _epochs(state: RunState) -> str:
    if state.epoch is None:
        return "-"
    return f"{state.epoch:,}" + (f" of {state.epochs:,}" if state.epochs else "")
