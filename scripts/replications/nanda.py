"""Nanda et al. 2023, arXiv 2301.05217: modular addition modulo 113, 30 % of the pairs."""

from __future__ import annotations

from functools import partial

from grokscope import Run
from replications.claims import Claim, Replication, between, first_below

RELEASED = "authors' released run (saved_runs, 30 %)"


def reached(runs: dict[str, Run], column: str, loss: float) -> float | None:
    return first_below(runs["30 %"], column, loss)


REPLICATIONS = [
    Replication(
        "nanda",
        {"30 %": ("experiment=nanda", "trainer.max_epochs=9000", "measures=none")},
        (
            Claim(
                "epochs to train loss < 1e-2",
                RELEASED,
                "274 (memorised by 1,400)",
                partial(reached, column="train_loss", loss=1e-2),
                between(137, 1400),
                "from half of 274 to 1,400",
            ),
            Claim(
                "epochs to test loss < 1e-2, of 9,000",
                RELEASED,
                "8,258 (5,000 to 14,000 by seed)",
                partial(reached, column="test_loss", loss=1e-2),
                between(5_000, 14_000),
                "5,000 to 14,000",
            ),
        ),
        minutes=15,
    )
]
