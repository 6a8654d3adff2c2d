"""Minegishi et al. 2023, arXiv 2310.19470: subnetworks that generalise without delay."""

from __future__ import annotations

from functools import partial

import numpy as np

from replications._series import Runs, curve, delay, largest, quotient
from replications._tickets import (
    DENSE,
    PAPER,
    P,
    compared,
    generalised,
    less_than,
    more_than,
    slower,
    ticket,
)
from replications.claims import Claim, Replication, between, first_above


def reached(runs: Runs, run: str = "dense") -> float | None:
    return generalised(runs[run])


def tau(runs: Runs, run: str) -> float | None:
    return delay(runs, run, P, P)


def behind_memory(runs: Runs) -> float | None:
    """Epochs of the ticket to generalise over those of the dense net to memorise."""
    return quotient(reached(runs, "pruned 0.6"), first_above(runs["dense"], "train_acc", P))


def memory(runs: Runs, above: str, below: str) -> float | None:
    """The same of the training accuracy."""
    first, second = (first_above(runs[name], "train_acc", P) for name in (above, below))
    return quotient(first, second)


def mask_moves(runs: Runs) -> float | None:
    """Jaccard distance of the masks at the jump over its median in the 6,000 epochs before."""
    jump = reached(runs)
    if jump is None:
        return None
    epochs, distances = curve(runs["dense"], "ticket/jaccard_distance")
    around = distances[np.abs(epochs - jump) <= 2000]
    before = distances[(epochs < jump - 2000) & (epochs >= max(jump - 8000, 4000))]
    return float(around.max() / np.median(before)) if len(before) and len(around) else None


PRUNED = {f"pruned {k}": ticket(f"ticket.pruned={k}") for k in (0.3, 0.6, 0.7, 0.9)}
CONTROLS = {f"{norm} control": ticket(f"ticket.control={norm}") for norm in ("l1", "l2")}
REPLICATIONS = [
    Replication(
        "minegishi",
        {
            "dense": DENSE,
            **PRUNED,
            **CONTROLS,
            "no decay": ticket("ticket.pruned=0.81", "model.optimizer.weight_decay=0"),
            "early": ticket("ticket.epoch=2000", "trainer.max_epochs=4000"),
        },
        (
            Claim(
                "dense net: epochs to a test accuracy of 0.95",
                f"{PAPER}, figures",
                "16,000 to 20,000",
                reached,
                between(8_000, 30_000),
                "8,000 to 30,000: half, to the end of the run",
            ),
            Claim(
                "dense net: tau, epochs to generalise over epochs to memorise",
                f"{PAPER}, Fig. 3",
                "far above 1",
                partial(tau, run="dense"),
                *more_than(20),
            ),
            Claim(
                "ticket (0.6 pruned): epochs to generalise over those of the dense net",
                f"{PAPER}, Fig. 2",
                "the delay vanishes",
                partial(compared, above="pruned 0.6", below="dense"),
                *less_than(0.1),
            ),
            Claim(
                "ticket: epochs to generalise over those of the dense net to memorise",
                f"{PAPER}, Fig. 2",
                "test accuracy rises with the dense net's training accuracy",
                behind_memory,
                *less_than(10),
            ),
            Claim(
                "0.3 pruned: epochs to generalise over those of the dense net",
                f"{PAPER}, Fig. 4b",
                "faster",
                partial(compared, above="pruned 0.3", below="dense"),
                *less_than(1),
            ),
            slower("0.3 pruned over 0.6 pruned", "Fig. 4b", "pruned 0.3", "pruned 0.6"),
            Claim(
                "0.7 pruned: epochs to generalise over those of the dense net",
                f"{PAPER}, Fig. 4b",
                "faster",
                partial(compared, above="pruned 0.7", below="dense"),
                *less_than(1),
            ),
            Claim(
                "0.9 pruned: best test accuracy",
                f"{PAPER}, Fig. 4b",
                "does not generalise",
                partial(largest, run="pruned 0.9", column="test_acc"),
                *less_than(P),
            ),
            Claim(
                "0.9 pruned over 0.3 pruned: epochs to memorise",
                f"{PAPER}, Fig. 3",
                "grows with the pruned share",
                partial(memory, above="pruned 0.9", below="pruned 0.3"),
                *more_than(1),
            ),
            *(
                slower(f"{name} over ticket: epochs to generalise", "Fig. 5", name, "pruned 0.6")
                for name in CONTROLS
            ),
            Claim(
                "0.81 pruned, no weight decay: best test accuracy",
                f"{PAPER}, App. H",
                "generalises",
                partial(largest, run="no decay", column="test_acc"),
                lambda value: value >= P,
                f">= {P}",
            ),
            Claim(
                "mask of epoch 2,000: best test accuracy of 4,000 epochs",
                f"{PAPER}, Fig. 4a",
                "does not generalise fully",
                partial(largest, run="early", column="test_acc"),
                *less_than(P),
            ),
            Claim(
                "Jaccard distance of the masks at the jump over that before it",
                f"{PAPER}, analysis of masks",
                "peaks",
                mask_moves,
                *more_than(1),
            ),
        ),
        minutes=15,
    ),
]
