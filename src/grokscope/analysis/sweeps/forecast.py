"""When a sweep will be over."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from statistics import mean

from grokscope.analysis.sweeps.states import MISSING, RUNNING, WAITING, RunState


def time_left(found: Sequence[RunState]) -> float | None:
    """Seconds until the last run ends, if as many run at once as do now; None if nobody knows.

    A run that waits, or that nobody has begun, takes the place of the one that ends first. It is
    taken to be as long as the mean of those that have been timed, less the part that it has done;
    so is a running one without a row. Runs that failed or were stopped are not counted: nobody
    goes on with them.
    """
    timed = [each.seconds for each in found if each.seconds is not None]
    typical = mean(timed) if timed else None
    places: list[float] = []
    for each in found:
        if each.state == RUNNING:
            left = each.seconds_left
            left = _rest(each, typical) if left is None else left
            if left is None:
                return None
            places.append(left)
    if not places:
        return None
    heapq.heapify(places)
    for each in found:
        if each.state in (WAITING, MISSING):
            rest = _rest(each, typical)
            if rest is None:
                return None
            heapq.heapreplace(places, places[0] + rest)
    return max(places)


def _rest(state: RunState, seconds: float | None) -> float | None:
    """Of so many seconds, those for the passes that are left."""
    if seconds is None or not state.epochs or state.epoch is None:
        return seconds
    return seconds * max(0.0, 1 - state.epoch / state.epochs)
