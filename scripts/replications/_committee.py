"""What replications of Kumar et al. 2023 share."""

from __future__ import annotations

from replications._series import RECORD_NOTHING, Runs, final, value_at

PAPER = "Kumar et al. 2023"


def growth(runs: Runs, run: str, column: str) -> float:
    return final(runs[run], column) / value_at(runs[run], column, 0)


def committee(net: str, *more: str) -> tuple[str, ...]:
    """kumar_small with another of the committees."""
    return ("experiment=kumar_small", "measures=none", RECORD_NOTHING, f"net={net}", *more)
