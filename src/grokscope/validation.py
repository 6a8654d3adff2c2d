"""One wording for every refused argument: what must hold, and what came.

The message starts with the argument's name, so the command line can put the config
group before it (``data.`` + ``modulus must be ...``).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

LETTERS = 200  # of a value in a message


def shown(value: Any) -> str:
    """``repr`` of a refused value, cut where it is long."""
    try:
        text = repr(value)
    except ValueError:  # Python writes no integers of more than 4,300 digits
        return f"{type(value).__name__} of too many digits"
    if len(text) <= LETTERS:
        return text
    return f"{text[: LETTERS // 2]}...{text[-LETTERS // 4 :]} ({len(text)} characters)"


def require_int(name: str, value: Any, *, minimum: int = 1, maximum: int | None = None) -> int:
    """Return ``value`` if it is an int in ``[minimum, maximum]``, else raise ``ValueError``."""
    wanted = f"an integer >= {minimum}" + (f" and <= {maximum}" if maximum is not None else "")
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{name} must be {wanted}, got {shown(value)}.")
    if value < minimum or (maximum is not None and value > maximum):
        raise ValueError(f"{name} must be {wanted}, got {shown(value)}.")
    return value


def require_bool(name: str, value: Any) -> bool:
    """Return ``value`` if it is true or false, else raise ``ValueError``."""
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be true or false, got {shown(value)}.")
    return value


def require_float(
    name: str,
    value: Any,
    *,
    above: float | None = None,
    minimum: float | None = None,
    below: float | None = None,
    maximum: float | None = None,
) -> float:
    """Return ``value`` as a float if it is finite and within the bounds, else raise."""
    bounds = {">": above, ">=": minimum, "<": below, "<=": maximum}
    wanted = " and ".join(
        f"{sign} {bound:g}" for sign, bound in bounds.items() if bound is not None
    )
    if (
        not _is_finite(value)
        or (above is not None and value <= above)
        or (minimum is not None and value < minimum)
        or (below is not None and value >= below)
        or (maximum is not None and value > maximum)
    ):
        raise ValueError(
            f"{name} must be a number {wanted}, got {shown(value)}.".replace("  ", " ")
        )
    return float(value)


def _is_finite(value: Any) -> bool:
    """Whether it is a number that a float can hold."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def require_choice(name: str, value: Any, choices: Iterable[str]) -> str:
    """Return ``value`` if it is one of ``choices``, else raise ``ValueError`` listing them."""
    allowed = list(choices)
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {shown(value)}.")
    return str(value)
