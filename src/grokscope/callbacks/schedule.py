"""When something is measured: schedules from functions, or from a text as settings have it."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any

from grokscope.callbacks.adaptive import Adaptive
from grokscope.callbacks.epochs import At, Every, Log, Schedule, Union
from grokscope.validation import require_float, require_int, shown

__all__ = ["Schedule", "adaptive", "at", "every", "log", "parse_schedule"]

GRAMMAR = (
    "'every N', 'log POINTS_PER_DECADE', 'at E1 E2 ...', "
    "'adaptive [COARSE to DENSE] [above SPEED]', or several joined with '+'"
)


MOST_EPOCHS = 10**15  # beyond, floats do not tell one epoch from the next
MOST_A_DECADE = 10_000
MOST_LISTED = 100_000
MOST_PARTS = 8
MOST_DECADES = 15.0


def every(n: int) -> Schedule:
    """Every ``n``-th epoch, from 0."""
    return Every(require_int("every", n, maximum=MOST_EPOCHS))


def log(points_per_decade: int) -> Schedule:
    """Evenly spaced on a log axis: at most ``points_per_decade`` epochs a decade, and epoch 0."""
    return Log(require_int("log", points_per_decade, maximum=MOST_A_DECADE))


def at(epochs: Iterable[int]) -> Schedule:
    """Exactly the listed epochs; at least one."""
    given = list(islice(epochs, MOST_LISTED + 1))
    if not 1 <= len(given) <= MOST_LISTED:
        got = "none" if not given else "more"
        raise ValueError(f"a schedule 'at' must list 1 to {MOST_LISTED:,} epochs, got {got}.")
    checked = {require_int("at", e, minimum=0, maximum=MOST_EPOCHS) for e in given}
    return At(tuple(sorted(checked)))


def adaptive(
    coarse: Schedule | None = None,
    dense: Schedule | None = None,
    threshold: float = 0.5,
    *,
    smoothing: float = 0.05,
    settle: float = 0.1,
) -> Schedule:
    """Coarse on plateaus, dense while the test curves move; see :class:`Adaptive`.

    Args:
        coarse: Default ``log(20)``.
        dense: Default ``log(500)``: every epoch up to 200, every 23rd at 5,000.
        threshold: Speed above which it is dense, in accuracy a decade of epochs.
        smoothing: In decades of epochs.
        settle: In decades of epochs.
    """
    parts = log(20) if coarse is None else coarse, log(500) if dense is None else dense
    if not all(part.fixed for part in parts):
        raise ValueError(
            f"adaptive must go between fixed schedules, got {' and '.join(map(str, parts))}."
        )
    return Adaptive(
        *parts,
        threshold=require_float("threshold", threshold, above=0),
        smoothing=require_float("smoothing", smoothing, above=0),
        settle=require_float("settle", settle, above=0, maximum=MOST_DECADES),
    )


def parse_schedule(name: str, value: Any) -> Schedule:
    """Turn a setting into a schedule.

    Args:
        name: The setting's name, for the error message.
        value: A :class:`Schedule`, an int n (every n epochs), or a text such as ``every 10``,
            ``log 20``, ``at 0 10 100``, ``log 20 + every 1000``, ``adaptive`` or
            ``adaptive log 20 to every 5 above 0.5``.

    Raises:
        ValueError: If the text does not name a schedule with at least one epoch.
    """
    if isinstance(value, Schedule):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        value = f"every {value}"
    try:
        parts = [_parse_part(part.split()) for part in str(value).split("+", MOST_PARTS)]
    except (ValueError, IndexError, KeyError) as error:
        detail = f" ({error})" if isinstance(error, ValueError) and "must" in str(error) else ""
        raise ValueError(f"{name} must be {GRAMMAR}, got {shown(value)}{detail}.") from None
    return parts[0] if len(parts) == 1 else Union(tuple(parts))


def _parse_part(words: list[str]) -> Schedule:
    if words[0] == "adaptive":
        return _parse_adaptive(words[1:])
    if words[0] == "at":
        return at(map(int, words[1:]))
    (number,) = map(int, words[1:])
    return {"every": every, "log": log}[words[0]](number)


def _parse_adaptive(words: list[str]) -> Schedule:
    """``[COARSE to DENSE] [above SPEED]``."""
    settings: dict[str, Any] = {}
    if "above" in words:
        index = words.index("above")
        (speed,) = words[index + 1 :]
        words, settings["threshold"] = words[:index], float(speed)
    if words:
        index = words.index("to")
        settings["coarse"], settings["dense"] = (
            _parse_part(part) for part in (words[:index], words[index + 1 :])
        )
    return adaptive(**settings)
