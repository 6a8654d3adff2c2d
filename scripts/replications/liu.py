"""Liu et al. 2022, arXiv 2205.10343: addition of ten symbols, and the permutations of three."""

from __future__ import annotations

import statistics
from functools import partial

import numpy as np

from grokscope import Run
from grokscope.data.toy_groups import pair_table
from grokscope.measures.representation import (
    degrees_of_freedom,
    equations,
    parallelograms,
    within,
)
from replications._steps import at_step, step_of
from replications.claims import Claim, Replication, between, last
from replications.claims import within as near

CODE = "ejmichaud/grokking-squared"
PRINTED = f"{CODE}, toy/train_add.py, seed 58"
FIG_3, FIG_4B = (f"{CODE}, released data of Fig. {name}, seeds 0, 1, 2" for name in ("3", "4b"))
RQI, ACC, PREDICTED = (f"representation/{n}" for n in ("rqi", "accuracy", "predicted_accuracy"))
ADDITION = ("experiment=liu_effective", "measures=none", "schedule.checkpoint=log 1")
PINNED = ("data.seed=58", "net.seed=58")  # full batches: nothing else is drawn
EPOCHS = dict.fromkeys((20, 25, 30, 35, 40), 10_000) | dict.fromkeys((45, 50, 54), 5_000)
ONE_SAMPLE = 1 / 55
BATCHES = "the released code trains on 45 samples, drawn anew at each step; here on all"


def reaches(runs: dict[str, Run], run: str, column: str, value: float) -> float | None:
    return step_of(runs[run], column, value)


def reaches_at_all(runs: dict[str, Run], run: str) -> float:
    return float(step_of(runs[run], RQI, 0.95) is not None)


def after_5000(runs: dict[str, Run], run: str, column: str) -> float:
    return at_step(runs[run], column, 5000)


def printed(what: str, column: str, value: float, step: int) -> Claim:
    """A step that the released code prints; rows are ten steps apart."""
    return Claim(
        f"released run: steps to {what} {value}",
        PRINTED,
        str(step),
        partial(reaches, run="seed 58", column=column, value=value),
        between(step - 10, step + 10),
        "within 10 steps, the distance of rows",
    )


def at_the_end(what: str, column: str) -> Claim:
    return Claim(
        f"released run: {what} at the end",
        PRINTED,
        "1.00",
        lambda runs: last(runs["seed 58"], column),
        between(0.995, 1),
        "to the digits printed",
    )


def steps_to_rqi(n_train: int, of_seeds: tuple[int, ...]) -> Claim:
    middle = statistics.median(of_seeds)
    return Claim(
        f"{n_train} of 55 train: steps to RQI 0.95",
        FIG_4B,
        f"{middle:g} ({min(of_seeds)} to {max(of_seeds)})",
        partial(reaches, run=f"{n_train} train", column=RQI, value=0.95),
        near(middle, 0.10),
        "within 10 % of the median",
        BATCHES if n_train > 45 else "",
    )


def whether(n_train: int, of_seeds: str, most: int) -> Claim:
    return Claim(
        f"{n_train} of 55 train: whether RQI 0.95 is reached within 1e4 steps, 1 if so",
        FIG_4B,
        of_seeds,
        partial(reaches_at_all, run=f"{n_train} train"),
        lambda reached: reached == most,
        f"{most} in most seeds",
    )


def accuracies(n_train: int, correct: float, predicted: float) -> list[Claim]:
    return [
        Claim(
            f"{n_train} of 55 train: {what} after 5,000 steps",
            FIG_3,
            f"{value:g}",
            partial(after_5000, run=f"{n_train} train", column=column),
            between(value - 2 * ONE_SAMPLE, value + 2 * ONE_SAMPLE),
            "within 2 samples of 55 of the median",
        )
        for what, column, value in (
            ("accuracy over all samples", ACC, correct),
            ("accuracy predicted from the representation", PREDICTED, predicted),
        )
    ]


def drawn(seed: int, n_train: int, size: int = 10) -> int:
    """Degrees of freedom that a random training set leaves to the representation."""
    pairs, answers = pair_table("addition", size)
    found = parallelograms(answers)
    rows = np.random.default_rng(seed).permutation(len(pairs))[:n_train]
    return degrees_of_freedom(equations(pairs, found, size)[within(found, rows, len(pairs))])


def critical_fraction(runs: dict[str, Run]) -> float:
    """Smallest share of samples at which half of 100 training sets leave shift and scale only."""
    for n_train in range(3, 55, 3):
        if np.mean([drawn(seed, n_train) == 2 for seed in range(100)]) >= 0.5:
            return n_train / 55
    return 1.0


def count(runs: dict[str, Run], task: str, size: int) -> float:
    return float(len(parallelograms(pair_table(task, size)[1])))


THEORY = (
    Claim(
        "parallelograms of ten symbols",
        f"{CODE}, denominator of the RQI",
        "70",
        partial(count, task="addition", size=10),
        near(70, 0),
        "exactly",
    ),
    Claim(
        "parallelograms of the permutations of three",
        f"{CODE}, toy/Figure5d_permutation.ipynb",
        "90",
        partial(count, task="permutations", size=3),
        near(90, 0),
        "exactly",
    ),
    Claim(
        "critical training fraction: half of 100 random sets have n0 = 2 (no training)",
        "Fig. 4a",
        "about 0.4",
        critical_fraction,
        between(0.3, 0.5),
        "0.3 to 0.5",
    ),
)
LIU = (
    Claim(
        "released run (its templates, split and net, whatever the seed): train loss at step 0",
        PRINTED,
        "0.981",
        lambda runs: float(runs["seed 58"].metrics["train_loss"][0]),
        between(0.9805, 0.9815),
        "to the digits printed",
    ),
    printed("RQI", RQI, 0.95, 800),
    printed("train accuracy", "train_acc", 0.9, 1130),
    printed("test accuracy", "test_acc", 0.9, 1530),
    at_the_end("train accuracy", "train_acc"),
    at_the_end("test accuracy", "test_acc"),
    at_the_end("RQI", RQI),
    whether(20, "never in any", 0),
    whether(25, "never, never, 2553", 0),
    whether(30, "never, never, 739", 0),
    whether(35, "never, never, 1171", 0),
    whether(40, "867, never, 943", 1),
    steps_to_rqi(45, (833, 1071, 887)),
    steps_to_rqi(50, (1011, 1272, 977)),
    steps_to_rqi(54, (1033, 1086, 850)),
    *accuracies(20, 0.45, 0.45),
    *accuracies(30, 0.71, 0.71),
    *accuracies(45, 1.0, 1.0),
    *THEORY,
)

REPLICATIONS = [
    Replication(
        "liu",
        {"seed 58": (*ADDITION, *PINNED)}
        | {
            f"{n_train} train": (*ADDITION, f"data.n_train={n_train}", f"trainer.max_epochs={n}")
            for n_train, n in EPOCHS.items()
        },
        LIU,
        minutes=10,
    ),
]
