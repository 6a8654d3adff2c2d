"""What replications of Minegishi et al. 2023 share."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from grokscope import Run
from replications._series import RECORD_NOTHING, Runs, quotient
from replications.claims import Claim, first_above

PAPER = "Minegishi et al. 2023"
P = 0.95
FAST = ("measures=none", RECORD_NOTHING)
DENSE = ("experiment=minegishi", "measures=none")
Judgement = tuple[Callable[[float], bool], str]


def ticket(*more: str, experiment: str = "minegishi_ticket") -> tuple[str, ...]:
    return (f"experiment={experiment}", 'ticket.run="{dense}"', *more, *FAST)


def generalised(run: Run, accuracy: float = P) -> float | None:
    return first_above(run, "test_acc", accuracy)


def compared(runs: Runs, above: str, below: str, test: float = P) -> float | None:
    """Epochs to generalise of one run over those of another; never counts to its end."""
    end = float(runs[above].metrics["epoch"][-1])
    return quotient(generalised(runs[above], test) or end, generalised(runs[below], test))


def more_than(value: float) -> Judgement:
    return (lambda ours: ours > value), f"> {value:g}"


def less_than(value: float) -> Judgement:
    return (lambda ours: ours < value), f"< {value:g}"


def slower(says: str, source: str, above: str, below: str) -> Claim:
    measure = partial(compared, above=above, below=below)
    return Claim(says, f"{PAPER}, {source}", "slower", measure, *more_than(1))
