"""What replications of Kumar et al. 2023 share."""

from __future__ import annotations

from replications._series import RECORD_NOTHING, Runs, final, value_at

PAPER = "Kumar et al. 2023"
WIDTHS = tuple(f"~net.{name}" for name in ("width", "epsilon", "output_scale", "weight_scale"))


def growth(runs: Runs, run: str, column: str) -> float:
    return final(runs[run], column) / value_at(runs[run], column, 0)


def committee(net: str, *more: str) -> tuple[str, ...]:
    """kumar_small with a committee inside another net."""
    inside = (f"net={net}", *WIDTHS, "net.net.epsilon=0.05")
    return ("experiment=kumar_small", "measures=none", RECORD_NOTHING, *inside, *more)
