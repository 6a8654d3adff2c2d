"""Golechha 2024, arXiv 2405.12755: sparsity, weight entropy and circuits on MNIST."""

from __future__ import annotations

from functools import partial

import numpy as np

from replications._series import Runs, curve, delay, quotient, value_at
from replications.claims import Claim, Replication, first_above

PAPER = "Golechha 2024"
SMALL = "; laptop scale: 500 images of the test file"
LEARNED, RIGHT = 0.99, 0.75
SPARSITY, ENTROPY, CIRCUITS = (
    f"complexity/{name}"
    for name in ("activation_sparsity", "weight_entropy", "local_circuit_complexity")
)


def times(runs: Runs, run: str) -> tuple[float, float] | None:
    """Epochs of memorisation and of generalisation."""
    memory = first_above(runs[run], "train_acc", LEARNED)
    rule = first_above(runs[run], "test_acc", RIGHT)
    return None if memory is None or rule is None else (memory, rule)


def plateau(runs: Runs, run: str) -> float | None:
    """Range of the sparsity in the last half before generalisation."""
    if (found := times(runs, run)) is None:
        return None
    epochs, sparsity = curve(runs[run], SPARSITY)
    window = sparsity[(epochs >= found[1] / 2) & (epochs <= found[1])]
    return float(np.ptp(window)) if len(window) else None


def since_memory(runs: Runs, run: str, column: str) -> float | None:
    """A column's last value over that at memorisation."""
    if (found := times(runs, run)) is None:
        return None
    return float(curve(runs[run], column)[1][-1]) / value_at(runs[run], column, found[0])


def sharpness(runs: Runs, run: str) -> float | None:
    """Fall of the entropy in the decade of generalisation over that up to memorisation."""
    if (found := times(runs, run)) is None:
        return None
    memory, rule = found
    epochs, entropy = curve(runs[run], ENTROPY)
    early = abs(value_at(runs[run], ENTROPY, memory) - entropy[0])
    window = entropy[(epochs >= memory) & (epochs <= 2 * rule)]
    return float((window[0] - window[-1]) / max(early, 1e-12)) if len(window) else None


def with_test(runs: Runs, run: str) -> float | None:
    """Correlation of entropy and test accuracy from memorisation on."""
    if (found := times(runs, run)) is None:
        return None
    epochs, entropy = curve(runs[run], ENTROPY)
    later = epochs >= found[0]
    accuracy = [value_at(runs[run], "test_acc", epoch) for epoch in epochs[later]]
    return float(np.corrcoef(entropy[later], accuracy)[0, 1])


def delay_left(runs: Runs) -> float | None:
    """Delay with dropout over that without."""
    lags = [delay(runs, name, LEARNED, RIGHT) for name in ("dropout", "plain")]
    return quotient(*lags)


def course(run: str, scale: str) -> tuple[Claim, ...]:
    """What the figures show in runs with a falling and with a growing norm."""
    return (
        Claim(
            f"{run}: range of the activation sparsity in the last half before generalisation",
            PAPER + scale,
            "plateau",
            partial(plateau, run=run),
            lambda value: value <= 0.05,
            "<= 0.05",
        ),
        Claim(
            f"{run}: weight entropy at the end over that at memorisation",
            PAPER + scale,
            "drops with generalisation",
            partial(since_memory, run=run, column=ENTROPY),
            lambda value: value < 0.9,
            "< 0.9",
        ),
        Claim(
            f"{run}: fall of the weight entropy with generalisation over its change before",
            PAPER + scale,
            "flat while it overfits, then sharp",
            partial(sharpness, run=run),
            lambda value: value >= 2,
            ">= 2",
        ),
        Claim(
            f"{run}: local circuit complexity at the end over that at memorisation",
            PAPER + scale,
            "falls",
            partial(since_memory, run=run, column=CIRCUITS),
            lambda value: value < 1,
            "< 1",
        ),
    )


DATA = ("data.train_images=t10k", "measures=none")
FULL = ("experiment=golechha", *DATA)
GROWING = ("model.l2=-2e-10", "model.optimizer.weight_decay=0")
REPLICATIONS = [
    Replication(
        "golechha_small",
        {
            "plain": ("experiment=golechha_small", *DATA),
            "dropout": ("experiment=golechha_small", *DATA, "net.dropout=0.3"),
        },
        (
            *course("plain", SMALL),
            Claim(
                "correlation of weight entropy and test accuracy from memorisation on",
                PAPER + SMALL,
                "drops with generalisation",
                partial(with_test, run="plain"),
                lambda value: value <= -0.8,
                "<= -0.8",
            ),
            Claim(
                "dropout 0.3, which memorises later: epochs to generalise over epochs to memorise",
                PAPER + SMALL,
                "no delay",
                partial(delay, run="dropout", train=LEARNED, test=RIGHT),
                lambda value: value <= 2,
                "<= 2",
            ),
            Claim(
                "the same over that without dropout",
                PAPER + SMALL,
                "below 1",
                delay_left,
                lambda value: value <= 0.5,
                "<= 0.5",
            ),
        ),
        minutes=4,
    ),
    Replication(
        "golechha",
        {"falling norm": FULL, "growing norm": (*FULL, *GROWING)},
        tuple(c for run in ("falling norm", "growing norm") for c in course(run, ", Table 1")),
        minutes=60,
        slow=True,
    ),
]
