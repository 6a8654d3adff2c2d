"""Power et al. 2022, arXiv 2201.02177: modular division with half of the equations."""

from __future__ import annotations

from functools import partial

from grokscope import Run
from replications._steps import at_step, step_of
from replications.claims import Claim, NeedsGPU, Replication, between, last

REPORTED = "others' run with weight decay 1, not the paper's"
FIG_1 = "Fig. 1 (left), read off"
FAST = ("measures=none", "schedule.checkpoint=log 2")
GENERALISES = 0.99  # the paper's own threshold, section 3.1.1


def steps(runs: dict[str, Run], run: str, column: str) -> float | None:
    return step_of(runs[run], column, GENERALISES)


def accuracy_at(runs: dict[str, Run], run: str, step: int) -> float:
    return at_step(runs[run], "test_acc", step)


def best(runs: dict[str, Run], run: str) -> float:
    return float(runs[run].metrics["test_acc"].max())


def later(runs: dict[str, Run], first: str, second: str) -> float | None:
    """Steps that the second takes to generalise (or its last), in those of the first."""
    of_first, of_second = (steps(runs, run, "test_acc") for run in (first, second))
    return (of_second or last(runs[second], "step")) / of_first if of_first else None


DIVISION = (
    Claim(
        "weight decay 1: steps to test accuracy 0.99",
        REPORTED,
        "about 2e3",
        partial(steps, run="weight decay 1", column="test_acc"),
        between(1e3, 4e3),
        "a factor of 2",
    ),
    Claim(
        "weight decay 1: steps to train accuracy 0.99",
        f"{FIG_1}; there without weight decay",
        "before 1e3",
        partial(steps, run="weight decay 1", column="train_acc"),
        between(0, 1e3),
        "at most 1e3",
    ),
    Claim(
        "no weight decay: steps to train accuracy 0.99",
        FIG_1,
        "before 1e3",
        partial(steps, run="no weight decay", column="train_acc"),
        between(0, 1e3),
        "at most 1e3",
    ),
    Claim(
        "no weight decay: test accuracy at 1e3 steps (laptop scale: the start of the plateau)",
        FIG_1,
        "almost nothing until 1e5",
        partial(accuracy_at, run="no weight decay", step=1000),
        between(0, 0.1),
        "at most 0.1",
    ),
)
OPERATORS = (
    Claim(
        "steps to test accuracy 0.99 at 40 %: x - y over x + y",
        "Fig. 2 (right)",
        "symmetric operations need less data",
        partial(later, first="add", second="subtract"),
        lambda ratio: ratio > 1,
        "laptop scale, weight decay 1, 1e4 steps: ordering only, above 1",
    ),
    Claim(
        "x^3 + xy^2 + y at 90 %: best test accuracy within 1e4 steps",
        "Fig. 2 (right)",
        "no generalisation within 1e5 steps, up to 95 % of the data",
        partial(best, run="cube2"),
        between(0, 0.5),
        "laptop scale: at most 0.5",
    ),
)
REPLICATIONS = [
    Replication(
        "power",
        {
            "weight decay 1": ("experiment=power_small", *FAST, "schedule.metrics=every 5"),
            "no weight decay": (
                "experiment=power",
                "trainer.max_epochs=110",
                *FAST,
                "schedule.metrics=every 5",
            ),
        },
        DIVISION,
        minutes=15,
    ),
    Replication(
        "power_operators",
        {
            operator: (
                "experiment=power_wd",
                f"data.operator={operator}",
                "data.train_fraction=0.4",
                "trainer.max_epochs=1250",
                *FAST,
                "callbacks.gop.progress={}",
                "schedule.metrics=every 10",
            )
            for operator in ("add", "subtract")
        }
        | {
            "cube2": (
                "experiment=power_wd",
                "data.operator=cube2",
                "data.train_fraction=0.9",
                "trainer.max_epochs=588",
                *FAST,
                "callbacks.gop.progress={}",
                "schedule.metrics=every 20",
            )
        },
        OPERATORS,
        minutes=75,
        slow=True,
    ),
    NeedsGPU(
        "power_fig1",
        "division at 50 % without weight decay: steps to where test accuracy rises, and to near 1",
        "Fig. 1 (left)",
        "about 1e5, and about 1e6",
        tuple(
            f"python src/train.py experiment=power trainer=gpu measures=none seed={seed}"
            for seed in (0, 1, 2)
        ),
    ),
    NeedsGPU(
        "power_noise",
        "S5 with wrong labels: best test accuracy within 1e5 steps",
        "Fig. 6",
        "up to 1000 hardly hurt, 2000 and 3000 hurt strongly; all reach train accuracy 1",
        (
            "python src/train.py --multirun experiment=power_wd trainer=gpu data.operator=s5 "
            "data.label_noise=0,10,100,1000,2000,3000 measures=none seed=0,1,2",
        ),
    ),
]
