"""Mallinar et al. 2024, arXiv 2407.20199: kernel machines at p = 31, iteration by iteration."""

from __future__ import annotations

from functools import partial

from replications._series import Runs, largest, smallest, value_at
from replications.claims import Claim, Replication, between, within

PAPER = "Mallinar et al. 2024"
REFERENCE = "independent numpy version of the paper's formulas, p = 31, one split"
SPREAD, STILL, ERROR, DEVIATION = 0.25, 0.06, 0.06, 0.3
JUMPS = range(7, 15)  # iterations at which the accuracy moves, by up to 0.25 an iteration
# Iteration -> test accuracy, test loss, deviation of the features that it makes.
TABLE: dict[str, dict[int, tuple[float | None, ...]]] = {
    "x+y quadratic": {
        0: (0.000, 0.0365, 0.39),
        3: (0.000, 0.0365, 0.32),
        6: (0.000, 0.0356, 0.13),
        9: (0.117, 0.0303, 0.063),
        12: (0.865, 0.0238, 0.037),
        15: (0.971, 0.0208, 0.027),
        29: (0.987, 0.0194, 0.023),
    },
    "x+y gaussian": {
        0: (0.000, 0.0372, 0.70),
        3: (0.000, 0.0375, 0.35),
        6: (0.000, 0.0368, 0.14),
        9: (0.060, 0.0313, 0.069),
        12: (0.881, 0.0234, 0.038),
        15: (0.995, 0.0184, 0.023),
        18: (1.000, 0.0159, 0.017),
    },
    "x-y quadratic": {9: (0.096,), 12: (0.795,), 15: (0.943,), 29: (0.990,)},
    "x-y gaussian": {12: (0.764,), 18: (0.979,), 29: (0.997,)},
}


def seen(runs: Runs, run: str, column: str, iteration: int) -> float:
    return value_at(runs[run], column, iteration)


def row(run: str, iteration: int, printed: tuple[float | None, ...]) -> list[Claim]:
    """Claims of one iteration; the features that it makes are recorded one row later."""
    spread = SPREAD if iteration in JUMPS else STILL
    kinds = (
        ("test accuracy", "test_acc", 0, lambda value: between(value - spread, value + spread)),
        ("test loss", "test_loss", 0, lambda value: within(value, ERROR)),
        ("deviation", "features/deviation", 1, lambda value: within(value, DEVIATION)),
    )
    words = (
        f"within {spread}, as splits differ",
        f"within {ERROR:.0%}",
        f"within {DEVIATION:.0%}",
    )
    return [
        Claim(
            f"{run}, iteration {iteration}: {says}",
            REFERENCE,
            f"{value:.4g}",
            partial(seen, run=run, column=column, iteration=iteration + later),
            test(value),
            tolerance,
        )
        for value, (says, column, later, test), tolerance in zip(
            printed, kinds, words, strict=False
        )
    ]


def table_run(name: str) -> tuple[str, ...]:
    operation, kernel = name.split()
    experiment = (
        ("experiment=mallinar_small",)
        if kernel == "quadratic"
        else ("experiment=mallinar_small", "net.kernel=gaussian")
    )
    task = "add" if operation == "x+y" else "subtract"
    return (*experiment, f"data.operation={task}", "trainer.max_epochs=31")


def memorised(run: str, kind: str) -> list[Claim]:
    """What holds at every iteration."""
    return [
        Claim(
            f"{run}: smallest training accuracy of all iterations",
            PAPER,
            "1",
            partial(smallest, run=run, column="train_acc"),
            within(1.0, 0.0),
            "exactly",
        ),
        Claim(
            f"{run}: largest training loss of all iterations",
            f"{PAPER}, {kind}",
            "about 1e-20",
            partial(largest, run=run, column="train_loss"),
            lambda value: value <= 1e-18,
            "<= 1e-18",
        ),
    ]


REPLICATIONS = [
    Replication(
        "mallinar_small",
        {name: table_run(name) for name in TABLE},
        (
            *(claim for name in TABLE for claim in memorised(name, "both kernels")),
            *(c for name, rows in TABLE.items() for i, p in rows.items() for c in row(name, i, p)),
        ),
        seeds=(0, 1, 2, 3, 4),
        minutes=3,
    ),
]
