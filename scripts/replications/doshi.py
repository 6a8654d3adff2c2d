"""Doshi et al. 2024, arXiv 2310.13061: the rows that the official notebook prints."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from grokscope import Run
from replications.claims import Claim, Replication, between, last, within

NOTEBOOK = "d-doshi/Grokking, Grokking_with_label_corruption.ipynb"
FAST = ("schedule=sparse", "measures=none", "callbacks.gop.progress={}")
LOSS, ACCURACY = 0.10, 0.02
WEIGHT_DECAY = "model.optimizer.weight_decay"


def at_the_end(runs: dict[str, Run], run: str, column: str) -> float:
    return last(runs[run], column)


def near(value: float, distance: float) -> Callable[[float], bool]:
    return between(value - distance, value + distance)


def row(
    run: str, losses: tuple[float, float] | None, accuracies: tuple[float, float]
) -> list[Claim]:
    """One printed row: train and test loss, train and test accuracy."""
    claims = []
    for split, value in zip(("train", "test"), losses or (), strict=False):
        claims.append(
            Claim(
                f"{run}: {split} loss at the end",
                NOTEBOOK,
                f"{value:.4g}",
                partial(at_the_end, run=run, column=f"{split}_loss"),
                within(value, LOSS),
                f"within {LOSS:.0%}",
            )
        )
    for split, value in zip(("train", "test"), accuracies, strict=True):
        claims.append(
            Claim(
                f"{run}: {split} accuracy at the end",
                NOTEBOOK,
                f"{value:.3f}",
                partial(at_the_end, run=run, column=f"{split}_acc"),
                near(value, ACCURACY),
                f"within {ACCURACY}",
            )
        )
    return claims


ROWS = {
    "clean": (("experiment=doshi",), (8.12e-4, 1.011e-3), (1.0, 1.0)),
    "coexistence": (
        ("experiment=doshi_corruption", f"{WEIGHT_DECAY}=0", "trainer.max_epochs=1000"),
        (2.80e-3, 8.42e-3),
        (0.978, 0.983),
    ),
    "partial inversion": (("experiment=doshi_corruption",), (4.59e-3, 5.49e-3), (0.786, 1.0)),
    "full inversion": (
        ("experiment=doshi_corruption", f"{WEIGHT_DECAY}=15"),
        (8.35e-3, 8.17e-3),
        (0.654, 1.0),
    ),
    "forgetting": (
        ("experiment=doshi_corruption", f"{WEIGHT_DECAY}=20", "trainer.max_epochs=5000"),
        (1.0309e-2, 1.0309e-2),
        (0.009, 0.011),
    ),
    "batch norm": (("experiment=doshi_batchnorm",), None, (0.804, 1.0)),
    "mini-batches": (
        ("experiment=doshi_batchnorm", "net.batch_norm=false"),
        None,
        (0.818, 1.0),
    ),
}
REPLICATIONS = [
    Replication(
        "doshi",
        {name: (*overrides, *FAST) for name, (overrides, _, _) in ROWS.items()},
        tuple(
            claim for name, (_, losses, acc) in ROWS.items() for claim in row(name, losses, acc)
        ),
        minutes=20,
    )
]
