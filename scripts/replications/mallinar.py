"""Mallinar et al. 2024, arXiv 2407.20199: machines and nets that learn modular arithmetic."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch

from grokscope.measures.rfm import agop_alignment
from grokscope.models.rfm import KernelMachine
from replications._series import (
    RECORD_NOTHING,
    Runs,
    curve,
    of_accuracy,
    value_at,
)
from replications.claims import Claim, Replication, between, first_above

PAPER, REPORT = "Mallinar et al. 2024", "third-party report, not the authors"


def seen(runs: Runs, run: str, column: str, iteration: int) -> float:
    return value_at(runs[run], column, iteration)


def jump(runs: Runs, run: str, accuracy: float = 0.9) -> float | None:
    return first_above(runs[run], "test_acc", accuracy)


def before_the_jump(runs: Runs, run: str) -> float | None:
    """Last iteration with a test accuracy below 0.02, before it rises."""
    left = first_above(runs[run], "test_acc", 0.02)
    return None if left is None else left - 1


def early_fall(runs: Runs, run: str) -> float | None:
    """Deviation before the jump over the largest one."""
    end = before_the_jump(runs, run)
    if end is None:
        return None
    _, deviation = curve(runs[run], "features/deviation")
    return value_at(runs[run], "features/deviation", end) / float(np.nanmax(deviation))


def linearity(runs: Runs, run: str) -> float | None:
    """Correlation of alignment and iteration, from iteration 1 to the jump."""
    end = jump(runs, run)
    if end is None:
        return None
    alignment = agop_alignment(runs[run].metrics["features/matrix"])[1 : int(end) + 1]
    return float(np.corrcoef(np.arange(len(alignment)), alignment)[0, 1])


def theorem(_: Runs, moduli: tuple[int, ...] = (5, 7, 11)) -> float:
    """Largest error of the machine on all pairs, over moduli and shifts."""
    return max(exact_error(p, shift) for p in moduli for shift in (1, 2, 3))


def exact_error(p: int, shift: int) -> float:
    a, b = torch.cartesian_prod(torch.arange(p), torch.arange(p)).T
    eye = torch.eye(p, dtype=torch.float64)
    inputs, targets = torch.cat([eye[a], eye[b]], 1), eye[(a - b) % p]
    machine = KernelMachine(2 * p, p).double()
    unit = eye.roll(shift, 0)
    zeros = torch.zeros_like(unit)
    machine.features.data = torch.cat([torch.cat([zeros, unit], 1), torch.cat([unit.T, zeros], 1)])
    machine.bind(inputs, targets)
    return float((machine(inputs) - targets).abs().max())


def share(runs: Runs, run: str, iteration: int) -> float:
    return seen(runs, run, "test_acc", iteration)


FULL = "experiment=mallinar"
SCARCE = (FULL, "data.train_fraction=0.3", "trainer.max_epochs=101", RECORD_NOTHING)
MACHINES = {
    "add": (FULL, "trainer.max_epochs=31"),
    "gaussian": ("experiment=mallinar_gaussian", "trainer.max_epochs=31", RECORD_NOTHING),
} | {
    name: (FULL, f"data.operation={name}", "trainer.max_epochs=31", RECORD_NOTHING)
    for name in ("subtract", "multiply", "divide")
}
FEW = {
    "20 %": (FULL, "data.train_fraction=0.2", "trainer.max_epochs=31", RECORD_NOTHING),
    "30 %": SCARCE,
}
REPLICATIONS = [
    Replication(
        "mallinar",
        MACHINES | FEW,
        (
            Claim(
                "x + y, quadratic: iteration of test accuracy 0.9",
                REPORT,
                "about 14",
                partial(jump, run="add"),
                between(11, 17),
                "within 3 iterations",
            ),
            Claim(
                "x + y, gaussian: iteration of test accuracy 0.9",
                REPORT,
                "18 to 20",
                partial(jump, run="gaussian"),
                between(15, 23),
                "within 3 iterations",
            ),
            *(
                of_accuracy(f"{name}: best test accuracy of 30 iterations", PAPER, "1", name, 0.95)
                for name in MACHINES
            ),
            Claim(
                "x + y: last iteration with a test accuracy below 0.02",
                f"{PAPER}, Fig. 1 (p = 59)",
                "8 to 10",
                partial(before_the_jump, run="add"),
                between(6, 12),
                "within 2 iterations",
            ),
            Claim(
                "x + y: deviation at that iteration over the largest one",
                f"{PAPER}, Fig. 1",
                "falls from the first iterations on",
                partial(early_fall, run="add"),
                lambda value: value <= 0.5,
                "<= 0.5",
            ),
            Claim(
                "x + y: correlation of AGOP alignment and iteration, up to the jump",
                f"{PAPER}, Fig. 1",
                "almost linear",
                partial(linearity, run="add"),
                lambda value: value >= 0.95,
                ">= 0.95",
            ),
            Claim(
                "x + y, 20 % of the pairs: test accuracy after 30 iterations",
                REPORT,
                "0",
                partial(share, run="20 %", iteration=30),
                between(0, 0.01),
                "<= 0.01",
            ),
            Claim(
                "x + y, 30 % of the pairs: test accuracy after 30 iterations",
                REPORT,
                "0.053",
                partial(share, run="30 %", iteration=30),
                between(0.053 / 2, 0.053 * 2),
                "within a factor of 2",
            ),
            Claim(
                "x + y, 30 % of the pairs: test accuracy after 100 iterations",
                REPORT,
                "0.122",
                partial(share, run="30 %", iteration=100),
                between(0.061, 0.244),
                "within a factor of 2",
            ),
        ),
        minutes=15,
    ),
    Replication(
        "mallinar_theory",
        {},
        (
            Claim(
                "all pairs, features of a shift: largest error of a - b mod p (p = 5, 7, 11)",
                f"{PAPER}, theorem on the Fourier multiplication algorithm",
                "0",
                theorem,
                lambda value: value <= 1e-10,
                "<= 1e-10",
            ),
        ),
    ),
]
