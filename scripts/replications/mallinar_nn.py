"""Mallinar et al. 2024, arXiv 2407.20199: nets that learn modular arithmetic."""

from __future__ import annotations

from functools import partial

from replications._series import RECORD_NOTHING, Runs, curve, final, first_epoch, largest
from replications.claims import Claim, NeedsGPU, Replication, between, first_above

PAPER, REPORT = "Mallinar et al. 2024", "third-party report, not the authors"
EVERY = ("measures=none", RECORD_NOTHING, "schedule.metrics=every 10")


def jump(runs: Runs, run: str, accuracy: float) -> float | None:
    return first_above(runs[run], "test_acc", accuracy)


def lead(runs: Runs, run: str = "net") -> float | None:
    """Epochs from the first tenth of the features' fall to a test accuracy of 0.1."""
    _, deviation = curve(runs[run], "features/deviation")
    level = deviation[0] - 0.1 * (deviation[0] - deviation.min())
    moved = first_epoch(runs[run], "features/deviation", lambda values: values <= level)
    right = first_above(runs[run], "test_acc", 0.1)
    return None if moved is None or right is None else right - moved


REPLICATIONS = [
    Replication(
        "mallinar_nn",
        {"net": ("experiment=mallinar_nn",)},
        (
            Claim(
                "epoch of test accuracy 0.5",
                REPORT,
                "about 14",
                partial(jump, run="net", accuracy=0.5),
                between(9, 19),
                "within 5 epochs",
            ),
            Claim(
                "Pearson correlation of W1'W1 and the AGOP's root at the end",
                PAPER,
                "> 0.92",
                lambda runs: final(runs["net"], "features/nfa"),
                lambda value: value > 0.92,
                "> 0.92",
            ),
            Claim(
                "epochs by which the features move before the test accuracy",
                f"{PAPER}, figures",
                "5 to 10",
                lead,
                between(2.5, 20),
                "within a factor of 2",
            ),
        ),
        minutes=1,
    ),
    Replication(
        "mallinar_circulant",
        {
            "circulant": ("experiment=mallinar_nn_circulant", "trainer.max_epochs=1000", *EVERY),
            "one-hot": (
                "experiment=mallinar_nn",
                "data.train_fraction=0.175",
                "trainer.max_epochs=3000",
                *EVERY,
            ),
        },
        (
            Claim(
                "17.5 %, random circulant features: epoch of test accuracy 0.99",
                PAPER,
                "several hundred",
                partial(jump, run="circulant", accuracy=0.99),
                between(1, 1000),
                "<= 1,000",
            ),
            Claim(
                "17.5 %, one-hot pairs: best test accuracy of 3,000 epochs",
                PAPER,
                "does not generalise",
                partial(largest, run="one-hot", column="test_acc"),
                between(0, 0.1),
                "<= 0.1",
            ),
        ),
        minutes=8,
    ),
    NeedsGPU(
        "mallinar_agop",
        "a penalty on the trace of the AGOP makes the net generalise, as weight decay does",
        PAPER,
        "test accuracy 1 with either, not without both (up to 200,000 epochs)",
        (
            "python src/train.py experiment=mallinar_agop trainer=gpu",
            "python src/train.py experiment=mallinar_agop model.agop_weight=0 "
            "model.optimizer.weight_decay=1e-5 trainer=gpu",
            "python src/train.py experiment=mallinar_agop model.agop_weight=0 trainer=gpu",
        ),
    ),
]
