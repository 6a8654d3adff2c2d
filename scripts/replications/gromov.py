"""Gromov 2023, arXiv 2301.02679: grokking by plain gradient descent."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor

from grokscope import Run
from grokscope.app.checkpoints import newest_whole
from grokscope.nets.analytic import addition_net
from replications._series import Runs, curve, delay, of_accuracy, value_at
from replications.claims import SEEDS, Claim, Replication, first_above

PAPER = "Gromov 2023"
LATE = 1.1  # times as many epochs


def ipr_growth(runs: Runs, run: str) -> float:
    """Mean inverse participation ratio of the last row over that of the start."""
    _, ratio = curve(runs[run], "ipr/mean")
    return float(ratio[-1] / ratio[0])


def ipr_early(runs: Runs, run: str) -> float | None:
    """The same when half of the training pairs are right."""
    learned = first_above(runs[run], "train_acc", 0.5)
    start = value_at(runs[run], "ipr/mean", 0)
    return None if learned is None else value_at(runs[run], "ipr/mean", learned) / start


def weights(run: Run) -> tuple[Tensor, Tensor]:
    """First (h, 2 p) and last (p, h) weights at the end."""
    _, content, _ = newest_whole(run.path)
    matrices = [w.double() for n, w in content["state_dict"].items() if n.startswith("net.")]
    first, last = matrices
    return first, last


def phases(first: Tensor, last: Tensor) -> tuple[Tensor, Tensor]:
    """phi_1 + phi_2 - phi_3 of each unit at its strongest frequency, and its strength there."""
    h, p = len(first), len(last)
    vectors = torch.stack([*first.reshape(h, 2, p).unbind(1), last.T])
    modes = torch.fft.rfft(vectors)[..., 1:]
    strongest = modes.abs().sum(0).argmax(1)
    chosen = modes[:, torch.arange(h), strongest]
    angles = chosen.angle()
    return angles[0] + angles[1] - angles[2], chosen.abs().prod(0)


def coherence(first: Tensor, last: Tensor) -> float:
    """Mean cosine of those phases over units, by their strength: 1 if the sum rule holds."""
    angles, strength = phases(first, last)
    return float((angles.cos() * strength).sum() / strength.sum())


def sum_rule(runs: Runs, run: str) -> float:
    return coherence(*weights(runs[run]))


def analytic_accuracy(_: Runs, p: int = 97, n_hidden: int = 500) -> float:
    """Least accuracy on all pairs of the written-down weights over seeds."""
    a, b = torch.cartesian_prod(torch.arange(p), torch.arange(p)).T
    eye = torch.eye(p, dtype=torch.float64)
    pairs = torch.cat([eye[a], eye[b]], 1)
    nets = [addition_net(p, n_hidden, seed=seed) for seed in SEEDS]
    with torch.no_grad():
        right = [(net(pairs).argmax(1) == (a + b) % p).double().mean() for net in nets]
    return float(np.min(right))


def claims(run: str, scale: str) -> tuple[Claim, ...]:
    return (
        of_accuracy("best test accuracy, no regularisation", PAPER + scale, "1", run, 0.99),
        Claim(
            "epochs to 99 % of the test pairs over those of the training pairs",
            PAPER + scale,
            "generalises late",
            partial(delay, run=run),
            lambda value: value >= LATE,
            f">= {LATE}",
        ),
        Claim(
            "mean inverse participation ratio, end over start",
            PAPER + scale,
            "grows to periodic weights",
            partial(ipr_growth, run=run),
            lambda value: value >= 2,
            ">= 2",
        ),
        Claim(
            "the same when half of the training pairs are right, over start",
            PAPER + scale,
            "grows from the start",
            partial(ipr_early, run=run),
            lambda value: value > 1,
            "> 1",
        ),
        Claim(
            "phases phi_1 + phi_2 = phi_3: mean cosine of the difference over units",
            PAPER + scale,
            "1",
            partial(sum_rule, run=run),
            lambda value: value >= 0.8,
            ">= 0.8",
        ),
    )


REPLICATIONS = [
    Replication(
        "gromov_small",
        {"p 31": ("experiment=gromov_small", "measures=none", "schedule.metrics=every 10")},
        claims("p 31", "; laptop scale: p = 31, 70 % of the pairs"),
        minutes=1,
    ),
    Replication(
        "gromov",
        {"p 97": ("experiment=gromov", "measures=none", "schedule.metrics=every 10")},
        claims("p 97", ", p = 97, 49 % of the pairs"),
        minutes=7,
    ),
    Replication(
        "gromov_theory",
        {},
        (
            Claim(
                "weights written down (p = 97, 500 units): least accuracy on all pairs",
                f"{PAPER}, analytic solution",
                "1",
                analytic_accuracy,
                lambda value: value >= 0.99,
                ">= 0.99",
            ),
        ),
    ),
]
